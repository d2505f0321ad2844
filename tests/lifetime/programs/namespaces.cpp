// SPDX-License-Identifier: BSL-1.0

// Parents in a pid namespace of their own, for test_parent_death.cpp:
//
//     lifetime_namespaces ROUNDS SEED
//
// Exit code 0: nothing outlived its parent; 77: the kernel does not allow namespaces; else what
// went wrong stands on stderr.

#include "lifetime/parents.hpp"
#include "process/observe.hpp"

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>

namespace {

using namespace std::chrono_literals;
using lifetime::Role;

constexpr int not_allowed = 77;

struct Round {
    Role role;
    bool has_proc;         // whether /proc is the namespace's
    bool parent_is_first;  // process 1 itself is the parent, or its child is
    std::chrono::microseconds moment;
};

int killed_in_time(pid_t parent, observe::Report& report, const Round& round) {
    const bool started = report.hear() == "started";
    std::this_thread::sleep_for(round.moment);
    ::kill(parent, SIGKILL);
    ::waitpid(parent, nullptr, 0);
    if (!started) {
        std::fprintf(stderr, "the parent did not start anything\n");
        return 1;
    }
    if (!report.ends_within(1s)) {
        std::fprintf(stderr, "somebody outlives the parent\n");
        return 1;
    }
    return 0;
}

// Process 1 of the namespace.
int be_first(observe::Report& report, const Round& round) {
    if (round.has_proc && (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
                           ::mount("proc", "/proc", "proc", 0, nullptr) != 0)) {
        return not_allowed;
    }
    if (round.parent_is_first) { lifetime::be_parent(round.role, report); }
    const pid_t parent = ::fork();
    if (parent == 0) { lifetime::be_parent(round.role, report); }
    return killed_in_time(parent, report, round);
}

// A process of its own, since who has called unshare can do so for one process 1 only.
int run(const Round& round) {
    if (::unshare(CLONE_NEWPID | CLONE_NEWNS) != 0 &&
        ::unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS) != 0) {
        return not_allowed;
    }
    observe::Report report;
    const pid_t first = ::fork();
    if (first < 0) { return not_allowed; }
    if (first == 0) { ::_exit(be_first(report, round)); }
    if (round.parent_is_first) { return killed_in_time(first, report, round); }
    report.stop_saying();
    int status = 0;
    ::waitpid(first, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) { return 2; }
    std::mt19937 random(static_cast<unsigned>(std::atol(argv[2])));
    for (int i = 0; i < std::atoi(argv[1]); ++i) {
        const Round round{.role = static_cast<Role>(i % lifetime::roles),
                          .has_proc = i / lifetime::roles % 2 == 0,
                          .parent_is_first = i / lifetime::roles / 2 % 2 == 0,
                          .moment = std::chrono::microseconds(random() % 50'000)};
        ::alarm(60);
        const pid_t pid = ::fork();
        if (pid == 0) { ::_exit(run(round)); }
        int status = 0;
        ::waitpid(pid, &status, 0);
        if (status == 0) { continue; }
        if (WIFEXITED(status) && WEXITSTATUS(status) == not_allowed) { return not_allowed; }
        std::fprintf(stderr, "round %d, status %x\n", i, static_cast<unsigned>(status));
        return 1;
    }
    return 0;
}

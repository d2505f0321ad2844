// SPDX-License-Identifier: BSL-1.0

// A parent is killed a moment after it has started something: of daemons, their children, workers
// and nursery nothing is left a second later.

#include "parents.hpp"
#include "remains.hpp"

#include "process/observe.hpp"
#include "support/catch.hpp"

#include <multiprocessing.hpp>

#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <random>
#include <string>
#include <thread>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

void kill_parents(int rounds) {
    const unsigned seed = std::random_device()();
    std::mt19937 random(seed);
    const observe::Subreaper reaper;
    for (int round = 0; round < rounds; ++round) {
        observe::Report report;  // ends when everybody is gone who could say something
        const auto role = static_cast<lifetime::Role>(round % lifetime::roles);
        const pid_t parent = ::fork();
        if (parent == 0) { lifetime::be_parent(role, report); }
        const auto said = report.hear();
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 50'000));
        ::kill(parent, SIGKILL);
        ::waitpid(parent, nullptr, 0);
        CAPTURE(seed, round);
        REQUIRE(said == "started");
        REQUIRE(report.ends_within(1s));
        REQUIRE(lifetime::remains() == "");
    }
}

void kill_parents_in_namespaces(int rounds) {
    support::allow(600s);
    const std::string seed = std::to_string(std::random_device()());
    const auto life = observe::run_program("lifetime_namespaces", {std::to_string(rounds), seed});
    CAPTURE(seed, life.err);
    if (life.exitcode == 77) {
        WARN("the kernel does not allow pid namespaces here");
        SUCCEED();
        return;
    }
    CHECK(life.exitcode == 0);
}

}  // namespace

TEST_CASE("nothing outlives a parent that is killed 0 to 50 ms after a start", "[lifetime]") {
    kill_parents(40);
}

TEST_CASE("nothing outlives a parent that is killed 0 to 50 ms after a start, 500 times",
          "[lifetime][long]") {
    support::allow(600s);
    kill_parents(500);
}

TEST_CASE("nothing outlives a parent in a pid namespace, be it process 1 or not", "[lifetime]") {
    kill_parents_in_namespaces(32);
}

TEST_CASE("nothing outlives a parent in a pid namespace, be it process 1 or not, 500 times",
          "[lifetime][long]") {
    kill_parents_in_namespaces(500);
}

TEST_CASE("terminate_tree ends a process with its pool, its daemons and their children",
          "[lifetime]") {
    const observe::Subreaper reaper;
    for (const bool pool : {false, true}) {
        observe::Report report;
        mp::Process root([&] {
            lifetime::be_parent(pool ? lifetime::Role::pool : lifetime::Role::daemons, report);
        });
        root.start();
        REQUIRE(report.hear() == "started");
        root.terminate_tree(5s);
        CHECK(root.exitcode() == -SIGTERM);
        CHECK(report.ends_within(1s));
        CHECK(lifetime::remains() == "");
    }
}

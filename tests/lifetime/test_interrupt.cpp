// SPDX-License-Identifier: BSL-1.0

// Ctrl-C, which the terminal sends to the whole process group, ends a program once.

#include "remains.hpp"

#include "process/observe.hpp"
#include "support/catch.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <random>
#include <string>
#include <thread>

using namespace std::chrono_literals;

namespace {

// A program in a process group of its own.
class Program {
  public:
    Program(const std::string& phase, const std::string& handler)
        : error_(::memfd_create("error", MFD_CLOEXEC)) {
        const auto path =
            (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "lifetime_interrupted")
                .string();
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) { std::abort(); }
        ::fcntl(error_, F_SETFL, O_APPEND);
        pid_ = ::fork();
        if (pid_ == 0) {
            ::setpgid(0, 0);
            ::dup2(error_, STDERR_FILENO);
            // It may be 3 already, and would then be closed.
            ::dup2(::fcntl(ends[1], F_DUPFD, 10), 3);
            ::execl(path.c_str(), path.c_str(), phase.c_str(), handler.c_str(), nullptr);
            ::_exit(96);
        }
        ::close(ends[1]);
        said_ = ends[0];
    }
    Program(const Program&) = delete;
    Program& operator=(const Program&) = delete;
    ~Program() {
        ::close(error_);
        ::close(said_);
    }

    bool has_begun() const {
        char text[6];
        return ::read(said_, text, sizeof text) == 6;
    }
    void interrupt() const { ::kill(-pid_, SIGINT); }

    int join() {
        int status = 0;
        ::waitpid(pid_, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }
    std::string error() const { return observe::contents_of(error_); }

  private:
    int error_;
    int said_ = -1;
    pid_t pid_ = -1;
};

struct Case {
    const char* phase;
    const char* handler;
    int exitcode;
    const char* message;
};

const Case cases[] = {
    {"map", "default", -SIGINT, ""},          {"get", "default", -SIGINT, ""},
    {"join", "default", -SIGINT, ""},         {"make", "default", -SIGINT, ""},
    {"process_join", "default", -SIGINT, ""}, {"map", "leave", 130, "handled\n"},
    {"get", "leave", 130, "handled\n"},       {"join", "leave", 130, "handled\n"},
    {"make", "leave", 130, "handled\n"},      {"map", "note", 130, "handled\n"},
    {"get", "note", 130, "handled\n"},        {"make", "note", 130, "handled\n"},
};

void interrupt(int rounds) {
    const unsigned seed = std::random_device()();
    std::mt19937 random(seed);
    const observe::Subreaper reaper;
    for (int round = 0; round < rounds; ++round) {
        const Case& each = cases[static_cast<std::size_t>(round) % std::size(cases)];
        CAPTURE(seed, round, each.phase, each.handler);
        Program program(each.phase, each.handler);
        REQUIRE(program.has_begun());
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 20'000));
        program.interrupt();
        int exitcode = 0;
        const auto time = support::timed([&] { return exitcode = program.join(); });
        REQUIRE(exitcode == each.exitcode);
        REQUIRE(program.error() == each.message);
        REQUIRE(time < 2s * support::slowness);
        REQUIRE(lifetime::remains() == "");
        REQUIRE(program.error() == each.message);
    }
}

}  // namespace

TEST_CASE("Ctrl-C ends a program once, with nothing left and nothing said", "[lifetime]") {
    interrupt(48);
}

TEST_CASE("Ctrl-C ends a program once, with nothing left and nothing said, 200 times",
          "[lifetime][long]") {
    support::allow(600s);
    interrupt(204);
}

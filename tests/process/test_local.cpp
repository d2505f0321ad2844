// SPDX-License-Identifier: BSL-1.0

// The end of a program, seen from outside: programs/life.cpp.

#include "observe.hpp"
#include "support/catch.hpp"

#include <multiprocessing/process.hpp>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

const std::string program = "process_life";
const std::string statics = "a static of the parent is destroyed\n";

}  // namespace

TEST_CASE("a dropped process is joined when main returns", "[process]") {
    const auto life = observe::run_program(program, {"dropped_process_and_return"});
    CHECK(life.exitcode == 3);
    CHECK(life.out == "main ends\nchild ends\n" + statics);
    CHECK(life.err == "");
}

TEST_CASE("a dropped process is joined at std::exit", "[process]") {
    const auto life = observe::run_program(program, {"dropped_process_and_exit"});
    CHECK(life.exitcode == 4);
    CHECK(life.out == "main ends\nchild ends\n" + statics);
}

TEST_CASE("a process in a static is joined before the statics go", "[process]") {
    const auto life = observe::run_program(program, {"process_in_a_static"});
    CHECK(life.exitcode == 0);
    CHECK(life.out == "main ends\nchild ends\n" + statics);
}

TEST_CASE("a daemonic process is terminated when main returns", "[process]") {
    const auto life = observe::run_program(program, {"daemon"});
    CHECK(life.exitcode == 0);
    CHECK(life.out == "main ends\ndaemon gets SIGTERM\n" + statics);
}

TEST_CASE("daemonic processes are terminated before the others are joined", "[process]") {
    const auto life = observe::run_program(program, {"daemon_before_others"});
    CHECK(life.exitcode == 0);
    CHECK(life.out == "main ends\nchild sees the daemon gone\n" + statics);
}

TEST_CASE("a process joins its own children at its end", "[process]") {
    const auto life = observe::run_program(program, {"child_joins_its_children"});
    CHECK(life.exitcode == 0);
    CHECK(life.out == "outer child ends\nchild ends\njoined\n" + statics);
}

TEST_CASE("the child of a plain fork that exits leaves its parent's children alone", "[process]") {
    const auto life = observe::run_program(program, {"plain_fork_exits"});
    CHECK(life.exitcode == 0);
    // The plain child is a copy of the program: its exit destroys its copy of the statics too.
    CHECK(life.out == statics + "alive\n" + statics);
}

TEST_CASE("a fork during the library's first use in another thread gives a child that can use it",
          "[process]") {
    for (int round = 0; round < 200; ++round) {
        const auto life = observe::run_program(program, {"first_use_while_forking"});
        CAPTURE(round, life.err);
        REQUIRE(life.exitcode == 0);
    }
}

TEST_CASE("a child runs the exit handlers that it registered, and none of its parent's",
          "[process]") {
    const auto [how, code] = GENERATE(table<std::string, std::string>(
        {{"return", "0"}, {"exit", "5"}, {"system_exit", "6"}, {"throw", "1"}}));
    const auto life = observe::run_program(program, {"exit_handlers_" + how});
    CHECK(life.exitcode == 0);
    CHECK(life.out ==
          "a handler of the child\n"
          "a static of the child is destroyed\n"
          "exit code " +
              code + "\n" +
              "a handler of the parent, registered after\n"
              "a handler of the parent, registered before\n" +
              statics);
    if (how == "throw") {
        CHECK(life.err ==
              "Process Process-1:\n"
              "  std::_Nested_exception<std::logic_error>: no report\n"
              "  caused by std::_Nested_exception<std::runtime_error>: cannot read the table\n"
              "  caused by std::out_of_range: no such row\n");
    } else {
        CHECK(life.err == "");
    }
}

TEST_CASE("names count what each process has made, in its own place of the family tree",
          "[process]") {
    observe::Report report;
    mp::Process a([&] {
        mp::Process first([] {});
        mp::Process second([&] {
            mp::Process inner([] {});
            report.say(inner.name());
        });
        report.say(mp::current_process().name());
        report.say(first.name());
        report.say(second.name());
        second.start();
        second.join();
    });
    const mp::Process b([] {});
    REQUIRE(a.name().starts_with("Process-"));
    const int number = std::stoi(a.name().substr(8));
    CHECK(b.name() == "Process-" + std::to_string(number + 1));
    a.start();
    a.join();
    const std::string name = a.name();
    CHECK(report.hear_all() == name + "\n" + name + ":1\n" + name + ":2\n" + name + ":2:1\n");
}

TEST_CASE("processes are started and named from many threads at once", "[process]") {
    constexpr int threads = 4;
    constexpr int rounds = 20;
    std::vector<std::string> names[threads];
    int failures[threads] = {};
    {
        std::vector<std::jthread> team;
        for (int t = 0; t < threads; ++t) {
            team.emplace_back([&, t] {
                for (int i = 0; i < rounds; ++i) {
                    mp::Process process([] { throw mp::SystemExit(7); });
                    names[t].push_back(process.name());
                    process.start();
                    if (!process.join(20s * support::slowness) || process.exitcode() != 7) {
                        ++failures[t];
                    }
                }
            });
        }
    }
    std::vector<std::string> all;
    for (int t = 0; t < threads; ++t) {
        CHECK(failures[t] == 0);
        all.insert(all.end(), names[t].begin(), names[t].end());
    }
    std::sort(all.begin(), all.end());
    CHECK(std::unique(all.begin(), all.end()) == all.end());
    CHECK(mp::active_children().empty());
}

// SPDX-License-Identifier: BSL-1.0

// However a program ends, and whatever it holds then, it ends promptly and nothing of it remains.

#include "remains.hpp"

#include "process/observe.hpp"
#include "support/catch.hpp"

#include <multiprocessing.hpp>

#include <chrono>
#include <csignal>
#include <string>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

struct Way {
    const char* name;
    int exitcode;
};

const Way ways[] = {
    {"return", 0},       {"exit", 3},           {"_exit", 4},
    {"abort", -SIGABRT}, {"sigterm", -SIGTERM}, {"exception", -SIGABRT},
    {"thread", 5},       {"destroyed", 0},      {"leaked", 0},
};

}  // namespace

TEST_CASE("a program ends within 2 s whatever it holds and however it ends, and nothing remains",
          "[lifetime]") {
    const std::string holding =
        GENERATE("queue", "pool", "thread_pool", "children", "daemons", "locks");
    const observe::Subreaper reaper;
    for (const Way& way : ways) {
        for (const std::string load : {"idle", "busy"}) {
            CAPTURE(holding, way.name, load);
            observe::Life life;
            const auto time = support::timed([&] {
                return life = observe::run_program("lifetime_exit", {holding, way.name, load});
            });
            CHECK(life.exitcode == way.exitcode);
            CHECK(time < 2s * support::slowness);
            CHECK(life.out.empty());
            const bool says_why = way.name == std::string("exception");
            CHECK(observe::count(life.err, "nobody catches this") == (says_why ? 1 : 0));
            if (!says_why) { CHECK(life.err.empty()); }
            // Children that are not daemonic go on for their 300 ms when the program did not join
            // them.
            CHECK(lifetime::remains() == "");
        }
    }
}

TEST_CASE("a child that put a hundred MiB can be joined before any of it is read", "[lifetime]") {
    constexpr std::size_t size = 1024 * 1024;
    const mp::Queue<std::string> queue;
    mp::Process child([&] {
        for (int i = 0; i < 100; ++i) { queue.put(std::string(size, static_cast<char>(i))); }
    });
    child.start();
    REQUIRE(child.join(60s));
    CHECK(child.exitcode() == 0);
    int right = 0;
    for (int i = 0; i < 100; ++i) {
        right += queue.get(20s) == std::string(size, static_cast<char>(i)) ? 1 : 0;
    }
    CHECK(right == 100);
    CHECK(queue.empty());
}

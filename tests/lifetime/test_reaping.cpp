// SPDX-License-Identifier: BSL-1.0

// Exit codes are right whoever joins, and whoever else reaps.

#include "support/bounds.hpp"
#include "support/catch.hpp"

#include <multiprocessing.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

const auto bound = 20s * support::slowness;

// Four threads that live as long as the test and join each process together.
void join_by_four(int rounds) {
    for (int round = 0; round < rounds; ++round) {
        mp::Process process([round] {
            if (round % 3 == 0) { ::_exit(round % 256); }
            if (round % 3 == 1) { ::raise(SIGKILL); }
            throw mp::SystemExit(round);
        });
        const int expected = round % 3 == 1 ? -SIGKILL : round % 256;
        process.start();
        std::atomic<int> right{0};
        {
            std::vector<std::jthread> team;
            for (int t = 0; t < 4; ++t) {
                team.emplace_back([&] {
                    if (process.join(bound) && process.exitcode() == expected) { ++right; }
                });
            }
        }
        CAPTURE(round, expected);
        REQUIRE(right == 4);
        if (round % 100 == 0) { support::allow(120s); }
    }
}

int die(int signal) {
    ::raise(signal);
    return 0;
}
int square(int number) { return number * number; }

// The truth about workers that end in every way, with a pool that works on.
void check_pool() {
    mp::Pool pool(2);
    for (const int signal : {SIGKILL, SIGSEGV, SIGTERM}) {
        try {
            pool.apply_async(die, signal).get(bound);
            FAIL_CHECK("a dead worker has a result");
        } catch (const mp::WorkerDiedError& death) { CHECK(death.signal() == signal); }
    }
    try {
        pool.apply_async([](int code) { return ::_exit(code), 0; }, 7).get(bound);
        FAIL_CHECK("a dead worker has a result");
    } catch (const mp::WorkerDiedError& death) { CHECK(death.exitcode() == 7); }
    CHECK(pool.map_async(square, {1, 2, 3}).get(bound) == std::vector<int>{1, 4, 9});
    pool.close();
    pool.join();
}

}  // namespace

TEST_CASE("four threads join one process, 10,000 times: the right exit code every time",
          "[lifetime][long]") {
    join_by_four(10'000);
}

TEST_CASE("a pool tells how its workers end though SIGCHLD is ignored", "[lifetime]") {
    auto* const before = std::signal(SIGCHLD, SIG_IGN);
    check_pool();
    // The program's choice holds for what runs in its workers.
    mp::Pool pool(1);
    CHECK(pool.apply([] { return std::signal(SIGCHLD, SIG_DFL) == SIG_IGN; }));
    std::signal(SIGCHLD, before);
}

TEST_CASE("a pool tells how its workers end though the program reaps any child", "[lifetime]") {
    std::atomic<bool> stop{false};
    {
        std::jthread reaper([&] {
            while (!stop) {
                if (::waitpid(-1, nullptr, WNOHANG) <= 0) { std::this_thread::yield(); }
            }
        });
        check_pool();
        stop = true;
    }
}

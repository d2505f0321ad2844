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

// SPDX-License-Identifier: BSL-1.0

// Who waits for a result may receive it itself: it then gets what is its own, nobody else's, and
// runs nobody's callback.

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/pools.hpp"

#include <multiprocessing/pool.hpp>

#include <signal.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;
using support::numbers;

namespace {

const auto bound = 20s * support::slowness;

int square(int number) { return number * number; }
int sleep_for(int milliseconds) {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    return milliseconds;
}
int die(int) {
    ::raise(SIGKILL);
    return 0;
}

}  // namespace

TEST_CASE("a thread that waits for one result runs no other's callback", "[pool]") {
    mp::Pool pool(2);
    std::atomic<int> called{0};
    std::atomic<bool> by_me{false};
    const auto me = std::this_thread::get_id();
    constexpr int rounds = 200;
    for (int round = 0; round < rounds; ++round) {
        pool.apply_async(square, mp::args(round), [&](int) {
            if (std::this_thread::get_id() == me) { by_me = true; }
            ++called;
        });
        for (int i = 0; i < 3; ++i) { REQUIRE(pool.apply_async(square, i).get(bound) == i * i); }
        REQUIRE(pool.apply(square, round) == round * round);
    }
    CHECK(support::eventually([&] { return called == rounds; }));
    CHECK_FALSE(by_me);
}

TEST_CASE("threads that wait at once get what is theirs", "[pool][stress]") {
    mp::Pool pool(2);
    std::atomic<int> wrong{0};
    std::atomic<int> deaths{0};
    const auto use = [&](int number) {
        for (int round = 0; round < 60; ++round) {
            const int value = number * 1000 + round;
            if (pool.apply(square, value) != value * value) { ++wrong; }
            auto later = pool.apply_async(square, value + 1);
            const auto list = pool.map(square, numbers(20), 1);
            for (int i = 0; i < 20; ++i) {
                if (list[static_cast<std::size_t>(i)] != i * i) { ++wrong; }
            }
            int next = 0;
            for (const int result : pool.imap(square, numbers(5))) {
                if (result != next * next) { ++wrong; }
                ++next;
            }
            if (next != 5) { ++wrong; }
            if (round % 20 == number) {
                try {
                    pool.apply(die, 0);
                    ++wrong;
                } catch (const mp::WorkerDiedError&) { ++deaths; }
            }
            if (later.get(bound) != (value + 1) * (value + 1)) { ++wrong; }
        }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) { threads.emplace_back(use, i); }
    for (auto& thread : threads) { thread.join(); }
    CHECK(wrong == 0);
    CHECK(deaths == 4 * 3);
}

TEST_CASE("what nobody waits for is received while others wait for theirs", "[pool]") {
    mp::Pool pool(2);
    // The supervisor rests when this has gone on for some time.
    for (int i = 0; i < 100; ++i) { REQUIRE(pool.apply(square, i) == i * i); }
    std::atomic<bool> told{false};
    pool.apply_async(square, mp::args(7), [&](int) { told = true; });
    CHECK(support::eventually([&] { return told.load(); }));
    for (int i = 0; i < 100; ++i) { REQUIRE(pool.apply(square, i) == i * i); }
    auto slow = pool.apply_async(sleep_for, 300);
    auto quick = pool.apply_async(square, mp::args(8), [&](int) { told = false; });
    CHECK(slow.get(bound) == 300);
    CHECK(quick.ready());
    CHECK_FALSE(told.load());
    CHECK_THROWS_AS(pool.apply_async(sleep_for, 300).get(20ms), mp::TimeoutError);
    pool.close();
    pool.join();
}

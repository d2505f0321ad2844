// SPDX-License-Identifier: BSL-1.0
#include "child.hpp"
#include "support/bounds.hpp"
#include "support/catch.hpp"

#include <multiprocessing/errors.hpp>
#include <multiprocessing/serialize.hpp>
#include <multiprocessing/sharedctypes.hpp>
#include <multiprocessing/synchronize.hpp>

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using support::Child;
using support::timed;
using namespace std::chrono_literals;

namespace {

constexpr int broken = 7;

/// A child in `barrier.wait()`; its exit code is the index, or `broken`.
Child party(const mp::Barrier& barrier, mp::Timeout timeout = 60s) {
    return Child([&barrier, timeout] {
        try {
            return barrier.wait(timeout);
        } catch (const mp::BrokenBarrierError&) { return broken; }
    });
}

void await_waiting(const mp::Barrier& barrier, int n) {
    REQUIRE(support::eventually([&] { return barrier.n_waiting() == n; }));
}

}  // namespace

TEST_CASE("a Barrier lets go when all have arrived, and numbers them") {
    const mp::Barrier barrier(3);
    CHECK(barrier.parties() == 3);
    Child first = party(barrier);
    await_waiting(barrier, 1);
    Child second = party(barrier);
    await_waiting(barrier, 2);
    CHECK(barrier.wait() == 2);
    CHECK(first.join() == 0);
    CHECK(second.join() == 1);
    CHECK(barrier.n_waiting() == 0);
    CHECK_FALSE(barrier.broken());
}

TEST_CASE("a Barrier for less than one is ValueError") {
    CHECK_THROWS_AS(mp::Barrier(0), mp::ValueError);
    CHECK_THROWS_AS(mp::Barrier(-3), mp::ValueError);
    const mp::Barrier one(1);
    CHECK((one.wait() == 0 && one.wait(0s) == 0));
}

TEST_CASE("a Barrier handle is sendable, but not through a queue") {
    STATIC_REQUIRE(mp::detail::sendable<mp::Barrier>);
    CHECK_THROWS_AS(mp::dumps(mp::Barrier(2)), mp::SerializationError);
}

TEST_CASE("threads meet at a Barrier, round after round", "[threads]") {
    constexpr int parties = 4;
    constexpr int rounds = 100;
    const mp::Barrier barrier(parties);
    std::atomic<int> arrived{0};
    std::atomic<bool> wrong{false};
    std::vector<int> indices(parties * rounds);
    std::vector<std::thread> threads;
    for (int i = 0; i < parties; ++i) {
        threads.emplace_back([&] {
            for (int round = 0; round < rounds; ++round) {
                ++arrived;
                const int index = barrier.wait();
                // Nobody is here before all have come, or two rounds ahead.
                if (arrived < (round + 1) * parties || arrived > (round + 2) * parties) {
                    wrong = true;
                }
                indices[static_cast<std::size_t>(round * parties + index)] = 1;
            }
        });
    }
    for (std::thread& thread : threads) { thread.join(); }
    CHECK_FALSE(wrong);
    CHECK(indices == std::vector<int>(parties * rounds, 1));
}

TEST_CASE("one party runs the action before any goes on") {
    const mp::RawValue<int> runs(0);
    const mp::RawValue<pid_t> runner(0);
    const mp::Barrier barrier(2, [&] {
        runner = ::getpid();
        runs += 1;
    });
    const auto twice = [&] {
        for (int round = 1; round <= 2; ++round) {
            barrier.wait(60s);
            if (runs < round) { return 1; }
        }
        return 0;
    };
    Child child(twice);
    CHECK(twice() == 0);
    CHECK(child.join() == 0);
    CHECK(runs == 2);
    CHECK((runner == ::getpid() || runner == child.pid()));
}

TEST_CASE("an action that throws leaves its wait, and breaks the barrier for the others") {
    const mp::Barrier barrier(2, [] { throw std::runtime_error("no"); });
    Child child = party(barrier);
    await_waiting(barrier, 1);
    CHECK_THROWS_WITH(barrier.wait(), "no");
    CHECK(child.join() == broken);
    CHECK(barrier.broken());
    CHECK_THROWS_AS(barrier.wait(), mp::BrokenBarrierError);
}

TEST_CASE("a timeout breaks the barrier for all") {
    const mp::Barrier barrier(3, {}, 200ms);
    Child other = party(barrier, 60s);
    await_waiting(barrier, 1);
    CHECK(timed([&] { CHECK_THROWS_AS(barrier.wait(), mp::BrokenBarrierError); }) >= 200ms);
    CHECK(other.join() == broken);
    CHECK(barrier.broken());
    CHECK(barrier.n_waiting() == 0);
    CHECK_THROWS_AS(barrier.wait(0s), mp::BrokenBarrierError);
}

TEST_CASE("a wait that may not wait breaks the barrier") {
    const mp::Barrier barrier(2);
    CHECK_THROWS_AS(barrier.wait(0s), mp::BrokenBarrierError);
    CHECK(barrier.broken());
}

TEST_CASE("a timeout while the action runs is kept") {
    const mp::Event end;
    const mp::Barrier barrier(2, [&] { end.wait(60s); });
    Child child = party(barrier, 200ms);
    await_waiting(barrier, 1);
    Child runner = party(barrier, 60s);
    CHECK(child.join(30s) == broken);
    end.set();
    CHECK(runner.join() == broken);
}

TEST_CASE("abort breaks the barrier until it is reset") {
    const mp::Barrier barrier(2);
    Child child = party(barrier);
    await_waiting(barrier, 1);
    barrier.abort();
    CHECK(child.join() == broken);
    CHECK(barrier.broken());
    barrier.reset();
    CHECK_FALSE(barrier.broken());
    Child again = party(barrier);
    CHECK(barrier.wait(60s) + again.join() == 1);
}

TEST_CASE("a reset ends the waits that there are, and no later ones") {
    const mp::Barrier barrier(2);
    for (int round = 0; round < 50; ++round) {
        Child child = party(barrier);
        await_waiting(barrier, 1);
        child.stop();
        barrier.reset();
        CHECK(barrier.n_waiting() == 0);
        // The slow one of the round that was reset does not confuse the next rounds, nor they it.
        std::thread other([&] { barrier.wait(60s); });
        barrier.wait(60s);
        other.join();
        if (round % 2 == 0) { barrier.reset(); }
        child.resume();
        CHECK(child.join() == broken);
    }
    CHECK_FALSE(barrier.broken());
}

TEST_CASE("a slow waiter of a round that went well learns that, whatever came after") {
    const mp::Barrier barrier(2);
    Child child = party(barrier);
    await_waiting(barrier, 1);
    child.stop();
    CHECK(barrier.wait(60s) == 1);
    barrier.reset();
    barrier.abort();
    child.resume();
    CHECK(child.join() == 0);
}

TEST_CASE("a party that dies while it waits breaks the barrier") {
    const mp::Barrier barrier(3);
    Child dying = party(barrier);
    await_waiting(barrier, 1);
    Child other = party(barrier);
    await_waiting(barrier, 2);
    dying.kill();
    CHECK(other.join(20s) == broken);
    CHECK(barrier.broken());
    CHECK_THROWS_AS(barrier.wait(), mp::BrokenBarrierError);
    barrier.reset();
    CHECK_FALSE(barrier.broken());
    Child one = party(barrier);
    Child two = party(barrier);
    CHECK(barrier.wait(60s) + one.join() + two.join() == 0 + 1 + 2);
}

TEST_CASE("a party that dies after it waited breaks the barrier") {
    const mp::Barrier barrier(2);
    Child dying([&] {
        barrier.wait();
        mp::Event().wait();
        return 0;
    });
    barrier.wait(60s);
    Child other = party(barrier);
    await_waiting(barrier, 1);
    dying.kill();
    CHECK(other.join(20s) == broken);
}

TEST_CASE("a barrier that a party's death broke says so without anybody waiting") {
    const mp::Barrier barrier(2);
    Child dying([&] {
        barrier.wait();
        mp::Event().wait();
        return 0;
    });
    barrier.wait(60s);
    CHECK_FALSE(barrier.broken());
    dying.kill();
    CHECK(barrier.broken());
}

TEST_CASE("a party that dies in the action breaks the barrier") {
    const mp::Event begun;
    const mp::Barrier barrier(2, [&] {
        begun.set();
        mp::Event().wait();
    });
    Child first = party(barrier);
    await_waiting(barrier, 1);
    Child runner = party(barrier);
    REQUIRE(begun.wait(60s));
    runner.kill();
    CHECK(first.join(20s) == broken);
}

TEST_CASE("a party that ends of its own accord does not break the barrier") {
    const mp::Barrier barrier(2);
    Child child = party(barrier);
    barrier.wait(60s);
    CHECK(child.join() < 2);
    CHECK_FALSE(barrier.broken());
    Child other = party(barrier);
    CHECK(barrier.wait(60s) + other.join() == 1);
}

TEST_CASE("more than the parties may come: they wait for the next round") {
    const mp::Barrier barrier(2);
    constexpr int threads_there = 12;
    std::atomic<int> sum{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < threads_there; ++i) {
        threads.emplace_back([&] { sum += barrier.wait(60s); });
    }
    for (std::thread& thread : threads) { thread.join(); }
    CHECK(sum == threads_there / 2);
    CHECK(barrier.n_waiting() == 0);
}

TEST_CASE("a Barrier for very many needs no more memory than can wait at it") {
    const mp::Barrier barrier(2'000'000'000);
    CHECK(barrier.parties() == 2'000'000'000);
    CHECK_THROWS_AS(barrier.wait(10ms), mp::BrokenBarrierError);
}

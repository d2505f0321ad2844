// SPDX-License-Identifier: BSL-1.0

// What a task may use, how often it is run again, and how it is ended while it runs.

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/pools.hpp"

#include <multiprocessing/pool.hpp>
#include <multiprocessing/sharedctypes.hpp>

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;
using support::Cell;
using support::cell;
using support::numbers;

namespace {

constexpr std::uint64_t MiB = 1024 * 1024;
const auto bound = 20s * support::slowness;

int square(int number) { return number * number; }
int sleep_for(int milliseconds) {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    return milliseconds;
}
int compute_for(int milliseconds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
    while (std::chrono::steady_clock::now() < end) {}
    return milliseconds;
}
// Holds so many MiB for a while.
std::size_t hold(std::size_t size) {
    std::vector<std::vector<char>> held;
    for (std::size_t i = 0; i < size; ++i) {
        held.emplace_back(MiB, 'x');
        if (i % 16 == 0) { std::this_thread::sleep_for(1ms); }
    }
    std::this_thread::sleep_for(100ms);
    return held.size();
}
// Is killed the first times that it is run.
int die_at_first(int times) {
    if (++cell(Cell::count) <= times) { ::raise(SIGKILL); }
    return times;
}
int die_if_three(int number) {
    if (number == 3 && ++cell(Cell::count) <= 1) { ::raise(SIGKILL); }
    return number * number;
}

template <class F>
std::string error_of(F f) {
    try {
        f();
    } catch (const std::exception& error) { return error.what(); }
    return "nothing was thrown";
}

}  // namespace

TEST_CASE("a task that runs too long is ended, and costs nobody else anything", "[pool]") {
    mp::Pool pool(2);
    auto others = pool.map_async(square, numbers(200), 1);
    auto late = pool.apply_async({.timeout = 100ms, .name = "the slow one"}, sleep_for, 60'000);
    auto in_time = pool.apply_async({.timeout = 60s}, sleep_for, 1);
    CHECK_THROWS_AS(late.get(bound), mp::TimeoutError);
    const std::string text = error_of([&] { late.get(); });
    CHECK_THAT(text, support::contains("the slow one"));
    CHECK_THAT(text, support::contains("100 ms"));
    CHECK(in_time.get(bound) == 1);
    CHECK(others.get(bound).back() == 199 * 199);
    CHECK(pool.map_async(square, numbers(50), 1).get(bound).back() == 49 * 49);
    CHECK(support::eventually([&] { return pool.workers().size() == 2; }));
}

TEST_CASE("a time-out begins with the run, not with the wait for a worker", "[pool]") {
    mp::Pool pool(1);
    std::vector<mp::AsyncResult<int>> results;
    for (int i = 0; i < 5; ++i) {
        results.push_back(pool.apply_async({.timeout = 1s * support::slowness}, sleep_for, 300));
    }
    for (auto& result : results) { CHECK(result.get(bound) == 300); }
}

TEST_CASE("in a map each item has the time-out for itself", "[pool]") {
    mp::Pool pool(1);
    const mp::MapOptions options{.chunksize = 5, .timeout = 500ms * support::slowness};
    CHECK(pool.map_async(options, sleep_for, std::vector<int>(5, 150)).get(bound).size() == 5);
    const auto outcomes =
        pool.map_outcome({.timeout = 200ms}, sleep_for, std::vector<int>{1, 60'000, 2, 60'000, 3});
    REQUIRE(outcomes.size() == 5);
    for (const std::size_t item : {0U, 2U, 4U}) { CHECK(outcomes[item].has_value()); }
    for (const std::size_t item : {1U, 3U}) {
        CHECK_THROWS_AS(std::rethrow_exception(outcomes[item].error()), mp::TimeoutError);
        CHECK_THAT(error_of([&] { std::rethrow_exception(outcomes[item].error()); }),
                   support::contains("item " + std::to_string(item)));
    }
}

TEST_CASE("processor time is bounded, and sleeping uses none", "[pool]") {
    mp::Pool pool(1);
    CHECK(pool.apply_async({.cpu_time = 200ms * support::slowness}, sleep_for, 500).get(bound) ==
          500);
    auto busy = pool.apply_async({.cpu_time = 100ms}, compute_for, 60'000);
    CHECK_THROWS_AS(busy.get(bound), mp::WorkerDiedError);
    CHECK_THAT(error_of([&] { busy.get(); }), support::contains("100 ms of the processors"));
    CHECK(pool.apply_async(square, 3).get(bound) == 9);
}

TEST_CASE("memory is bounded for a task, and for every worker of a pool", "[pool]") {
    SECTION("of a task") {
        mp::Pool pool(2);
        auto large = pool.apply_async({.max_memory = 400 * MiB}, hold, std::size_t{4000});
        auto small = pool.apply_async({.max_memory = 400 * MiB}, hold, std::size_t{20});
        auto free = pool.apply_async(hold, std::size_t{420});
        CHECK_THROWS_AS(large.get(bound), mp::WorkerDiedError);
        const std::string text = error_of([&] { large.get(); });
        CHECK_THAT(text, support::contains("more than it may"));
        CHECK(small.get(bound) == 20);
        CHECK(free.get(bound) == 420);
    }
    SECTION("of a pool") {
        mp::Pool pool({.processes = 1, .max_memory = 400 * MiB});
        CHECK(pool.apply_async(hold, std::size_t{20}).get(bound) == 20);
        auto large = pool.apply_async(hold, std::size_t{4000});
        try {
            large.get(bound);
            FAIL_CHECK("it held 4000 MiB");
        } catch (const mp::WorkerDiedError& death) {
            CHECK(death.peak_memory() > 390 * MiB);
            CHECK(death.peak_memory() < 2000 * MiB);
            CHECK_FALSE(death.oom_killed());
        }
        CHECK(pool.apply_async(hold, std::size_t{20}).get(bound) == 20);
    }
}

TEST_CASE("a task whose worker died is run again, so often and no oftener", "[pool]") {
    support::reset_cells();
    mp::Pool pool(2);
    SECTION("until it succeeds") {
        CHECK(pool.apply_async({.retries = 3}, die_at_first, 3).get(bound) == 3);
        CHECK(cell(Cell::count) == 4);
    }
    SECTION("until it has been tried often enough") {
        auto result = pool.apply_async({.retries = 2}, die_at_first, 100);
        CHECK_THROWS_AS(result.get(bound), mp::WorkerDiedError);
        CHECK(cell(Cell::count) == 3);
    }
    SECTION("in a map: the chunk") {
        const auto squares =
            pool.map_async({.chunksize = 4, .retries = 1}, die_if_three, numbers(20)).get(bound);
        for (int i = 0; i < 20; ++i) { CHECK(squares[static_cast<std::size_t>(i)] == i * i); }
    }
    SECTION("after close()") {
        auto result = pool.apply_async({.retries = 3}, die_at_first, 2);
        auto behind = pool.apply_async(square, 3);
        pool.close();
        pool.join();
        CHECK(result.get() == 2);
        CHECK(behind.get() == 9);
        return;
    }
    SECTION("not for an error, nor for a bound") {
        auto failing = pool.apply_async(
            {.retries = 5},
            +[](int) -> int {
                ++cell(Cell::other);
                throw mp::ValueError("wrong");
            },
            0);
        CHECK_THROWS_AS(failing.get(bound), mp::ValueError);
        CHECK(cell(Cell::other) == 1);
        auto late = pool.apply_async({.timeout = 50ms, .retries = 5}, support::held, 1);
        CHECK_THROWS_AS(late.get(bound), mp::TimeoutError);
        CHECK(cell(Cell::started) == 1);
    }
    CHECK(pool.map_async(square, numbers(9)).get(bound).back() == 64);
}

TEST_CASE("a poisonous task does not eat the pool", "[pool]") {
    support::reset_cells();
    mp::Pool pool(2);
    auto poison = pool.apply_async({.retries = 5}, die_at_first, 1'000'000);
    const auto squares = pool.map_async(square, numbers(500), 1).get(bound);
    CHECK(squares.back() == 499 * 499);
    CHECK_THROWS_AS(poison.get(bound), mp::WorkerDiedError);
    CHECK(cell(Cell::count) == 6);
}

TEST_CASE("cancel ends a task that runs, and its worker is replaced", "[pool]") {
    support::reset_cells();
    mp::Pool pool(2);
    auto running = pool.apply_async(support::held, 1);
    auto also = pool.apply_async(support::held, 2);
    REQUIRE(support::have_started(2));
    CHECK(running.cancel());
    CHECK(running.cancelled());
    CHECK_THROWS_AS(running.get(), mp::CancelledError);
    CHECK_FALSE(running.cancel());
    CHECK(pool.apply_async(square, 3).get(bound) == 9);
    cell(Cell::release) = 1;
    CHECK(also.get(bound) == 2);
    CHECK(cell(Cell::finished) == 1);
    CHECK(support::eventually([&] { return pool.workers().size() == 2; }));
}

TEST_CASE("cancel of a map ends what runs of it and what waits", "[pool]") {
    support::reset_cells();
    mp::Pool pool(2);
    auto map = pool.map_async(support::held, numbers(40), 1);
    REQUIRE(support::have_started(2));
    CHECK(map.cancel());
    CHECK_THROWS_AS(map.get(bound), mp::CancelledError);
    CHECK(pool.map_async(square, numbers(40), 1).get(bound).back() == 39 * 39);
    CHECK(cell(Cell::started) == 2);
    CHECK(cell(Cell::finished) == 0);
}

TEST_CASE("a dropped imap takes back what waits, and lets run what runs", "[pool]") {
    support::reset_cells();
    mp::Pool pool(1);
    {
        auto results = pool.imap(support::held, numbers(5), 1, 5);
        REQUIRE(support::have_started(1));
    }
    cell(Cell::release) = 1;
    CHECK(pool.apply_async(square, 3).get(bound) == 9);
    CHECK(cell(Cell::finished) == 1);
}

TEST_CASE("cancel at any moment: a result or CancelledError, and nobody else is hit", "[pool]") {
    mp::Pool pool(2);
    int cancelled = 0;
    const int rounds = 300 / support::slowness;
    for (int round = 0; round < rounds; ++round) {
        auto victim = pool.apply_async(compute_for, 1);
        std::vector<mp::AsyncResult<int>> others;
        for (int i = 0; i < 4; ++i) { others.push_back(pool.apply_async(square, i)); }
        std::this_thread::sleep_for(std::chrono::microseconds(round * 37 % 2'000));
        const bool taken = victim.cancel();
        CAPTURE(round, taken);
        if (taken) {
            ++cancelled;
            CHECK_THROWS_AS(victim.get(bound), mp::CancelledError);
        } else {
            CHECK(victim.get(bound) == 1);
        }
        for (int i = 0; i < 4; ++i) {
            CHECK(others[static_cast<std::size_t>(i)].get(bound) == i * i);
        }
    }
    CHECK(cancelled > 0);
    CHECK(cancelled < rounds);
}

TEST_CASE("a pool of threads says that it cannot end one", "[pool][threads]") {
    mp::ThreadPool pool(1);
    CHECK_THROWS_AS(pool.apply({.timeout = 1s}, square, 3), mp::ValueError);
    CHECK_THROWS_AS(pool.apply({.max_memory = MiB}, square, 3), mp::ValueError);
    CHECK_THROWS_AS(pool.map({.cpu_time = 1s}, square, numbers(3)), mp::ValueError);
    CHECK(pool.apply({.retries = 1}, square, 3) == 9);
}

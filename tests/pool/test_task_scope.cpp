// SPDX-License-Identifier: BSL-1.0

// What a task knows of itself: its seed, whether it is to stop, how far it says it is; and what its
// worker is given: processors, threads.

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/pools.hpp"

#include <multiprocessing/pool.hpp>

#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <tuple>
#include <type_traits>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;
using support::Cell;
using support::cell;
using support::numbers;

namespace {

const auto bound = 20s * support::slowness;

std::uint64_t seed_of(int) { return mp::task_seed(); }
int square(int number) { return number * number; }

// Says that it has begun, and goes on until it is asked to stop.
int until_stopped(int number, std::stop_token stop) {
    ++cell(Cell::started);
    while (!stop.stop_requested()) { std::this_thread::sleep_for(1ms); }
    ++cell(Cell::finished);
    return number;
}
int until_stopped_at_once(int number, std::stop_token stop) {
    ++cell(Cell::started);
    while (!stop.stop_requested()) {}
    return number;
}
// Waits without looking, and is woken.
int until_called(int number, std::stop_token stop) {
    std::mutex mutex;
    std::condition_variable_any woken;
    std::unique_lock lock(mutex);
    ++cell(Cell::started);
    woken.wait(lock, stop, [] { return false; });
    ++cell(Cell::finished);
    return number;
}
// Takes a token and does not look at it.
int deaf(int number, std::stop_token) {
    ++cell(Cell::started);
    static_cast<void>(support::eventually([] { return cell(Cell::release) != 0; }, 60s));
    ++cell(Cell::finished);
    return number;
}
int add(int a, int b, std::stop_token stop) { return stop.stop_possible() ? a + b : -1; }

}  // namespace

POOL_TEST_CASE("each item has a seed of its own, whatever the pool", "[pool]") {
    const auto seeds = [](int processes, int chunksize) {
        Pool pool({.processes = processes, .seed = 42});
        pool.apply(seed_of, 0);
        return pool.map(seed_of, numbers(50), chunksize);
    };
    const auto one = seeds(1, 1);
    CHECK(std::set<std::uint64_t>(one.begin(), one.end()).size() == 50);
    CHECK(seeds(1, 7) == one);
    CHECK(seeds(3, 1) == one);
    CHECK(seeds(3, 50) == one);
    Pool pool({.processes = 2, .seed = 42});
    const auto first = pool.apply(seed_of, 0);
    CHECK(first != pool.apply(seed_of, 0));
    Pool other({.processes = 1, .seed = 43});
    CHECK(other.apply(seed_of, 0) != first);
    std::vector<std::uint64_t> lazily;
    for (const auto seed : pool.imap(seed_of, numbers(4), 2)) { lazily.push_back(seed); }
    CHECK(std::set<std::uint64_t>(lazily.begin(), lazily.end()).size() == 4);
}

TEST_CASE("outside a task there is no seed, and progress goes nowhere", "[pool]") {
    CHECK_THROWS_AS(mp::task_seed(), mp::InvalidStateError);
    mp::report_progress(1, 2);
}

TEST_CASE("a task that is run again has the same seed", "[pool]") {
    support::reset_cells();
    mp::Pool pool(1);
    const auto low_half = [](std::uint64_t seed) { return static_cast<int>(seed & 0x3fff'ffff); };
    const auto seed = pool.apply(
        {.retries = 1},
        +[](int) {
            if (++cell(Cell::count) == 1) {
                cell(Cell::other) = static_cast<int>(mp::task_seed() & 0x3fff'ffff);
                ::raise(SIGKILL);
            }
            return mp::task_seed();
        },
        0);
    CHECK(low_half(seed) == cell(Cell::other));
}

POOL_TEST_CASE("a function that takes a stop_token learns that it is cancelled", "[pool]") {
    Pool pool(2);
    SECTION("by looking") {
        auto running = pool.apply_async(until_stopped, 1);
        REQUIRE(support::have_started(1));
        CHECK(running.cancel());
        CHECK_THROWS_AS(running.get(bound), mp::CancelledError);
    }
    SECTION("by being woken") {
        auto running = pool.apply_async(until_called, 1);
        REQUIRE(support::have_started(1));
        CHECK(running.cancel());
        CHECK_THROWS_AS(running.get(bound), mp::CancelledError);
    }
    SECTION("in a map") {
        auto running = pool.map_async(until_stopped, numbers(2), 1);
        REQUIRE(support::have_started(2));
        CHECK(running.cancel());
        CHECK_THROWS_AS(running.get(bound), mp::CancelledError);
        CHECK(support::eventually([] { return cell(Cell::finished) == 2; }));
    }
    CHECK(support::eventually([] { return cell(Cell::finished) >= 1; }));
    CHECK(pool.apply_async(square, 3).get(bound) == 9);
}

POOL_TEST_CASE("what is cancelled stays so, however fast its function follows", "[pool]") {
    Pool pool(1);
    for (int round = 1; round <= 200; ++round) {
        auto running = pool.apply_async(until_stopped_at_once, 1);
        REQUIRE(support::have_started(round));
        REQUIRE(running.cancel());
        REQUIRE_THROWS_AS(running.get(bound), mp::CancelledError);
    }
}

POOL_TEST_CASE("a stop_token stands behind the other arguments", "[pool]") {
    Pool pool(1);
    CHECK(pool.apply(add, 1, 2) == 3);
    const std::vector<std::tuple<int, int>> pairs = {{1, 2}, {3, 4}};
    CHECK(pool.starmap(add, pairs) == std::vector<int>{3, 7});
    // One task's stop is not the next one's.
    auto running = pool.apply_async(until_stopped, 1);
    REQUIRE(support::have_started(1));
    CHECK(running.cancel());
    auto next = pool.apply_async(until_stopped, 2);
    REQUIRE(support::have_started(2));
    CHECK_THROWS_AS(next.get(50ms), mp::TimeoutError);
    CHECK(next.cancel());
}

TEST_CASE("who does not follow the stop_token is ended after a second", "[pool]") {
    support::reset_cells();
    mp::Pool pool(1);
    auto running = pool.apply_async(deaf, 1);
    REQUIRE(support::have_started(1));
    CHECK(running.cancel());
    CHECK(running.cancelled());
    // There is one worker only.
    CHECK(pool.apply_async(square, 3).get(bound) == 9);
    CHECK(cell(Cell::finished) == 0);
    auto again = pool.apply_async(deaf, 1);
    REQUIRE(support::have_started(2));
    CHECK(again.cancel());
    pool.close();
    pool.join();
    CHECK(cell(Cell::finished) == 0);
}

TEST_CASE("numerical libraries in workers get the worker's share of the processors", "[pool]") {
    const auto threads = [](const mp::PoolOptions& options) {
        mp::Pool pool(options);
        return pool.apply(
            +[](int) {
                const char* const number = std::getenv("OMP_NUM_THREADS");
                return std::string(number != nullptr ? number : "not set");
            },
            0);
    };
    const char* const before = std::getenv("OMP_NUM_THREADS");
    REQUIRE(before == nullptr);
    const int share = std::max(1, mp::process_cpu_count() / 2);
    CHECK(threads({.processes = 2}) == std::to_string(share));
    CHECK(threads({.processes =
                       1000 > mp::process_cpu_count() ? mp::process_cpu_count() + 1 : 1}) == "1");
    CHECK(threads({.processes = 2, .limit_threads = false}) == "not set");
    ::setenv("OMP_NUM_THREADS", "7", 1);
    CHECK(threads({.processes = 2}) == "7");
    ::unsetenv("OMP_NUM_THREADS");
}

TEST_CASE("workers can be kept on a processor each", "[pool]") {
    mp::Pool pool({.processes = 2, .pin_cpus = true});
    const auto count = +[](int) {
        cpu_set_t set;
        CPU_ZERO(&set);
        ::sched_getaffinity(0, sizeof set, &set);
        return CPU_COUNT(&set);
    };
    CHECK(pool.map(count, {1, 2, 3, 4}, 1) == std::vector<int>(4, 1));
}

POOL_TEST_CASE("inline_ runs each task in the caller", "[pool]") {
    Pool pool({.processes = 3, .inline_ = true});
    const pid_t here = ::getpid();
    CHECK(pool.apply(
              +[](int) { return ::getpid(); }, 0) == here);
    CHECK(pool.map(square, numbers(4)) == std::vector<int>{0, 1, 4, 9});
    auto result = pool.apply_async(square, 3);
    CHECK(result.ready());
    CHECK(result.get() == 9);
    CHECK_FALSE(result.cancel());
    CHECK_THROWS_AS(pool.apply(
                        +[](int) -> int { throw mp::ValueError("wrong"); }, 0),
                    mp::ValueError);
    std::vector<int> lazily;
    for (const int each : pool.imap(square, numbers(5), 2)) { lazily.push_back(each); }
    CHECK(lazily == std::vector<int>{0, 1, 4, 9, 16});
    CHECK(pool.map_outcome(square, numbers(2))[1].value() == 1);
    CHECK(pool.processes() == 1);
    pool.close();
    pool.join();
    CHECK_THROWS_AS(pool.apply(square, 1), mp::ValueError);
}

TEST_CASE("a task may have a pool of its own", "[pool]") {
    mp::Pool pool(2);
    const auto sums = pool.map(
        +[](int number) {
            mp::Pool inner(2);
            const auto squares = inner.map(square, {number, number + 1});
            return squares[0] + squares[1];
        },
        numbers(3), 1);
    CHECK(sums == std::vector<int>{1, 5, 13});
}

namespace {

// Counts how often it is read, in whichever process.
struct Table {
    std::vector<double> values;

    template <class Archive>
    void save(Archive& archive) const {
        archive(values);
    }
    template <class Archive>
    void load(Archive& archive) {
        ++cell(Cell::count);
        archive(values);
    }
};
double look_up(const mp::Shared<Table>& table, std::size_t index) {
    return table->values.at(index);
}

}  // namespace

POOL_TEST_CASE("a shared constant crosses to each worker once", "[pool]") {
    Pool pool(2);
    Table values{std::vector<double>(1'000'000, 0.5)};
    values.values[7] = 7;
    const mp::Shared<Table> table = mp::share(values);
    std::vector<mp::AsyncResult<double>> results;
    for (std::size_t i = 0; i < 100; ++i) {
        results.push_back(pool.apply_async(look_up, table, i));
    }
    for (std::size_t i = 0; i < 100; ++i) { CHECK(results[i].get(bound) == (i == 7 ? 7 : 0.5)); }
    CHECK(cell(Cell::count) <= 2);
    // Another one is another.
    const auto other = mp::share(Table{{1, 2, 3}});
    CHECK(pool.apply(look_up, other, std::size_t{2}) == 3);
    CHECK(pool.apply(look_up, table, std::size_t{7}) == 7);
}

TEST_CASE("a shared constant that was dropped is an error of the task", "[pool]") {
    support::reset_cells();
    mp::Pool pool(1);
    auto blocking = pool.apply_async(support::held, 1);
    mp::AsyncResult<double> late = [&] {
        const auto table = mp::share(Table{{1, 2, 3}});
        return pool.apply_async(look_up, table, std::size_t{1});
    }();
    cell(Cell::release) = 1;
    CHECK(blocking.get(bound) == 1);
    CHECK_THROWS_AS(late.get(bound), mp::SerializationError);
    CHECK(pool.apply(square, 3) == 9);
}

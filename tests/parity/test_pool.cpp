// SPDX-License-Identifier: BSL-1.0

// CPython's tests of pools, one test case a test; in threads and in processes where it has both.

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/forked.hpp"
#include "support/leak_check.hpp"
#include "support/pools.hpp"

#include <multiprocessing/pool.hpp>

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <memory>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;
using support::Cell;
using support::cell;
using support::numbers;

namespace {

int square(int x) { return x * x; }
int slow_square(int x, std::chrono::milliseconds time) {
    std::this_thread::sleep_for(time);
    return x * x;
}
int multiply(int x, int y) { return x * y; }
int raise_if_negative(int x) {
    if (x < 0) { throw mp::ValueError("negative: " + std::to_string(x)); }
    return x;
}

std::vector<int> squares(int count) {
    auto items = numbers(count);
    std::transform(items.begin(), items.end(), items.begin(), square);
    return items;
}

std::vector<std::tuple<int, int>> pairs(int count) {
    std::vector<std::tuple<int, int>> items;
    for (int i = 0; i < count; ++i) { items.emplace_back(i, i + 1); }
    return items;
}

/// The input broke.
class SayWhenError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/// 0, 1, 2 ... of which number `when` throws; -1: before the first.
class ThrowingRange {
  public:
    ThrowingRange(int total, int when) : total_(total), when_(when) {}

    class iterator {
      public:
        using iterator_concept = std::input_iterator_tag;
        using value_type = int;
        using difference_type = std::ptrdiff_t;

        explicit iterator(const ThrowingRange* range) : range_(range) { look(); }
        int operator*() const { return number_; }
        iterator& operator++() {
            ++number_;
            look();
            return *this;
        }
        void operator++(int) { ++*this; }
        bool operator==(std::default_sentinel_t) const { return number_ == range_->total_; }

      private:
        void look() const {
            if (number_ == range_->when_) { throw SayWhenError("the input throws"); }
        }

        const ThrowingRange* range_;
        int number_ = 0;
    };

    iterator begin() const {
        if (when_ < 0) { throw SayWhenError("the input throws before the first"); }
        return iterator(this);
    }
    std::default_sentinel_t end() const { return {}; }

  private:
    int total_;
    int when_;
};

/// Cannot be sent, which is found out when it is tried.
struct Unsendable {
    int number = 0;

    template <class Archive>
    void save(Archive&) const {
        throw std::out_of_range("does not want to be sent");
    }
    template <class Archive>
    void load(Archive&) {}
};
int take_unsendable(const Unsendable&) { return 1; }
Unsendable give_unsendable(int number) { return {number}; }

/// Counts its instances in this process.
struct Counted {
    static inline std::atomic<int> living{0};

    Counted() { ++living; }
    explicit Counted(int v) : value(v) { ++living; }
    Counted(const Counted& other) : value(other.value) { ++living; }
    Counted& operator=(const Counted&) = default;
    ~Counted() { --living; }

    template <class Archive>
    void serialize(Archive& archive) {
        archive(value);
    }

    int value = 0;
};
Counted pass_counted(const Counted& counted) { return Counted(counted.value + 1); }

template <class Results>
std::vector<int> collect(Results&& results) {
    std::vector<int> all;
    for (const int result : results) { all.push_back(result); }
    return all;
}

}  // namespace

POOL_TEST_CASE("_TestPool.test_apply: apply gives the result", "[parity]") {
    Pool pool(2);
    CHECK(pool.apply(square, 5) == 25);
    CHECK(pool.apply(slow_square, 5, 1ms) == 25);
}

POOL_TEST_CASE("_TestPool.test_map: results stand in the order of the items", "[parity]") {
    Pool pool(4);
    CHECK(pool.map(square, numbers(10)) == squares(10));
    CHECK(pool.map(square, numbers(100), 20) == squares(100));
}

POOL_TEST_CASE("_TestPool.test_starmap: tuples are unpacked", "[parity]") {
    Pool pool(4);
    const auto products = [](int count) {
        std::vector<int> all;
        for (const auto& [x, y] : pairs(count)) { all.push_back(x * y); }
        return all;
    };
    CHECK(pool.starmap(multiply, pairs(10)) == products(10));
    CHECK(pool.starmap(multiply, pairs(100), 20) == products(100));
}

POOL_TEST_CASE("_TestPool.test_starmap_async: tuples are unpacked later", "[parity]") {
    Pool pool(4);
    const auto items = pairs(100);
    CHECK(pool.starmap_async(multiply, items).get() == pool.starmap(multiply, items));
}

POOL_TEST_CASE("_TestPool.test_map_async: gives what map gives", "[parity]") {
    Pool pool(4);
    CHECK(pool.map_async(square, numbers(10)).get() == squares(10));
}

POOL_TEST_CASE(
    "_TestPool.test_map_async_callbacks: one of the two is called, once, before wait returns",
    "[parity]") {
    Pool pool(2);
    std::vector<std::vector<int>> values;
    std::vector<std::string> errors;
    const auto callback = [&](const std::vector<int>& result) { values.push_back(result); };
    const auto error_callback = [&](const std::exception& error) {
        errors.push_back(error.what());
    };

    pool.map_async(raise_if_negative, numbers(3), 0, callback, error_callback).wait();
    CHECK(values == std::vector<std::vector<int>>{{0, 1, 2}});
    CHECK(errors.empty());

    pool.map_async(raise_if_negative, std::vector<int>{1, -1}, 0, callback, error_callback).wait();
    CHECK(values.size() == 1);
    REQUIRE(errors.size() == 1);
    CHECK_THAT(errors.front(), support::contains("negative: -1"));
}

TEST_CASE(
    "_TestPool.test_map_unplicklable: what an argument's save throws leaves map, and the pool "
    "works on",
    "[parity]") {
    mp::Pool pool(2);
    for (int i = 0; i < 3; ++i) {
        CHECK_THROWS_AS(pool.map(take_unsendable, std::vector<Unsendable>(3)), std::out_of_range);
        CHECK(pool.map(square, {1, 2}) == std::vector<int>{1, 4});
    }
}

POOL_TEST_CASE("_TestPool.test_map_chunksize: nothing to do with a chunksize is done at once",
               "[parity]") {
    Pool pool(2);
    CHECK(pool.map_async(square, std::vector<int>(), 1).get(10s).empty());
}

POOL_TEST_CASE(
    "_TestPool.test_map_handle_iterable_exception: what the input throws leaves map, each time",
    "[parity]") {
    Pool pool(2);
    for (int i = 0; i < 2; ++i) {
        CHECK_THROWS_AS(pool.map(square, ThrowingRange(10, -1)), SayWhenError);
        CHECK_THROWS_AS(pool.map(square, ThrowingRange(10, 0)), SayWhenError);
        CHECK_THROWS_AS(pool.map(square, ThrowingRange(10, 3)), SayWhenError);
        CHECK_THROWS_AS(pool.map(square, ThrowingRange(10, 3), 1), SayWhenError);
    }
    CHECK(pool.map(square, numbers(3)) == squares(3));
}

POOL_TEST_CASE("_TestPool.test_async: apply_async gives the result later", "[parity]") {
    Pool pool(2);
    CHECK(pool.apply_async(slow_square, 7, 100ms).get() == 49);
}

POOL_TEST_CASE("_TestPool.test_async_timeout: get with a timeout throws when that is over",
               "[parity]") {
    support::Release release;
    Pool pool(2);
    auto result = pool.apply_async(support::held, 1);
    const auto time = support::timed([&] { CHECK_THROWS_AS(result.get(200ms), mp::TimeoutError); });
    CHECK(time >= 200ms);
    CHECK(time < 5s * support::slowness);
    if constexpr (std::is_same_v<Pool, mp::ThreadPool>) { release.now(); }
    pool.terminate();
    pool.join();
}

POOL_TEST_CASE("_TestPool.test_imap: results come in the items' order, and then StopIteration",
               "[parity]") {
    Pool pool(3);
    CHECK(collect(pool.imap(square, numbers(10))) == squares(10));

    auto results = pool.imap(square, numbers(10));
    for (const int expected : squares(10)) { CHECK(results.next() == expected); }
    CHECK_THROWS_AS(results.next(), mp::StopIteration);
    CHECK_THROWS_AS(results.next(), mp::StopIteration);

    results = pool.imap(square, numbers(1000), 100);
    for (const int expected : squares(1000)) { REQUIRE(results.next() == expected); }
    CHECK_THROWS_AS(results.next(), mp::StopIteration);
}

POOL_TEST_CASE(
    "_TestPool.test_imap_handle_iterable_exception: results come first, then what the input throws",
    "[parity]") {
    Pool pool(3);
    const auto until_error = [&](int when, int chunksize) {
        std::vector<int> all;
        auto results = pool.imap(square, ThrowingRange(20, when), chunksize);
        try {
            for (const int result : results) { all.push_back(result); }
            FAIL("the input's error is missing");
        } catch (const SayWhenError&) { CHECK_THROWS_AS(results.next(), mp::StopIteration); }
        return all;
    };
    CHECK(until_error(-1, 1).empty());
    CHECK(until_error(0, 1).empty());
    CHECK(until_error(3, 1) == squares(3));
    CHECK(until_error(7, 2) == squares(6));
    CHECK(until_error(7, 4) == squares(4));
}

POOL_TEST_CASE("_TestPool.test_imap_unordered: all results come, in any order", "[parity]") {
    Pool pool(3);
    auto all = collect(pool.imap_unordered(square, numbers(10)));
    std::sort(all.begin(), all.end());
    CHECK(all == squares(10));
    all = collect(pool.imap_unordered(square, numbers(1000), 100));
    std::sort(all.begin(), all.end());
    CHECK(all == squares(1000));
}

POOL_TEST_CASE(
    "_TestPool.test_imap_unordered_handle_iterable_exception: right results, none twice, then "
    "what the input throws",
    "[parity]") {
    Pool pool(3);
    for (const auto& [when, chunksize] : {std::pair(-1, 1), {3, 1}, {7, 2}, {7, 4}}) {
        std::set<int> all;
        auto results = pool.imap_unordered(square, ThrowingRange(20, when), chunksize);
        CHECK_THROWS_AS(
            [&] {
                for (const int result : results) { REQUIRE(all.insert(result).second); }
            }(),
            SayWhenError);
        const auto right = squares(20);
        CHECK(std::includes(right.begin(), right.end(), all.begin(), all.end()));
    }
}

POOL_TEST_CASE("_TestPool.test_make_pool: a pool has as many workers as it was told", "[parity]") {
    CHECK_THROWS_AS(Pool(-1), mp::ValueError);
    CHECK(Pool(0).processes() == mp::process_cpu_count());
    Pool pool(3);
    CHECK(pool.processes() == 3);
    CHECK(support::eventually([&] { return pool.workers().size() == 3; }));
    pool.close();
    pool.join();
}

POOL_TEST_CASE("_TestPool.test_terminate: a full queue does not keep a pool from ending",
               "[parity]") {
    support::Release release;
    Pool pool(3);
    auto result = pool.map_async(support::held, numbers(10'000), 1);
    REQUIRE(support::have_started(3));
    CHECK(support::timed([&] { pool.terminate(); }) < 10s * support::slowness);
    CHECK_THROWS_AS(result.get(10s), mp::CancelledError);
    release.now();
    CHECK(support::timed([&] { pool.join(); }) < 10s * support::slowness);
}

POOL_TEST_CASE("_TestPool.test_empty_iterable: no items give no results", "[parity]") {
    Pool pool(1);
    const std::vector<int> nothing;
    CHECK(pool.map(square, nothing).empty());
    CHECK(collect(pool.imap(square, nothing)).empty());
    CHECK(collect(pool.imap_unordered(square, nothing)).empty());
    CHECK(pool.map_async(square, nothing).get().empty());
    pool.close();
    pool.join();
}

POOL_TEST_CASE("_TestPool.test_context: at the end of its scope a pool is terminated", "[parity]") {
    std::vector<mp::AsyncResult<int>> unfinished;
    {
        support::Release release;
        Pool pool(2);
        const auto result = pool.map_async(square, numbers(10));
        CHECK(result.get() == squares(10));
        unfinished.push_back(pool.apply_async(support::held, 1));
        pool.terminate();
        release.now();
        CHECK_THROWS_AS(pool.map_async(square, numbers(10)), mp::ValueError);
    }
    CHECK_THROWS_AS(unfinished.front().get(10s), mp::CancelledError);
}

POOL_TEST_CASE("_TestPool.test_traceback: an error has its type and text, and where it is from",
               "[parity]") {
    Pool pool(1);
    try {
        pool.apply(raise_if_negative, -3);
        FAIL("no error");
    } catch (const mp::ValueError& error) {
        CHECK_THAT(std::string(error.what()), support::contains("negative: -3"));
        const auto* const remote = dynamic_cast<const mp::RemoteError*>(&error);
        if constexpr (std::is_same_v<Pool, mp::ThreadPool>) {
            CHECK(remote == nullptr);
        } else {
            REQUIRE(remote != nullptr);
            CHECK(remote->message() == "negative: -3");
            CHECK_THAT(remote->type_name(), support::contains("ValueError"));
            CHECK(remote->pid() != ::getpid());
            CHECK_THAT(remote->traceback(), support::contains("negative: -3"));
        }
    }
    // The input's errors are from here.
    try {
        pool.map(square, ThrowingRange(3, 1));
        FAIL("no error");
    } catch (const SayWhenError& error) {
        CHECK(dynamic_cast<const mp::RemoteError*>(static_cast<const std::exception*>(&error)) ==
              nullptr);
    }
}

TEST_CASE("_TestPool.test_wrapped_exception: a thread pool throws the very exception of the task",
          "[parity][threads]") {
    mp::ThreadPool pool(1);
    CHECK_THROWS_AS(pool.apply([]() -> int { throw SayWhenError("from the thread"); }),
                    SayWhenError);
}

namespace {

int fail_after(std::chrono::milliseconds time) {
    std::this_thread::sleep_for(time);
    ++cell(Cell::finished);
    throw std::runtime_error(std::string(1024 * 1024, 'x'));
}

}  // namespace

POOL_TEST_CASE("_TestPool.test_map_no_failfast: map throws only once all tasks have ended",
               "[parity]") {
    Pool pool(2);
    CHECK(support::timed([&] {
              CHECK_THROWS_AS(pool.map(fail_after, std::vector{0ms, 1000ms}), std::runtime_error);
          }) >= 900ms);
    CHECK(cell(Cell::finished) == 2);
    pool.close();
    pool.join();
}

POOL_TEST_CASE(
    "_TestPool.test_release_task_refs: after map nothing of its items and results is kept",
    "[parity]") {
    Pool pool(3);
    {
        const std::vector<Counted> items(10, Counted(1));
        const auto results = pool.map(pass_counted, items);
        CHECK(results.size() == 10);
        CHECK(results.front().value == 2);
        // The engine may be letting go of the job only now.
        CHECK(support::eventually([] { return Counted::living == 20; }));
    }
    CHECK(Counted::living == 0);
    {
        auto result = pool.map_async(pass_counted, std::vector<Counted>(10));
        result.wait();
        CHECK(support::eventually([] { return Counted::living == 10; }));
    }
    CHECK(support::eventually([] { return Counted::living == 0; }));
}

POOL_TEST_CASE("_TestPool.test_enter: a pool that was terminated takes nothing", "[parity]") {
    Pool pool(1);
    pool.terminate();
    CHECK_THROWS_AS(pool.apply(square, 1), mp::ValueError);
    CHECK_THROWS_AS(pool.imap(square, numbers(1)), mp::ValueError);
    pool.join();
    CHECK_THROWS_AS(pool.map(square, numbers(1)), mp::ValueError);
}

POOL_TEST_CASE("_TestPool.test_callback_raises: what a callback throws is the job's error",
               "[parity]") {
    support::Release release;
    Pool pool(1);
    auto result = pool.apply_async(support::held, 1);
    std::string seen;
    result.then([](int) { throw std::out_of_range("from the callback"); })
        .on_error([&](const std::exception& error) { seen = error.what(); });
    release.now();
    CHECK_THROWS_AS(result.get(60s), std::out_of_range);
    CHECK(seen == "from the callback");
    CHECK(pool.apply(square, 3) == 9);
    pool.close();
    pool.join();
}

POOL_TEST_CASE(
    "_TestPoolWorkerErrors.test_async_error_callback: the error callback gets what get throws",
    "[parity]") {
    Pool pool(2);
    std::exception_ptr seen;
    const auto result = pool.apply_async(raise_if_negative, mp::args(-1), std::nullopt,
                                         [&](std::exception_ptr error) { seen = error; });
    CHECK_THROWS_AS(result.get(), mp::ValueError);
    REQUIRE(seen != nullptr);
    CHECK_THROWS_AS(std::rethrow_exception(seen), mp::ValueError);
}

TEST_CASE(
    "_TestPoolWorkerErrors.test_unpickleable_result: a result that cannot be sent is an error and "
    "costs "
    "no worker",
    "[parity]") {
    mp::Pool pool(2);
    const auto pids = [&] {
        std::set<pid_t> all;
        for (const auto& worker : pool.workers()) { all.insert(worker.pid); }
        return all;
    };
    pool.map(square, numbers(100));
    const auto before = pids();
    for (int i = 0; i < 20; ++i) {
        CHECK_THROWS_AS(pool.apply_async(give_unsendable, i).get(), std::out_of_range);
    }
    CHECK(pids() == before);
}

POOL_TEST_CASE(
    "_TestPoolWorkerLifetime.test_pool_worker_lifetime: workers are replaced after "
    "maxtasksperchild chunks",
    "[parity]") {
    Pool pool({.processes = 3, .maxtasksperchild = 10});
    const auto pids = [&] {
        std::set<pid_t> all;
        for (const auto& worker : pool.workers()) { all.insert(worker.pid); }
        all.erase(0);  // one that is just being started
        return all;
    };
    REQUIRE(support::eventually([&] { return pids().size() == 3; }));
    const auto before = pids();
    std::vector<mp::AsyncResult<int>> results;
    for (int i = 0; i < 100; ++i) { results.push_back(pool.apply_async(square, i)); }
    for (int i = 0; i < 100; ++i) { CHECK(results[static_cast<std::size_t>(i)].get() == i * i); }
    CHECK(support::eventually([&] { return pids().size() == 3 && pids() != before; }));
    pool.close();
    pool.join();
}

POOL_TEST_CASE(
    "_TestPoolWorkerLifetime.test_pool_worker_lifetime_early_close: what was accepted is done "
    "though every worker is good for one task",
    "[parity]") {
    Pool pool({.processes = 3, .maxtasksperchild = 1});
    std::vector<mp::AsyncResult<int>> results;
    for (int i = 0; i < 6; ++i) { results.push_back(pool.apply_async(slow_square, i, 100ms)); }
    pool.close();
    pool.join();
    for (int i = 0; i < 6; ++i) { CHECK(results[static_cast<std::size_t>(i)].get() == i * i); }
}

POOL_TEST_CASE(
    "_TestPoolWorkerLifetime.test_pool_maxtasksperchild_invalid: a negative number is refused",
    "[parity]") {
    CHECK_THROWS_AS(Pool({.processes = 1, .maxtasksperchild = -1}), mp::ValueError);
}

TEST_CASE("TestInitializers.test_pool_initializer: the initializer runs once in each worker",
          "[parity]") {
    support::reset_cells();
    mp::Pool pool({.processes = 1, .initializer = [] { ++cell(Cell::count); }});
    pool.map(square, numbers(20), 1);
    pool.close();
    pool.join();
    CHECK(cell(Cell::count) == 1);
}

TEST_CASE(
    "_TestPoolWorkerLifetime.test_worker_finalization_via_atexit_handler_of_multiprocessing: a "
    "program whose pool is never closed ends well",
    "[parity]") {
    support::Forked child([] {
        static mp::Pool pool(2);
        if (pool.map(square, numbers(4)) != squares(4)) { return 1; }
        std::exit(0);
    });
    CHECK(support::timed([&] { CHECK(child.join() == 0); }) < 20s * support::slowness);
}

TEST_CASE("MiscTestCase.test_large_pool: two hundred workers do what one would", "[parity]") {
    mp::Pool pool(200);
    const auto results = pool.map(square, numbers(1000));
    CHECK(std::accumulate(results.begin(), results.end(), 0) == 332'833'500);
    pool.close();
    pool.join();
}

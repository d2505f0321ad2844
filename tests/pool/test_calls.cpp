// SPDX-License-Identifier: BSL-1.0

// apply, map and starmap in all their forms, and their results, in threads and in processes.

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/pools.hpp"

#include <multiprocessing/pool.hpp>

#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <csignal>
#include <cstddef>
#include <deque>
#include <exception>
#include <forward_list>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <numeric>
#include <ranges>
#include <span>
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

namespace {

int square(int x) { return x * x; }
std::size_t length(const std::string& text) { return text.size(); }
std::string join(const std::string& left, char between, const std::string& right) {
    return left + between + right;
}
void count(int times) { cell(Cell::count) += times; }
bool is_odd(int x) { return x % 2 != 0; }
int take(std::unique_ptr<int> number) { return *number; }
std::unique_ptr<int> give(int number) { return std::make_unique<int>(number); }
int add_to(std::vector<int>& numbers) {
    numbers.push_back(1);
    return static_cast<int>(numbers.size());
}
int fail(int number) { throw mp::ValueError("failed " + std::to_string(number)); }
int fail_at_two(int number) { return number == 2 ? fail(number) : number; }
int throw_number() { throw 42; }
int leave() { throw mp::SystemExit(3); }
const std::string& same(const std::string& text) { return text; }
int add(int a, int b) { return a + b; }
int add_three(const std::array<int, 3>& numbers) { return numbers[0] + numbers[1] + numbers[2]; }

/// Throws when it is written or read, if it is told to.
struct Spoiled {
    bool at_save = false;
    bool at_load = false;
    int value = 1;

    template <class Archive>
    void save(Archive& archive) const {
        if (at_save) { throw std::out_of_range("cannot be written"); }
        archive(at_load, value);
    }
    template <class Archive>
    void load(Archive& archive) {
        archive(at_load, value);
        if (at_load) { throw std::out_of_range("cannot be read"); }
    }
};
int spoiled_length(const Spoiled& spoiled) { return spoiled.value; }
Spoiled make_spoiled(int how) { return {.at_save = how == 1, .at_load = how == 2}; }

struct Scale {
    double factor = 1;
    double operator()(double x) const { return factor * x; }
};

std::vector<int> numbers(int n) {
    std::vector<int> all(static_cast<std::size_t>(n));
    std::iota(all.begin(), all.end(), 0);
    return all;
}

}  // namespace

POOL_TEST_CASE("arguments are decayed and literals are strings", "[pool]") {
    Pool pool(2);
    CHECK(pool.apply(length, "four") == 4);
    CHECK(pool.apply(&join, "a", '-', std::string("b")) == "a-b");
    CHECK(pool.apply([](std::string text) { return text + "!"; }, "now") == "now!");
    const std::string text = "constant";
    CHECK(pool.apply(same, text) == text);
    CHECK(pool.map(length, {"a", "bc", ""}) == std::vector<std::size_t>{1, 2, 0});
}

POOL_TEST_CASE("values that can only be moved go in and come out", "[pool]") {
    Pool pool(2);
    CHECK(pool.apply(take, std::make_unique<int>(7)) == 7);
    CHECK(*pool.apply(give, 8) == 8);
    auto result = pool.apply_async(give, 9);
    CHECK(*result.get() == 9);
    CHECK_THROWS_AS(result.get(), mp::InvalidStateError);
    std::vector<std::unique_ptr<int>> items;
    for (int i = 0; i < 5; ++i) { items.push_back(std::make_unique<int>(i)); }
    CHECK(pool.map(take, std::move(items)) == numbers(5));
    const auto made = pool.map(give, numbers(5));
    REQUIRE(made.size() == 5);
    CHECK(*made[4] == 4);
}

POOL_TEST_CASE("a parameter may be an lvalue reference to the worker's copy", "[pool]") {
    Pool pool(1);
    CHECK(pool.apply(add_to, std::vector<int>(3)) == 4);
    CHECK(pool.map(add_to, std::vector<std::vector<int>>(2)) == std::vector<int>{1, 1});
}

POOL_TEST_CASE("callables: pointers, captureless lambdas, function objects, partials", "[pool]") {
    Pool pool(2);
    CHECK(pool.apply(square, 2) == 4);
    CHECK(pool.apply(&square, 2) == 4);
    CHECK(pool.apply([](int x) { return x + 1; }, 2) == 3);
    CHECK(pool.apply(std::plus<>(), 2, 3) == 5);
    CHECK(pool.apply(Scale{2.5}, 2.0) == 5.0);
    CHECK(pool.map(mp::partial(add, 10), {1, 2}) == std::vector<int>{11, 12});
    int factor = 3;
    CHECK(pool.map(mp::by_value([factor](int x) { return factor * x; }), {1, 2}) ==
          std::vector<int>{3, 6});
}

POOL_TEST_CASE("functions that return nothing", "[pool]") {
    Pool pool(2);
    STATIC_REQUIRE(std::is_void_v<decltype(pool.map(count, numbers(3)))>);
    pool.apply(count, 1);
    pool.map(count, {2, 3});
    pool.starmap([](int a, int b) { count(a + b); }, {std::pair(1, 1), {1, 1}});
    mp::AsyncResult<void> later = pool.map_async(count, {5});
    bool called = false;
    later.then([&] { called = true; });
    later.get();
    CHECK(called);
    CHECK(cell(Cell::count) == 15);
    CHECK_THROWS_AS(pool.map([](int) { throw mp::Full(); }, {1}), mp::Full);
}

POOL_TEST_CASE("map takes every kind of range", "[pool]") {
    Pool pool(2);
    const auto expected = pool.map(square, numbers(6));
    CHECK(expected == std::vector<int>{0, 1, 4, 9, 16, 25});
    CHECK(pool.map(square, std::array{0, 1, 2, 3, 4, 5}) == expected);
    CHECK(pool.map(square, std::deque{0, 1, 2, 3, 4, 5}) == expected);
    CHECK(pool.map(square, std::forward_list{0, 1, 2, 3, 4, 5}) == expected);
    CHECK(pool.map(square, std::views::iota(0, 6)) == expected);
    auto list = numbers(6);
    CHECK(pool.map(square, std::span(list)) == expected);
    CHECK(pool.map(square, list | std::views::transform([](int x) { return -x; })) == expected);
    CHECK(pool.map(square, {0, 1, 2, 3, 4, 5}) == expected);
    CHECK(pool.map_async(square, {0, 1, 2, 3, 4, 5}).get() == expected);
    const std::vector<bool> bits{true, false, true};
    CHECK(pool.map([](bool bit) { return !bit; }, bits) == std::vector<bool>{false, true, false});
    CHECK(pool.map([](bool bit) { return !bit; }, std::vector(bits)) ==
          std::vector<bool>{false, true, false});
    CHECK(pool.map(is_odd, list)[3]);
}

POOL_TEST_CASE("starmap takes tuples, pairs and arrays", "[pool]") {
    Pool pool(2);
    CHECK(pool.starmap(add, std::vector<std::pair<int, int>>{{1, 2}, {3, 4}}) ==
          std::vector<int>{3, 7});
    CHECK(pool.starmap(add, {std::tuple(1, 2), {3, 4}}) == std::vector<int>{3, 7});
    CHECK(pool.starmap(add, std::vector<std::array<int, 2>>{{1, 2}}) == std::vector<int>{3});
    CHECK(pool.starmap(join, {std::tuple(std::string("x"), '+', std::string("y"))}) ==
          std::vector<std::string>{"x+y"});
    const std::map<std::string, int> table{{"a", 1}, {"bc", 2}};
    CHECK(
        pool.starmap([](const std::string& key, int n) { return static_cast<int>(key.size()) * n; },
                     table) == std::vector<int>{1, 4});
    CHECK(pool.map(add_three, std::vector<std::array<int, 3>>{{1, 2, 3}}) == std::vector<int>{6});
}

POOL_TEST_CASE("chunksize: all items whatever it is, ValueError when it is negative", "[pool]") {
    Pool pool(2);
    for (const int chunksize : {0, 1, 3, 7, 20, 21, 1000}) {
        const auto squares = pool.map(square, numbers(20), chunksize);
        REQUIRE(squares.size() == 20);
        for (int i = 0; i < 20; ++i) { CHECK(squares[static_cast<std::size_t>(i)] == i * i); }
    }
    CHECK_THROWS_AS(pool.map(square, numbers(3), -1), mp::ValueError);
    CHECK_THROWS_AS(pool.map_async(square, numbers(3), -1), mp::ValueError);
    CHECK_THROWS_AS(pool.starmap(add, std::vector<std::pair<int, int>>(), -1), mp::ValueError);
}

TEST_CASE("a map gives each worker four chunks when nothing is said", "[pool][threads]") {
    using mp::detail::map_chunk_length;
    CHECK(map_chunk_length(0, 100, 4) == 7);  // ceil(100 / 16)
    CHECK(map_chunk_length(0, 16, 4) == 1);
    CHECK(map_chunk_length(0, 17, 4) == 2);
    CHECK(map_chunk_length(0, 0, 4) == 1);
    CHECK(map_chunk_length(5, 100, 4) == 5);
}

POOL_TEST_CASE("options: what makes no sense, or cannot be done yet, is refused", "[pool]") {
    Pool pool(1);
    CHECK(pool.apply({.name = "named"}, square, 3) == 9);
    CHECK(pool.apply_async({}, square, 3).get() == 9);
    const mp::TaskOptions options{};
    CHECK(pool.apply(options, square, 3) == 9);
    CHECK(pool.apply({.retries = 1}, square, 3) == 9);
    CHECK_THROWS_AS(pool.apply({.retries = -1}, square, 3), mp::ValueError);
    CHECK_THROWS_AS(pool.apply({.timeout = 0s}, square, 3), mp::ValueError);
    CHECK_THROWS_AS(pool.apply({.cpu_time = -1s}, square, 3), mp::ValueError);
    CHECK(pool.map({.chunksize = 2}, square, {1, 2, 3}) == std::vector<int>{1, 4, 9});
    CHECK(pool.map({}, square, numbers(2)) == std::vector<int>{0, 1});
    CHECK_THROWS_AS(pool.map_async({.progress = true}, square, numbers(2)), mp::ValueError);
}

POOL_TEST_CASE("whatever a task throws is its error, and the pool works on", "[pool]") {
    Pool pool(1);
    CHECK_THROWS_AS(pool.apply(fail, 1), mp::ValueError);
    if constexpr (std::is_same_v<Pool, mp::ThreadPool>) {
        CHECK_THROWS_AS(pool.apply(throw_number), int);
        CHECK_THROWS_AS(pool.apply(leave), mp::ProcessError);
    } else {
        CHECK_THROWS_AS(pool.apply(throw_number), mp::RemoteError);
        try {
            pool.apply(leave);
            FAIL("no error");
        } catch (const mp::WorkerDiedError& error) { CHECK(error.exitcode() == 3); }
    }
    CHECK(pool.apply(square, 3) == 9);
}

POOL_TEST_CASE("outcomes: each item has its own, and none is thrown", "[pool]") {
    Pool pool(2);
    for (const int chunksize : {0, 1, 4}) {
        const std::vector<mp::Outcome<int>> outcomes =
            pool.map_outcome(fail_at_two, {1, 2, 3, 4}, chunksize);
        REQUIRE(outcomes.size() == 4);
        CHECK(outcomes[0].value() == 1);
        CHECK_FALSE(outcomes[1].has_value());
        CHECK_THROWS_AS(outcomes[1].value(), mp::ValueError);
        CHECK_THROWS_AS(std::rethrow_exception(outcomes[1].error()), mp::ValueError);
        CHECK(*outcomes[2] == 3);
        CHECK(outcomes[2].error() == nullptr);
        CHECK(outcomes[1].value_or(-1) == -1);
    }
    const auto nothing = pool.map_outcome([](int x) { static_cast<void>(fail_at_two(x)); }, {1, 2});
    CHECK(nothing[0]);
    CHECK_FALSE(nothing[1]);
}

namespace {

int die_at_three(int number) {
    if (number == 3) { ::raise(SIGKILL); }
    return number;
}

}  // namespace

TEST_CASE("outcomes: a death costs the item that it hit, whatever the chunksize", "[pool]") {
    mp::Pool pool(2);
    for (const int chunksize : {0, 1, 5, 10}) {
        const auto outcomes = pool.map_outcome(die_at_three, numbers(10), chunksize);
        for (std::size_t i = 0; i < 10; ++i) {
            CHECK(outcomes[i].has_value() == (i != 3));
            CHECK(outcomes[i].value_or(3) == static_cast<int>(i));
        }
        try {
            outcomes[3].value();
            FAIL("no error");
        } catch (const mp::WorkerDiedError& error) {
            CHECK(error.signal() == SIGKILL);
            CHECK(error.task_index() == 3);
        }
        int index = 0;
        for (const auto& outcome : pool.imap_outcome(die_at_three, numbers(10), chunksize + 1)) {
            CHECK(outcome.has_value() == (index != 3));
            ++index;
        }
        CHECK(index == 10);
    }
}

TEST_CASE("arguments and results that cannot be written or read are errors of their own",
          "[pool]") {
    mp::Pool pool(2);
    CHECK_THROWS_AS(pool.apply(spoiled_length, Spoiled{.at_save = true}), std::out_of_range);
    CHECK_THROWS_AS(pool.apply(spoiled_length, Spoiled{.at_load = true}), std::out_of_range);
    CHECK_THROWS_AS(pool.apply(make_spoiled, 1), std::out_of_range);
    CHECK_THROWS_AS(pool.apply(make_spoiled, 2), std::out_of_range);
    const auto given =
        pool.map_outcome(spoiled_length, {Spoiled{}, {.at_load = true}, {.at_save = true}});
    CHECK(given[0].value() == 1);
    CHECK_THROWS_AS(given[1].value(), std::out_of_range);
    CHECK_THROWS_AS(given[2].value(), std::out_of_range);
    auto results = pool.imap(make_spoiled, {0, 1, 0}, 3);
    CHECK_NOTHROW(results.next());
    CHECK_THROWS_AS(results.next(), std::out_of_range);
    CHECK_NOTHROW(results.next());
    CHECK(pool.apply(square, 3) == 9);
}

POOL_TEST_CASE("an AsyncResult can be asked again and again, and by copies", "[pool]") {
    support::Release release;
    Pool pool(1);
    auto result = pool.apply_async(support::held, 5);
    CHECK_FALSE(result.ready());
    CHECK_THROWS_AS(result.successful(), mp::ValueError);
    CHECK_THROWS_AS(result.get(0s), mp::TimeoutError);
    CHECK_NOTHROW(result.wait(1ms));
    CHECK(result.progress().done == 0);
    CHECK(result.progress().total == 1);
    const auto copy = result;
    release.now();
    result.wait();
    CHECK(copy.ready());
    CHECK(copy.successful());
    CHECK(copy.get() == 5);
    CHECK(result.get() == 5);
    CHECK(result.get(0s) == 5);
    CHECK(result.progress().done == 1);
    CHECK_FALSE(result.cancelled());
    CHECK_FALSE(result.cancel());

    auto failing = pool.apply_async(fail, 1);
    CHECK_THROWS_AS(failing.get(), mp::ValueError);
    CHECK_THROWS_AS(failing.get(), mp::ValueError);
    CHECK_FALSE(failing.successful());
}

POOL_TEST_CASE("callbacks run before get returns, in this process; late ones at once", "[pool]") {
    support::Release release;
    Pool pool(1);
    std::vector<std::string> said;
    auto result = pool.apply_async(support::held, 5);
    result.then([&](const int& value) { said.push_back("first " + std::to_string(value)); })
        .then([&](int value) { said.push_back("second " + std::to_string(value)); })
        .on_error([&](const std::exception&) { said.push_back("wrong"); });
    release.now();
    CHECK(result.get() == 5);
    CHECK(said == std::vector<std::string>{"first 5", "second 5"});
    const auto here = std::this_thread::get_id();
    result.then(
        [&](int) { said.push_back(std::this_thread::get_id() == here ? "here" : "elsewhere"); });
    CHECK(said.back() == "here");

    auto failing = pool.apply_async(fail, 1);
    failing.wait();
    bool by_pointer = false;
    failing.on_error([&](std::exception_ptr error) { by_pointer = error != nullptr; })
        .then([&](int) { said.push_back("wrong"); });
    CHECK(by_pointer);
    CHECK(said.back() == "here");
    // Late, and failing: that is told on stderr and reaches nobody else.
    CHECK_NOTHROW(result.then([](int) { throw mp::Full(); }));
    CHECK(result.get() == 5);
}

POOL_TEST_CASE("an error that is no exception reaches a callback for exceptions", "[pool]") {
    Pool pool(1);
    std::string text;
    auto result = pool.apply_async(throw_number);
    result.on_error([&](const std::exception& error) { text = error.what(); });
    result.wait();
    CHECK_FALSE(text.empty());
}

POOL_TEST_CASE("Python's shape: arguments, callback, error callback", "[pool]") {
    Pool pool(2);
    int value = 0;
    std::string error;
    const auto callback = [&](int result) { value = result; };
    const auto error_callback = [&](const std::exception& e) { error = e.what(); };
    pool.apply_async(add, mp::args(1, 2), callback, error_callback).wait();
    CHECK(value == 3);
    pool.apply_async(fail, mp::args(1), callback, error_callback).wait();
    CHECK_THAT(error, support::contains("failed 1"));
    CHECK(pool.apply_async(add, mp::args(1, 2)).get() == 3);
    CHECK(pool.apply_async(length, mp::args("four"), std::nullopt, error_callback).get() == 4);
    CHECK(pool.apply(add, mp::args(1, 2)) == 3);
}

POOL_TEST_CASE("a callback may use the pool, its own result, and wait", "[pool]") {
    Pool pool(1);
    int inner = 0;
    int own = 0;
    auto result = pool.apply_async(square, 2);
    result.then([&, result](int value) {
        own = result.get();
        inner = pool.apply(square, value);
    });
    CHECK(result.get(60s) == 4);
    CHECK(own == 4);
    CHECK(inner == 16);
}

POOL_TEST_CASE("a callback that throws becomes the error of its job and of no other", "[pool]") {
    support::Release release;
    Pool pool(1);
    auto bad = pool.apply_async(support::held, 1);
    bad.then([](int) { throw 42; });
    std::vector<mp::AsyncResult<int>> good;
    for (int i = 0; i < 100; ++i) { good.push_back(pool.apply_async(square, i)); }
    release.now();
    CHECK_THROWS_AS(bad.get(60s), int);
    for (int i = 0; i < 100; ++i) { CHECK(good[static_cast<std::size_t>(i)].get(60s) == i * i); }
    pool.close();
    pool.join();
}

POOL_TEST_CASE("map throws the error that came first, after all chunks have ended", "[pool]") {
    Pool pool(2);
    support::Release release;
    const auto fail_in_turn = [](int item) {
        if (item == 0) { support::held(item); }
        throw mp::ValueError("item " + std::to_string(item));
    };
    auto result = pool.map_async(fail_in_turn, {0, 1}, 1);
    REQUIRE(support::eventually([&] { return result.progress().done == 1; }));
    CHECK_FALSE(result.ready());
    release.now();
    try {
        result.get(60s);
        FAIL("no error");
    } catch (const mp::ValueError& error) {
        CHECK_THAT(std::string(error.what()), support::contains("item 1"));
    }
    CHECK(result.progress().done == 2);
}

POOL_TEST_CASE("cancel takes back what has not begun", "[pool]") {
    support::Release release;
    Pool pool(1);
    auto running = pool.apply_async(support::held, 1);
    REQUIRE(support::have_started(1));
    auto waiting = pool.apply_async(count, 1);
    auto map = pool.map_async(count, numbers(50), 1);
    auto behind = pool.apply_async(square, 3);
    CHECK(waiting.cancel());
    CHECK(waiting.cancelled());
    CHECK(waiting.ready());
    CHECK_THROWS_AS(waiting.get(), mp::CancelledError);
    CHECK_FALSE(waiting.cancel());
    CHECK(map.cancel());
    CHECK_THROWS_AS(map.get(), mp::CancelledError);
    release.now();
    CHECK(running.get() == 1);
    CHECK(behind.get() == 9);
    CHECK_FALSE(behind.cancelled());
    CHECK(cell(Cell::count) == 0);
}

namespace {

/// A coroutine that runs by itself.
struct Detached {
    struct promise_type {
        Detached get_return_object() { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };
};

template <class Pool>
Detached add_up(Pool& pool, std::atomic<int>& sum) {
    int value = co_await pool.apply_async(square, 3);
    value += co_await pool.apply_async(square, 4);
    try {
        co_await pool.apply_async(fail, 1);
    } catch (const mp::ValueError&) { value += 100; }
    sum = value;
}

}  // namespace

POOL_TEST_CASE("a result can be awaited by a coroutine", "[pool]") {
    std::atomic<int> sum = 0;
    Pool pool(1);
    add_up(pool, sum);
    CHECK(support::eventually([&] { return sum != 0; }));
    CHECK(sum == 125);
}

POOL_TEST_CASE("many threads may use one pool", "[pool]") {
    Pool pool(2);
    std::atomic<int> wrong = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            for (int i = 0; i < 100; ++i) {
                auto result = pool.apply_async(add, t, i);
                if (result.get() != t + i) { ++wrong; }
            }
            if (pool.map(square, numbers(50), 3)[7] != 49) { ++wrong; }
        });
    }
    for (auto& thread : threads) { thread.join(); }
    CHECK(wrong == 0);
}

POOL_TEST_CASE("results that nobody keeps are done all the same", "[pool]") {
    Pool pool(2);
    for (int i = 0; i < 1000; ++i) { pool.apply_async(count, 1); }
    pool.close();
    pool.join();
    CHECK(cell(Cell::count) == 1000);
}

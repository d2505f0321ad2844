// SPDX-License-Identifier: BSL-1.0

// The life of a pool: states, ends, initializers, moves, forks, and what it says when nobody
// listens.

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/forked.hpp"
#include "support/pools.hpp"

#include <multiprocessing/pool.hpp>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <numeric>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;
using support::Cell;
using support::cell;

namespace {

/// Set in a forked child that calls `exit`: what it has of its parent's memory is no leak of its
/// own.
bool leaves_by_exit = false;

}  // namespace

/// Asked by LeakSanitizer at `exit`, where that is linked in.
extern "C" int __lsan_is_turned_off() { return leaves_by_exit ? 1 : 0; }

namespace {

int square(int x) { return x * x; }
int fail(int number) { throw mp::ValueError("failed\nin two lines " + std::to_string(number)); }
void count(int times) { cell(Cell::count) += times; }

/// Returns what `f` makes this process write to descriptor 2.
template <class F>
std::string written_to_stderr(F f) {
    std::fflush(stderr);
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), &std::fclose);
    const int kept = ::dup(STDERR_FILENO);
    ::dup2(::fileno(file.get()), STDERR_FILENO);
    f();
    ::dup2(kept, STDERR_FILENO);
    ::close(kept);
    std::string text;
    std::rewind(file.get());
    std::array<char, 256> part;
    while (std::fgets(part.data(), part.size(), file.get()) != nullptr) { text += part.data(); }
    return text;
}

}  // namespace

POOL_TEST_CASE("close, terminate and join in every order", "[pool]") {
    {
        Pool pool(2);
        CHECK_THROWS_AS(pool.join(), mp::ValueError);
        const auto result = pool.map_async(square, {1, 2, 3});
        pool.close();
        pool.close();
        CHECK_THROWS_AS(pool.apply(square, 1), mp::ValueError);
        CHECK_THROWS_AS(pool.map_async(square, {1}), mp::ValueError);
        pool.join();
        pool.join();
        CHECK(result.get() == std::vector<int>{1, 4, 9});
        pool.terminate();
        pool.join();
        pool.close();
    }
    {
        Pool pool(2);
        pool.terminate();
        pool.terminate();
        pool.join();
        pool.join();
    }
    {
        Pool pool(2);
        pool.close();
        pool.terminate();
    }
    Pool never_used(2);
}

POOL_TEST_CASE("close finishes what was accepted, and its callbacks", "[pool]") {
    std::atomic<int> sum = 0;
    Pool pool(2);
    for (int i = 0; i < 50; ++i) {
        pool.apply_async(square, 1).then([&](int x) { sum += x; });
    }
    pool.close();
    pool.join();
    CHECK(sum == 50);
}

POOL_TEST_CASE("terminate fails what runs and what waits, and calls the error callbacks",
               "[pool]") {
    support::Release release;
    Pool pool(1);
    auto running = pool.apply_async(support::held, 1);
    auto waiting = pool.map_async(count, std::vector<int>(1000, 1), 1);
    std::atomic<int> told = 0;
    running.on_error([&](const std::exception&) { ++told; });
    waiting.on_error([&](const std::exception&) { ++told; });
    REQUIRE(support::have_started(1));
    pool.terminate();
    CHECK_THROWS_AS(running.get(20s), mp::CancelledError);
    CHECK_THROWS_AS(waiting.get(20s), mp::CancelledError);
    CHECK(told == 2);
    CHECK(running.cancelled());
    release.now();
    pool.join();
    CHECK(cell(Cell::count) == 0);
}

POOL_TEST_CASE("a pool can be moved", "[pool]") {
    Pool first(2);
    auto result = first.apply_async(square, 2);
    Pool second(std::move(first));
    CHECK(result.get() == 4);
    CHECK(second.apply(square, 3) == 9);
    CHECK_THROWS_AS(first.apply(square, 3), mp::ValueError);
    first = std::move(second);
    CHECK(first.apply(square, 3) == 9);
    first = Pool(1);
    CHECK(first.processes() == 1);
}

POOL_TEST_CASE("an initializer that fails in every worker breaks the pool, promptly", "[pool]") {
    static constexpr int workers = 4;
    std::optional<mp::AsyncResult<int>> early;
    const auto time = support::timed([&] {
        try {
            Pool pool({.processes = workers, .initializer = [] {
                           ++cell(Cell::count);
                           throw std::out_of_range("no table");
                       }});
            early = pool.apply_async(square, 2);
            early->get(60s);
            FAIL("no error");
        } catch (const mp::BrokenProcessPool& error) {
            CHECK_THAT(std::string(error.what()), support::contains("no table"));
            CHECK_THROWS_AS(std::rethrow_if_nested(error), std::out_of_range);
        }
    });
    CHECK(time < 10s * support::slowness);
    CHECK(cell(Cell::count) <= 2 * workers);
    if (early) { CHECK_THROWS_AS(early->get(), mp::BrokenProcessPool); }
}

POOL_TEST_CASE("an initializer that fails once only does not break the pool", "[pool]") {
    Pool pool({.processes = 2, .initializer = [] {
                   if (++cell(Cell::count) == 1) { throw std::out_of_range("once"); }
               }});
    CHECK(pool.map(square, {1, 2, 3}, 1) == std::vector<int>{1, 4, 9});
    pool.close();
    pool.join();
    CHECK(cell(Cell::count) >= 2);
}

POOL_TEST_CASE("the initializer runs in each worker before its tasks", "[pool]") {
    static thread_local int prepared = 0;
    Pool pool({.processes = 2, .initializer = [] { prepared = 42; }});
    for (const int seen : pool.map([](int) { return prepared; }, std::vector<int>(20), 1)) {
        CHECK(seen == 42);
    }
}

POOL_TEST_CASE("maxtasksperchild counts chunks", "[pool]") {
    Pool pool({.processes = 1, .initializer = [] { ++cell(Cell::count); }, .maxtasksperchild = 2});
    pool.map(square, std::vector<int>(100), 25);
    pool.close();
    pool.join();
    // Four chunks, two a worker; a third one may have been started before the pool was closed.
    CHECK(cell(Cell::count) >= 2);
    CHECK(cell(Cell::count) <= 3);
}

POOL_TEST_CASE("in a forked child the pool is somebody else's", "[pool][fork]") {
    support::Release release;
    std::optional<Pool> pool(std::in_place, 2);
    const auto ready = pool->apply_async(square, 3);
    ready.wait();
    auto unfinished = pool->apply_async(support::held, 1);
    REQUIRE(support::have_started(1));
    auto lazy = std::optional(pool->imap(square, std::views::iota(0)));
    support::Forked child([&] {
        const auto refuses = [](auto&& f) {
            try {
                f();
                return false;
            } catch (const mp::AssertionError& error) {
                return std::string(error.what()).find("belongs to process") != std::string::npos;
            }
        };
        if (!refuses([&] { pool->apply(square, 1); })) { return 1; }
        if (!refuses([&] { pool->map_async(square, {1}); })) { return 2; }
        if (!refuses([&] { pool->close(); })) { return 3; }
        if (!refuses([&] { pool->terminate(); })) { return 4; }
        if (!refuses([&] { pool->join(); })) { return 5; }
        if (!refuses([&] { unfinished.get(1s); })) { return 6; }
        if (!refuses([&] { unfinished.then([](int) {}); })) { return 7; }
        if (!refuses([&] { lazy->next(1s); })) { return 8; }
        if (!refuses([&] { pool->workers(); })) { return 9; }
        if (ready.get() != 9) { return 10; }
        lazy.reset();
        pool.reset();
        return 0;
    });
    CHECK(child.join() == 0);
    CHECK(pool->apply(square, 4) == 16);
    release.now();
    CHECK(unfinished.get(60s) == 1);
    CHECK(lazy->next() == 0);
}

POOL_TEST_CASE("a failure that nobody asked for is one line on stderr", "[pool]") {
    Pool pool(1);
    const auto lines = written_to_stderr([&] {
        pool.apply_async({.name = "load users"}, fail, 7);
        pool.apply(square, 1);
        // What was looked at, or wanted, is not reported.
        CHECK_THROWS(pool.apply_async(fail, 8).get());
        pool.apply_async(fail, 9).wait();
        pool.apply_async(fail, 10).on_error([](const std::exception&) {});
        auto result = pool.apply_async(fail, 11);
        support::eventually([&] { return result.ready(); });
        CHECK_FALSE(result.successful());
        CHECK_THROWS(pool.map(fail, {12}));
        pool.close();
        pool.join();
    });
    CHECK(std::count(lines.begin(), lines.end(), '\n') == 1);
    CHECK_THAT(lines, support::contains("load users"));
    CHECK_THAT(lines, support::contains("ValueError"));
    CHECK_THAT(lines, support::contains("in two lines 7"));
}

POOL_TEST_CASE("what terminate cancels is not reported", "[pool]") {
    support::Release release;
    const auto lines = written_to_stderr([&] {
        Pool pool(1);
        for (int i = 0; i < 10; ++i) { pool.apply_async(support::held, i); }
        REQUIRE(support::have_started(1));
        pool.terminate();
        release.now();
    });
    CHECK(lines.empty());
}

POOL_TEST_CASE("a program ends although it has a busy pool in a static, or a leaked one",
               "[pool][fork]") {
    for (const bool leaked : {false, true}) {
        support::reset_cells();
        support::Forked child([leaked] {
            if (leaked) {
                static Pool* const pool = new Pool(2);
                pool->map_async(support::held, std::vector<int>(100), 1);
            } else {
                static Pool pool(2);
                pool.map_async(support::held, std::vector<int>(100), 1);
            }
            if (!support::have_started(2)) { return 1; }
            leaves_by_exit = true;
            std::exit(7);
        });
        CHECK(support::timed([&] { CHECK(child.join() == 7); }) < 20s * support::slowness);
        CHECK(cell(Cell::finished) == 0);
    }
}

POOL_TEST_CASE("a pool ends well when it is dropped by an exception", "[pool]") {
    support::Release release;
    CHECK_THROWS_AS(
        [&] {
            Pool pool(2);
            auto results = pool.imap(square, std::views::iota(0));
            pool.map_async(square, std::vector<int>(100));
            throw std::out_of_range("from the program");
        }(),
        std::out_of_range);
}

// SPDX-License-Identifier: BSL-1.0

// What users of Python's pool have complained of for ten years, each as the case that shows it
// gone.

#include "process/observe.hpp"
#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/pools.hpp"

#include <multiprocessing/futures.hpp>
#include <multiprocessing/pool.hpp>

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <ranges>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;
using support::Cell;
using support::cell;
using support::numbers;

namespace {

const auto bound = 20s * support::slowness;

enum class End { segv, kill, quick_exit, exit };
void end_by(End how) {
    switch (how) {
        case End::segv:
            ::raise(SIGSEGV);
            break;
        case End::kill:
            ::raise(SIGKILL);
            break;
        case End::quick_exit:
            ::_exit(3);
        case End::exit:
            std::exit(0);
    }
}
int square(int number) { return number * number; }
int square_unless_seven(int number) {
    if (number == 7) { ::raise(SIGKILL); }
    return number * number;
}
int multiply_unless_seven(int number, int by) { return square_unless_seven(number) * by; }

std::size_t resident() {
    return static_cast<std::size_t>(mp::detail::os::resident_bytes(::getpid()));
}

// Tells whether this process holds as much as it did before.
bool is_flat(std::size_t before) {
#ifdef __SANITIZE_ADDRESS__
    static_cast<void>(before);
    return true;  // it keeps what was freed
#else
    return resident() < before + before / 10 + 4'000'000;
#endif
}

}  // namespace

TEST_CASE("pain 1: the task of a worker that dies fails, twenty others succeed, and all goes on",
          "[pool]") {
    for (const End how : {End::segv, End::kill, End::quick_exit, End::exit}) {
        CAPTURE(static_cast<int>(how));
        mp::Pool pool(4);
        std::vector<mp::AsyncResult<int>> good;
        for (int i = 0; i < 10; ++i) { good.push_back(pool.apply_async(square, i)); }
        auto bad = pool.apply_async({.name = "the bad one"}, end_by, how);
        for (int i = 10; i < 20; ++i) { good.push_back(pool.apply_async(square, i)); }
        try {
            bad.get(bound);
            FAIL_CHECK("nobody died");
        } catch (const mp::WorkerDiedError& death) {
            CHECK(death.pid() > 0);
            CHECK_THAT(death.what(), support::contains("the bad one"));
        }
        for (int i = 0; i < 20; ++i) {
            CHECK(good[static_cast<std::size_t>(i)].get(bound) == i * i);
        }
        CHECK(support::eventually([&] { return pool.workers().size() == 4; }));
        pool.close();
        pool.join();
    }
}

TEST_CASE("pain 1: the same in map, starmap, imap and imap_unordered", "[pool]") {
    mp::Pool pool(2);
    CHECK_THROWS_AS(pool.map_async(square_unless_seven, numbers(20), 1).get(bound),
                    mp::WorkerDiedError);
    std::vector<std::tuple<int, int>> pairs;
    for (int i = 0; i < 20; ++i) { pairs.emplace_back(i, 2); }
    CHECK_THROWS_AS(pool.starmap_async(multiply_unless_seven, pairs, 1).get(bound),
                    mp::WorkerDiedError);
    for (const bool ordered : {true, false}) {
        auto results = ordered ? pool.imap(square_unless_seven, numbers(20))
                               : pool.imap_unordered(square_unless_seven, numbers(20));
        int good = 0;
        int died = 0;
        for (int i = 0; i < 20; ++i) {
            try {
                results.next(bound);
                ++good;
            } catch (const mp::WorkerDiedError& death) {
                ++died;
                CHECK(death.task_index() == 7);
            }
        }
        CHECK(good == 19);
        CHECK(died == 1);
        CHECK_THROWS_AS(results.next(bound), mp::StopIteration);
    }
}

TEST_CASE("pain 2: idle workers are killed a hundred times, all at once", "[pool]") {
    mp::Pool pool(4);
    for (int round = 0; round < 100 / support::slowness; ++round) {
        for (const auto& worker : pool.workers()) { ::kill(worker.pid, SIGKILL); }
        REQUIRE(pool.map_async(square, numbers(8)).get(bound).back() == 49);
    }
    pool.terminate();
    pool.join();
}

TEST_CASE("pain 11: a time-out ends the task, and nothing of it goes on", "[pool]") {
    support::reset_cells();
    mp::Pool pool(4);
    std::vector<mp::AsyncResult<int>> others;
    for (int i = 0; i < 3; ++i) { others.push_back(pool.apply_async(support::held, i)); }
    REQUIRE(support::have_started(3));
    auto late = pool.apply_async(
        {.timeout = 200ms},
        +[](int) {
            cell(Cell::other) = ::getpid();
            std::this_thread::sleep_for(60s);
            return 0;
        },
        0);
    CHECK_THROWS_AS(late.get(bound), mp::TimeoutError);
    CHECK(support::eventually([] { return observe::is_gone(cell(Cell::other)); }));
    cell(Cell::release) = 1;
    for (int i = 0; i < 3; ++i) { CHECK(others[static_cast<std::size_t>(i)].get(bound) == i); }
}

TEST_CASE("pain 11: what has not begun is cancelled, and its body never runs", "[pool]") {
    support::reset_cells();
    mp::ProcessPoolExecutor executor(1);
    const auto running = executor.submit(support::held, 1);
    REQUIRE(support::have_started(1));
    std::vector<mp::Future<int>> waiting;
    for (int i = 0; i < 20; ++i) {
        waiting.push_back(executor.submit(
            +[](int) { return ++cell(Cell::count); }, i));
    }
    for (const auto& each : waiting) {
        CHECK_FALSE(each.running());
        CHECK(each.cancel());
    }
    cell(Cell::release) = 1;
    CHECK(running.result(bound) == 1);
    executor.shutdown();
    CHECK(cell(Cell::count) == 0);
}

TEST_CASE("pain 12: a worker is killed while a hundred calls are pending: one fails", "[pool]") {
    support::reset_cells();
    mp::ProcessPoolExecutor executor(4);
    std::vector<mp::Future<int>> futures;
    for (int i = 0; i < 100; ++i) {
        futures.push_back(executor.submit(
            +[](int number) {
                cell(Cell::other) = ::getpid();
                return support::held(number);
            },
            i));
    }
    REQUIRE(support::have_started(4));
    const pid_t victim = cell(Cell::other);  // one of the four that are at work
    ::kill(victim, SIGKILL);
    REQUIRE(support::eventually([&] { return observe::is_gone(victim); }));
    cell(Cell::release) = 1;
    int died = 0;
    for (const auto& future : futures) {
        try {
            future.result(bound);
        } catch (const mp::WorkerDiedError& death) {
            ++died;
            CHECK_THAT(death.what(), support::contains("SIGKILL"));
            CHECK_THAT(death.what(), support::contains(std::to_string(victim)));
        }
    }
    CHECK(died == 1);
    CHECK(executor.submit(square, 3).result(bound) == 9);
}

TEST_CASE("pain 22: an endless input and a slow consumer keep memory flat", "[pool]") {
    mp::Pool pool(2);
    std::size_t taken = 0;
    auto endless = std::views::iota(0) | std::views::transform([&](int number) {
                       ++taken;
                       return std::string(1000, static_cast<char>('a' + number % 26));
                   });
    auto results = pool.imap(
        +[](const std::string& text) { return text; }, endless, 1, 16);
    const std::size_t tasks = 100'000 / static_cast<std::size_t>(support::slowness);
    std::size_t before = 0;
    for (std::size_t i = 0; i < tasks; ++i) {
        REQUIRE(results.next(bound).size() == 1000);
        if (i == tasks / 10) { before = resident(); }
        if (taken > i + 1 + 16 + 1) {
            FAIL("taken " << taken << " of which " << i << " were given");
        }
        if (i % 4096 == 0) { support::allow(120s); }
    }
    CHECK(is_flat(before));
}

TEST_CASE("pain 22: results that nobody keeps leave nothing behind", "[pool]") {
    mp::Pool pool(2);
    const int rounds = 100 / support::slowness;
    std::size_t before = 0;
    for (int round = 0; round < rounds; ++round) {
        for (int i = 0; i < 1'000; ++i) { static_cast<void>(pool.apply_async(square, i)); }
        pool.apply(square, 1);
        if (round == rounds / 10) { before = resident(); }
    }
    CHECK(is_flat(before));
}

TEST_CASE("pain 24: an initializer that fails breaks the pool, and starts no end of workers",
          "[pool]") {
    support::reset_cells();
    mp::Pool pool({.processes = 4, .initializer = [] {
                       ++cell(Cell::count);
                       throw mp::ValueError("no database");
                   }});
    try {
        pool.apply_async(square, 1).get(bound);
        FAIL_CHECK("the initializer failed");
    } catch (const mp::BrokenProcessPool& error) {
        CHECK_THAT(error.what(), support::contains("no database"));
    }
    CHECK(cell(Cell::count) <= 8);
}

TEST_CASE(
    "pain 25: many quick submits from eight threads, and workers that are replaced all the time",
    "[pool]") {
    mp::ProcessPoolExecutor executor({.max_workers = 2, .max_tasks_per_child = 50});
    const int each = 2'000 / support::slowness;
    std::atomic<int> right{0};
    {
        std::vector<std::jthread> team;
        for (int t = 0; t < 8; ++t) {
            team.emplace_back([&] {
                std::vector<mp::Future<int>> futures;
                for (int i = 0; i < each; ++i) {
                    futures.push_back(executor.submit(square, i % 50));
                }
                for (int i = 0; i < each; ++i) {
                    const int number = i % 50;
                    if (futures[static_cast<std::size_t>(i)].result(bound) == number * number) {
                        ++right;
                    }
                }
            });
        }
    }
    CHECK(right == 8 * each);
    for (const int limit : {1, 2, 3}) {
        mp::Pool pool({.processes = 2, .maxtasksperchild = limit});
        CHECK(pool.map_async(square, numbers(300), 1).get(bound).back() == 299 * 299);
    }
}

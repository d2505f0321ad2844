// SPDX-License-Identifier: BSL-1.0

// What only a pool of threads can do: nothing is sent, and nothing can be stopped.

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/pools.hpp"

#include <multiprocessing/pool/thread_pool.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;
using support::Cell;
using support::cell;

namespace {

/// Neither copied, moved nor sent.
struct Fixed {
    explicit Fixed(int v) : value(v) {}
    Fixed(const Fixed&) = delete;
    int value;
};

/// Of one's own, and not registered.
struct Strange {
    int code;
};

}  // namespace

TEST_CASE("functions may capture, and values be of any type", "[pool][threads]") {
    mp::ThreadPool pool(2);
    int calls = 0;
    std::mutex mutex;
    const auto counting = [&](int x) {
        const std::scoped_lock lock(mutex);
        ++calls;
        return x;
    };
    CHECK(pool.apply(counting, 1) == 1);
    CHECK(pool.map(counting, {1, 2, 3}) == std::vector<int>{1, 2, 3});
    CHECK(calls == 4);
    const Fixed fixed(5);
    CHECK(pool.apply([](const Fixed* f) { return f; }, &fixed) == &fixed);
    CHECK(pool.map([](std::string_view text) { return text.data(); },
                   std::vector<std::string_view>{"a"})[0] != nullptr);
    std::function<int(int)> function = [&](int x) { return x + fixed.value; };
    CHECK(pool.apply(function, 1) == 6);
    CHECK_THROWS_AS(pool.apply([] { throw Strange{3}; }), Strange);
}

TEST_CASE("map over the caller's items uses them where they are", "[pool][threads]") {
    mp::ThreadPool pool(2);
    std::vector<int> items{1, 2, 3};
    const auto addresses = pool.map([](const int& item) { return &item; }, items, 1);
    CHECK(addresses == std::vector<const int*>{&items[0], &items[1], &items[2]});
    pool.map([](int& item) { item *= 10; }, items);
    CHECK(items == std::vector<int>{10, 20, 30});
    std::vector<std::unique_ptr<int>> owners;
    owners.push_back(std::make_unique<int>(7));
    CHECK(pool.map([](const std::unique_ptr<int>& owner) { return *owner; }, owners)[0] == 7);
    CHECK(owners[0] != nullptr);
}

TEST_CASE("map_async keeps its own items", "[pool][threads]") {
    support::reset_cells();
    support::Release release;
    mp::ThreadPool pool(1);
    auto gate = pool.apply_async(support::held, 0);
    std::optional<std::vector<std::string>> items(std::in_place, 3, std::string(100, 'x'));
    auto result = pool.map_async([](const std::string& text) { return text.size(); }, *items);
    items.reset();
    release.now();
    CHECK(result.get() == std::vector<std::size_t>(3, 100));
    gate.get();
}

TEST_CASE("a task may wait for tasks of its own pool, however few threads there are",
          "[pool][threads]") {
    mp::ThreadPool pool(1);
    std::function<int(int)> fibonacci = [&](int n) -> int {
        if (n < 2) { return n; }
        auto left = pool.apply_async(fibonacci, n - 1);
        return pool.apply(fibonacci, n - 2) + left.get();
    };
    CHECK(pool.apply(fibonacci, 10) == 55);
    const auto nested = pool.map(
        [&](int n) {
            int sum = 0;
            for (const int part : pool.imap([](int x) { return 2 * x; }, std::vector<int>(3, n))) {
                sum += part;
            }
            return sum;
        },
        {1, 2, 3});
    CHECK(nested == std::vector<int>{6, 12, 18});
    // With a timeout it does not begin what it could not leave.
    CHECK(pool.apply([&] {
        auto other = pool.apply_async([] { return 1; });
        try {
            other.get(20ms);
            return false;
        } catch (const mp::TimeoutError&) { return true; }
    }));
}

TEST_CASE("a map that is under way when its pool is terminated ends after its running tasks",
          "[pool][threads]") {
    support::reset_cells();
    support::Release release;
    mp::ThreadPool pool(2);
    std::thread terminator;
    {
        std::vector<int> items(100, 1);
        terminator = std::thread([&] {
            support::have_started(2);
            pool.terminate();
            release.now();
        });
        CHECK_THROWS_AS(pool.map([](int& item) { item = support::held(item) + 1; }, items, 1),
                        mp::CancelledError);
        // Nobody writes to the items any more.
        CHECK(std::count(items.begin(), items.end(), 2) == cell(Cell::started));
    }
    terminator.join();
    pool.join();
}

TEST_CASE("terminate does not wait for a running task, join does", "[pool][threads]") {
    support::reset_cells();
    support::Release release;
    mp::ThreadPool pool(1);
    auto result = pool.apply_async(support::held, 1);
    REQUIRE(support::have_started(1));
    pool.terminate();
    CHECK_THROWS_AS(result.get(0s), mp::CancelledError);
    CHECK(cell(Cell::finished) == 0);
    release.now();
    pool.join();
    CHECK(cell(Cell::finished) == 1);
    CHECK(pool.workers().empty());
}

TEST_CASE("a pool cannot be joined by its own thread, but may be dropped by it",
          "[pool][threads]") {
    {
        mp::ThreadPool pool(1);
        CHECK(pool.apply([&] {
            pool.close();
            try {
                pool.join();
                return false;
            } catch (const mp::AssertionError&) { return true; }
        }));
        pool.join();
    }
    std::atomic<bool> dropped = false;
    {
        auto pool = std::make_shared<mp::ThreadPool>(1);
        auto& last = *pool;
        support::reset_cells();
        last.apply_async([pool, &dropped]() mutable {
            support::held(0);
            pool.reset();
            dropped = true;
        });
    }
    support::Release().now();
    CHECK(support::eventually([&] { return dropped.load(); }));
}

TEST_CASE("the threads leave signals to the program's own", "[pool][threads]") {
    mp::ThreadPool pool(1);
    CHECK(pool.apply([] {
        sigset_t blocked;
        ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
        return ::sigismember(&blocked, SIGINT) == 1 && ::sigismember(&blocked, SIGSEGV) == 0;
    }));
    sigset_t blocked;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
    CHECK(::sigismember(&blocked, SIGINT) == 0);
}

TEST_CASE("each of the threads is told of", "[pool][threads]") {
    support::reset_cells();
    mp::ThreadPool pool(3);
    support::Release release;
    std::set<pid_t> pids;
    for (const auto& worker : pool.workers()) { pids.insert(worker.pid); }
    CHECK(pids.size() == 3);
    CHECK_FALSE(pids.contains(0));
    auto result = pool.apply_async(support::held, 1);
    REQUIRE(support::have_started(1));
    const auto workers = pool.workers();
    CHECK(std::count_if(workers.begin(), workers.end(), [](const mp::WorkerInfo& worker) {
              return worker.state == mp::WorkerState::busy;
          }) == 1);
}

TEST_CASE("dummy is the interface over threads", "[pool][threads]") {
    mp::dummy::Pool pool(2);
    CHECK(pool.map([](int x) { return x + 1; }, {1}) == std::vector<int>{2});
    STATIC_REQUIRE(std::is_same_v<mp::dummy::ThreadPool, mp::ThreadPool>);
}

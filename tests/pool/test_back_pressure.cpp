// SPDX-License-Identifier: BSL-1.0

// A pool that takes no more than it was told to hold: who submits more waits.

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/pools.hpp"

#include <multiprocessing/pool.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <string>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;
using support::held;
using support::numbers;

namespace {

const auto bound = 20s * support::slowness;
// Long enough for who does not wait to be seen not to.
constexpr auto moment = 100ms;

int square(int number) { return number * number; }
std::size_t length(const std::string& text) {
    ++support::cell(support::Cell::started);
    static_cast<void>(support::eventually([] { return support::cell(support::Cell::release) != 0; },
                                          std::chrono::seconds(60)));
    return text.size();
}

/// Calls `f` in a thread, and tells whether it has returned.
class Call {
  public:
    template <class F>
    explicit Call(F f)
        : thread_([this, f = std::move(f)] {
              f();
              returned_ = true;
          }) {}
    ~Call() { thread_.join(); }

    bool returns() const {
        return support::eventually([this] { return returned_.load(); }, bound);
    }
    bool waits() const {
        return !support::eventually([this] { return returned_.load(); }, moment);
    }

  private:
    std::atomic<bool> returned_{false};
    std::thread thread_;
};

}  // namespace

POOL_TEST_CASE("apply_async waits while as many tasks are pending as may be", "[pool]") {
    Pool pool({.processes = 1, .max_pending = 3});
    support::Release release;
    std::vector<mp::AsyncResult<int>> results;
    for (int i = 0; i < 3; ++i) { results.push_back(pool.apply_async(held, i)); }
    REQUIRE(support::have_started(1));
    mp::AsyncResult<int> last = results.back();
    {
        const Call fourth([&] { last = pool.apply_async(held, 3); });
        CHECK(fourth.waits());
        // Room is there again as soon as one of them is taken back.
        CHECK(results.back().cancel());
        CHECK(fourth.returns());
    }
    release.now();
    CHECK(results[0].get(bound) == 0);
    CHECK(last.get(bound) == 3);
}

TEST_CASE("apply_async waits while the arguments of what is pending take as many bytes as they may",
          "[pool]") {
    support::reset_cells();
    mp::Pool pool({.processes = 1, .max_pending_bytes = 3'000'000});
    support::Release release;
    // One may take more than all together, when nothing else is there.
    auto first = pool.apply_async(length, std::string(4'000'000, 'x'));
    REQUIRE(support::have_started(1));
    {
        const Call second([&] { pool.apply_async(length, std::string("short")); });
        CHECK(second.waits());
        release.now();
        CHECK(second.returns());
    }
    CHECK(first.get(bound) == 4'000'000);
    support::cell(support::Cell::release) = 0;
    std::vector<mp::AsyncResult<std::size_t>> results;
    for (int i = 0; i < 2; ++i) {
        results.push_back(pool.apply_async(length, std::string(1'400'000, 'x')));
    }
    {
        const Call third([&] { pool.apply_async(length, std::string(1'400'000, 'x')); });
        CHECK(third.waits());
        support::cell(support::Cell::release) = 1;
        CHECK(third.returns());
    }
    for (auto& result : results) { CHECK(result.get(bound) == 1'400'000); }
}

POOL_TEST_CASE("a bound on what is pending changes no result", "[pool]") {
    Pool pool({.processes = 2, .max_pending = 4});
    CHECK(pool.map(square, numbers(500), 1).back() == 499 * 499);
    int sum = 0;
    for (const int result : pool.imap(square, numbers(500))) { sum += result; }
    CHECK(sum == 499 * 500 * 999 / 6);
    for (int i = 0; i < 500; ++i) { pool.apply_async(square, i); }
    pool.close();
    pool.join();
}

POOL_TEST_CASE("a callback may submit though the pool is full", "[pool]") {
    Pool pool({.processes = 1, .max_pending = 1});
    std::atomic<int> called{0};
    for (int i = 0; i < 5; ++i) {
        pool.apply_async(square, mp::args(i), [&](int) {
            pool.apply_async(square, mp::args(1), [&](int) { ++called; });
        });
    }
    CHECK(support::eventually([&] { return called == 5; }, bound));
}

POOL_TEST_CASE("close() while a map waits for room loses none of it", "[pool]") {
    Pool pool({.processes = 2, .max_pending = 2});
    support::Release release;
    mp::AsyncResult<std::vector<int>> result = pool.map_async(square, numbers(1));
    {
        const Call map([&] { result = pool.map_async(held, numbers(50), 1); });
        REQUIRE(support::have_started(1));
        pool.close();
        CHECK(map.waits());
        release.now();
        CHECK(map.returns());
    }
    CHECK(result.get(bound) == numbers(50));
    pool.join();
}

POOL_TEST_CASE("terminate() while a map waits for room lets go of it", "[pool]") {
    Pool pool({.processes = 1, .max_pending = 1});
    support::Release release;
    mp::AsyncResult<std::vector<int>> result = pool.map_async(square, numbers(1));
    const Call map([&] { result = pool.map_async(held, numbers(50), 1); });
    REQUIRE(support::have_started(1));
    CHECK(map.waits());
    pool.terminate();
    CHECK(map.returns());
    CHECK_THROWS_AS(result.get(bound), mp::CancelledError);
    release.now();
    pool.join();
}

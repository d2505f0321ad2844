// SPDX-License-Identifier: BSL-1.0

// imap and imap_unordered: laziness, order, errors, timeouts, in threads and in processes.

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/pools.hpp"

#include <multiprocessing/pool.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <iterator>
#include <memory>
#include <numeric>
#include <ranges>
#include <set>
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

int square(int x) { return x * x; }
int fail_at_two(int x) {
    if (x == 2) { throw mp::ValueError("two"); }
    return x;
}
/// The first item waits to be released, the others do not.
int hold_first(int x) { return x == 0 ? support::held(x) : x; }
std::size_t length(const std::string& text) { return text.size(); }
int take(std::unique_ptr<int> number) { return *number; }
void count(int times) { cell(Cell::count) += times; }

/// 0, 1, 2 ... without end, which notes how many were taken.
class Endless {
  public:
    explicit Endless(std::atomic<int>& taken) : taken_(&taken) {}

    class iterator {
      public:
        using iterator_concept = std::input_iterator_tag;
        using value_type = int;
        using difference_type = std::ptrdiff_t;

        explicit iterator(std::atomic<int>* taken) : taken_(taken) {}
        int operator*() const {
            ++*taken_;
            return number_;
        }
        iterator& operator++() {
            ++number_;
            return *this;
        }
        void operator++(int) { ++*this; }
        bool operator==(std::default_sentinel_t) const { return false; }

      private:
        std::atomic<int>* taken_;
        int number_ = 0;
    };

    iterator begin() const { return iterator(taken_); }
    std::default_sentinel_t end() const { return {}; }

  private:
    std::atomic<int>* taken_;
};

}  // namespace

static_assert(std::ranges::input_range<mp::ImapResult<int>>);
static_assert(std::ranges::input_range<mp::ImapResult<void>>);
static_assert(
    std::is_same_v<std::ranges::range_value_t<mp::ImapResult<int, true>>, mp::Outcome<int>>);

POOL_TEST_CASE("imap takes no more of its range than it may be ahead", "[pool]") {
    std::atomic<int> taken = 0;
    Pool pool(2);
    {
        auto results = pool.imap(square, Endless(taken));
        CHECK(taken == 4);  // two chunks a worker
        for (int i = 0; i < 100; ++i) {
            REQUIRE(results.next() == i * i);
            REQUIRE(taken <= i + 5);
        }
    }
    const int dropped_at = taken;
    CHECK(pool.apply(square, 3) == 9);
    CHECK(taken == dropped_at);

    taken = 0;
    {
        auto results = pool.imap(square, Endless(taken), 1, 10);
        CHECK(taken == 10);
    }
    taken = 0;
    {
        auto results = pool.imap_unordered(square, Endless(taken), 8);
        CHECK(taken == 32);
    }
    taken = 0;
    {
        // A chunk is never larger than what may be taken.
        auto results = pool.imap(square, Endless(taken), 100, 3);
        CHECK(taken == 3);
        CHECK(results.next() == 0);
        CHECK(results.next() == 1);
    }
}

POOL_TEST_CASE("dropping the results takes back what has not begun", "[pool]") {
    support::Release release;
    Pool pool(1);
    {
        auto results = pool.imap(
            [](int x) {
                count(1);
                return support::held(x);
            },
            std::views::iota(0), 1, 10);
        REQUIRE(support::have_started(1));
    }
    release.now();
    CHECK(pool.apply(square, 2) == 4);
    CHECK(cell(Cell::count) == 1);
}

POOL_TEST_CASE("an lvalue range is referred to, an rvalue range is kept", "[pool]") {
    Pool pool(2);
    std::vector<std::string> texts{"a", "bc", "def"};
    auto referred = pool.imap(length, texts, 1, 1);
    texts[2] = "changed";  // it has not been taken yet
    CHECK(referred.next() == 1);
    CHECK(referred.next() == 2);
    CHECK(referred.next() == 7);
    auto kept = pool.imap(length, std::vector<std::string>(50, "four"), 1, 1);
    std::size_t sum = 0;
    for (const std::size_t n : kept) { sum += n; }
    CHECK(sum == 200);
    std::vector<std::unique_ptr<int>> items;
    for (int i = 0; i < 5; ++i) { items.push_back(std::make_unique<int>(i)); }
    sum = 0;
    for (const int n : pool.imap(take, std::move(items))) { sum += static_cast<std::size_t>(n); }
    CHECK(sum == 10);
    CHECK(pool.imap(length, {"abc"}).next() == 3);
}

POOL_TEST_CASE("imap goes on after an item that failed", "[pool]") {
    Pool pool(2);
    for (const int chunksize : {1, 2, 5, 10}) {
        auto results = pool.imap(fail_at_two, std::views::iota(0, 6), chunksize);
        CHECK(results.next() == 0);
        CHECK(results.next() == 1);
        CHECK_THROWS_AS(results.next(), mp::ValueError);
        CHECK(results.next() == 3);
        std::vector<int> rest;
        for (const int result : results) { rest.push_back(result); }
        CHECK(rest == std::vector<int>{4, 5});
        CHECK_THROWS_AS(results.next(), mp::StopIteration);
    }
}

POOL_TEST_CASE("next with a timeout can be tried again", "[pool]") {
    support::Release release;
    Pool pool(2);
    auto results = pool.imap(hold_first, std::views::iota(0, 4));
    CHECK_THROWS_AS(results.next(100ms), mp::TimeoutError);
    CHECK_THROWS_AS(results.next(0s), mp::TimeoutError);
    release.now();
    for (int i = 0; i < 4; ++i) { CHECK(results.next(60s) == i); }
    CHECK_THROWS_AS(results.next(0s), mp::StopIteration);
}

POOL_TEST_CASE("imap_unordered gives first what is there first", "[pool]") {
    support::Release release;
    Pool pool(2);
    auto results = pool.imap_unordered(hold_first, std::views::iota(0, 6));
    std::set<int> others;
    for (int i = 0; i < 5; ++i) { others.insert(results.next(60s)); }
    CHECK(others == std::set<int>{1, 2, 3, 4, 5});
    release.now();
    CHECK(results.next(60s) == 0);
    CHECK_THROWS_AS(results.next(), mp::StopIteration);
}

POOL_TEST_CASE("imap of a function that returns nothing", "[pool]") {
    Pool pool(2);
    int items = 0;
    for ([[maybe_unused]] const auto& nothing : pool.imap(count, std::vector<int>{1, 2, 3})) {
        ++items;
    }
    CHECK(items == 3);
    CHECK(cell(Cell::count) == 6);
    auto results = pool.imap_unordered(count, {1});
    results.next();
    CHECK_THROWS_AS(results.next(), mp::StopIteration);
}

POOL_TEST_CASE("imap_outcome gives an outcome for each item", "[pool]") {
    Pool pool(2);
    std::vector<int> values;
    for (const mp::Outcome<int>& outcome : pool.imap_outcome(fail_at_two, {1, 2, 3}, 3)) {
        values.push_back(outcome.value_or(-1));
    }
    CHECK(values == std::vector<int>{1, -1, 3});
}

POOL_TEST_CASE("sizes that make no sense are ValueError", "[pool]") {
    Pool pool(1);
    CHECK_THROWS_AS(pool.imap(square, {1}, 0), mp::ValueError);
    CHECK_THROWS_AS(pool.imap(square, {1}, -1), mp::ValueError);
    CHECK_THROWS_AS(pool.imap_unordered(square, {1}, 0), mp::ValueError);
    CHECK_THROWS_AS(pool.imap(square, {1}, 1, -1), mp::ValueError);
}

POOL_TEST_CASE("after close the results of an imap still come, before and after join", "[pool]") {
    std::vector<int> expected(100);
    std::iota(expected.begin(), expected.end(), 0);
    {
        Pool pool(2);
        auto results = pool.imap(fail_at_two, std::views::iota(3, 103));
        pool.close();
        CHECK_THROWS_AS(pool.imap(square, {1}), mp::ValueError);
        int expect = 3;
        for (const int result : results) { REQUIRE(result == expect++); }
        CHECK(expect == 103);
        pool.join();
    }
    {
        Pool pool(2);
        auto results = pool.imap(fail_at_two, std::views::iota(3, 103), 7);
        pool.close();
        pool.join();
        int expect = 3;
        for (const int result : results) { REQUIRE(result == expect++); }
        CHECK(expect == 103);
    }
    {
        // Dropped, and so nobody's concern.
        Pool pool(2);
        pool.imap(square, std::views::iota(0));
        pool.close();
        pool.join();
    }
}

POOL_TEST_CASE("an imap of a pool that is terminated ends with CancelledError", "[pool]") {
    support::Release release;
    Pool pool(2);
    auto results = pool.imap(hold_first, std::views::iota(0));
    REQUIRE(support::have_started(1));
    pool.terminate();
    CHECK_THROWS_AS(results.next(20s), mp::CancelledError);
    release.now();
    // What came before that is still there; it ends all the same.
    bool ended = false;
    for (int i = 0; i < 10 && !ended; ++i) {
        try {
            results.next(20s);
        } catch (const mp::StopIteration&) { ended = true; } catch (const mp::CancelledError&) {
        }
    }
    CHECK(ended);
}

POOL_TEST_CASE("results can be moved and outlive the pool", "[pool]") {
    mp::ImapResult<int> results = [] {
        Pool pool(2);
        auto made = pool.imap(square, std::views::iota(0, 3));
        pool.close();
        pool.join();
        return made;
    }();
    CHECK(results.next() == 0);
    auto moved = std::move(results);
    CHECK(moved.next() == 1);
    CHECK(moved.next() == 4);
    CHECK_THROWS_AS(moved.next(), mp::StopIteration);
}

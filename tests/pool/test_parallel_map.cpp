// SPDX-License-Identifier: BSL-1.0

// parallel_map: captures by reference, items that cannot be sent, errors and deaths.

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/pools.hpp"

#include <multiprocessing/parallel_map.hpp>

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstddef>
#include <memory>
#include <numeric>
#include <ranges>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;
using support::Cell;
using support::cell;

TEST_CASE("parallel_map: the function may capture anything by reference", "[pool]") {
    std::vector<int> table(1000);
    std::iota(table.begin(), table.end(), 0);
    const std::string prefix = "item ";
    const auto texts = mp::parallel_map(
        [&](int i) { return prefix + std::to_string(table[static_cast<std::size_t>(i)] * 2); },
        std::views::iota(0, 100), {.processes = 3});
    REQUIRE(texts.size() == 100);
    CHECK(texts[0] == "item 0");
    CHECK(texts[99] == "item 198");
}

TEST_CASE("parallel_map: items need not be sendable, and stay the caller's", "[pool]") {
    std::vector<std::unique_ptr<std::string>> items;
    for (int i = 0; i < 10; ++i) { items.push_back(std::make_unique<std::string>(10, 'a')); }
    const auto sizes = mp::parallel_map(
        [](std::unique_ptr<std::string>& item) {
            item->clear();  // in the worker's snapshot
            return ::getpid();
        },
        items, {.processes = 2, .chunksize = 1});
    CHECK(sizes.size() == 10);
    for (const pid_t pid : sizes) { CHECK(pid != ::getpid()); }
    for (const auto& item : items) { CHECK(item->size() == 10); }
    const std::vector<std::string_view> views{"a", "bc"};
    CHECK(mp::parallel_map([](std::string_view text) { return text.size(); }, views) ==
          std::vector<std::size_t>{1, 2});
}

TEST_CASE("parallel_map: braced lists, functions that return nothing, nothing to do", "[pool]") {
    support::reset_cells();
    CHECK(mp::parallel_map([](int x) { return x * x; }, {1, 2, 3}) == std::vector<int>{1, 4, 9});
    mp::parallel_map([](int x) { cell(Cell::count) += x; }, {1, 2, 3}, {.processes = 2});
    CHECK(cell(Cell::count) == 6);
    CHECK(mp::parallel_map([](int x) { return x; }, std::vector<int>()).empty());
    CHECK(mp::parallel_map([](bool x) { return !x; }, std::vector<bool>{true, false}) ==
          std::vector<bool>{false, true});
}

TEST_CASE("parallel_map: errors and deaths", "[pool]") {
    CHECK_THROWS_AS(mp::parallel_map(
                        [](int x) {
                            if (x == 3) { throw mp::ValueError("three"); }
                            return x;
                        },
                        std::views::iota(0, 10), {.processes = 2}),
                    mp::ValueError);
    try {
        mp::parallel_map(
            [](int x) {
                if (x == 7) { ::raise(SIGKILL); }
                return x;
            },
            std::views::iota(0, 10), {.processes = 2, .chunksize = 1});
        FAIL("no error");
    } catch (const mp::WorkerDiedError& error) {
        CHECK(error.signal() == SIGKILL);
        CHECK(error.task_index() == 7);
    }
    CHECK_THROWS_AS(mp::parallel_map([](int x) { return x; }, {1}, {.processes = -1}),
                    mp::ValueError);
    CHECK_THROWS_AS(mp::parallel_map([](int x) { return x; }, {1}, {.chunksize = -1}),
                    mp::ValueError);
}

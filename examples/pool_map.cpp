// SPDX-License-Identifier: BSL-1.0

// One function over many items: map, starmap, imap and imap_unordered.
//
// Prints the results of each; all of them in the items' order, except the last, which are sorted.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <algorithm>
#include <ranges>
#include <tuple>
#include <vector>

namespace mp = multiprocessing;

int square(int number) { return number * number; }

int add(int left, int right) { return left + right; }

void print(const char* what, const std::vector<int>& results) {
    fmt::print("{}:", what);
    for (const int result : results) { fmt::print(" {}", result); }
    fmt::print("\n");
}

int main() {
    mp::Pool pool(4);
    print("map", pool.map(square, std::views::iota(0, 10)));
    print("starmap",
          pool.starmap(add, std::vector<std::tuple<int, int>>{{1, 10}, {2, 20}, {3, 30}}));

    fmt::print("imap:");
    for (const int result : pool.imap(square, std::views::iota(0, 10))) {
        fmt::print(" {}", result);  // each one as soon as those before it are there
    }
    fmt::print("\n");

    std::vector<int> results;
    for (const int result : pool.imap_unordered(square, std::views::iota(0, 10))) {
        results.push_back(result);  // each one as soon as it is there
    }
    std::sort(results.begin(), results.end());
    print("imap_unordered", results);
}

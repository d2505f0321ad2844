// SPDX-License-Identifier: BSL-1.0

// Callbacks: the main process is told of each result and each error as soon as it is there.
//
// Prints the sum of what the tasks returned, and how many of them failed.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

namespace mp = multiprocessing;

int root(int square) {
    for (int number = 0; number <= square; ++number) {
        if (number * number == square) { return number; }
    }
    throw mp::ValueError(fmt::format("{} is no square", square));
}

int main() {
    std::vector<int> returned;
    std::vector<std::string> failed;
    mp::Pool pool(3);
    for (int number = 1; number <= 25; ++number) {
        pool.apply_async(root, number)
            .then([&](int result) { returned.push_back(result); })
            .on_error([&](const std::exception& error) {
                failed.push_back(dynamic_cast<const mp::RemoteError&>(error).message());
            });
    }
    pool.close();
    pool.join();
    fmt::print("{} squares, the sum of their roots is {}\n",  //
               returned.size(), std::accumulate(returned.begin(), returned.end(), 0));
    fmt::print("{} failed, one of them because {}\n",  //
               failed.size(), *std::min_element(failed.begin(), failed.end()));
}

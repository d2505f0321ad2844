// SPDX-License-Identifier: BSL-1.0

// A map of a function that does nothing over 100,000 items, with two workers.
//
//     bench_pool ours|tbb 1|0 ITEMS      chunks of one item, or the default; prints nanoseconds an
//     item

#include "harness.hpp"

#include <multiprocessing.hpp>

#include <oneapi/tbb.h>

#include <numeric>
#include <string_view>
#include <vector>

namespace mp = multiprocessing;

int nothing(int item) { return item; }

double ours(const std::vector<int>& items, int chunksize) {
    mp::Pool pool(2);
    pool.map(nothing, std::vector<int>(1000), 1);  // every worker is there
    const auto begin = bench::clock::now();
    const std::vector<int> results = pool.map(nothing, items, chunksize);
    const double seconds = bench::seconds_since(begin);
    if (results != items) { std::exit(1); }
    return seconds;
}

double onetbb(const std::vector<int>& items, int chunksize) {
    oneapi::tbb::global_control two(oneapi::tbb::global_control::max_allowed_parallelism, 2);
    std::vector<int> results(items.size());
    const auto run = [&] {
        const oneapi::tbb::blocked_range<std::size_t> all(0, items.size(), 1);
        const auto body = [&](const oneapi::tbb::blocked_range<std::size_t>& range) {
            for (std::size_t i = range.begin(); i < range.end(); ++i) {
                results[i] = nothing(items[i]);
            }
        };
        if (chunksize == 1) {
            oneapi::tbb::parallel_for(all, body, oneapi::tbb::simple_partitioner());
        } else {
            oneapi::tbb::parallel_for(all, body);
        }
    };
    run();
    const auto begin = bench::clock::now();
    run();
    return bench::seconds_since(begin);
}

int main(int argc, char** argv) {
    if (argc != 4) { return 2; }
    std::vector<int> items(std::strtoul(argv[3], nullptr, 10));
    std::iota(items.begin(), items.end(), 0);
    const int chunksize = std::atoi(argv[2]);
    const double seconds =
        std::string_view(argv[1]) == "ours" ? ours(items, chunksize) : onetbb(items, chunksize);
    bench::report(seconds / static_cast<double>(items.size()) * 1e9, "ns");
}

// SPDX-License-Identifier: BSL-1.0

// The pool with two workers, and its peers. Each run measures one thing and prints one figure.
//
//     bench_pool map    ours|tbb    ITEMS CHUNKSIZE   no-ops, 0 = default chunks; ns an item
//     bench_pool tasks  ours|tbb    TASKS             1 ms of work each, chunks of one; s in all
//     bench_pool apply  ours        CALLS             one after the other; us a call
//     bench_pool async  ours|tbb    TASKS             all begun, then all got; ns a task
//     bench_pool large  ours|memcpy CALLS             64 MiB to a worker and back; ms a call
//     bench_pool memory ours        POOLS TASKS       of 4 workers, after so many no-ops; KiB of
//     the
//                                                     parent's a pool
//
// oneTBB has threads, and the one that waits works too.

#include "harness.hpp"

#include <multiprocessing.hpp>

#include <oneapi/tbb.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mp = multiprocessing;
namespace tbb = oneapi::tbb;

namespace {

using Numbers = std::array<int, 2>;  // of the command line; 0 where it has none
using Doubles = std::vector<double>;

constexpr std::size_t large_size = 64 * 1024 * 1024;  // bytes

int nothing(int item) { return item; }

int work(int item) {
    const auto end = bench::clock::now() + std::chrono::milliseconds(1);
    while (bench::clock::now() < end) {}
    return item;
}

// The worker touches what it got, and what comes back is not what was sent.
Doubles change_first(Doubles values) {
    values.front() += 1;
    return values;
}

std::vector<int> count_up(int items) {
    std::vector<int> numbers(static_cast<std::size_t>(items));
    std::iota(numbers.begin(), numbers.end(), 0);
    return numbers;
}

// Every worker is there afterwards.
void warm(mp::Pool& pool) { pool.map(nothing, std::vector<int>(1000), 1); }

// The median of a few runs, the first of which is not counted: memory is there then.
template <class Run>
double median_seconds(const Run& run) {
    constexpr std::size_t runs = 7;
    run();
    std::array<double, runs> seconds{};
    for (double& each : seconds) {
        const auto begin = bench::clock::now();
        run();
        each = bench::seconds_since(begin);
    }
    std::nth_element(seconds.begin(), seconds.begin() + runs / 2, seconds.end());
    return seconds[runs / 2];
}

class TwoThreads {
    tbb::global_control control_{tbb::global_control::max_allowed_parallelism, 2};
};

template <int (*f)(int)>
double seconds_of_map(int count, int chunksize) {
    const std::vector<int> items = count_up(count);
    mp::Pool pool(2);
    warm(pool);
    return median_seconds([&] { bench::require(pool.map(f, items, chunksize) == items); });
}

template <int (*f)(int)>
void run_parallel_for(const std::vector<int>& items, std::vector<int>& results, int chunksize) {
    const tbb::blocked_range<std::size_t> all(0, items.size(), 1);
    const auto body = [&](const tbb::blocked_range<std::size_t>& range) {
        for (std::size_t i = range.begin(); i < range.end(); ++i) { results[i] = f(items[i]); }
    };
    if (chunksize == 1) {
        tbb::parallel_for(all, body, tbb::simple_partitioner());
    } else {
        tbb::parallel_for(all, body);
    }
}

template <int (*f)(int)>
double seconds_of_parallel_for(int count, int chunksize) {
    const TwoThreads two;
    const std::vector<int> items = count_up(count);
    std::vector<int> results(items.size());
    const double seconds = median_seconds([&] {
        std::fill(results.begin(), results.end(), -1);
        run_parallel_for<f>(items, results, chunksize);
    });
    bench::require(results == items);
    return seconds;
}

double map_ours(Numbers numbers) {
    const auto [items, chunksize] = numbers;
    return seconds_of_map<nothing>(items, chunksize) / items * 1e9;
}

double map_tbb(Numbers numbers) {
    const auto [items, chunksize] = numbers;
    return seconds_of_parallel_for<nothing>(items, chunksize) / items * 1e9;
}

double tasks_ours(Numbers numbers) { return seconds_of_map<work>(numbers[0], 1); }
double tasks_tbb(Numbers numbers) { return seconds_of_parallel_for<work>(numbers[0], 1); }

double apply_ours(Numbers numbers) {
    const int calls = numbers[0];
    mp::Pool pool(2);
    warm(pool);
    const auto begin = bench::clock::now();
    for (int i = 0; i < calls; ++i) { bench::require(pool.apply(nothing, i) == i); }
    return bench::seconds_since(begin) / calls * 1e6;
}

double async_ours(Numbers numbers) {
    const int tasks = numbers[0];
    mp::Pool pool(2);
    warm(pool);
    std::vector<mp::AsyncResult<int>> results;
    results.reserve(static_cast<std::size_t>(tasks));
    const auto begin = bench::clock::now();
    for (int i = 0; i < tasks; ++i) { results.push_back(pool.apply_async(nothing, i)); }
    for (int i = 0; i < tasks; ++i) {
        bench::require(results[static_cast<std::size_t>(i)].get() == i);
    }
    return bench::seconds_since(begin) / tasks * 1e9;
}

double async_tbb(Numbers numbers) {
    const TwoThreads two;
    const std::vector<int> items = count_up(numbers[0]);
    std::vector<int> results(items.size());
    tbb::task_group group;
    const auto run = [&] {
        for (std::size_t i = 0; i < items.size(); ++i) {
            group.run([&, i] { results[i] = nothing(items[i]); });
        }
        group.wait();
    };
    run();
    std::fill(results.begin(), results.end(), -1);
    const auto begin = bench::clock::now();
    run();
    const double seconds = bench::seconds_since(begin);
    bench::require(results == items);
    return seconds / numbers[0] * 1e9;
}

double large_ours(Numbers numbers) {
    const int calls = numbers[0];
    Doubles expected(large_size / sizeof(double), 1.5);
    mp::Pool pool(2);
    Doubles values = pool.apply(change_first, expected);
    const auto begin = bench::clock::now();
    // The caller keeps what it sends, as Python's does.
    for (int i = 0; i < calls; ++i) { values = pool.apply(change_first, values); }
    const double seconds = bench::seconds_since(begin);
    expected.front() += 1 + calls;
    bench::require(values == expected);
    return seconds / calls * 1e3;
}

// What moving the bytes costs at least when each way they are copied four times: into the message,
// into shared memory, out of it, and into the new vector. Into memory that has its pages already.
double large_memcpy(Numbers numbers) {
    constexpr int copies = 2 * 4;
    Doubles here(large_size / sizeof(double), 1.5);
    Doubles there(here.size(), 0.5);
    const auto begin = bench::clock::now();
    for (int i = 0; i < numbers[0] * copies; ++i) {
        here.front() += 1;
        std::memcpy(there.data(), here.data(), large_size);
        std::swap(here, there);
    }
    const double seconds = bench::seconds_since(begin);
    bench::require(here.front() == 1.5 + numbers[0] * copies && here.back() == 1.5);
    return seconds / numbers[0] * 1e3;
}

// What this process has in memory, shared or not. (A proportional count would go down with each
// fork, for pages that are as much this process's as before.)
double resident_kib() {
    std::ifstream rollup("/proc/self/smaps_rollup");
    for (std::string word; rollup >> word;) {
        double kib = 0;
        if (word == "Rss:" && rollup >> kib) { return kib; }
    }
    bench::require(false);
    return 0;
}

// The first pool does not count: with it comes what there is once in a process.
double memory_ours(Numbers numbers) {
    const auto [count, tasks] = numbers;
    const std::vector<int> items = count_up(tasks);
    std::vector<mp::Pool> pools;
    const auto add = [&] {
        pools.emplace_back(4);
        bench::require(pools.back().map(nothing, items, 1) == items);
    };
    add();
    const double before = resident_kib();
    for (int i = 0; i < count; ++i) { add(); }
    return (resident_kib() - before) / count;
}

struct Measurement {
    std::string_view subject;
    std::string_view competitor;
    int numbers;  // how many it takes
    double (*run)(Numbers);
    const char* unit;
};

constexpr Measurement measurements[] = {
    {"map", "ours", 2, map_ours, "ns"},         {"map", "tbb", 2, map_tbb, "ns"},
    {"tasks", "ours", 1, tasks_ours, "s"},      {"tasks", "tbb", 1, tasks_tbb, "s"},
    {"apply", "ours", 1, apply_ours, "us"},     {"async", "ours", 1, async_ours, "ns"},
    {"async", "tbb", 1, async_tbb, "ns"},       {"large", "ours", 1, large_ours, "ms"},
    {"large", "memcpy", 1, large_memcpy, "ms"}, {"memory", "ours", 2, memory_ours, "KiB"},
};

}  // namespace

int main(int argc, char** argv) {
    if (argc < 4) { return 2; }
    for (const Measurement& each : measurements) {
        if (each.subject != argv[1] || each.competitor != argv[2]) { continue; }
        if (argc != 3 + each.numbers) { return 2; }
        Numbers numbers{};
        for (int i = 3; i < argc; ++i) {
            numbers[static_cast<std::size_t>(i - 3)] = std::atoi(argv[i]);
        }
        bench::report(each.run(numbers), each.unit);
        return 0;
    }
    return 2;
}

// SPDX-License-Identifier: BSL-1.0

// Writes what each worker did when, as a file for https://ui.perfetto.dev or chrome://tracing.
//
//     trace [FILE.json]
//
// The same comes from any program of this library by MULTIPROCESSING_TRACE=FILE.json.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <chrono>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

int prepare(int number) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5 + number % 7));
    return number;
}
int evaluate(int number) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10 + number % 11));
    if (number == 13) { std::raise(SIGSEGV); }
    return number * number;
}

int main(int argc, char** argv) {
    const std::string path = argc > 1 ? argv[1] : "/tmp/multiprocessing-trace.json";
    mp::trace::start(path);
    std::vector<int> numbers;
    for (int i = 0; i < 40; ++i) { numbers.push_back(i); }
    std::size_t good = 0;
    {
        mp::Pool pool({.processes = 4, .name = "demo"});
        const auto prepared = pool.map(prepare, numbers, 2);
        for (const auto& outcome : pool.map_outcome(evaluate, prepared)) {
            good += outcome ? 1 : 0;
        }
        pool.apply({.name = "the last one"}, prepare, 1);
    }
    mp::trace::stop();
    fmt::print("{} of {} evaluated; the trace is in {}\n", good, numbers.size(), path);
}

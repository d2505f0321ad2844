// SPDX-License-Identifier: BSL-1.0

// A lock around printing, so that what belongs together stays together.
//
// Prints three lines for each of five processes; the order of the processes is free, but no process
// gets in between the lines of another.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <chrono>
#include <cstdio>
#include <mutex>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

void report(mp::Lock lock, int number) {
    const std::scoped_lock guard(lock);
    fmt::print("process {}\n", number);
    std::fflush(stdout);
    for (const char* step : {"one", "two"}) {
        std::this_thread::sleep_for(10ms);
        fmt::print("    step {} of process {}\n", step, number);
        std::fflush(stdout);
    }
}

int main() {
    mp::Lock lock;
    std::vector<mp::Process> processes;
    for (int number = 0; number < 5; ++number) { processes.emplace_back(report, lock, number); }
    for (mp::Process& process : processes) { process.start(); }
    for (mp::Process& process : processes) { process.join(); }
}

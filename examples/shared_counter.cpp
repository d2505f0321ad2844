// SPDX-License-Identifier: BSL-1.0

// A counter in shared memory that several processes add to.
//
// Prints the sum of 4 times 1000 steps; none gets lost, since a Value's `+=` is one atomic step.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <vector>

namespace mp = multiprocessing;

void count(mp::Value<int> counter, int steps) {
    for (int i = 0; i < steps; ++i) { counter += 1; }
}

int main() {
    mp::Value<int> counter(0);
    std::vector<mp::Process> processes;
    for (int i = 0; i < 4; ++i) { processes.emplace_back(count, counter, 1000); }
    for (mp::Process& process : processes) { process.start(); }
    for (mp::Process& process : processes) { process.join(); }
    fmt::print("counter: {}\n", counter.value());
}

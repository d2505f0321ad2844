// SPDX-License-Identifier: BSL-1.0

// A barrier: three processes wait for each other, one announces that all are there, all go on.
//
// Prints three arrivals in any order, the announcement, and three departures in any order.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <cstdio>
#include <string>
#include <vector>

namespace mp = multiprocessing;

void announce() {
    fmt::print("everybody is here\n");
    std::fflush(stdout);
}

void walk(mp::Barrier barrier, const std::string& name) {
    fmt::print("{} arrives\n", name);
    std::fflush(stdout);
    barrier.wait();
    fmt::print("{} goes on\n", name);
}

int main() {
    mp::Barrier barrier(3, announce);
    std::vector<mp::Process> walkers;
    for (const char* name : {"Ann", "Bob", "Cy"}) { walkers.emplace_back(walk, barrier, name); }
    for (mp::Process& walker : walkers) { walker.start(); }
    for (mp::Process& walker : walkers) { walker.join(); }
}

// SPDX-License-Identifier: BSL-1.0

// What becomes of children when the program ends: with and without join, daemonic or not.
//
// Prints a line from the daemon that was joined and from the ordinary child, for which the program
// waits at its end. The daemon that nobody joined is terminated there and never prints its line.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

void work(const std::string& what, std::chrono::milliseconds time) {
    std::this_thread::sleep_for(time);
    fmt::print("{}: finished\n", what);
}

int main() {
    mp::Process joined({.daemon = true}, work, "daemon, joined", 100ms);
    joined.start();
    joined.join();

    mp::Process forgotten({.daemon = true}, work, "daemon, not joined", 60'000ms);
    forgotten.start();
    mp::Process ordinary(work, "no daemon, not joined", 1000ms);
    ordinary.start();

    fmt::print("main: the end of the program\n");
    std::fflush(stdout);
}

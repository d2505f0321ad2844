// SPDX-License-Identifier: BSL-1.0

// A function that runs in a process of its own.
//
// Prints two greetings from the child, then the child's exit code.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <string>

namespace mp = multiprocessing;

void greet(const std::string& name, int times) {
    for (int i = 0; i < times; ++i) { fmt::print("hello, {}\n", name); }
}

int main() {
    mp::Process process({.name = "greeter"}, greet, "world", 2);
    process.start();
    process.join();
    fmt::print("{} ended with exit code {}\n", process.name(), process.exitcode().value());
}

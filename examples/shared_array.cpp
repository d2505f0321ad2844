// SPDX-License-Identifier: BSL-1.0

// An array in shared memory: two processes work on its halves, the parent sees the result.
//
// Prints the array before and after.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <cstddef>
#include <ranges>
#include <vector>

namespace mp = multiprocessing;

void square(mp::Array<int> numbers, std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last;
         ++i) {  // nobody else touches this half: no lock is needed
        numbers[i] = numbers[i] * numbers[i];
    }
}

void print(const char* when, mp::Array<int> numbers) {
    fmt::print("{}:", when);
    for (const int number : numbers) { fmt::print(" {}", number); }
    fmt::print("\n");
}

int main() {
    mp::Array<int> numbers(std::views::iota(0, 10));
    print("before", numbers);
    std::vector<mp::Process> halves;
    for (const std::size_t first : {0u, 5u}) {
        halves.emplace_back(square, numbers, first, first + 5);
    }
    for (mp::Process& process : halves) { process.start(); }
    for (mp::Process& process : halves) { process.join(); }
    print("after", numbers);
}

// SPDX-License-Identifier: BSL-1.0

// A task whose worker dies is run again, so many times; a task that kills every worker it gets
// costs itself and nothing else.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <csignal>
#include <vector>

namespace mp = multiprocessing;

// Made before the pool, whose workers then have it too.
mp::Value<int>& calls() {
    static mp::Value<int> count(0);
    return count;
}

// As a library does that fails now and then, whoever calls it.
int shaky(int number) {
    calls() += 1;
    if (calls().value() <= 2) { std::raise(SIGSEGV); }
    return number * number;
}

int poison(int) {
    std::raise(SIGSEGV);
    return 0;
}

int square(int number) { return number * number; }

int main() {
    calls();
    mp::Pool pool(2);
    fmt::print("shaky: {}", pool.apply({.retries = 3}, shaky, 7));
    fmt::print(" after {} calls\n", calls().value());

    auto poisoned = pool.apply_async({.retries = 3, .name = "poison"}, poison, 1);
    std::vector<int> numbers(1'000, 3);
    const auto squares = pool.map(square, numbers, 1);
    fmt::print("meanwhile {} squares of {}\n", squares.size(), squares.front());
    try {
        poisoned.get();
    } catch (const mp::WorkerDiedError& death) {
        fmt::print("poison: given up, {}\n", death.signal_name());
    }
}

// SPDX-License-Identifier: BSL-1.0

// Bounds for tasks: how long each may run, how much of the processors it may use, how much memory
// it may hold. What goes beyond is ended, its worker is replaced, and the others do not notice.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <chrono>
#include <cstddef>
#include <exception>
#include <string>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

std::string wait_for(int milliseconds) {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    return fmt::format("waited {} ms", milliseconds);
}

std::string compute_for(int milliseconds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
    while (std::chrono::steady_clock::now() < end) {}
    return fmt::format("computed {} ms", milliseconds);
}

std::string hold(std::size_t mebibytes) {
    std::vector<std::string> held;
    for (std::size_t i = 0; i < mebibytes; ++i) {
        held.emplace_back(1024 * 1024, 'x');
        std::this_thread::sleep_for(1ms);
    }
    return fmt::format("held {} MiB", held.size());
}

template <class F, class Argument>
void show(mp::Pool& pool, const char* what, mp::TaskOptions options, F f, Argument argument) {
    try {
        fmt::print("{:26} {}\n", what, pool.apply(options, f, argument));
    } catch (const mp::TimeoutError&) {
        fmt::print("{:26} ended: it ran too long\n", what);
    } catch (const mp::WorkerDiedError& death) {
        const std::string text = death.what();
        const bool memory = text.find("bytes") != std::string::npos;
        fmt::print("{:26} ended: too much {}\n", what, memory ? "memory" : "of the processors");
    }
}

int main() {
    constexpr std::size_t MiB = 1024 * 1024;
    mp::Pool pool(2);
    // Nothing of what follows holds up this one.
    auto other = pool.apply_async(wait_for, 1'500);

    show(pool, "10 ms of 200", {.timeout = 200ms}, wait_for, 10);
    show(pool, "10 s of 200 ms", {.timeout = 200ms}, wait_for, 10'000);
    show(pool, "computing 10 s of 200 ms", {.cpu_time = 200ms}, compute_for, 10'000);
    show(pool, "sleeping 300 ms of 200", {.cpu_time = 200ms}, wait_for, 300);
    show(pool, "20 MiB of 300", {.max_memory = 300 * MiB}, hold, std::size_t{20});
    show(pool, "2000 MiB of 300", {.max_memory = 300 * MiB}, hold, std::size_t{2'000});

    fmt::print("{:26} {}\n", "meanwhile", other.get());
}

// SPDX-License-Identifier: BSL-1.0

// Start all, then join all: the children run at the same time. Joined one by one, they do not.
//
// Prints how long four children that sleep for 0.4 s take either way, and which way is faster.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <chrono>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

void work() { std::this_thread::sleep_for(400ms); }

void one_by_one() {
    for (int i = 0; i < 4; ++i) {
        mp::Process process(work);
        process.start();
        process.join();  // waits before the next one is started
    }
}

void all_together() {
    std::vector<mp::Process> processes;
    for (int i = 0; i < 4; ++i) { processes.emplace_back(work); }
    for (mp::Process& process : processes) { process.start(); }
    for (mp::Process& process : processes) { process.join(); }
}

double seconds(void (*run)()) {
    const auto begin = std::chrono::steady_clock::now();
    run();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

int main() {
    const double slow = seconds(one_by_one);
    const double fast = seconds(all_together);
    fmt::print("started and joined one by one: {:.2f} s\n", slow);
    fmt::print("all started, then all joined: {:.2f} s\n", fast);
    fmt::print("faster: {}\n", fast < slow ? "start all, then join all" : "one by one");
}

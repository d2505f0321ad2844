// SPDX-License-Identifier: BSL-1.0

// Waiting until something is so: two processes wait on a condition for a third to finish.
//
// Prints that stage 1 is done and then, in any order, that each process of stage 2 runs.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <cstdio>
#include <mutex>
#include <vector>

namespace mp = multiprocessing;

void stage_1(mp::Condition condition, mp::Value<bool> done) {
    const std::scoped_lock guard(condition);
    fmt::print("stage 1: done\n");
    std::fflush(stdout);
    done = true;
    condition.notify_all();
}

void stage_2(mp::Condition condition, mp::Value<bool> done, int number) {
    const std::scoped_lock guard(condition);
    condition.wait_for([&] { return done.value(); });  // returns at once if stage 1 was faster
    fmt::print("stage 2, process {}: running\n", number);
}

int main() {
    mp::Condition condition;
    mp::Value<bool> done(false);
    std::vector<mp::Process> processes;
    for (int number = 1; number <= 2; ++number) {
        processes.emplace_back(stage_2, condition, done, number);
    }
    processes.emplace_back(stage_1, condition, done);
    for (mp::Process& process : processes) { process.start(); }
    for (mp::Process& process : processes) { process.join(); }
}

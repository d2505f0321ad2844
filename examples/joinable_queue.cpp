// SPDX-License-Identifier: BSL-1.0

// A queue that can be joined: it knows when everything that was put has also been done.
//
// Prints one line a task, in any order, and then, when `join` has returned, the sum of the results.
// The workers wait for more until the program ends; they are daemons, so it ends them.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <cstdio>

namespace mp = multiprocessing;

void work(mp::JoinableQueue<int> tasks, mp::Value<int> total) {
    while (true) {
        const int number = tasks.get();
        total += number * number;
        fmt::print("{} squared is {}\n", number, number * number);
        std::fflush(stdout);  // a daemon loses its buffers
        tasks.task_done();
    }
}

int main() {
    mp::JoinableQueue<int> tasks;
    mp::Value<int> total(0);
    for (int i = 0; i < 2; ++i) { mp::Process({.daemon = true}, work, tasks, total).start(); }
    for (int number = 1; number <= 6; ++number) { tasks.put(number); }
    tasks.join();  // until task_done() was called for each
    fmt::print("sum: {}\n", total.value());
}

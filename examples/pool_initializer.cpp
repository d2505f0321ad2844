// SPDX-License-Identifier: BSL-1.0

// What every worker needs once: the initializer runs in each worker before its first task.
//
// Prints the results of tasks that look things up in a table which each worker has made for itself,
// and the number of tasks, which the workers counted in a value that they share.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <map>
#include <optional>

namespace mp = multiprocessing;

std::optional<mp::Value<int>> shared_count;
std::map<int, int> squares;

int look_up(int number) {
    *shared_count += 1;
    return squares.at(number);
}

int main() {
    mp::Value<int> task_count(0);
    mp::Pool pool({.processes = 2, .initializer = [task_count] {
                       shared_count.emplace(task_count);
                       for (int number = 0; number < 100; ++number) {
                           squares[number] = number * number;
                       }
                   }});
    fmt::print("looked up:");
    for (const int square : pool.map(look_up, {3, 14, 15, 92})) { fmt::print(" {}", square); }
    fmt::print("\n");
    fmt::print("tasks: {}\n", task_count.value());
}

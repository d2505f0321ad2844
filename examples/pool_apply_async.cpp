// SPDX-License-Identifier: BSL-1.0

// `apply_async` does not wait: all tasks are handed over first, then their results are asked for.
//
// Prints the results in the order of the tasks, then the error of a task that failed, then that one
// task was not ready in time.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <chrono>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

int half(int number) {
    if (number % 2 != 0) { throw mp::ValueError(fmt::format("{} is odd", number)); }
    std::this_thread::sleep_for(50ms);
    return number / 2;
}

void dawdle(std::chrono::seconds time) { std::this_thread::sleep_for(time); }

int main() {
    mp::Pool pool(4);
    std::vector<mp::AsyncResult<int>> results;
    for (const int number : {2, 4, 6, 8}) { results.push_back(pool.apply_async(half, number)); }
    for (auto& result : results) { fmt::print("half: {}\n", result.get()); }

    try {
        pool.apply_async(half, 7).get();
    } catch (const mp::ValueError& error) {  // its own type, though it comes from another process
        fmt::print("error: {}\n", dynamic_cast<const mp::RemoteError&>(error).message());
    }

    auto slow = pool.apply_async(dawdle, 60s);
    try {
        slow.get(100ms);
    } catch (const mp::TimeoutError&) { fmt::print("too slow\n"); }
    // The pool's destructor terminates it: nobody waits for the slow task.
}

// SPDX-License-Identifier: BSL-1.0

// Two machines for five workers: a semaphore lets two in at a time.
//
// Prints one line a worker, in any order, and whether there were ever more than two at work.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

struct Use {
    int now;
    int most;
};

void work(mp::Semaphore machines, mp::Value<Use> use, int number) {
    const std::scoped_lock machine(machines);
    use.update([](Use& u) { u.most = std::max(u.most, ++u.now); });
    std::this_thread::sleep_for(50ms);
    fmt::print("worker {} has had a machine\n", number);
    use.update([](Use& u) { --u.now; });
}

int main() {
    mp::Semaphore machines(2);
    mp::Value<Use> use;
    std::vector<mp::Process> workers;
    for (int number = 1; number <= 5; ++number) {
        workers.emplace_back(work, machines, use, number);
    }
    for (mp::Process& worker : workers) { worker.start(); }
    for (mp::Process& worker : workers) { worker.join(); }
    fmt::print("never more than two at work: {}\n", use.value().most <= 2 ? "yes" : "no");
}

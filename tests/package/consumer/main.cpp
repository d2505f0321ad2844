// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing.hpp>

#include <cstdio>
#include <string>

namespace mp = multiprocessing;

int main() {
    mp::Queue<std::string> queue;
    mp::Process process([](mp::Queue<std::string> q) { q.put("hello from a process"); }, queue);
    process.start();
    std::puts(queue.get().c_str());
    process.join();
    return process.exitcode() == 0 ? 0 : 1;
}

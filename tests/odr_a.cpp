// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing.hpp>

#include <string>

// In odr_b.cpp, which includes the umbrella too.
std::string read_greeting(multiprocessing::Queue<std::string>& queue);

int main() {
    multiprocessing::Queue<std::string> queue;
    queue.put("hello");
    return read_greeting(queue) == "hello" ? 0 : 1;
}

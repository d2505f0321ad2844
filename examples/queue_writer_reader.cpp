// SPDX-License-Identifier: BSL-1.0

// A writer that ends and a reader that never does: it is terminated when it is no longer needed.
//
// Prints what is written, what is read (the two side by side), and how the two processes ended.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <cstdio>

namespace mp = multiprocessing;

void write_letters(mp::Queue<char> queue) {
    for (const char letter : {'A', 'B', 'C'}) {
        fmt::print("write: {}\n", letter);
        std::fflush(stdout);
        queue.put(letter);
    }
}

void read_letters(mp::Queue<char> queue, mp::Semaphore was_read) {
    while (true) {
        const char letter = queue.get();
        fmt::print("read: {}\n", letter);
        std::fflush(stdout);  // what is still in a buffer dies with the process
        was_read.release();
    }
}

int main() {
    mp::Queue<char> queue;
    mp::Semaphore was_read(0);
    mp::Process writer(write_letters, queue);
    mp::Process reader(read_letters, queue, was_read);
    writer.start();
    reader.start();
    writer.join();
    for (int i = 0; i < 3; ++i) { was_read.acquire(); }
    reader.terminate();  // it would wait for ever
    reader.join();
    fmt::print("the writer's exit code: {}\n", writer.exitcode().value());
    fmt::print("the reader's exit code: {}\n", reader.exitcode().value());
}

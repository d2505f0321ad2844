// SPDX-License-Identifier: BSL-1.0

// A program with pools and queues at rest, for test_mp_top.py. Obeys one word a line, and answers
// with a line when it has done so:
//
//     feed   puts 7 items into the SimpleQueue and takes 4
//     shut   shuts the Queue down
//     go     lets all tasks end, and waits for them
//     large  has a worker keep 8 MiB of arguments
//
// Ends with its input.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

namespace mp = multiprocessing;

namespace {

// Made before any pool, so that all workers have them.
mp::Event go;
mp::Event stop;
mp::Semaphore arrived(0);

int report_and_wait(int done) {
    mp::report_progress(static_cast<std::size_t>(done), 10);
    arrived.release();
    go.wait();
    return done;
}
// The first of the items passes.
int wait_at_others(int number) {
    if (number == 1) { arrived.release(); }
    if (number != 0) { go.wait(); }
    return number;
}
int nothing(int number) { return number; }

std::size_t keep(const std::vector<std::uint8_t>& bytes) {
    arrived.release();
    stop.wait();
    return bytes.size();
}

// A queue that is made in a child, and is its own.
void have_a_queue() {
    mp::JoinableQueue<int> own;
    own.put_many({1, 2});
    arrived.release();
    stop.wait();
}

void say(const char* word) {
    fmt::print("{}\n", word);
    std::fflush(stdout);
}

}  // namespace

int main() {
    ::alarm(120);
    mp::Queue<int> queue(10);
    queue.put_many({1, 2, 3, 4, 5});
    mp::SimpleQueue<int> fed;
    mp::Process child({.daemon = true}, have_a_queue);
    child.start();
    arrived.acquire();

    mp::Pool slow({.processes = 1, .initializer = [] { go.wait(); }, .name = "slow"});
    auto early = slow.apply_async(nothing, 1);

    mp::Pool pool({.processes = 2, .name = "watched"});
    auto reporting = pool.apply_async(report_and_wait, 3);
    arrived.acquire();
    auto chunk = pool.map_async(wait_at_others, {0, 1, 2}, 3);
    arrived.acquire();
    std::vector<mp::AsyncResult<int>> waiting;
    for (int i = 0; i < 3; ++i) { waiting.push_back(pool.apply_async(nothing, i)); }
    say("ready");

    for (std::string word; std::getline(std::cin, word);) {
        if (word == "feed") {
            for (int i = 0; i < 7; ++i) { fed.put(i); }
            for (int i = 0; i < 4; ++i) { fed.get(); }
        } else if (word == "shut") {
            queue.shutdown();
        } else if (word == "go") {
            go.set();
            reporting.get();
            chunk.get();
            early.get();
            for (auto& result : waiting) { result.get(); }
        } else if (word == "large") {
            pool.apply_async(keep, std::vector<std::uint8_t>(8 << 20));
            arrived.acquire();
        }
        say(word.c_str());
    }
    stop.set();
    go.set();
    child.join();
}

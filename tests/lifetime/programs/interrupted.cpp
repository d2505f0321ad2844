// SPDX-License-Identifier: BSL-1.0

// A program with eight workers that gets Ctrl-C, for test_interrupt.cpp:
//
//     lifetime_interrupted PHASE HANDLER
//
// Writes a line to descriptor 3 when the phase has begun, which everybody that it starts inherits.

#include <multiprocessing.hpp>

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <numeric>
#include <string>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

constexpr int workers = 8;
std::atomic<bool> interrupted{false};

void say_handled() {
    constexpr char text[] = "handled\n";
    if (::write(STDERR_FILENO, text, sizeof text - 1) < 0) { ::_exit(90); }
}
void leave(int) {
    say_handled();
    ::_exit(130);
}
void take_note(int) {
    say_handled();
    interrupted = true;
}

void say_begun() {
    if (::write(3, "begun\n", 6) != 6) { ::_exit(91); }
}

int work(int microseconds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(microseconds);
    while (std::chrono::steady_clock::now() < end) {}
    return microseconds;
}

int sleep_long(int) {
    std::this_thread::sleep_for(60s);
    return 0;
}

const std::vector<int> many(64, 200);

int run_map() {
    mp::Pool pool(workers);
    say_begun();
    while (!interrupted) { pool.map(work, many, 1); }
    return 130;
}

int run_get() {
    mp::Pool pool(workers);
    auto result = pool.map_async(sleep_long, many, 1);
    say_begun();
    while (!interrupted) {
        try {
            result.get(5ms);
        } catch (const mp::TimeoutError&) {}
    }
    return 130;
}

int run_join() {
    mp::Pool pool(workers);
    const auto result = pool.map_async(sleep_long, many, 1);
    pool.close();
    say_begun();
    pool.join();
    return 92;
}

int run_make() {
    say_begun();
    while (!interrupted) {
        mp::Pool pool(workers);
        pool.map(work, many, 8);
    }
    return 130;
}

int run_process_join() {
    std::vector<mp::Process> team;
    for (int i = 0; i < workers; ++i) {
        team.emplace_back(sleep_long, 0);
        team.back().start();
    }
    say_begun();
    for (mp::Process& process : team) { process.join(); }
    return 93;
}

}  // namespace

int main(int argc, char** argv) {
    ::alarm(60);
    if (argc != 3) { return 94; }
    const std::string phase = argv[1];
    const std::string handler = argv[2];
    if (handler == "leave") { std::signal(SIGINT, leave); }
    if (handler == "note") { std::signal(SIGINT, take_note); }
    if (phase == "map") { return run_map(); }
    if (phase == "get") { return run_get(); }
    if (phase == "join") { return run_join(); }
    if (phase == "make") { return run_make(); }
    if (phase == "process_join") { return run_process_join(); }
    return 95;
}

// SPDX-License-Identifier: BSL-1.0
// What recovery costs, and how fast it is; recovery.py runs it beside a build without it.
// usage: recovery ordinary   nanoseconds of each operation when nobody dies and nobody waits
//        recovery inherit    microseconds from a holder's death until a waiter has its lock

#include "harness.hpp"

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

using Block = std::array<long, 8>;

// Prints the name and the nanoseconds that a call takes: the best of several short rounds, since
// whatever else is on the machine only ever adds.
template <class F>
void time_of(const char* name, F f) {
    constexpr int rounds = 15;
    constexpr int calls = 20'000;
    for (int i = 0; i < calls; ++i) { f(); }
    double best = 1e9;
    for (int round = 0; round < rounds; ++round) {
        const auto begin = bench::clock::now();
        for (int i = 0; i < calls; ++i) { f(); }
        best = std::min(best, bench::seconds_since(begin) / calls * 1e9);
    }
    fmt::print("{}\t{:.2f}\n", name, best);
}

void measure_ordinary() {
    bench::pin(0);
    const mp::Lock lock;
    const mp::RLock rlock;
    const mp::Semaphore semaphore(1);
    const mp::Event event;
    const mp::Condition condition;
    const mp::Barrier barrier(1);
    const mp::Value<long> number(0L);
    const mp::Value<Block> block(Block{});
    const mp::Queue<std::string> queue;
    const mp::SimpleQueue<long> simple;
    auto [here, there] = mp::Pipe();
    const std::string item(64, 'x');

    time_of("Lock: acquire, release", [&] {
        lock.acquire();
        lock.release();
    });
    time_of("RLock: acquire, release", [&] {
        rlock.acquire();
        rlock.release();
    });
    time_of("Semaphore: acquire, release", [&] {
        semaphore.acquire();
        semaphore.release();
    });
    time_of("Event: set, clear", [&] {
        event.set();
        event.clear();
    });
    time_of("Condition: acquire, notify, release", [&] {
        condition.acquire();
        condition.notify();
        condition.release();
    });
    time_of("Barrier of one: wait", [&] { barrier.wait(); });
    time_of("Value<long>: +=", [&] { number += 1; });
    time_of("Value of 64 bytes: set_value", [&] { block.set_value(Block{1}); });
    time_of("Queue, 64 bytes: put, get", [&] {
        queue.put(item);
        queue.get();
    });
    time_of("SimpleQueue<long>: put, get", [&] {
        simple.put(1);
        simple.get();
    });
    time_of("Pipe, 64 bytes: send, recv", [&, &here = here, &there = there] {
        here.send(item);
        there.recv<std::string>();
    });
}

// Rounds in which a holder is killed under the eyes of one who waits.
template <class Take, class Give>
void time_inheritance(const char* name, Take take, Give give) {
    constexpr int rounds = 101;
    std::vector<double> times;
    for (int round = 0; round < rounds; ++round) {
        const mp::Event held;
        mp::Process holder([&] {
            take();
            held.set();
            std::this_thread::sleep_for(1min);
        });
        holder.start();
        held.wait();
        bench::clock::time_point killed;
        std::jthread killer([&] {
            std::this_thread::sleep_for(5ms);  // so that the other sleeps
            killed = bench::clock::now();
            ::kill(*holder.pid(), SIGKILL);
        });
        take();
        const auto taken = bench::clock::now();
        killer.join();
        times.push_back(std::chrono::duration<double, std::micro>(taken - killed).count());
        give();
        holder.join();
    }
    std::sort(times.begin(), times.end());
    fmt::print("{}\t{:.0f}\t{:.0f}\n", name, times[times.size() / 2], times.back());
}

void measure_inheritance() {
    const mp::Lock lock;
    const mp::RLock rlock;
    const mp::Semaphore semaphore(1);
    const mp::Condition condition;
    const auto of = [](const char* name, const auto& object) {
        time_inheritance(
            name, [&] { object.acquire(); }, [&] { object.release(); });
    };
    of("Lock", lock);
    of("RLock", rlock);
    of("Semaphore", semaphore);
    of("Condition", condition);
}

}  // namespace

int main(int argc, char** argv) {
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "ordinary") {
        measure_ordinary();
    } else if (what == "inherit") {
        measure_inheritance();
    } else {
        fmt::print(stderr, "usage: {} ordinary | inherit\n", argv[0]);
        return EXIT_FAILURE;
    }
}

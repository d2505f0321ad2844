// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Processes that start what has to end with them. Each says "started" once its start() has
/// returned, and then stays until it is killed.

#include "process/observe.hpp"

#include <multiprocessing/pool.hpp>
#include <multiprocessing/process.hpp>

#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

namespace lifetime {

namespace mp = multiprocessing;

[[noreturn]] inline void sleep_for_ever() {
    for (;;) { ::pause(); }
}
[[noreturn]] inline void spin_for_ever() {
    for (std::atomic<unsigned long> i = 0;; ++i) {}
}

/// A daemon that sleeps, one that computes, and one with a child of its own.
inline void start_daemons(const observe::Report& report) {
    static std::vector<mp::Process> team;
    team.emplace_back(mp::ProcessOptions{.daemon = true}, sleep_for_ever);
    team.emplace_back(mp::ProcessOptions{.daemon = true}, spin_for_ever);
    team.emplace_back(mp::ProcessOptions{.daemon = true}, [] {
        mp::Process child(sleep_for_ever);
        child.start();
        child.join();
    });
    for (mp::Process& process : team) { process.start(); }
    report.say("started");
}

/// A pool, of which one worker is busy, one sleeps in its task and one is idle.
inline void start_pool(const observe::Report& report) {
    static mp::Pool* const pool = new mp::Pool(3);
    static std::vector<mp::AsyncResult<int>> results;
    report.say("started");
    results.push_back(pool->apply_async([](int) { return spin_for_ever(), 0; }, 0));
    results.push_back(pool->apply_async([](int) { return sleep_for_ever(), 0; }, 0));
}

/// One of the above, from the main thread or from one that ends at once.
enum class Role { daemons, daemons_from_thread, pool, pool_from_thread };
inline constexpr int roles = 4;

[[noreturn]] inline void be_parent(Role role, const observe::Report& report) {
    switch (role) {
        case Role::daemons:
            start_daemons(report);
            break;
        case Role::daemons_from_thread:
            std::thread([&] { start_daemons(report); }).join();
            break;
        case Role::pool:
            start_pool(report);
            break;
        case Role::pool_from_thread:
            std::thread([&] { start_pool(report); }).join();
            break;
    }
    sleep_for_ever();
}

}  // namespace lifetime

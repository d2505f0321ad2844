// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What driver, victim, survivors and bystanders of one point tell each other, and how they look
/// at each other: by the state that the kernel shows, never by time.

#include "support/bounds.hpp"
#include "support/forked.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

namespace step {

/// Memory that all processes of a program share; zeroed by the driver before each point.
struct Stage {
    std::atomic<pid_t> victim;          ///< by itself, first thing
    std::atomic<pid_t> earlier_victim;  ///< by the driver, if there was one
    std::atomic<int> notes[8];          ///< by bystanders, as the row says
    char text[480];                     ///< by who finds something bad
};

inline Stage* current_stage = nullptr;
inline Stage& stage() { return *current_stage; }

/// Gives this process, and the children that it forks from now on, a stage of their own.
inline void set_stage() {
    void* const memory =
        ::mmap(nullptr, sizeof(Stage), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    current_stage = ::new (memory) Stage();
}

inline void clear_stage() {
    stage().victim = 0;
    stage().earlier_victim = 0;
    for (auto& note : stage().notes) { note = 0; }
    stage().text[0] = '\0';
}

inline bool is_victim(pid_t pid) { return pid == stage().victim || pid == stage().earlier_victim; }

/// Says what is wrong, for the driver to print.
inline void complain(const char* text) {
    std::snprintf(stage().text, sizeof stage().text, "%s", text);
}

/// Returns the kernel's letter: S asleep, R running, t stopped by its tracer, Z dead; 0 gone.
inline char state_of(pid_t pid) {
    char path[40];
    std::snprintf(path, sizeof path, "/proc/%d/stat", pid);
    const int file = ::open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) { return 0; }
    char stat[256] = {};
    const ssize_t size = ::read(file, stat, sizeof stat - 1);
    ::close(file);
    const char* const end = size > 0 ? std::strrchr(stat, ')') : nullptr;
    return end != nullptr ? end[2] : '\0';
}

inline bool is_dead(pid_t pid) {
    const char state = state_of(pid);
    return state == 0 || state == 'Z' || state == 'X';
}

/// Waits until `pid` sleeps in the kernel or has ended; false when it did neither in time.
inline bool await_asleep(pid_t pid, std::chrono::seconds bound = std::chrono::seconds(10)) {
    const auto end = std::chrono::steady_clock::now() + bound;
    for (;;) {
        const char state = state_of(pid);
        if (state == 'S' || state == 0 || state == 'Z' || state == 'X') { return true; }
        if (std::chrono::steady_clock::now() >= end) { return false; }
        ::usleep(200);
    }
}

/// In a bystander: waits until there is a victim that has died.
inline void await_victim_dead() {
    while (stage().victim == 0 || !is_dead(stage().victim)) { ::usleep(200); }
}

/// In a bystander: waits until the victim sleeps, or is dead.
inline void await_victim_asleep() {
    while (stage().victim == 0) { ::usleep(200); }
    // Who stays stopped is stopped on purpose; the bystander's alarm is the bound.
    while (!await_asleep(stage().victim)) {}
}

/// Starts a bystander; returns once it sleeps, or has ended.
template <class F>
support::Forked bystander(F f) {
    support::Forked child(f);
    if (!await_asleep(child.pid())) {
        throw std::runtime_error("a bystander does not come to rest");
    }
    return child;
}

/// Runs `f` in a child that then dies, which is not the same as to end of one's own accord.
template <class F>
void die(F f) {
    support::Forked child([&] {
        f();
        ::raise(SIGKILL);
        return 0;
    });
    if (child.join() != -SIGKILL) { throw std::runtime_error("a process that was to die did not"); }
}

}  // namespace step

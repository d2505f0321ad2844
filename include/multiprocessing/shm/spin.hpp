// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Looking again for a moment before one sleeps.
///
/// A sleep and its wake cost 40 to 60 us on two CPUs, a cache line crosses in 0.15 us: whoever
/// waits for a running process does better to look for about 20 us first. Not too often, since each
/// look pulls the line away from who is about to write it; and with `sched_yield` in between, so
/// that the other side runs when it has only this CPU.

#include <multiprocessing/os/cpu.hpp>

#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdint>

namespace multiprocessing::detail {

/// How long a waiter looks before it sleeps.
inline constexpr std::chrono::nanoseconds spin_time = std::chrono::microseconds(20);

/// Calls `ready()` until it is true or `bound` has passed; returns what it said last.
template <class Ready>
bool spin(Ready&& ready, std::chrono::nanoseconds bound = spin_time);

/// Tells whether this thread may run on one CPU only; then only a yield lets the other side work.
/// \cost a system call every few hundred calls.
bool has_one_cpu() noexcept;

/// Tells the CPU that this is a loop that waits.
inline void pause_cpu() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb" ::: "memory");
#else
    std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

// -------------------------------------------------------------------------------------------------

inline bool has_one_cpu() noexcept {
    // Affinity is a thread's, and may change; a child of a fork asks again when its turn comes.
    constexpr std::uint32_t good_for = 256;
    thread_local std::uint32_t asked = 0;
    thread_local bool one = false;
    if (asked++ % good_for == 0) { one = os::affinity_cpus() == 1; }
    return one;
}

template <class Ready>
bool spin(Ready&& ready, std::chrono::nanoseconds bound) {
    constexpr int pauses_between_looks = 32;
    constexpr int looks_between_yields = 8;
    const bool alone = has_one_cpu();
    const auto end = std::chrono::steady_clock::now() + bound;
    for (int looks = 1;; ++looks) {
        if (ready()) { return true; }
        if (alone || looks % looks_between_yields == 0) {
            ::sched_yield();
            if (std::chrono::steady_clock::now() >= end) { return ready(); }
        } else {
            for (int i = 0; i < pauses_between_looks; ++i) { pause_cpu(); }
        }
    }
}

}  // namespace multiprocessing::detail

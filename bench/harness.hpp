// SPDX-License-Identifier: BSL-1.0
#pragma once

// What the benchmark programs share: a clock, pinning, and the line that first.py reads.

#include <fmt/core.h>

#include <sched.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>

namespace bench {

using clock = std::chrono::steady_clock;

/// Puts this process on one CPU; on a machine with one, all are on it.
inline void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<unsigned>(cpu) % static_cast<unsigned>(sysconf(_SC_NPROCESSORS_ONLN)),
            &set);
    sched_setaffinity(0, sizeof set, &set);
}

inline double seconds_since(clock::time_point begin) {
    return std::chrono::duration<double>(clock::now() - begin).count();
}

/// The one line of output: what was measured, a number and its unit.
inline void report(double value, const char* unit) { fmt::print("{} {}\n", value, unit); }

}  // namespace bench

// SPDX-License-Identifier: BSL-1.0
#pragma once

// What the benchmark programs share: a clock, pinning, a check of results, and the line that
// compare.py reads.

#include <fmt/core.h>

#include <sched.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
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

/// Ends a program whose results are wrong: a figure for them would mean nothing. Also keeps the
/// compiler from leaving out what nobody looks at.
inline void require(bool right) {
    if (right) { return; }
    fmt::print(stderr, "wrong results\n");
    std::exit(EXIT_FAILURE);
}

/// The one line of output: what was measured, a number and its unit.
inline void report(double value, const char* unit) { fmt::print("{} {}\n", value, unit); }

}  // namespace bench

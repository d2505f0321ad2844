// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What the tests of this group have in common: their program can be executed anew for a child.

#include "support/bounds.hpp"
#include "support/warm_up.hpp"

#include <multiprocessing.hpp>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <iterator>

namespace spawned {

inline const auto bound = std::chrono::seconds(20) * support::slowness;

/// What a child finds wrong is its exit code.
inline void need(bool is_right, int code) {
    if (!is_right) { throw multiprocessing::SystemExit(code); }
}

/// Runs the process; 1000 when it does not end, 1001 when nobody knows how it did.
inline int exit_of(multiprocessing::Process& process) {
    process.start();
    if (!process.join(bound)) {
        process.kill();
        process.join();
        return 1000;
    }
    return process.exitcode().value_or(1001);
}

/// Returns how many descriptors this process has, the listing's own counted.
inline std::size_t open_count() {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

inline const bool prepared =
    support::first_in_main().add([] { multiprocessing::freeze_support(); });
// The fork server stays for the life of the program.
inline const bool warmed = support::warm_up_steps().add([] {
    multiprocessing::Process nothing({.start_method = "forkserver"}, [] {});
    nothing.start();
    nothing.join();
});

}  // namespace spawned

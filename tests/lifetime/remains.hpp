// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What is left of a program that has ended: every process that it started, and those that they
/// did, come to the test, which is their subreaper.

#include "process/subreaper.hpp"
#include "support/bounds.hpp"
#include "support/leak_check.hpp"

#include <sys/wait.h>

#include <chrono>
#include <string>

namespace lifetime {

/// Reaps what comes; returns who is still there after `bound`, as text, empty for nobody.
/// Needs an `observe::Subreaper`, and that the test has no children of its own.
inline std::string remains(std::chrono::nanoseconds bound = std::chrono::seconds(1)) {
    const bool none = support::eventually(
        [] {
            pid_t reaped;
            while ((reaped = ::waitpid(-1, nullptr, WNOHANG)) > 0) {}
            return reaped < 0;
        },
        bound);
    std::string text;
    if (none) { return text; }
    for (const auto& [pid, what] : support::children()) {
        text += std::to_string(pid) + " " + what + "\n";
    }
    return text;
}

}  // namespace lifetime

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Orphans come to the test and not to init, which may leave them as zombies for ever.

#include "observe.hpp"
#include "support/leak_check.hpp"

#include <sys/prctl.h>
#include <sys/wait.h>

namespace observe {

class Subreaper {
  public:
    Subreaper() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }
    Subreaper(const Subreaper&) = delete;
    Subreaper& operator=(const Subreaper&) = delete;
    /// Kills and reaps what is still there.
    ~Subreaper() {
        for (auto left = support::children(); !left.empty(); left = support::children()) {
            for (const auto& [pid, what] : left) {
                ::kill(pid, SIGKILL);
                ::waitpid(pid, nullptr, 0);
            }
        }
        ::prctl(PR_SET_CHILD_SUBREAPER, 0);
    }

    /// Reaps this one; false when it is not there.
    bool reap(pid_t pid) { return ::waitpid(pid, nullptr, 0) == pid; }
};

}  // namespace observe

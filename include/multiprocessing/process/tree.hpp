// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A process with all its descendants.

#include <multiprocessing/os/process.hpp>
#include <multiprocessing/shm/family.hpp>
#include <multiprocessing/timeout.hpp>

#include <dirent.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// Ends a process and whatever descends from it, found by the kernel's parent numbers and, where an
/// ancestor is gone and the kernel has given its children to init, by the family's registry.
///
/// Every process is held by a pidfd from the moment it is found, so no signal goes to a process that
/// has got a dead one's number. A descendant that neither the kernel nor the registry can connect (made
/// by a foreign program whose parent has ended before we looked) is not found.
class ProcessTree {
  public:
    explicit ProcessTree(pid_t root) { add(root); }

    /// Sends SIGTERM to all, waits up to `grace` for them, and sends SIGKILL to who is left.
    void terminate(Timeout grace) {
        const Deadline deadline(grace);
        signal_until_no_more(SIGTERM);
        for (const auto& [pid, pidfd] : members_) { os::wait_ended(pidfd.get(), deadline); }
        signal_until_no_more(SIGKILL);
        for (const auto& [pid, pidfd] : members_) {
            os::wait_ended(pidfd.get(), Deadline(std::chrono::seconds(1)));
        }
    }

  private:
    bool add(pid_t pid) {
        if (members_.contains(pid)) { return false; }
        os::UniqueFd pidfd = os::pidfd_open(pid);
        if (!pidfd) { return false; }
        members_.emplace(pid, std::move(pidfd));
        return true;
    }

    // A member that gets the signal may fork before it does: look again until nobody new is there.
    void signal_until_no_more(int signal) {
        std::set<pid_t> signalled;
        constexpr int rounds = 16;
        for (int round = 0; round < rounds && (find_descendants() || round == 0); ++round) {
            for (const auto& [pid, pidfd] : members_) {
                if (signalled.insert(pid).second) { os::send_signal(pidfd.get(), signal); }
            }
        }
    }

    // True when somebody new was found.
    bool find_descendants() {
        bool found = false;
        const auto add_children = [&](const std::vector<std::pair<pid_t, pid_t>>& pairs) {
            for (bool more = true; more;) {
                more = false;
                for (const auto& [child, parent] : pairs) {
                    if (members_.contains(parent) && add(child)) { more = found = true; }
                }
            }
        };
        std::vector<std::pair<pid_t, pid_t>> pairs = kernel_pairs();
        Family::for_each([&](MemberId id) {
            const auto child = Family::pid(id);
            const auto parent = Family::pid(Family::parent(id));
            // A slot outlives its process: only the living are worth a signal, and are who they were.
            if (child && parent && !Family::has_ended(id)) { pairs.emplace_back(*child, *parent); }
        });
        add_children(pairs);
        return found;
    }

    static std::vector<std::pair<pid_t, pid_t>> kernel_pairs() {
        std::vector<std::pair<pid_t, pid_t>> pairs;
        const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir("/proc"), &::closedir);
        while (const dirent* entry = directory ? ::readdir(directory.get()) : nullptr) {
            const pid_t pid = std::atoi(entry->d_name);
            if (pid <= 0) { continue; }
            if (const auto stat = os::proc_stat(pid)) { pairs.emplace_back(pid, stat->ppid); }
        }
        return pairs;
    }

    std::map<pid_t, os::UniqueFd> members_;
};

}  // namespace multiprocessing::detail

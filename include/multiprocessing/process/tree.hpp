// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A process with all its descendants.

#include <multiprocessing/os/process.hpp>
#include <multiprocessing/shm/family.hpp>
#include <multiprocessing/timeout.hpp>

#include <dirent.h>

#include <cstdlib>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// Ends a process and whatever descends from it, found by the kernel's parent numbers and, where an
/// ancestor is gone and the kernel has given its children to init, by the family's registry.
///
/// Every process is held by a pidfd before it is seen to be a descendant, so no signal goes to one
/// that has got a dead one's number. A descendant that neither the kernel nor the registry can
/// connect (made by a foreign program whose parent has ended before we looked) is not found.
class ProcessTree {
  public:
    /// The tree below a process: its number unless that has been reaped, its place in the family if
    /// it has one.
    ProcessTree(std::optional<pid_t> root, std::optional<MemberId> member) {
        if (member) { relatives_.insert(*member); }
        if (root) {
            add(*root, [](const os::UniqueFd&) { return true; });
        }
    }

    /// Sends SIGTERM to all, waits up to `grace` for them, and sends SIGKILL to who is left.
    /// \throws OSError when a process may not be signalled, after all the others have been.
    void terminate(Timeout grace) {
        const Deadline deadline(grace);
        signal_until_no_more(SIGTERM);
        for (const auto& [pid, pidfd] : members_) { os::wait_ended(pidfd.get(), deadline); }
        signal_until_no_more(SIGKILL);
        for (const auto& [pid, pidfd] : members_) {
            os::wait_ended(pidfd.get(), Deadline(std::chrono::seconds(1)));
        }
        if (refused_ != nullptr) { std::rethrow_exception(refused_); }
    }

  private:
    // Takes the process in if it proves to be a descendant once its number cannot change hands.
    template <class Check>
    bool add(pid_t pid, Check is_descendant) {
        if (members_.contains(pid)) { return false; }
        os::UniqueFd pidfd = os::pidfd_open(pid);
        if (!pidfd || !is_descendant(pidfd)) { return false; }
        members_.emplace(pid, std::move(pidfd));
        return true;
    }

    // A member that gets the signal may fork before it does: look again until nobody new is there.
    void signal_until_no_more(int signal) {
        std::set<pid_t> signalled;
        constexpr int rounds = 16;
        for (int round = 0; round < rounds && (find_descendants() || round == 0); ++round) {
            for (const auto& [pid, pidfd] : members_) {
                if (signalled.insert(pid).second) { send(pidfd, signal); }
            }
        }
    }

    void send(const os::UniqueFd& pidfd, int signal) {
        try {
            os::send_signal(pidfd.get(), signal);
        } catch (const OSError&) {
            if (refused_ == nullptr) { refused_ = std::current_exception(); }
        }
    }

    // True when somebody new was found.
    bool find_descendants() {
        bool found = false;
        for (bool more = true; more;) {
            const bool by_kernel = find_by_kernel();
            const bool by_family = find_by_family();
            more = by_kernel || by_family;
            found = found || more;
        }
        return found;
    }

    bool find_by_kernel() {
        bool found = false;
        for (const auto& [pid, parent] : kernel_pairs()) {
            const auto member = members_.find(parent);
            if (member == members_.end()) { continue; }
            const bool added = add(pid, [&, child = pid, ppid = parent](const os::UniqueFd& pidfd) {
                const auto stat = os::proc_stat(child);
                // Who has not been reaped still has its number: what we read is about these two.
                return stat && stat->ppid == ppid && !os::is_reaped(member->second) &&
                       !os::is_reaped(pidfd);
            });
            found = found || added;
        }
        return found;
    }

    bool find_by_family() {
        bool found = false;
        Family::for_each([&](MemberId id) {
            const auto pid = Family::pid(id);
            const bool known = relatives_.contains(id);
            const bool descends = relatives_.contains(Family::parent(id));
            if (!pid || (!known && !descends && !members_.contains(*pid))) { return; }
            const bool alive = !Family::has_ended(id);
            // The dead connect their children to us; the living are worth a signal as well. One
            // that lives before and after its descriptor is opened is whom that names.
            if (!known && (descends || alive)) { found = relatives_.insert(id).second; }
            if (alive && add(*pid, [&](const os::UniqueFd&) { return !Family::has_ended(id); })) {
                found = true;
            }
        });
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

    std::map<pid_t, os::UniqueFd> members_;  // who gets the signals
    std::set<MemberId> relatives_;           // the family's part of the tree, its dead included
    std::exception_ptr refused_;
};

}  // namespace multiprocessing::detail

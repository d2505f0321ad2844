// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A process with all its descendants.

#include <multiprocessing/os/process.hpp>
#include <multiprocessing/shm/family.hpp>
#include <multiprocessing/timeout.hpp>

#include <dirent.h>

#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// Ends a process and whatever descends from it, found by the kernel's parent numbers and, where an
/// ancestor is gone and the kernel has given its children to init, by the family's registry.
///
/// Every process is held by a pidfd before it is seen to be a descendant, so no signal goes to one
/// that has got a dead one's number. A descendant that neither the kernel nor the registry can
/// connect (made by a foreign program whose parent has ended before we looked) is not found.
template <class Lazy = void>
class ProcessTree {
  public:
    /// The tree below a process: its number unless that has been reaped, its place in the family if
    /// it has one.
    ProcessTree(std::optional<pid_t> root, std::optional<MemberId> member) {
        if (member) { relatives_.push_back(*member); }
        if (root) { add(*root, os::pidfd_open(*root)); }
    }

    /// Sends SIGTERM to all, waits up to `grace` for them, and sends SIGKILL to who is left.
    /// \throws OSError when a process may not be signalled, after all the others have been.
    void terminate(Timeout grace) {
        const Deadline deadline(grace);
        signal_until_no_more(SIGTERM);
        for (const Member& member : members_) { os::wait_ended(member.pidfd.get(), deadline); }
        signal_until_no_more(SIGKILL);
        for (const Member& member : members_) {
            os::wait_ended(member.pidfd.get(), Deadline(std::chrono::seconds(1)));
        }
        if (refused_ != nullptr) { std::rethrow_exception(refused_); }
    }

  private:
    struct Member {
        pid_t pid;
        os::UniqueFd pidfd;
        int last_signal = 0;
    };
    struct Pair {
        pid_t child;
        pid_t parent;
    };

    // Takes in a process that proved to be a descendant when its number could not change hands.
    bool add(pid_t pid, os::UniqueFd pidfd) {
        if (!pidfd) { return false; }
        members_.push_back({.pid = pid, .pidfd = std::move(pidfd)});
        return true;
    }

    // Returns the place of a process among the members, their number when it is none.
    std::size_t find(pid_t pid) const {
        std::size_t at = 0;
        while (at < members_.size() && members_[at].pid != pid) { ++at; }
        return at;
    }
    bool is_member(pid_t pid) const { return find(pid) < members_.size(); }

    bool is_relative(MemberId id) const {
        for (const MemberId relative : relatives_) {
            if (relative == id) { return true; }
        }
        return false;
    }

    // A member that gets the signal may fork before it does: look again until nobody new is there.
    void signal_until_no_more(int signal) {
        constexpr int rounds = 16;
        for (int round = 0; round < rounds && (find_descendants() || round == 0); ++round) {
            for (Member& member : members_) {
                if (std::exchange(member.last_signal, signal) != signal) {
                    send(member.pidfd, signal);
                }
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
        for (const Pair& pair : kernel_pairs()) {
            const std::size_t parent = find(pair.parent);
            if (parent == members_.size() || is_member(pair.child)) { continue; }
            os::UniqueFd pidfd = os::pidfd_open(pair.child);
            const auto stat = os::proc_stat(pair.child);
            // Who has not been reaped still has its number: what we read is about these two.
            if (pidfd && stat && stat->ppid == pair.parent &&
                !os::is_reaped(members_[parent].pidfd) && !os::is_reaped(pidfd)) {
                found = add(pair.child, std::move(pidfd));
            }
        }
        return found;
    }

    bool find_by_family() {
        bool found = false;
        Family::for_each([&](MemberId id) {
            const auto pid = Family::pid(id);
            const bool known = is_relative(id);
            const bool descends = is_relative(Family::parent(id));
            if (!pid || (!known && !descends && !is_member(*pid))) { return; }
            const bool alive = !Family::has_ended(id);
            // The dead connect their children to us; the living are worth a signal as well. One
            // that lives before and after its descriptor is opened is whom that names.
            if (!known && (descends || alive)) {
                relatives_.push_back(id);
                found = true;
            }
            if (!alive || is_member(*pid)) { return; }
            os::UniqueFd pidfd = os::pidfd_open(*pid);
            if (!Family::has_ended(id) && add(*pid, std::move(pidfd))) { found = true; }
        });
        return found;
    }

    static std::vector<Pair> kernel_pairs() {
        std::vector<Pair> pairs;
        const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir("/proc"), &::closedir);
        while (const dirent* entry = directory ? ::readdir(directory.get()) : nullptr) {
            const pid_t pid = std::atoi(entry->d_name);
            if (pid <= 0) { continue; }
            if (const auto stat = os::proc_stat(pid)) { pairs.push_back({pid, stat->ppid}); }
        }
        return pairs;
    }

    std::vector<Member> members_;      // who gets the signals
    std::vector<MemberId> relatives_;  // the family's part of the tree, its dead included
    std::exception_ptr refused_;
};

}  // namespace multiprocessing::detail

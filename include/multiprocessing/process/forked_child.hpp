// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What a process knows of a child that it has forked.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/death_pipe.hpp>
#include <multiprocessing/os/fork.hpp>
#include <multiprocessing/os/poll.hpp>
#include <multiprocessing/os/process.hpp>
#include <multiprocessing/os/socket.hpp>
#include <multiprocessing/process/child.hpp>
#include <multiprocessing/process/children.hpp>
#include <multiprocessing/process/tree.hpp>
#include <multiprocessing/shm/family.hpp>
#include <multiprocessing/timeout.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace multiprocessing::detail {

/// A child that is held by a pidfd.
template <class Lazy = void>
class ForkedChild final : public Child {
  public:
    /// Takes note of a child that has just been forked.
    ForkedChild(pid_t pid, std::string name, bool daemon, typename os::DeathPipe<Lazy>::Holder life)
        : pid_(pid),
          pidfd_(os::pidfd_open(pid)),
          birth_(os::birth_of(pidfd_, pid)),
          name_(std::move(name)),
          daemon_(daemon),
          life_(std::move(life)) {}

    /// The same of a child that the fork server has forked, which writes its `os::ExitStatus` to
    /// the other end of `end`.
    ForkedChild(pid_t pid, os::UniqueFd pidfd, os::UniqueFd end, std::string name, bool daemon,
                typename os::DeathPipe<Lazy>::Holder life)
        : pid_(pid),
          pidfd_(std::move(pidfd)),
          birth_(os::birth_of(pidfd_, pid)),
          end_(std::move(end)),
          name_(std::move(name)),
          daemon_(daemon),
          life_(std::move(life)) {}

    pid_t pid() const noexcept override { return pid_; }
    bool daemon() const noexcept override { return daemon_; }

    std::string name() const override {
        const std::scoped_lock lock(mutex_);
        return name_;
    }
    void set_name(std::string name) override {
        const std::scoped_lock lock(mutex_);
        name_ = std::move(name);
    }

    bool join(Timeout timeout) override {
        require_ours("join");
        const Deadline deadline(timeout);
        if (pidfd_ && !os::wait_ended(pidfd_.get(), deadline)) { return false; }
        collect();
        // Its descriptor goes with the last handle to it.
        Children<Lazy>::instance().forget(*this);
        return true;
    }

    bool is_alive() override {
        require_ours("test");
        return !join(std::chrono::seconds(0));
    }

    std::optional<int> exitcode() override {
        const std::optional<os::ExitStatus> ended = status();
        return ended ? std::optional(ended->exitcode) : std::nullopt;
    }
    /// Returns the exit code with all that the kernel tells.
    std::optional<os::ExitStatus> status() {
        require_ours("test");
        if (!join(std::chrono::seconds(0))) { return std::nullopt; }
        const std::scoped_lock lock(mutex_);
        return status_;
    }

    void signal(int number) override {
        require_ours("signal");
        // Once it is reaped the descriptor names nobody, and pidfd_send_signal says so: a signal
        // never reaches another process that has got the number since.
        if (pidfd_ && is_alive()) { os::send_signal(pidfd_.get(), number); }
    }

    void terminate_tree(Timeout grace) override {
        // Also when the child itself has ended: what it left behind is still its tree.
        const std::optional<pid_t> root = is_alive() ? std::optional(pid_) : std::nullopt;
        ProcessTree<Lazy>(root, Family::find(pid_, birth_)).terminate(grace);
        join(std::chrono::seconds(1));
    }

    int sentinel() const override {
        require_ours("watch");
        if (!pidfd_) {
            throw_os_error(ESRCH, "pidfd_open", "a child that was reaped by somebody else");
        }
        return pidfd_.get();
    }

  private:
    void require_ours(const char* what) const {
        if (parent_ != os::process_token()) {
            throw AssertionError(
                text_of("can only {} a child process: process {} is not one of process {}",
                        {what, pid_, ::getpid()}));
        }
    }

    // Fetches the exit code, once.
    void collect() {
        const std::scoped_lock lock(mutex_);
        if (std::exchange(collected_, true)) { return; }
        if (end_) {
            status_ = told_end();
        } else if (pidfd_) {
            status_ = os::reap(pidfd_.get());
        }
        if (!status_) {
            // SIGCHLD is ignored, or the program waits for any child: the child's own record
            // remains.
            const auto member = Family::find(pid_, birth_);
            const auto record = member ? Family::exit_record(*member) : std::nullopt;
            if (record) { status_ = os::ExitStatus{.exitcode = *record, .core_dumped = false}; }
        }
        life_ = {};
    }

    // What the fork server says; nothing when it has died.
    std::optional<os::ExitStatus> told_end() {
        os::ExitStatus status{};
        const auto bytes = std::as_writable_bytes(std::span(&status, 1));
        const Deadline bound(std::chrono::seconds(2));
        const bool told = os::poll(end_.get(), POLLIN, bound) &&
                          os::receive(end_.get(), os::Transport::local, bytes) == bytes.size();
        end_.reset();
        return told ? std::optional(status) : std::nullopt;
    }

    const pid_t pid_;
    const os::UniqueFd pidfd_;  // empty when the child was gone before we could ask for it
    const std::uint64_t birth_;
    os::UniqueFd end_;  // of a child of the fork server's, until it has been read; under `mutex_`
    const std::uint64_t parent_ = os::process_token();
    mutable std::mutex mutex_;  // guards what follows; never held while waiting
    std::string name_;
    const bool daemon_;
    typename os::DeathPipe<Lazy>::Holder
        life_;  // dropping it would end a child that dies with its parent
    bool collected_ = false;
    std::optional<os::ExitStatus> status_;
};

}  // namespace multiprocessing::detail

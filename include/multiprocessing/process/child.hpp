// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What a process knows of one of its children.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/death_pipe.hpp>
#include <multiprocessing/os/fork.hpp>
#include <multiprocessing/os/process.hpp>
#include <multiprocessing/shm/family.hpp>
#include <multiprocessing/timeout.hpp>

#include <mutex>
#include <optional>
#include <string>
#include <utility>

namespace multiprocessing::detail {

/// A child from its start to its end, and its exit code after that.
/// \safety threads: may be joined and asked from several at once. In another process than the one
/// that started the child every member but the names throws AssertionError.
class Child {
  public:
    /// Takes note of a child that has just been forked.
    Child(pid_t pid, std::string name, bool daemon, os::DeathPipe::Holder life)
        : pid_(pid),
          pidfd_(os::pidfd_open(pid)),
          birth_(os::birth_of(pidfd_, pid)),
          name_(std::move(name)),
          daemon_(daemon),
          life_(std::move(life)) {}

    pid_t pid() const noexcept { return pid_; }
    bool daemon() const noexcept { return daemon_; }

    std::string name() const {
        const std::scoped_lock lock(mutex_);
        return name_;
    }
    void set_name(std::string name) {
        const std::scoped_lock lock(mutex_);
        name_ = std::move(name);
    }

    /// Returns the child's place in the family, also after its end; nothing if it died before it
    /// took one.
    std::optional<MemberId> member() const { return Family::find(pid_, birth_); }

    bool is_ours() const { return parent_ == os::process_token(); }

    /// Waits for the child's end; true when it has ended.
    bool join(Timeout timeout) {
        require_ours("join");
        const Deadline deadline(timeout);
        if (pidfd_ && !os::wait_ended(pidfd_.get(), deadline)) { return false; }
        collect();
        return true;
    }

    bool is_alive() {
        require_ours("test");
        return !join(std::chrono::seconds(0));
    }

    /// Returns the exit code once the child has ended; nothing while it runs, and nothing for ever
    /// when somebody else reaped it and it died before it could leave a record.
    std::optional<int> exitcode() {
        const std::optional<os::ExitStatus> ended = status();
        return ended ? std::optional(ended->exitcode) : std::nullopt;
    }
    /// The same with all that the kernel tells.
    std::optional<os::ExitStatus> status() {
        require_ours("test");
        if (!join(std::chrono::seconds(0))) { return std::nullopt; }
        const std::scoped_lock lock(mutex_);
        return status_;
    }

    /// Sends a signal, if the child is there to get it.
    void signal(int number) {
        require_ours("signal");
        // Once it is reaped the descriptor names nobody, and pidfd_send_signal says so: a signal
        // never reaches another process that has got the number since.
        if (pidfd_ && is_alive()) { os::send_signal(pidfd_.get(), number); }
    }

    /// Returns a descriptor that is readable once the child has ended.
    int sentinel() const {
        require_ours("watch");
        if (!pidfd_) {
            throw_os_error(ESRCH, "pidfd_open", "a child that was reaped by somebody else");
        }
        return pidfd_.get();
    }

  private:
    void require_ours(const char* what) const {
        if (!is_ours()) {
            throw AssertionError(
                text_of("can only {} a child process: process {} is not one of process {}",
                        {what, pid_, ::getpid()}));
        }
    }

    // Fetches the exit code, once.
    void collect() {
        const std::scoped_lock lock(mutex_);
        if (std::exchange(collected_, true)) { return; }
        if (pidfd_) { status_ = os::reap(pidfd_.get()); }
        if (!status_) {
            // SIGCHLD is ignored, or the program waits for any child: the child's own record
            // remains.
            const auto member = Family::find(pid_, birth_);
            const auto record = member ? Family::exit_record(*member) : std::nullopt;
            if (record) { status_ = os::ExitStatus{.exitcode = *record, .core_dumped = false}; }
        }
        life_ = {};
    }

    const pid_t pid_;
    const os::UniqueFd pidfd_;  // empty when the child was gone before we could ask for it
    const std::uint64_t birth_;
    const std::uint64_t parent_ = os::process_token();
    mutable std::mutex mutex_;  // guards what follows; never held while waiting
    std::string name_;
    const bool daemon_;
    os::DeathPipe::Holder life_;  // dropping it would end a child that dies with its parent
    bool collected_ = false;
    std::optional<os::ExitStatus> status_;
};

}  // namespace multiprocessing::detail

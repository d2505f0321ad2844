// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What a process knows of itself: its name, its parent, its children, and how to end.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/logging.hpp>
#include <multiprocessing/os/fork.hpp>
#include <multiprocessing/os/process.hpp>
#include <multiprocessing/process/child.hpp>
#include <multiprocessing/process/finalizers.hpp>
#include <multiprocessing/process/streams.hpp>
#include <multiprocessing/shm/family.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// The process that started this one.
struct ParentRecord {
    pid_t pid = 0;
    std::uint64_t birth = 0;
    MemberId member = 0;
    std::string name = {};
};

/// This process.
/// \safety threads; its mutex is taken across `fork`, so that a child finds it free.
class LocalProcess {
  public:
    static LocalProcess& instance() {
        // Never destroyed: it is asked until the very end of the program.
        static constinit std::atomic<LocalProcess*> process{nullptr};
        return os::made_once(process, [] { return new LocalProcess; });
    }

    std::string name() const {
        const std::scoped_lock lock(mutex_);
        return name_;
    }
    void set_name(std::string name) {
        const std::scoped_lock lock(mutex_);
        name_ = std::move(name);
    }
    std::string authkey() const {
        const std::scoped_lock lock(mutex_);
        return authkey_;
    }
    void set_authkey(std::string key) {
        const std::scoped_lock lock(mutex_);
        authkey_ = std::move(key);
    }
    bool daemon() const noexcept { return daemon_; }
    /// Tells whether this process ends with its parent; its children then do too.
    bool dies_with_parent() const noexcept { return dies_with_parent_; }
    const std::optional<ParentRecord>& parent() const noexcept { return parent_; }

    /// Returns the next child's place in the family tree: "1", or "1:2" for the second child of
    /// that.
    std::string next_child_identity() {
        const std::scoped_lock lock(mutex_);
        const std::string number = std::to_string(++children_made_);
        return identity_.empty() ? number : identity_ + ":" + number;
    }

    void add_child(std::shared_ptr<Child> child) {
        const std::scoped_lock lock(mutex_);
        children_.push_back(std::move(child));
    }
    /// Returns the children that live; reaps and forgets those that have ended.
    std::vector<std::shared_ptr<Child>> living_children();
    void forget_child(const Child* child);
    /// Waits for the child's end, and forgets it then: its descriptor goes with the last handle to
    /// it.
    bool join_child(Child& child, Timeout timeout);

    /// Makes this the process that a child of `parent` is; called in the child of a fork.
    void become(std::string name, std::string identity, bool daemon, bool dies_with_parent,
                std::string authkey, ParentRecord parent);

    /// Has the end-of-process steps run at `exit`. In a child the exit ends there: the handlers
    /// that its parent had registered are the parent's.
    void arm_exit(bool is_child);

  private:
    LocalProcess();

    std::vector<std::shared_ptr<Child>> all_children() const {
        const std::scoped_lock lock(mutex_);
        return children_;
    }

    static void end_of_process(int status, void* is_child);
    void end_children();

    mutable std::mutex mutex_;
    std::string name_ = "MainProcess";
    std::string
        identity_;  // "1:2" for the second child of the first child; empty in the main process
    std::string authkey_;
    bool daemon_ = false;
    bool dies_with_parent_ = false;
    unsigned children_made_ = 0;
    std::optional<ParentRecord> parent_;
    std::vector<std::shared_ptr<Child>> children_;
    std::uint64_t exit_armed_for_ = 0;  // the token of the process whose exit we have seen to
};

// -------------------------------------------------------------------------------------------------

inline LocalProcess::LocalProcess() : authkey_(32, '\0') {
    log_process_name().store([] { return instance().name(); });
    os::random_bytes(authkey_.data(), authkey_.size());
    os::at_fork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                [] {
                    // The children are the parent's. Their records may be in use in a thread that
                    // is not here any more, so they are left, not destroyed.
                    new (&instance().children_) std::vector<std::shared_ptr<Child>>();
                    instance().mutex_.unlock();
                });
}

inline std::vector<std::shared_ptr<Child>> LocalProcess::living_children() {
    std::vector<std::shared_ptr<Child>> living;
    for (const std::shared_ptr<Child>& child : all_children()) {
        if (child->is_alive()) {
            living.push_back(child);
        } else {
            forget_child(child.get());
        }
    }
    return living;
}

inline void LocalProcess::forget_child(const Child* child) {
    std::shared_ptr<Child> forgotten;  // destroyed after the lock is released
    const std::scoped_lock lock(mutex_);
    for (auto known = children_.begin(); known != children_.end(); ++known) {
        if (known->get() == child) {
            forgotten.swap(*known);
            children_.erase(known);
            return;
        }
    }
}

inline bool LocalProcess::join_child(Child& child, Timeout timeout) {
    if (!child.join(timeout)) { return false; }
    forget_child(&child);
    return true;
}

inline void LocalProcess::become(std::string name, std::string identity, bool daemon,
                                 bool dies_with_parent, std::string authkey, ParentRecord parent) {
    name_ = std::move(name);
    identity_ = std::move(identity);
    authkey_ = std::move(authkey);
    daemon_ = daemon;
    dies_with_parent_ = dies_with_parent;
    children_made_ = 0;
    parent_ = std::move(parent);
}

inline void LocalProcess::arm_exit(bool is_child) {
    const std::uint64_t token = os::process_token();
    static char child_mark;
    mutex_.lock();
    const bool first = std::exchange(exit_armed_for_, token) != token;
    mutex_.unlock();
    if (first) { os::on_exit(&end_of_process, is_child ? &child_mark : nullptr); }
}

inline void LocalProcess::end_of_process(int status, void* is_child) {
    // A raw fork of ours that calls exit() gets here too, and finds nothing of its own to end.
    try {
        Finalizers::instance().run(0);
        instance().end_children();
        Finalizers::instance().run(std::numeric_limits<int>::min());
    } catch (const std::exception& error) {
        os::write_to_stderr(
            text_of("multiprocessing: at the end of process {}: {}\n", {::getpid(), error.what()}));
    }
    if (is_child == nullptr) {
        Family::record_exit(status);
        return;
    }
    get_logger().info("process exiting with exit code {}", status & 0xff);
    std::fflush(nullptr);
    flush_standard_streams();
    Family::record_exit(status);
    ::_exit(status & 0xff);
}

inline void LocalProcess::end_children() {
    const auto children = living_children();
    for (const auto& child : children) {
        if (child->daemon()) { child->signal(SIGTERM); }
    }
    for (const auto& child : children) { child->join(forever); }
    for (const auto& child : children) { forget_child(child.get()); }
}

}  // namespace multiprocessing::detail

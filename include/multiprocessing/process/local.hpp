// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What a process knows of itself: its name and its parent.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/logging.hpp>
#include <multiprocessing/os/fork.hpp>
#include <multiprocessing/os/process.hpp>
#include <multiprocessing/shm/family.hpp>

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

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
        const unsigned number = ++children_made_;
        return text_of("{}{}{}", {identity_, identity_.empty() ? "" : ":", number});
    }

    /// Makes this the process that a child of `parent` is; called in the child of a fork.
    void become(std::string name, std::string identity, bool daemon, bool dies_with_parent,
                std::string authkey, ParentRecord parent);

  private:
    LocalProcess();

    mutable std::mutex mutex_;
    std::string name_ = "MainProcess";
    std::string
        identity_;  // "1:2" for the second child of the first child; empty in the main process
    std::string authkey_;
    bool daemon_ = false;
    bool dies_with_parent_ = false;
    unsigned children_made_ = 0;
    std::optional<ParentRecord> parent_;
};

// -------------------------------------------------------------------------------------------------

inline LocalProcess::LocalProcess() : authkey_(32, '\0') {
    log_process_name().store([] { return instance().name(); });
    os::random_bytes(authkey_.data(), authkey_.size());
    os::at_fork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                [] { instance().mutex_.unlock(); });
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

}  // namespace multiprocessing::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The children that a process has started, and its end, which comes after theirs.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/logging.hpp>
#include <multiprocessing/os/fork.hpp>
#include <multiprocessing/os/process.hpp>
#include <multiprocessing/os/standard_error.hpp>
#include <multiprocessing/process/child.hpp>
#include <multiprocessing/process/finalizers.hpp>
#include <multiprocessing/process/streams.hpp>
#include <multiprocessing/shm/family.hpp>
#include <multiprocessing/timeout.hpp>

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// The children of this process.
/// \safety threads; its mutex is taken across `fork`, so that a child finds it free.
template <class Lazy = void>
class Children {
  public:
    static Children& instance() {
        // Never destroyed: it is asked until the very end of the program.
        static constinit std::atomic<Children*> children{nullptr};
        return os::made_once(children, [] { return new Children; });
    }

    void add(std::shared_ptr<Child> child) {
        const std::scoped_lock lock(mutex_);
        children_.push_back(std::move(child));
    }
    /// Returns the children that live; reaps and forgets those that have ended.
    std::vector<std::shared_ptr<Child>> living();
    void forget(const Child& child);

    /// Has the end-of-process steps run at `exit`. In a child the exit ends there: the handlers
    /// that its parent had registered are the parent's.
    void arm_exit(bool is_child);

  private:
    Children();

    std::vector<std::shared_ptr<Child>> all() const {
        const std::scoped_lock lock(mutex_);
        return children_;
    }

    static void end_of_process(int status, void* is_child);
    void end();

    mutable std::mutex mutex_;
    std::vector<std::shared_ptr<Child>> children_;
    std::uint64_t exit_armed_for_ = 0;  // the token of the process whose exit we have seen to
};

// -------------------------------------------------------------------------------------------------

template <class Lazy>
Children<Lazy>::Children() {
    os::at_fork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                [] {
                    // The children are the parent's. Their records may be in use in a thread that
                    // is not here any more, so they are left, not destroyed.
                    new (&instance().children_) std::vector<std::shared_ptr<Child>>();
                    instance().mutex_.unlock();
                });
}

template <class Lazy>
std::vector<std::shared_ptr<Child>> Children<Lazy>::living() {
    std::vector<std::shared_ptr<Child>> living;
    for (const std::shared_ptr<Child>& child : all()) {
        if (child->is_alive()) { living.push_back(child); }
    }
    return living;
}

template <class Lazy>
void Children<Lazy>::forget(const Child& child) {
    std::shared_ptr<Child> forgotten;  // destroyed after the lock is released
    const std::scoped_lock lock(mutex_);
    for (auto known = children_.begin(); known != children_.end(); ++known) {
        if (known->get() == &child) {
            forgotten.swap(*known);
            children_.erase(known);
            return;
        }
    }
}

template <class Lazy>
void Children<Lazy>::arm_exit(bool is_child) {
    const std::uint64_t token = os::process_token();
    static char child_mark;
    mutex_.lock();
    const bool first = std::exchange(exit_armed_for_, token) != token;
    mutex_.unlock();
    if (first) { os::on_exit(&end_of_process, is_child ? &child_mark : nullptr); }
}

template <class Lazy>
void Children<Lazy>::end_of_process(int status, void* is_child) {
    // A raw fork of ours that calls exit() gets here too, and finds nothing of its own to end.
    try {
        Finalizers<Lazy>::instance().run(0);
        instance().end();
        Finalizers<Lazy>::instance().run(std::numeric_limits<int>::min());
    } catch (const std::exception& error) {
        os::write_to_stderr(
            text_of("multiprocessing: at the end of process {}: {}\n", {::getpid(), error.what()}));
    }
    if (is_child == nullptr) {
        Family::record_exit(status);
        return;
    }
    get_logger().log_line(LogLevel::info,
                          text_of("process exiting with exit code {}", {status & 0xff}));
    std::fflush(nullptr);
    flush_standard_streams();
    Family::record_exit(status);
    ::_exit(status & 0xff);
}

template <class Lazy>
void Children<Lazy>::end() {
    const auto children = living();
    for (const auto& child : children) {
        if (child->daemon()) { child->signal(SIGTERM); }
    }
    for (const auto& child : children) { child->join(forever); }
}

}  // namespace multiprocessing::detail

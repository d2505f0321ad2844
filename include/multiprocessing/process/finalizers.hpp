// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What is to be done when this process ends of its own accord.
///
/// Mirrors the exit priorities of `multiprocessing.util.Finalize`: those of priority 0 and above
/// run before daemonic children are terminated and the others joined, the rest after it; highest
/// first, and the last registered first among equals. None of them runs at `_exit` or at a signal's
/// death.

#include <multiprocessing/os/fork.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// The end-of-process functions of this process.
/// \safety threads. A child of a fork begins with none.
template <class Lazy = void>
class Finalizers {
  public:
    using Token = std::uint64_t;

    static Finalizers& instance() {
        // Never destroyed: it outlives every static that registers.
        static constinit std::atomic<Finalizers*> finalizers{nullptr};
        return os::made_once(finalizers, [] { return new Finalizers; });
    }

    Token add(int priority, std::function<void()> function) {
        const std::scoped_lock lock(mutex_);
        entries_.push_back({++last_token_, priority, std::move(function)});
        return last_token_;
    }

    /// Forgets the function; returns only when it is not running in another thread.
    void remove(Token token) {
        const std::scoped_lock running(run_mutex_);
        const std::scoped_lock lock(mutex_);
        for (std::size_t i = 0; i < entries_.size(); ++i) {
            if (entries_[i].token == token) { return forget(i); }
        }
    }

    /// Runs, and forgets, the functions of at least this priority.
    void run(int least_priority) {
        for (;;) {
            const std::scoped_lock running(run_mutex_);
            std::function<void()> function;
            {
                const std::scoped_lock lock(mutex_);
                std::size_t best = 0;
                for (std::size_t i = 1; i < entries_.size(); ++i) {
                    // Later entries win ties.
                    if (entries_[i].priority >= entries_[best].priority) { best = i; }
                }
                if (entries_.empty() || entries_[best].priority < least_priority) { return; }
                function = std::move(entries_[best].function);
                forget(best);
            }
            function();
        }
    }

  private:
    struct Entry {
        Token token;
        int priority;
        std::function<void()> function;
    };

    void forget(std::size_t index) {
        entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(index));
    }

    Finalizers() {
        os::at_fork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                    [] {
                        // Left as they are, not destroyed: what they hold is the parent's.
                        new (&instance().entries_) std::vector<Entry>();
                        new (&instance().run_mutex_) std::recursive_mutex();
                        instance().mutex_.unlock();
                    });
    }

    std::recursive_mutex run_mutex_;  // held while a function runs; a function may remove others
    std::mutex mutex_;
    std::vector<Entry> entries_;
    Token last_token_ = 0;
};

}  // namespace multiprocessing::detail

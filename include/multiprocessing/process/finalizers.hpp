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

#include <algorithm>
#include <cstdint>
#include <functional>
#include <iterator>
#include <mutex>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// The end-of-process functions of this process.
/// \safety threads. A child of a fork begins with none.
class Finalizers {
  public:
    using Token = std::uint64_t;

    static Finalizers& instance() {
        static auto* const finalizers = new Finalizers;  // outlives every static that registers
        return *finalizers;
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
        std::erase_if(entries_, [&](const Entry& entry) { return entry.token == token; });
    }

    /// Runs, and forgets, the functions of at least this priority.
    void run(int least_priority) {
        for (;;) {
            const std::scoped_lock running(run_mutex_);
            std::function<void()> function;
            {
                const std::scoped_lock lock(mutex_);
                // Later entries win ties: `>=` of a reverse search is what max_element does here.
                const auto best = std::max_element(
                    entries_.rbegin(), entries_.rend(),
                    [](const Entry& a, const Entry& b) { return a.priority < b.priority; });
                if (best == entries_.rend() || best->priority < least_priority) { return; }
                function = std::move(best->function);
                entries_.erase(std::next(best).base());
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

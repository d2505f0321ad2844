// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// How a worker's task that takes a `std::stop_token` learns that it is to stop.

#include <multiprocessing/os/futex.hpp>
#include <multiprocessing/os/signals.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <stop_token>
#include <thread>
#include <utility>

namespace multiprocessing::detail {

/// Turns a word in shared memory, in which the parent writes the number of the task that is to
/// stop, into that task's `std::stop_token`. A thread sleeps on the word, from the first task on
/// that asks. \safety the worker's thread. Never destroyed: its thread lives as long as the
/// process.
template <class Lazy = void>
class StopWatcher {
  public:
    explicit StopWatcher(os::FutexWord& word) : word_(word) {}
    StopWatcher(const StopWatcher&) = delete;
    StopWatcher& operator=(const StopWatcher&) = delete;

    /// Returns the token of the task with that number.
    /// \throws std::system_error when there is no thread to be had.
    std::stop_token token(std::uint32_t task) {
        const std::scoped_lock lock(mutex_);
        if (task_ != task) {
            task_ = task;
            source_ = std::stop_source();
        }
        if (!std::exchange(watches_, true)) {
            const os::BlockedSignals blocked;
            try {
                std::thread([this] { watch(); }).detach();
            } catch (...) {
                watches_ = false;
                throw;
            }
        }
        if (word_.load() == task) { source_.request_stop(); }
        return source_.get_token();
    }

  private:
    void watch() {
        for (;;) {
            // First looked at, then slept on: it may have been written before this thread ran.
            const std::uint32_t seen = word_.load();
            std::stop_source source(std::nostopstate);
            {
                const std::scoped_lock lock(mutex_);
                if (seen == task_) { source = source_; }
            }
            source.request_stop();  // runs what the task has registered
            os::futex_wait(word_, seen, std::chrono::hours(1));
        }
    }

    os::FutexWord& word_;
    std::mutex mutex_;  // guards what follows
    std::uint32_t task_ = 0;
    std::stop_source source_{std::nostopstate};
    bool watches_ = false;
};

}  // namespace multiprocessing::detail

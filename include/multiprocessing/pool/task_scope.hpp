// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What a running task can ask of the pool that runs it, and tell it.
///
///     double estimate(int points) {
///         std::mt19937_64 random(mp::task_seed());   // the same for any number of workers
///         for (int i = 0; i < points; ++i) { ...; mp::report_progress(i, points); }
///         ...
///     }

#include <multiprocessing/errors.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <stop_token>
#include <utility>

namespace multiprocessing {

namespace detail {

/// What an engine gives to the code that it runs: the thread's own, as long as the chunk runs.
class TaskScope {
  public:
    /// Notes in `item` which item runs: memory that outlives the worker, and that only it writes.
    /// `first_item` is the index of the chunk's first in its range, `seed` is the job's.
    explicit TaskScope(std::atomic<std::uint64_t>& item, std::uint64_t seed = 0,
                       std::uint64_t first_item = 0) noexcept
        : item_(&item),
          seed_(seed),
          first_item_(first_item),
          outer_(std::exchange(current_, this)) {}
    TaskScope(const TaskScope&) = delete;
    TaskScope& operator=(const TaskScope&) = delete;

    /// Returns that of the calling thread; null where no task runs.
    static TaskScope* current() noexcept { return current_; }

    /// Says that item `item` of the chunk begins; the first is 0, and has begun with the chunk.
    void at_item(std::size_t item) {
        item_->store(item, std::memory_order_release);
        if (watches_items_ && item != 0) { next_item(); }
    }

    /// Returns a number that depends on the job and on the item alone.
    std::uint64_t seed() const noexcept {
        // splitmix64, whose outputs for neighbouring inputs have nothing in common.
        std::uint64_t bits =
            seed_ * 0xd1342543de82ef95 +
            (first_item_ + item_->load(std::memory_order_relaxed) + 1) * 0x9e3779b97f4a7c15;
        bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
        bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
        return bits ^ (bits >> 31);
    }

    /// Returns what tells the task that nobody wants its result any more.
    virtual std::stop_token stop_token() { return {}; }
    /// Takes note of how far the task says it has come.
    virtual void report_progress(std::size_t /*done*/, std::size_t /*total*/) noexcept {}

  protected:
    ~TaskScope() { current_ = outer_; }
    /// Has `next_item` called when an item begins that is not the first.
    void watch_items() noexcept { watches_items_ = true; }
    virtual void next_item() {}

  private:
    static inline thread_local TaskScope* current_ = nullptr;

    std::atomic<std::uint64_t>* item_;
    std::uint64_t seed_;
    std::uint64_t first_item_;
    bool watches_items_ = false;
    TaskScope* outer_;  // a task that waits for another may run it
};

}  // namespace detail

/// Returns a seed for the random numbers of the running task: each item of each call has its own,
/// and it is the same in every run of the program, however many workers there are and whichever of
/// them runs the item, as often as it does. \throws InvalidStateError where no task runs.
inline std::uint64_t task_seed() {
    const detail::TaskScope* const scope = detail::TaskScope::current();
    if (scope == nullptr) { throw InvalidStateError("task_seed() where no task of a pool runs"); }
    return scope->seed();
}

/// Says how far the running task has come, for progress bars and for who watches; does nothing
/// where no task runs. \cost a store or two.
inline void report_progress(std::size_t done, std::size_t total) noexcept {
    if (detail::TaskScope* const scope = detail::TaskScope::current()) {
        scope->report_progress(done, total);
    }
}

}  // namespace multiprocessing

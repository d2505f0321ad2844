// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A pool without its types: the engine, what state it is in, and the ranges that `imap` has not
/// finished.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/pool/engine.hpp>
#include <multiprocessing/pool/job.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// A job whose items are taken from its range only as results are asked for.
class LazyJob : public JobBase {
  public:
    /// Takes all items that are left.
    virtual void take_all() = 0;

  protected:
    using JobBase::JobBase;
};

/// What the handles and lazy jobs of a pool share.
/// \safety threads.
template <class Lazy = void>
class PoolCore {
  public:
    explicit PoolCore(std::shared_ptr<Engine> engine, std::uint64_t seed = 0)
        : engine_(std::move(engine)), seed_(seed) {}

    const Owner& owner() const noexcept { return owner_; }
    const std::shared_ptr<Engine>& engine() const noexcept { return engine_; }

    /// Returns the next job's; see `task_seed`.
    std::uint64_t next_seed() noexcept { return seed_.fetch_add(1, std::memory_order_relaxed); }

    /// Refuses new jobs unless the pool is running and this process's.
    void check_running() const {
        owner_.check("pool");
        if (state_.load(std::memory_order_relaxed) != State::running) { throw_not_running(); }
    }

    void close();
    void terminate();
    void join();
    /// Ends the pool as its destructor does; never throws for what is right in a destructor.
    void shut_down() noexcept;

    /// Has the pool take what `job` will still submit, though it be closed meanwhile.
    void lazy_began(const std::shared_ptr<LazyJob>& job);
    void lazy_ended(const LazyJob& job);

  private:
    enum class State { running, closed, terminated };
    struct Unfinished {
        const LazyJob* address;
        std::weak_ptr<LazyJob> job;
    };

    const Owner owner_;
    const std::shared_ptr<Engine> engine_;
    mutable std::mutex mutex_;
    std::atomic<State> state_{State::running};  // changed under `mutex_`
    std::atomic<std::uint64_t> seed_;
    // Under `mutex_`: jobs with input left. The engine is closed when there are none.
    std::vector<Unfinished> lazy_;
};

// -------------------------------------------------------------------------------------------------

template <class Lazy>
void PoolCore<Lazy>::close() {
    owner_.check("pool");
    {
        const std::scoped_lock lock(mutex_);
        if (state_ != State::running) { return; }
        state_ = State::closed;
        if (!lazy_.empty()) { return; }
    }
    engine_->close();
}

template <class Lazy>
void PoolCore<Lazy>::terminate() {
    owner_.check("pool");
    {
        const std::scoped_lock lock(mutex_);
        state_ = State::terminated;
        lazy_.clear();
    }
    engine_->terminate();
}

template <class Lazy>
void PoolCore<Lazy>::join() {
    owner_.check("pool");
    std::vector<std::shared_ptr<LazyJob>> lazy;
    {
        const std::scoped_lock lock(mutex_);
        if (state_ == State::running) { throw ValueError("Pool is still running"); }
        for (const Unfinished& each : lazy_) {
            if (auto living = each.job.lock()) { lazy.push_back(std::move(living)); }
        }
    }
    for (const auto& job : lazy) { job->take_all(); }
    // What is dropped just now may be about to say so, and is not waited for.
    if (state_ == State::closed) { engine_->close(); }
    engine_->join();
}

template <class Lazy>
void PoolCore<Lazy>::shut_down() noexcept {
    terminate();
    try {
        engine_->join();
    } catch (const AssertionError&) {
        // One of its own threads drops the pool: nobody can wait there. What remains ends by
        // itself.
    }
}

template <class Lazy>
void PoolCore<Lazy>::lazy_began(const std::shared_ptr<LazyJob>& job) {
    const std::scoped_lock lock(mutex_);
    if (state_ != State::running) { throw_not_running(); }
    lazy_.push_back({job.get(), job});
}

template <class Lazy>
void PoolCore<Lazy>::lazy_ended(const LazyJob& job) {
    {
        const std::scoped_lock lock(mutex_);
        const auto erased =
            std::erase_if(lazy_, [&](const auto& entry) { return entry.address == &job; });
        if (erased == 0 || state_ != State::closed || !lazy_.empty()) { return; }
    }
    engine_->close();
}

}  // namespace multiprocessing::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The outcome of a call that may not have begun yet, and waiting for several of them.
///
///     auto [done, not_done] = mp::futures::wait(futures, 2s, mp::futures::FIRST_COMPLETED);
///     for (auto&& future : mp::futures::as_completed(futures)) { use(future.result()); }
///
/// Mirrors `concurrent.futures.Future`, `wait` and `as_completed`.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/pool/async_result.hpp>
#include <multiprocessing/pool/job.hpp>
#include <multiprocessing/pool/pull_iterator.hpp>
#include <multiprocessing/timeout.hpp>

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

namespace multiprocessing {

namespace detail {

template <class Lazy = void>
class Completions;
template <class R>
class FutureCallback;

}  // namespace detail

/// A handle to what an executor's `submit` gives.
/// \safety threads; copies refer to the same call.
template <class R>
class Future {
  public:
    using value_type = R;

    explicit Future(std::shared_ptr<detail::ResultState<R>> state) : state_(std::move(state)) {}

    /// Takes the call back if it has not begun; true when it is cancelled, by this or earlier. A
    /// call that runs goes on: bounds and `AsyncResult::cancel` are what ends those.
    bool cancel() const {
        return state_->cancelled() || state_->cancel(detail::Engine::Reach::waiting);
    }
    bool cancelled() const { return state_->cancelled(); }
    bool running() const { return state_->running(); }
    /// Tells whether it has a result, an error, or is cancelled.
    bool done() const noexcept { return state_->done(); }

    /// Returns the result, again and again; one that cannot be copied, once.
    /// \throws TimeoutError when it is not there in time; CancelledError; what the call threw;
    ///     WorkerDiedError; BrokenProcessPool.
    R result(Timeout timeout = forever) const {
        wait_for_result(timeout);
        return state_->hand_out();
    }
    /// Returns the error, null when there is a result. \throws TimeoutError, CancelledError
    std::exception_ptr exception(Timeout timeout = forever) const {
        wait_for_result(timeout);
        if (state_->cancelled()) { std::rethrow_exception(state_->error()); }
        return state_->error();
    }

    /// Has `f(Future<R>)` called when it is done: by the thread that learns of it, at once when it
    /// is done already. What `f` throws is reported on stderr.
    template <class F>
    const Future& add_done_callback(F f) const {
        state_->add_callback(std::make_unique<detail::FutureCallback<R>>(*this, std::move(f)));
        return *this;
    }

    bool await_ready() const noexcept { return done(); }
    /// Resumes in the thread that delivers the result.
    template <class Handle>
    void await_suspend(Handle handle) const {
        AsyncResult<R>(state_).await_suspend(handle);
    }
    R await_resume() const { return result(); }

    /// Tells whether both are the same call.
    friend bool operator==(const Future& a, const Future& b) noexcept {
        return a.state_ == b.state_;
    }

  private:
    template <class>
    friend class detail::Completions;

    void wait_for_result(Timeout timeout) const {
        state_->set_observed();
        if (!state_->readable_here() && !state_->wait(detail::Deadline(timeout))) {
            throw TimeoutError("the call has no result yet");
        }
    }

    std::shared_ptr<detail::ResultState<R>> state_;
};

namespace futures {

/// What `wait` waits for.
enum ReturnWhen {
    FIRST_COMPLETED,  ///< one of them is done
    FIRST_EXCEPTION,  ///< one of them has an error, or all are done
    ALL_COMPLETED,    ///< all of them are done
};

/// What `wait` gives: each future once, in the order of the range.
template <class F>
struct DoneAndNotDone {
    std::vector<F> done;
    std::vector<F> not_done;
};

/// Waits until so many of the futures in `range` are done, or the time is over; never throws for
/// either. One that is there several times counts once.
template <class Range>
auto wait(Range&& range, Timeout timeout = forever, ReturnWhen return_when = ALL_COMPLETED)
    -> DoneAndNotDone<std::ranges::range_value_t<Range>>;

template <class F>
class AsCompleted;

/// Returns an input range of the futures in `range`, each as soon as it is done and once.
/// The time counts from here on; the iteration throws TimeoutError when it is over.
template <class Range>
auto as_completed(Range&& range, Timeout timeout = forever)
    -> AsCompleted<std::ranges::range_value_t<Range>>;

}  // namespace futures

// -------------------------------------------------------------------------------------------------

namespace detail {

template <class R>
class FutureCallback final : public Callback {
  public:
    template <class F>
    FutureCallback(Future<R> future, F f) : future_(std::move(future)), f_(std::move(f)) {}
    void run(ResultJob<>&) override { std::invoke(f_, *future_); }
    bool is_last() const noexcept override { return true; }

  private:
    // The job owns this callback until it is done, and this keeps the job: a future whose handles
    // are all gone still calls.
    std::optional<Future<R>> future_;
    std::function<void(const Future<R>&)> f_;
};

/// Which of a number of futures are done, in the order in which they became so.
/// \safety one thread waits, others report.
template <class Lazy>
class Completions {
  public:
    Completions() = default;
    Completions(const Completions&) = delete;
    Completions& operator=(const Completions&) = delete;
    ~Completions() {
        for (const Watched& each : watched_) {
            if (each.job) { each.job->remove_callback(each.callback); }
        }
    }

    template <class R>
    void watch(const Future<R>& future) {
        const std::shared_ptr<ResultState<R>>& state = future.state_;
        auto callback = std::make_unique<Report>(shared_, watched_.size());
        watched_.push_back({state, callback.get()});
        state->set_observed();
        state->add_callback(std::move(callback));
    }

    /// Waits until `enough(done, failed)`, counts of futures, or the deadline; returns which it
    /// was.
    template <class Enough>
    bool wait(Enough enough, const Deadline& deadline) {
        auto there = [&] {
            const std::scoped_lock lock(shared_->mutex);
            return enough(shared_->order.size(), shared_->failed);
        };
        for (const Watched& each : watched_) {
            // Those that are done know their engine no more.
            const auto engine = each.job != nullptr ? each.job->engine() : nullptr;
            if (engine != nullptr && engine->is_own_thread()) {
                // In a callback: nobody else would bring what is waited for.
                return engine->wait(*each.job, Predicate(there), deadline);
            }
        }
        std::unique_lock lock(shared_->mutex);
        const auto enough_now = [&] { return enough(shared_->order.size(), shared_->failed); };
        if (deadline.is_infinite()) {
            shared_->changed.wait(lock, enough_now);
            return true;
        }
        return shared_->changed.wait_until(lock, deadline.at(), enough_now);
    }

    /// Returns the number of the next that is done, in the order of `watch`; nothing if there is
    /// none.
    std::optional<std::size_t> take() {
        const std::scoped_lock lock(shared_->mutex);
        if (taken_ == shared_->order.size()) { return std::nullopt; }
        const std::size_t number = shared_->order[taken_++];
        watched_[number].job.reset();  // it has called already
        return number;
    }
    std::size_t taken() const noexcept { return taken_; }

  private:
    struct Shared {
        std::mutex mutex;
        std::condition_variable changed;
        std::vector<std::size_t> order;
        std::size_t failed = 0;
    };
    class Report final : public Callback {
      public:
        Report(std::shared_ptr<Shared> shared, std::size_t index)
            : shared_(std::move(shared)), index_(index) {}
        void run(ResultJob<>& job) override {
            {
                const std::scoped_lock lock(shared_->mutex);
                shared_->order.push_back(index_);
                if (job.error() && !job.cancelled()) { ++shared_->failed; }
            }
            shared_->changed.notify_all();
        }
        bool is_last() const noexcept override { return true; }

      private:
        std::shared_ptr<Shared> shared_;
        std::size_t index_;
    };
    struct Watched {
        std::shared_ptr<ResultJob<>> job;  // null once it was taken
        const Callback* callback;
    };

    std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
    std::vector<Watched> watched_;
    std::size_t taken_ = 0;
};

/// Returns the futures of a range, each once.
template <class Range>
auto distinct_futures(Range&& range) {
    std::vector<std::ranges::range_value_t<Range>> distinct;
    for (const auto& future : range) {
        if (std::find(distinct.begin(), distinct.end(), future) == distinct.end()) {
            distinct.push_back(future);
        }
    }
    return distinct;
}

}  // namespace detail

template <class Range>
auto futures::wait(Range&& range, Timeout timeout, ReturnWhen return_when)
    -> DoneAndNotDone<std::ranges::range_value_t<Range>> {
    auto all = detail::distinct_futures(range);
    detail::Completions<> completions;
    for (const auto& future : all) { completions.watch(future); }
    completions.wait(
        [&](std::size_t done, std::size_t failed) {
            return done == all.size() || (return_when == FIRST_COMPLETED && done > 0) ||
                   (return_when == FIRST_EXCEPTION && failed > 0);
        },
        detail::Deadline(timeout));
    DoneAndNotDone<std::ranges::range_value_t<Range>> result;
    for (auto& future : all) {
        (future.done() ? result.done : result.not_done).push_back(std::move(future));
    }
    return result;
}

/// What `as_completed` gives. \safety one thread.
template <class F>
class futures::AsCompleted {
  public:
    AsCompleted(std::vector<F> all, Timeout timeout)
        : state_(std::make_unique<State>(std::move(all), detail::Deadline(timeout))) {}

    using iterator = detail::PullIterator<AsCompleted, const F>;

    iterator begin() {
        fetch();
        return iterator(this);
    }
    std::default_sentinel_t end() const noexcept { return {}; }

  private:
    friend iterator;

    struct State {
        State(std::vector<F> futures, detail::Deadline until)
            : all(futures.begin(), futures.end()), deadline(until) {
            for (const auto& future : all) { completions.watch(*future); }
        }
        std::vector<std::optional<F>> all;  // empty once it was given out
        detail::Deadline deadline;
        detail::Completions<> completions;
    };

    void fetch() {
        current_.reset();
        const std::size_t count = state_->all.size();
        const std::size_t taken = state_->completions.taken();
        if (taken == count) { return; }
        if (!state_->completions.wait([&](std::size_t done, std::size_t) { return done > taken; },
                                      state_->deadline)) {
            throw TimeoutError(
                detail::text_of("{} (of {}) futures unfinished", {count - taken, count}));
        }
        current_ = std::exchange(state_->all[*state_->completions.take()], std::nullopt);
    }

    std::unique_ptr<State> state_;
    std::optional<F> current_;
};

template <class Range>
auto futures::as_completed(Range&& range, Timeout timeout)
    -> AsCompleted<std::ranges::range_value_t<Range>> {
    return {detail::distinct_futures(range), timeout};
}

}  // namespace multiprocessing

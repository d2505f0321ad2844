// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The result of a task that may still be running.
///
///     auto result = pool.apply_async(count_words, path);
///     result.then([](int words) { fmt::print("{} words\n", words); })
///         .on_error([](const std::exception& error) { fmt::print("{}\n", error.what()); });
///     int words = result.get(2s);
///     int same = co_await result;
///
/// Mirrors `multiprocessing.pool.AsyncResult`.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/pool/job.hpp>
#include <multiprocessing/timeout.hpp>

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace multiprocessing {

namespace detail {

/// A job with a result of type `R`. (`std::void_t<R>` is `void`, of which nothing is made before
/// `R` is known.)
template <class R>
class ResultState : public ResultJob<std::void_t<R>> {
    using Base = ResultJob<std::void_t<R>>;

  public:
    using Base::error;

    /// Returns the value of a job that is done, or throws its error.
    const R& value() const {
        if (error()) { std::rethrow_exception(error()); }
        return *value_;
    }
    R take() { return value(), std::move(*value_); }
    /// Returns a value that can be had only once when it cannot be copied.
    R hand_out() {
        if constexpr (std::is_copy_constructible_v<R>) {
            return value();
        } else {
            value();
            if (handed_out_.exchange(true)) {
                throw InvalidStateError("the result cannot be copied and has been taken already");
            }
            return take();
        }
    }

  protected:
    using Base::Base;

    std::optional<R> value_;  // set by `assemble`, constant once `done()`

  private:
    std::atomic<bool> handed_out_{false};  // only where `R` cannot be copied
};

template <class R>
requires std::is_void_v<R>
class ResultState<R> : public ResultJob<std::void_t<R>> {
    using Base = ResultJob<std::void_t<R>>;

  public:
    using Base::error;

    void value() const {
        if (error()) { std::rethrow_exception(error()); }
    }
    void take() { value(); }
    void hand_out() { value(); }

  protected:
    using Base::Base;
};

}  // namespace detail

/// A handle to the result of `apply_async`, `map_async` or `starmap_async`.
///
/// Dropping it loses nothing but the result: the task runs all the same. A failure that nobody
/// asked for (by `get`, `wait`, `successful`, `co_await` or an error callback) is one line on
/// stderr. \safety threads; copies refer to the same result. In a forked child only what was there
/// already can be had.
template <class R>
class AsyncResult {
  public:
    explicit AsyncResult(std::shared_ptr<detail::ResultState<R>> state)
        : state_(std::move(state)) {}

    /// Returns the value, again and again; one that cannot be copied, once.
    /// \throws TimeoutError when it is not there in time; what the task threw; WorkerDiedError;
    ///     CancelledError after `cancel` or the pool's `terminate`.
    R get(Timeout timeout = forever) const {
        state_->set_observed();
        if (!state_->readable_here() && !state_->wait(detail::Deadline(timeout))) {
            throw TimeoutError("the task has no result yet");
        }
        return state_->hand_out();
    }
    /// Waits until there is a result or the time is over.
    void wait(Timeout timeout = forever) const {
        state_->set_observed();
        if (!state_->readable_here()) { state_->wait(detail::Deadline(timeout)); }
    }
    bool ready() const noexcept { return state_->done(); }
    /// Tells whether there is a value, not an error. \throws ValueError when it is not ready.
    bool successful() const {
        if (!ready()) { throw ValueError("the result is not ready"); }
        state_->set_observed();
        return state_->error() == nullptr;
    }

    /// Takes back what has not begun; true if there was something, and the job ends as cancelled.
    bool cancel() const { return state_->cancel(); }
    bool cancelled() const { return state_->cancelled(); }
    Progress progress() const { return state_->progress(); }

    /// Has `f(const R&)`, or `f()` for void, called in this process before `get` and `wait` return;
    /// in the calling thread when there is a value already. What it throws becomes the job's error
    /// if it can.
    template <class F>
    const AsyncResult& then(F f) const;
    /// Has `f(const std::exception&)` or `f(std::exception_ptr)` called likewise for an error.
    template <class F>
    const AsyncResult& on_error(F f) const;
    template <class F>
    AsyncResult& then(F f) {
        return std::as_const(*this).then(std::move(f)), *this;
    }
    template <class F>
    AsyncResult& on_error(F f) {
        return std::as_const(*this).on_error(std::move(f)), *this;
    }

    bool await_ready() const noexcept { return ready(); }
    /// Resumes in the thread that delivers the result.
    template <class Handle>
    void await_suspend(Handle handle) const;
    R await_resume() const { return get(); }

  private:
    std::shared_ptr<detail::ResultState<R>> state_;  // never null but in a moved-from handle
};

// -------------------------------------------------------------------------------------------------

namespace detail {

template <class R, class F>
class ValueCallback : public Callback {
  public:
    explicit ValueCallback(F f) : f_(std::move(f)) {}

    void run(ResultJob<std::void_t<F>>& job) override {
        if (job.error()) { return; }
        if constexpr (std::is_void_v<R>) {
            std::invoke(f_);
        } else {
            std::invoke(f_, static_cast<ResultState<R>&>(job).value());
        }
    }

  private:
    F f_;
};

template <class F>
class ErrorCallback : public Callback {
  public:
    explicit ErrorCallback(F f) : f_(std::move(f)) {}

    void run(ResultJob<std::void_t<F>>& job) override {
        if (!job.error()) { return; }
        if constexpr (std::is_invocable_v<F&, const std::exception&>) {
            try {
                std::rethrow_exception(job.error());
            } catch (const std::exception& error) { std::invoke(f_, error); } catch (...) {
                std::invoke(f_, ProcessError("the task threw something that is no std::exception"));
            }
        } else {
            std::invoke(f_, job.error());
        }
    }

  private:
    F f_;
};

template <class Handle>
class Resumption : public Callback {
  public:
    explicit Resumption(Handle handle) : handle_(handle) {}
    void run(ResultJob<>&) override { handle_.resume(); }
    bool is_last() const noexcept override { return true; }

  private:
    Handle handle_;
};

}  // namespace detail

template <class R>
template <class F>
const AsyncResult<R>& AsyncResult<R>::then(F f) const {
    state_->add_callback(std::make_unique<detail::ValueCallback<R, F>>(std::move(f)));
    return *this;
}

template <class R>
template <class F>
const AsyncResult<R>& AsyncResult<R>::on_error(F f) const {
    static_assert(std::is_invocable_v<F&, const std::exception&> ||
                      std::is_invocable_v<F&, std::exception_ptr>,
                  "an error callback takes `const std::exception&` or `std::exception_ptr`");
    state_->set_observed();
    state_->add_callback(std::make_unique<detail::ErrorCallback<F>>(std::move(f)));
    return *this;
}

template <class R>
template <class Handle>
void AsyncResult<R>::await_suspend(Handle handle) const {
    state_->set_observed();
    // May resume, and so destroy this handle, before it returns.
    const auto state = state_;
    state->add_callback(std::make_unique<detail::Resumption<Handle>>(handle));
}

}  // namespace multiprocessing

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Worker processes behind the interface of `concurrent.futures`.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/pool/basic_pool.hpp>
#include <multiprocessing/pool/future.hpp>
#include <multiprocessing/pool/process_engine.hpp>
#include <multiprocessing/pool/pull_iterator.hpp>
#include <multiprocessing/timeout.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <ranges>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace multiprocessing {

/// How an executor is made.
struct ExecutorOptions {
    std::optional<int> max_workers = {};     ///< nothing: `process_cpu_count()`
    std::function<void()> initializer = {};  ///< runs in each worker before its first call
    int max_tasks_per_child = 0;             ///< a worker is replaced after so many; 0: never
    OnWorkerDeath on_worker_death = replace_worker;  ///< `break_pool`: as in Python
    std::string name = {};                           ///< what its workers are called
};

/// How `ProcessPoolExecutor::map` goes about it.
struct ExecutorMapOptions {
    Timeout timeout = forever;  ///< for all results together, from the call of `map` on
    int chunksize = 1;          ///< items handed over at a time
    int buffersize = 0;         ///< items taken ahead of the results; 0: all of them
};

/// The results of `ProcessPoolExecutor::map`, in the order of the items.
/// \safety one thread.
template <class R>
class ExecutorResults {
  public:
    ExecutorResults(ImapResult<R> results, Timeout timeout)
        : results_(std::move(results)), deadline_(timeout) {}

    using value_type = std::conditional_t<std::is_void_v<R>, std::monostate, R>;

    using iterator = detail::PullIterator<ExecutorResults, value_type>;

    /// Goes on with the next result. Iterating throws what the call threw, and TimeoutError.
    iterator begin() {
        fetch();
        return iterator(this);
    }
    std::default_sentinel_t end() const noexcept { return {}; }

  private:
    friend iterator;

    void fetch() {
        current_.reset();
        try {
            // Its own bound is for one result, ours is for all.
            const Timeout left = deadline_.is_infinite()
                                     ? forever
                                     : Timeout(deadline_.left(std::chrono::hours(24 * 365)));
            if constexpr (std::is_void_v<R>) {
                results_.next(left);
                current_.emplace();
            } else {
                current_.emplace(results_.next(left));
            }
        } catch (const StopIteration&) {
            // That was the last.
        }
    }

    ImapResult<R> results_;
    detail::Deadline deadline_;
    std::optional<value_type> current_;
};

/// What `ProcessPoolExecutor` is; programs use that name.
///
/// A worker that dies costs the call that it ran, unlike in Python; `on_worker_death = break_pool`
/// gives Python's way. The destructor waits for everything that was submitted, as leaving Python's
/// `with` does.
/// \safety threads, except that destroying needs the executor for itself.
template <class Engine>
class BasicExecutor : private BasicPool<Engine, detail::Passing::bytes> {
    using Base = BasicPool<Engine, detail::Passing::bytes>;
    using Base::core;

  public:
    /// \throws ValueError when `max_workers` or `max_tasks_per_child` makes no sense.
    explicit BasicExecutor(ExecutorOptions options = {}) : Base(pool_options(std::move(options))) {
        core().engine()->linger();
    }
    explicit BasicExecutor(int max_workers)
        : BasicExecutor(ExecutorOptions{.max_workers = max_workers}) {}
    BasicExecutor(const BasicExecutor&) = delete;
    BasicExecutor& operator=(const BasicExecutor&) = delete;
    ~BasicExecutor() {
        if (!core().owner().is_here()) { return; }  // the base leaves a forked child's alone
        if (!is_shut_down_) { shutdown(); }
        this->let_go();
    }

    /// Has a worker call `f(args...)`; returns its `Future<R>`.
    /// \throws ProcessError after `shutdown`, BrokenProcessPool when it cannot go on.
    template <class F, class... Args>
    requires(!std::is_same_v<std::remove_cvref_t<F>, TaskOptions>) auto submit(F&& f,
                                                                               Args&&... args) {
        check_running();
        return future_of(this->make_call(std::forward<F>(f), std::forward<Args>(args)...));
    }
    template <class F, class... Args>
    auto submit(TaskOptions options, F&& f, Args&&... args) {
        check_running();
        return future_of(
            this->with(options, this->make_call(std::forward<F>(f), std::forward<Args>(args)...)));
    }

    /// Has workers call `f` with each item, or with the items that stand at the same place of
    /// several ranges, as far as the shortest goes; returns an input range of the results in that
    /// order. \throws ValueError for a chunksize below 1 or a negative buffersize.
    template <class F, class Range, class... Ranges>
    requires(!std::is_same_v<std::remove_cvref_t<F>, ExecutorMapOptions>) auto map(
        F&& f, Range&& range, Ranges&&... ranges) {
        return map(ExecutorMapOptions{}, std::forward<F>(f), std::forward<Range>(range),
                   std::forward<Ranges>(ranges)...);
    }
    template <class F, class Range, class... Ranges>
    auto map(ExecutorMapOptions options, F&& f, Range&& range, Ranges&&... ranges);

    /// Accepts nothing further. What was submitted is done, unless `cancel_futures` takes back what
    /// has not begun; with `wait` this returns when all of it has ended, and the workers with it.
    /// May be called again.
    void shutdown(bool wait = true, bool cancel_futures = false) {
        is_shut_down_ = true;
        if (cancel_futures) { core().engine()->cancel_waiting(); }
        core().close();
        if (wait) { core().join(); }
    }

    /// Ends the workers by SIGTERM, or SIGKILL: calls that run get BrokenProcessPool, others are
    /// cancelled.
    void terminate_workers() { break_off(/*at_once=*/false); }
    void kill_workers() { break_off(/*at_once=*/true); }

  private:
    static PoolOptions pool_options(ExecutorOptions options) {
        if (options.max_workers && *options.max_workers < 1) {
            throw ValueError(detail::text_of("max_workers is {}, and must be 1 or more",
                                             {*options.max_workers}));
        }
        return {.processes = options.max_workers.value_or(0),
                .initializer = std::move(options.initializer),
                .maxtasksperchild = options.max_tasks_per_child,
                .name = std::move(options.name),
                .on_worker_death = options.on_worker_death};
    }
    void check_running() const {
        if (is_shut_down_) { throw ProcessError("cannot submit after shutdown"); }
    }
    void break_off(bool at_once) {
        if (std::exchange(is_broken_off_, true)) { return; }
        is_shut_down_ = true;
        core().engine()->break_off(at_once);
        core().terminate();
        core().join();
    }
    template <class Job>
    auto future_of(std::shared_ptr<Job> job) {
        Future<decltype(detail::result_of(*job))> future(job);
        Base::submit(job);
        return future;
    }

    std::atomic<bool> is_shut_down_{false};
    bool is_broken_off_ = false;
};

/// A number of worker processes that run calls; each call's outcome is a `Future`.
using ProcessPoolExecutor = BasicExecutor<detail::ProcessEngine<>>;

// -------------------------------------------------------------------------------------------------

template <class Engine>
template <class F, class Range, class... Ranges>
auto BasicExecutor<Engine>::map(ExecutorMapOptions options, F&& f, Range&& range,
                                Ranges&&... ranges) {
    check_running();
    // All of it is taken at once unless a buffersize bounds that, as in Python.
    const int ahead =
        options.buffersize != 0 ? options.buffersize : std::numeric_limits<int>::max();
    if constexpr (sizeof...(Ranges) == 0) {
        auto results = this->template make_imap<false, false>(
            std::forward<F>(f), std::forward<Range>(range), options.chunksize, ahead, true);
        return ExecutorResults(std::move(results), options.timeout);
    } else {
        std::vector<std::tuple<detail::range_item_t<Range>, detail::range_item_t<Ranges>...>> rows;
        const auto zip = [&rows](auto&&... each) {
            const auto at_end = [](auto& cursor) { return cursor.first == cursor.second; };
            const auto add = [&](auto... cursors) {
                while (!(at_end(cursors) || ...)) {
                    rows.emplace_back(*cursors.first...);
                    (++cursors.first, ...);
                }
            };
            add(std::pair(std::ranges::begin(each), std::ranges::end(each))...);
        };
        zip(range, ranges...);
        auto results = this->template make_imap<false, true>(std::forward<F>(f), std::move(rows),
                                                             options.chunksize, ahead, true);
        return ExecutorResults(std::move(results), options.timeout);
    }
}

}  // namespace multiprocessing

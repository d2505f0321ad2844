// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The members of every pool, whatever engine runs the tasks.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/pool/apply_job.hpp>
#include <multiprocessing/pool/async_result.hpp>
#include <multiprocessing/pool/chunks.hpp>
#include <multiprocessing/pool/core.hpp>
#include <multiprocessing/pool/imap.hpp>
#include <multiprocessing/pool/inline_engine.hpp>
#include <multiprocessing/pool/map_job.hpp>
#include <multiprocessing/pool/options.hpp>
#include <multiprocessing/pool/progress_bar.hpp>
#include <multiprocessing/process/current.hpp>
#include <multiprocessing/serialize/callable.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <ranges>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace multiprocessing {

namespace detail {

/// What `mp::args` makes.
template <class... Ts>
struct Arguments {
    std::tuple<Ts...> values;
};

template <class T>
inline constexpr bool is_arguments = false;
template <class... Ts>
inline constexpr bool is_arguments<Arguments<Ts...>> = true;

template <class... Args>
inline constexpr bool begins_with_arguments = false;
template <class First, class... Rest>
inline constexpr bool begins_with_arguments<First, Rest...> =
    is_arguments<std::remove_cvref_t<First>>;

/// The plain `apply_async(f, args...)`, as against `(options, f, ...)` and `(f, mp::args(...),
/// ...)`.
template <class F, class... Args>
concept plain_call =
    !std::is_same_v<std::remove_cvref_t<F>, TaskOptions> && !begins_with_arguments<Args...>;

template <class T>
inline constexpr bool is_none =
    std::is_same_v<T, std::nullopt_t> || std::is_same_v<T, std::nullptr_t>;

/// Fills in what `options` leave open.
inline PoolOptions complete(PoolOptions options) {
    check_options(options);
    if (options.processes == 0) { options.processes = process_cpu_count(); }
    return options;
}

}  // namespace detail

/// Puts the arguments of a call together: `pool.apply_async(f, mp::args(1, 2), callback)`.
template <class... Args>
detail::Arguments<detail::sent_t<Args>...> args(Args&&... values) {
    return {{std::forward<Args>(values)...}};
}

/// A number of workers that run functions. `Engine` says which, and what a function and its values
/// must be.
///
/// A range is any input range, or a braced list. `f` is called with lvalues of the worker's copies
/// of the arguments unless a parameter is a value or an rvalue reference. Every member that takes
/// work throws ValueError ("Pool not running") after `close` or `terminate`, BrokenProcessPool when
/// no worker gets through the initializer, and AssertionError in a forked child, whose pool this is
/// not. \safety threads, except that moving and destroying need the pool for themselves. In a
/// forked child the
///     destructor does nothing.
template <class Engine, detail::Passing P>
class BasicPool {
  public:
    BasicPool(BasicPool&&) noexcept = default;
    BasicPool& operator=(BasicPool&& other) noexcept {
        if (this != &other) {
            end();
            core_ = std::move(other.core_);
        }
        return *this;
    }
    /// Terminates the pool and waits for its workers' end.
    ~BasicPool() { end(); }

    /// Returns `f(args...)`, called by a worker.
    template <class F, class... Args>
    requires detail::plain_call<F, Args...>
    auto apply(F&& f, Args&&... args) {
        return now(make_call(std::forward<F>(f), std::forward<Args>(args)...));
    }
    template <class F, class... Args>
    auto apply(TaskOptions options, F&& f, Args&&... args) {
        return now(with(options, make_call(std::forward<F>(f), std::forward<Args>(args)...)));
    }
    template <class F, class... Args>
    auto apply(F&& f, detail::Arguments<Args...> args) {
        return now(make_call_of(std::forward<F>(f), std::move(args)));
    }

    /// Has a worker call `f(args...)`; returns its `AsyncResult<R>`.
    template <class F, class... Args>
    requires detail::plain_call<F, Args...>
    auto apply_async(F&& f, Args&&... args) {
        return later(make_call(std::forward<F>(f), std::forward<Args>(args)...));
    }
    template <class F, class... Args>
    auto apply_async(TaskOptions options, F&& f, Args&&... args) {
        return later(with(options, make_call(std::forward<F>(f), std::forward<Args>(args)...)));
    }
    /// The same in Python's shape; a callback may be `std::nullopt`.
    template <class F, class... Args, class Callback = std::nullopt_t,
              class ErrorCallback = std::nullopt_t>
    auto apply_async(F&& f, detail::Arguments<Args...> args, Callback callback = std::nullopt,
                     ErrorCallback error_callback = std::nullopt) {
        return later(make_call_of(std::forward<F>(f), std::move(args)), std::move(callback),
                     std::move(error_callback));
    }

    /// Returns the results of `f` for each item as a `std::vector<R>`, or nothing when `f` returns
    /// nothing. Ends when all chunks have ended; then throws the error that came first, if one did.
    /// \throws ValueError for a negative chunksize; 0 gives each worker about four chunks.
    template <class F, class Range>
    auto map(F&& f, Range&& range, int chunksize = 0) {
        return map_now<false, false>(std::forward<F>(f), std::forward<Range>(range), chunksize);
    }
    template <class F, class T>
    auto map(F&& f, std::initializer_list<T> items, int chunksize = 0) {
        return map_now<false, false>(std::forward<F>(f), items, chunksize);
    }
    template <class F, class Range>
    auto map(MapOptions options, F&& f, Range&& range) {
        return now(
            with(options, make_map<false, false, true>(
                              std::forward<F>(f), std::forward<Range>(range), options.chunksize)),
            options.progress);
    }
    template <class F, class T>
    auto map(MapOptions options, F&& f, std::initializer_list<T> items) {
        return now(with(options,
                        make_map<false, false, true>(std::forward<F>(f), items, options.chunksize)),
                   options.progress);
    }

    /// Does what `map` does later; returns an `AsyncResult<std::vector<R>>` (`AsyncResult<void>`).
    template <class F, class Range, class Callback = std::nullopt_t,
              class ErrorCallback = std::nullopt_t>
    auto map_async(F&& f, Range&& range, int chunksize = 0, Callback callback = std::nullopt,
                   ErrorCallback error_callback = std::nullopt) {
        return later(make_map<false, false, false>(std::forward<F>(f), std::forward<Range>(range),
                                                   chunksize),
                     std::move(callback), std::move(error_callback));
    }
    template <class F, class T, class Callback = std::nullopt_t,
              class ErrorCallback = std::nullopt_t>
    auto map_async(F&& f, std::initializer_list<T> items, int chunksize = 0,
                   Callback callback = std::nullopt, ErrorCallback error_callback = std::nullopt) {
        return later(make_map<false, false, false>(std::forward<F>(f), items, chunksize),
                     std::move(callback), std::move(error_callback));
    }

    template <class F, class Range>
    auto map_async(MapOptions options, F&& f, Range&& range) {
        if (options.progress) {
            throw ValueError(
                "nobody would draw the bar of a map_async: ask its result's progress()");
        }
        return later(
            with(options, make_map<false, false, false>(
                              std::forward<F>(f), std::forward<Range>(range), options.chunksize)));
    }

    /// `map` over tuples (pairs, arrays) of arguments.
    template <class F, class Range>
    auto starmap(F&& f, Range&& range, int chunksize = 0) {
        return map_now<true, false>(std::forward<F>(f), std::forward<Range>(range), chunksize);
    }
    template <class F, class T>
    auto starmap(F&& f, std::initializer_list<T> items, int chunksize = 0) {
        return map_now<true, false>(std::forward<F>(f), items, chunksize);
    }
    template <class F, class Range, class Callback = std::nullopt_t,
              class ErrorCallback = std::nullopt_t>
    auto starmap_async(F&& f, Range&& range, int chunksize = 0, Callback callback = std::nullopt,
                       ErrorCallback error_callback = std::nullopt) {
        return later(
            make_map<true, false, false>(std::forward<F>(f), std::forward<Range>(range), chunksize),
            std::move(callback), std::move(error_callback));
    }
    template <class F, class T, class Callback = std::nullopt_t,
              class ErrorCallback = std::nullopt_t>
    auto starmap_async(F&& f, std::initializer_list<T> items, int chunksize = 0,
                       Callback callback = std::nullopt,
                       ErrorCallback error_callback = std::nullopt) {
        return later(make_map<true, false, false>(std::forward<F>(f), items, chunksize),
                     std::move(callback), std::move(error_callback));
    }

    /// `map` with an `Outcome<R>` for each item: never throws for a task, and a worker's death
    /// costs the item that it had in hand.
    template <class F, class Range>
    auto map_outcome(F&& f, Range&& range, int chunksize = 0) {
        return map_now<false, true>(std::forward<F>(f), std::forward<Range>(range), chunksize);
    }
    template <class F, class T>
    auto map_outcome(F&& f, std::initializer_list<T> items, int chunksize = 0) {
        return map_now<false, true>(std::forward<F>(f), items, chunksize);
    }
    template <class F, class Range>
    auto map_outcome(MapOptions options, F&& f, Range&& range) {
        return now(
            with(options, make_map<false, true, true>(
                              std::forward<F>(f), std::forward<Range>(range), options.chunksize)),
            options.progress);
    }

    /// Returns an `ImapResult<R>`: the results one at a time, in the items' order.
    ///
    /// At most `buffersize` items (0: two chunks a worker) are taken before their results are asked
    /// for. A range that is given away is kept, another one referred to. `join` takes all that is
    /// left. \throws ValueError for a chunksize below 1 or a negative buffersize.
    template <class F, class Range>
    auto imap(F&& f, Range&& range, int chunksize = 1, int buffersize = 0) {
        return make_imap<false, false>(std::forward<F>(f), std::forward<Range>(range), chunksize,
                                       buffersize, true);
    }
    template <class F, class T>
    auto imap(F&& f, std::initializer_list<T> items, int chunksize = 1, int buffersize = 0) {
        return make_imap<false, false>(std::forward<F>(f), std::vector<T>(items), chunksize,
                                       buffersize, true);
    }
    /// The same in the order in which they come.
    template <class F, class Range>
    auto imap_unordered(F&& f, Range&& range, int chunksize = 1, int buffersize = 0) {
        return make_imap<false, false>(std::forward<F>(f), std::forward<Range>(range), chunksize,
                                       buffersize, false);
    }
    template <class F, class T>
    auto imap_unordered(F&& f, std::initializer_list<T> items, int chunksize = 1,
                        int buffersize = 0) {
        return make_imap<false, false>(std::forward<F>(f), std::vector<T>(items), chunksize,
                                       buffersize, false);
    }
    /// `imap` that gives an `Outcome<R>` for each item.
    template <class F, class Range>
    auto imap_outcome(F&& f, Range&& range, int chunksize = 1, int buffersize = 0) {
        return make_imap<true, false>(std::forward<F>(f), std::forward<Range>(range), chunksize,
                                      buffersize, true);
    }
    template <class F, class T>
    auto imap_outcome(F&& f, std::initializer_list<T> items, int chunksize = 1,
                      int buffersize = 0) {
        return make_imap<true, false>(std::forward<F>(f), std::vector<T>(items), chunksize,
                                      buffersize, true);
    }

    /// Accepts no further work; what was accepted is done.
    void close() { core().close(); }
    /// Ends the workers; results that are not there yet are CancelledError. Threads cannot be
    /// stopped: what they run goes on to its end, unheard.
    void terminate() { core().terminate(); }
    /// Waits until the workers have ended and all callbacks have run.
    /// \throws ValueError unless the pool was closed or terminated.
    void join() { core().join(); }

    int processes() const { return core().engine()->processes(); }
    std::vector<WorkerInfo> workers() const {
        core().owner().check("pool");
        return core().engine()->workers();
    }

  protected:
    static constexpr bool sends = P == detail::Passing::bytes;
    // `PoolCore<>`, of which nothing is made before the engine is known.
    using Core = detail::PoolCore<std::void_t<Engine>>;

    explicit BasicPool(PoolOptions options) : core_(make_core(std::move(options))) {}

    Core& core() const {
        if (!core_) { detail::throw_not_running(); }
        return *core_;
    }
    /// Has the workers finish what was accepted, and end, without this object.
    void let_go() noexcept { core_.reset(); }

    template <class F, class... Args>
    auto make_call(F&& f, Args&&... args);
    template <class Options, class Job>
    static Job with(Options& options, Job job);
    template <bool Outcomes, bool Star, class F, class Range>
    auto make_imap(F&& f, Range&& range, int chunksize, int buffersize, bool ordered);
    template <class Job>
    void submit(const std::shared_ptr<Job>& job);

  private:
    static std::shared_ptr<Core> make_core(PoolOptions options);
    void end() noexcept;

    template <class F, class... Args>
    auto make_call_of(F&& f, detail::Arguments<Args...> args);
    template <bool Star, bool Outcomes, bool MayBorrow, class F, class Range>
    auto make_map(F&& f, Range&& range, int chunksize);
    template <class Job>
    auto now(std::shared_ptr<Job> job, bool with_bar = false);
    template <class Job, class Callback = std::nullopt_t, class ErrorCallback = std::nullopt_t>
    auto later(std::shared_ptr<Job> job, Callback callback = std::nullopt,
               ErrorCallback error_callback = std::nullopt);

    template <bool Star, bool Outcomes, class F, class Range>
    auto map_now(F&& f, Range&& range, int chunksize) {
        return now(make_map<Star, Outcomes, true>(std::forward<F>(f), std::forward<Range>(range),
                                                  chunksize));
    }

    std::shared_ptr<Core> core_;  // null when moved from
};

// -------------------------------------------------------------------------------------------------

namespace detail {

/// Draws a bar until the job is done.
template <class Job>
void draw_progress(Job& job) {
    ProgressBar<std::void_t<Job>> bar({}, job.progress().total);
    bool done;
    do {
        done = job.wait(Deadline(std::chrono::milliseconds(50)));
        bar.update(static_cast<double>(job.progress().done) + job.under_way(), job.failures());
    } while (!done);
}

/// The type of what an `AsyncResult` of this job gives.
template <class R>
R result_of(const ResultState<R>&);

/// Refuses to compile what cannot cross to another process, with an explanation.
template <class F, class R, class... Values>
constexpr void check_crossing() {
    check_sendable_callable<F>();
    (check_sendable<Values>(), ...);
    if constexpr (!std::is_void_v<R>) { check_sendable<R>(); }
}

}  // namespace detail

template <class Engine, detail::Passing P>
auto BasicPool<Engine, P>::make_core(PoolOptions given) -> std::shared_ptr<Core> {
    PoolOptions options = detail::complete(std::move(given));
    const std::uint64_t seed = options.seed;
    if constexpr (P == detail::Passing::here) {
        if (options.max_memory != 0) { detail::refuse_to_end_a_thread(); }
    }
    std::shared_ptr<detail::Engine> engine;
    if (options.inline_) {
        engine =
            std::make_shared<detail::InlineEngine<std::void_t<Engine>>>(std::move(options), sends);
    } else {
        engine = std::make_shared<Engine>(std::move(options));
    }
    return std::make_shared<Core>(std::move(engine), seed);
}

template <class Engine, detail::Passing P>
void BasicPool<Engine, P>::end() noexcept {
    if (!core_) { return; }
    if (core_->owner().is_here()) {
        core_->shut_down();
        core_.reset();
    } else {
        // What it holds (threads, processes, locks that were held during the fork) is the parent's:
        // it can be neither used nor destroyed here.
        static_cast<void>(new std::shared_ptr<Core>(std::move(core_)));
    }
}

template <class Engine, detail::Passing P>
template <class F, class... Args>
auto BasicPool<Engine, P>::make_call(F&& f, Args&&... args) {
    using Code = detail::CallCode<std::decay_t<F>, detail::sent_t<Args>...>;
    if constexpr (sends) {
        detail::check_crossing<std::decay_t<F>, typename Code::R, detail::sent_t<Args>...>();
    }
    core().check_running();
    using Kept = std::tuple<detail::call_argument_t<P, Args>...>;
    return std::make_shared<detail::ApplyJob<P, std::decay_t<F>, Kept, detail::sent_t<Args>...>>(
        core().engine(), std::forward<F>(f), std::forward<Args>(args)...);
}

template <class Engine, detail::Passing P>
template <class F, class... Args>
auto BasicPool<Engine, P>::make_call_of(F&& f, detail::Arguments<Args...> args) {
    return std::apply(
        [&](Args&... values) { return make_call(std::forward<F>(f), std::move(values)...); },
        args.values);
}

template <class Engine, detail::Passing P>
template <class Options, class Job>
Job BasicPool<Engine, P>::with(Options& options, Job job) {
    job->limits = detail::limits_of(options);
    job->retries = options.retries;
    if constexpr (P == detail::Passing::here) {
        if (job->limits.any()) { detail::refuse_to_end_a_thread(); }
    }
    if constexpr (std::is_same_v<Options, TaskOptions>) { job->name = std::move(options.name); }
    return job;
}

template <class Engine, detail::Passing P>
template <bool Star, bool Outcomes, bool MayBorrow, class F, class Range>
auto BasicPool<Engine, P>::make_map(F&& f, Range&& range, int chunksize) {
    using namespace detail;
    using Function = std::decay_t<F>;
    using Item = range_item_t<Range>;
    core().check_running();
    const int workers = core().engine()->processes();
    const auto length = [&](std::size_t count) {
        const std::size_t asked = map_chunk_length(chunksize, count, workers);
        // A worker's death costs what is in its hands: one item then.
        return sends && Outcomes ? 1 : asked;
    };
    // What is needed for the length of the call only, or until it has been written, can stay where
    // it is.
    constexpr bool borrows =
        addressable_range<Range> && (MayBorrow || sends) &&
        (std::is_lvalue_reference_v<Range> || std::ranges::view<std::remove_cvref_t<Range>>);
    if constexpr (sends) {
        constexpr MapKind kind{.passing = P, .star = Star, .outcomes = Outcomes};
        using Job = MapJob<kind, Function, const Item>;
        check_crossing<Function, map_item_result_t<kind, Function, const Item>, Item>();
        if constexpr (borrows) {
            const std::size_t count = std::ranges::size(range);
            return std::make_shared<Job>(core().engine(), std::forward<F>(f),
                                         std::ranges::data(range), count, length(count));
        } else {
            auto items = list_items(std::forward<Range>(range));
            const std::size_t count = items.size();
            return std::make_shared<Job>(core().engine(), std::forward<F>(f), std::move(items),
                                         length(count));
        }
    } else if constexpr (borrows) {
        constexpr MapKind kind{.passing = P, .star = Star, .outcomes = Outcomes, .borrowed = true};
        using Element = std::remove_reference_t<std::ranges::range_reference_t<Range>>;
        const std::size_t count = std::ranges::size(range);
        return std::make_shared<MapJob<kind, Function, Element>>(
            core().engine(), std::forward<F>(f), std::ranges::data(range), count, length(count));
    } else {
        constexpr MapKind kind{.passing = P, .star = Star, .outcomes = Outcomes};
        auto items = list_items(std::forward<Range>(range));
        const std::size_t count = items.size();
        return std::make_shared<MapJob<kind, Function, Item>>(core().engine(), std::forward<F>(f),
                                                              std::move(items), length(count));
    }
}

template <class Engine, detail::Passing P>
template <bool Outcomes, bool Star, class F, class Range>
auto BasicPool<Engine, P>::make_imap(F&& f, Range&& range, int chunksize, int buffersize,
                                     bool ordered) {
    using namespace detail;
    using View = std::views::all_t<Range>;
    using Function = std::decay_t<F>;
    using R = item_result_t<Star, false, Function, range_item_t<View>>;
    if constexpr (sends) { check_crossing<Function, R, range_item_t<View>>(); }
    if (chunksize < 1) {
        throw ValueError(detail::text_of("chunksize is {}, and must be 1 or more", {chunksize}));
    }
    if (buffersize < 0) { throw ValueError(detail::text_of("buffersize is {}", {buffersize})); }
    core().check_running();
    ImapPlan plan{
        .chunk_length = static_cast<std::size_t>(chunksize), .ahead = 0, .ordered = ordered};
    if (sends && Outcomes) { plan.chunk_length = 1; }
    plan.ahead = buffersize > 0 ? static_cast<std::size_t>(buffersize)
                                : 2 * plan.chunk_length *
                                      static_cast<std::size_t>(core().engine()->processes());
    plan.chunk_length = std::min(plan.chunk_length, plan.ahead);
    auto job = std::make_shared<ImapJob<P, Star, Function, View>>(core_, plan, std::forward<F>(f),
                                                                  std::forward<Range>(range));
    job->seed = core().next_seed();
    job->begin();
    return ImapResult<R, Outcomes>(std::move(job));
}

template <class Engine, detail::Passing P>
template <class Job>
void BasicPool<Engine, P>::submit(const std::shared_ptr<Job>& job) {
    job->seed = core().next_seed();
    if (job->chunk_count() == 0) {
        job->finish_empty();
    } else {
        core().engine()->submit(job, 0, job->chunk_count());
    }
    if constexpr (sends) { job->release_arguments(); }
}

template <class Engine, detail::Passing P>
template <class Job>
auto BasicPool<Engine, P>::now(std::shared_ptr<Job> job, bool with_bar) {
    job->set_observed();
    job->is_awaited = !with_bar;
    submit(job);
    if (with_bar) { detail::draw_progress(*job); }
    if constexpr (sends) {
        job->wait(detail::Deadline(forever));
    } else {
        job->wait_until_unused();
    }
    return job->take();
}

template <class Engine, detail::Passing P>
template <class Job, class Callback, class ErrorCallback>
auto BasicPool<Engine, P>::later(std::shared_ptr<Job> job, Callback callback,
                                 ErrorCallback error_callback) {
    AsyncResult<decltype(detail::result_of(*job))> result(job);
    // Before it is submitted, so that they cannot come too late.
    if constexpr (!detail::is_none<Callback>) { result.then(std::move(callback)); }
    if constexpr (!detail::is_none<ErrorCallback>) { result.on_error(std::move(error_callback)); }
    submit(job);
    return result;
}

}  // namespace multiprocessing

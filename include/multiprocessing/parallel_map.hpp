// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// One function over many items in processes that are forked for this call.
///
///     auto score = [&](const Document& document) { return model.score(document); };
///     std::vector<double> scores = mp::parallel_map(score, documents, {.processes = 4});
///
/// The workers see the caller's memory as it is at the time of the call: the function may capture
/// anything by reference, and items need not be sendable. What they change is theirs; only results
/// come back, and these must be sendable. For many calls a `Pool` is cheaper.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/pool/basic_pool.hpp>
#include <multiprocessing/pool/process_engine.hpp>

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <ranges>
#include <type_traits>
#include <utility>

namespace multiprocessing {

struct ParallelMapOptions {
    int processes = 0;  ///< how many workers; 0: `process_cpu_count()`
    int chunksize = 0;  ///< items handed over at a time; 0: a quarter of a worker's share
};

/// Returns the results of `f` for each item as a `std::vector<R>`, or nothing when `f` returns
/// nothing. Ends when all chunks have ended; then throws the error that came first, if one did.
/// \throws ValueError for a negative option; WorkerDiedError when a worker died; what `f` threw.
/// \cost the fork of this process, once.
template <class F, class Range>
auto parallel_map(F&& f, Range&& range, ParallelMapOptions options = {});
template <class F, class T>
auto parallel_map(F&& f, std::initializer_list<T> items, ParallelMapOptions options = {}) {
    return parallel_map(std::forward<F>(f), std::ranges::subrange(items), options);
}

// -------------------------------------------------------------------------------------------------

namespace detail {

/// Runs a job whose arguments are found by their addresses: its workers are forked now that it
/// exists.
template <class Job>
auto run_forked(const std::shared_ptr<Job>& job, int processes) {
    struct Ended {
        PoolCore<std::void_t<Job>> core;
        ~Ended() { core.shut_down(); }
    };
    job->set_observed();
    if (job->chunk_count() == 0) {
        job->finish_empty();
    } else {
        const auto workers = std::min(static_cast<std::size_t>(processes), job->chunk_count());
        const auto engine = std::make_shared<ProcessEngine<std::void_t<Job>>>(
            PoolOptions{.processes = static_cast<int>(workers)});
        Ended pool{PoolCore<std::void_t<Job>>(engine)};
        job->attach(engine);
        engine->submit(job, 0, job->chunk_count());
        job->wait(Deadline(forever));
        // They end of themselves, and so write what they have printed.
        pool.core.close();
        pool.core.join();
    }
    return job->take();
}

}  // namespace detail

template <class F, class Range>
auto parallel_map(F&& f, Range&& range, ParallelMapOptions options) {
    using namespace detail;
    using Function = std::remove_reference_t<F>;
    const int processes = complete(PoolOptions{.processes = options.processes}).processes;
    const auto length = [&](std::size_t count) {
        return map_chunk_length(options.chunksize, count, processes);
    };
    if constexpr (addressable_range<Range>) {
        using Element = std::remove_reference_t<std::ranges::range_reference_t<Range>>;
        constexpr MapKind kind{.passing = Passing::address, .borrowed = true};
        using R = map_item_result_t<kind, Function, Element>;
        if constexpr (!std::is_void_v<R>) { check_sendable<R>(); }
        const std::size_t count = std::ranges::size(range);
        return run_forked(std::make_shared<MapJob<kind, Function, Element>>(
                              nullptr, &f, std::ranges::data(range), count, length(count)),
                          processes);
    } else {
        using Item = range_item_t<Range>;
        constexpr MapKind kind{.passing = Passing::address};
        using R = map_item_result_t<kind, Function, Item>;
        if constexpr (!std::is_void_v<R>) { check_sendable<R>(); }
        auto items = list_items(std::forward<Range>(range));
        const std::size_t count = items.size();
        return run_forked(std::make_shared<MapJob<kind, Function, Item>>(
                              nullptr, &f, std::move(items), length(count)),
                          processes);
    }
}

}  // namespace multiprocessing

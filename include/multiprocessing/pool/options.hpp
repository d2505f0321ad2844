// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What a pool, a task and a `map` can be told, and what a pool tells of itself.
///
///     mp::Pool pool({.processes = 4, .initializer = open_database, .maxtasksperchild = 100});
///     for (const mp::WorkerInfo& worker : pool.workers()) { fmt::print("{}\n", worker.pid); }
///
/// Mirrors the keyword arguments of `multiprocessing.Pool`.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/pool/limits.hpp>
#include <multiprocessing/timeout.hpp>

#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace multiprocessing {

/// What becomes of a pool one of whose workers dies.
enum OnWorkerDeath {
    replace_worker,  ///< the task that it ran is lost
    break_pool,      ///< every task is, with BrokenProcessPool, and no more is taken: Python's way
};

/// How a pool is made.
struct PoolOptions {
    int processes = 0;                       ///< how many workers; 0: `process_cpu_count()`
    std::function<void()> initializer = {};  ///< runs in each worker before its first task
    int maxtasksperchild = 0;      ///< a worker is replaced after so many chunks; 0: never
    std::string name = {};         ///< what its workers are called; "" for a name of ours
    std::uint64_t max_memory = 0;  ///< bytes that a worker may hold; 0: no bound
    bool inline_ = false;          ///< no workers: the caller runs each task, to debug it
    bool pin_cpus = false;      ///< each worker stays on a processor of its own, as far as they go
    bool limit_threads = true;  ///< numerical libraries in a worker get its share of processors
    std::uint64_t seed = 0;     ///< what `task_seed()` is made from
    OnWorkerDeath on_worker_death = replace_worker;
    /// Back-pressure: who submits more waits, but for callbacks and tasks, which make the room, and
    /// `imap`, which has its `buffersize`. How
    /// many chunks may wait and run, and how many bytes their arguments may take in worker
    /// processes (one chunk may always); 0: no bound.
    std::size_t max_pending = 0;
    std::uint64_t max_pending_bytes = 0;
};

/// How one task is run.
struct TaskOptions {
    Timeout timeout = forever;     ///< how long it may run: its worker is killed, and replaced
    int retries = 0;               ///< how often it is run again when its worker died
    std::string name = {};         ///< what reports of its failure call it
    std::uint64_t max_memory = 0;  ///< bytes that its worker may hold meanwhile; 0: no bound
    Timeout cpu_time = forever;    ///< how much of the processors it may use
};

/// How the items of one `map` are run.
struct MapOptions {
    bool progress = false;      ///< a bar on stderr
    int chunksize = 0;          ///< items handed over at a time; 0: a quarter of a worker's share
    Timeout timeout = forever;  ///< how long each item may run
    int retries = 0;            ///< how often a chunk is run again when its worker died
    std::uint64_t max_memory = 0;  ///< bytes that a worker may hold meanwhile; 0: no bound
    Timeout cpu_time = forever;    ///< how much of the processors each item may use
};

/// How far a job has come, in items.
struct Progress {
    std::size_t done, total;
};

enum class WorkerState { starting, idle, busy };

/// One worker at the moment of asking.
struct WorkerInfo {
    pid_t pid = 0;  ///< of the process; of the kernel's thread in a `ThreadPool`
    WorkerState state = WorkerState::starting;
    std::uint64_t tasks_done = 0;  ///< chunks
    std::uint64_t memory = 0;      ///< resident bytes; 0 where it is not known
};

// -------------------------------------------------------------------------------------------------

namespace detail {

[[noreturn]] inline void refuse_to_end_a_thread() {
    throw ValueError(
        "a thread cannot be ended in the middle: bounds are for the tasks of a `Pool`, not of a "
        "`ThreadPool`");
}

/// Throws for what is wrong or what this version cannot do.
inline void check_options(const PoolOptions& options) {
    if (options.processes < 0) {
        throw ValueError(
            text_of("a pool of {} processes; 0 stands for the default", {options.processes}));
    }
    if (options.maxtasksperchild < 0) {
        throw ValueError(text_of("maxtasksperchild is {}", {options.maxtasksperchild}));
    }
}

/// Returns the bounds that `options` set; \throws ValueError for one that no task can keep.
template <class Options>
TaskLimits limits_of(const Options& options) {
    const auto bound = [](Timeout timeout, std::string_view what) {
        if (timeout.is_infinite()) { return std::chrono::nanoseconds(0); }
        if (timeout.is_zero()) {
            throw ValueError(text_of("a {} that is over before the task begins", {what}));
        }
        return timeout.duration();
    };
    if (options.retries < 0) { throw ValueError(text_of("retries is {}", {options.retries})); }
    return {.run_time = bound(options.timeout, "timeout"),
            .cpu_time = bound(options.cpu_time, "cpu_time"),
            .memory = options.max_memory};
}

}  // namespace detail
}  // namespace multiprocessing

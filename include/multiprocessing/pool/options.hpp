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
#include <multiprocessing/timeout.hpp>

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace multiprocessing {

/// How a pool is made.
struct PoolOptions {
    int processes = 0;                       ///< how many workers; 0: `process_cpu_count()`
    std::function<void()> initializer = {};  ///< runs in each worker before its first task
    int maxtasksperchild = 0;      ///< a worker is replaced after so many chunks; 0: never
    std::string name = {};         ///< what its workers are called; "" for a name of ours
    std::uint64_t max_memory = 0;  ///< bytes that a worker may hold; 0: no bound
};

/// How one task is run.
struct TaskOptions {
    Timeout timeout = forever;  ///< how long it may run
    int retries = 0;            ///< how often it is run again when its worker died
    std::string name = {};      ///< what reports of its failure call it
};

/// How the items of one `map` are run.
struct MapOptions {
    bool progress = false;      ///< a bar on stderr
    int chunksize = 0;          ///< items handed over at a time; 0: a quarter of a worker's share
    Timeout timeout = forever;  ///< how long each item may run
    int retries = 0;            ///< how often an item is run again when its worker died
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

[[noreturn]] inline void refuse_option(std::string_view option) {
    throw ProcessError(text_of("`{}` is not supported yet", {option}));
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
    if (options.max_memory != 0) { refuse_option("max_memory"); }
}

inline void check_limits(Timeout timeout, int retries) {
    if (retries < 0) { throw ValueError(text_of("retries is {}", {retries})); }
    if (!timeout.is_infinite()) { refuse_option("timeout"); }
    if (retries != 0) { refuse_option("retries"); }
}

inline void check_options(const TaskOptions& options) {
    check_limits(options.timeout, options.retries);
}

inline void check_options(const MapOptions& options) {
    check_limits(options.timeout, options.retries);
    if (options.progress) { refuse_option("progress"); }
}

}  // namespace detail
}  // namespace multiprocessing

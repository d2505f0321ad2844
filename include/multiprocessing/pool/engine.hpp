// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What a pool's typed front and the engine that runs its tasks know of each other.
///
/// A front makes a `Job` for each call of `apply`, `map` or `imap`: a number of items, cut into
/// chunks. A chunk is what an engine runs at a time; engines know neither callables nor values.
/// Worker processes, threads and other machines are engines, and the front is written once.
///
///     front                      engine
///     engine.submit(job, 0, n)   run_here(chunk)                 if it is in this process
///                                encode, code() -> completed     if it sends
///                                failed(chunk, item, why)        its own verdict
///     engine.wait(job, ...)      until the job has what the caller wants
///
/// For each chunk that it accepted an engine calls exactly one of `run_here`, `completed` and
/// `failed`, whatever happens; after a `terminate` also `failed` for what is in `run_here` at the
/// time.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/pool/limits.hpp>
#include <multiprocessing/pool/options.hpp>
#include <multiprocessing/pool/task_scope.hpp>
#include <multiprocessing/serialize/archive.hpp>
#include <multiprocessing/timeout.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace multiprocessing::detail {

/// Runs one chunk: reads the callable and the arguments, writes what came of them.
///
/// `results` is empty at first. What leaves the function is the verdict on the chunk: an engine
/// takes it to the other side and calls `Job::failed`; what was written is void then. `SystemExit`
/// ends the worker, as `exit()` does.
using RunFunction = void (*)(Reader& arguments, Writer& results, TaskScope& scope);

/// A question that is asked again and again; refers to a callable that lives longer.
class Predicate {
  public:
    template <class F>
    explicit Predicate(F& f) noexcept
        : object_(&f),
          ask_([](void* object) { return static_cast<bool>((*static_cast<F*>(object))()); }) {}
    bool operator()() const { return ask_(object_); }

  private:
    void* object_;
    bool (*ask_)(void*);
};

/// A number of items, cut into chunks, as an engine sees it.
/// \safety threads: different chunks may be completed at once. Nothing here is called with an
/// engine's lock
///     held, since all but the plain questions may run user code (serialisation, callbacks), and
///     that may call the engine again: `submit`, `wait`, `cancel`, `close`, `terminate`.
class Job : public std::enable_shared_from_this<Job> {
  public:
    Job() = default;
    Job(const Job&) = delete;
    Job& operator=(const Job&) = delete;
    virtual ~Job() = default;

    /// What each of its items may use, and how often a chunk is run again whose worker died; set
    /// before it is submitted.
    TaskLimits limits;
    int retries = 0;
    /// What errors call it; "" for no name.
    std::string name;
    /// What a trace calls it: the name, else the function's; where there is a trace.
    std::string trace_name;
    /// What `task_seed()` of its items begins with.
    std::uint64_t seed = 0;
    /// Its function takes a `std::stop_token`, and has a moment to follow it when it is cancelled.
    bool takes_stop_token = false;
    /// Who submits its chunks bounds how many there are: an engine that is full takes them.
    bool is_paced = false;
    /// Who submits it waits for it at once.
    bool is_awaited = false;

    /// Tells whether nobody but who waits for it is told of its end.
    virtual bool is_quiet() const noexcept = 0;
    /// Returns what its function is called, as far as that is known.
    virtual std::string function_name() const { return "task"; }
    /// Returns how many items the chunk has; at least 1.
    virtual std::size_t chunk_size(std::size_t chunk) const = 0;
    /// Returns the index in its range of the chunk's first item; for `WorkerDiedError::task_index`.
    virtual std::size_t first_item(std::size_t chunk) const = 0;

    /// Returns what runs a chunk: one address in every fork of this image.
    virtual RunFunction code() const = 0;
    /// Writes the callable and the arguments of the chunk. Called by the thread that is in
    /// `Engine::submit`, before that returns: they may be gone, or be changed, afterwards.
    /// What it throws becomes the chunk's verdict (`failed`), and the next chunk follows.
    virtual void encode(std::size_t chunk, Writer& out) = 0;
    /// Takes what `code()` wrote. What is wrong with the bytes becomes the chunk's error.
    virtual void completed(std::size_t chunk, Reader& results) noexcept = 0;

    /// Runs the chunk in the calling thread and keeps what comes of it; nothing is serialised.
    virtual void run_here(std::size_t chunk) noexcept = 0;

    /// Takes the engine's verdict: the worker died at `item` (counted in the chunk), the arguments
    /// could not be written, the pool was terminated (`CancelledError`) or is broken
    /// (`broken_pool_error`). \returns whether it is the chunk's verdict: false when the chunk had
    /// one already, as a `run_here` may have ended meanwhile.
    virtual bool failed(std::size_t chunk, std::size_t item, std::exception_ptr error) noexcept = 0;

    /// Sleeps until `there` is true or the deadline is over, and returns what it then is; something
    /// of the job changes hands with each `completed`, `failed` and `run_here`. For `Engine::wait`.
    virtual bool sleep_until(Predicate there, const Deadline& deadline) = 0;
};

/// What runs chunks.
///
/// Its descendants and what they consist of are templates for no other reason than this: a program
/// that includes the pool and makes none does not pay for their compilation.
/// \safety threads. After a `fork` it is the parent's: the front neither calls nor destroys it in a
/// child.
class Engine {
  public:
    Engine() = default;
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;
    /// Is called after `terminate` and `join`, or after `close` and `linger`, and by any thread: a
    /// result's handle may be the last to go.
    virtual ~Engine() = default;

    /// Takes chunks [first, first + count) of the job, behind what is there already. A job may come
    /// again with further chunks. Does not wait for workers, unless `max_pending` says so. \throws
    /// ValueError
    /// (`throw_not_running`) after `close` or `terminate`, BrokenProcessPool when it
    ///     cannot go on; then none of the chunks was taken.
    virtual void submit(const std::shared_ptr<Job>& job, std::size_t first, std::size_t count) = 0;

    /// What `cancel` takes back.
    enum class Reach {
        waiting,      ///< what has not begun
        running_too,  ///< and what runs, where that can be ended
    };
    /// Takes back chunks of the job, with `failed(chunk, 0, CancelledError)`. \returns how many.
    virtual std::size_t cancel(Job& job, Reach reach) = 0;
    /// Takes back everything that has not begun. \returns how many chunks.
    virtual std::size_t cancel_waiting() = 0;
    /// Tells whether a chunk of the job runs.
    virtual bool is_running(const Job& job) const = 0;

    /// Waits until `there` is true or the deadline is over; returns what it then is. `there` is
    /// cheap, takes no lock, and may be asked by several threads, but only while this call lasts.
    /// An engine may put the caller to work meanwhile. It must get on when the caller is one of its
    /// own threads, or is in a callback that it called.
    virtual bool wait(Job& job, Predicate there, const Deadline& deadline) {
        return job.sleep_until(there, deadline);
    }

    /// Accepts nothing further; what was accepted is run. May be called again.
    virtual void close() = 0;
    /// Ends the workers and fails what has no result. May be called again, and after `close`.
    virtual void terminate() = 0;
    /// Waits for the end of the workers; `close` or `terminate` has been called. All results have
    /// been delivered and all callbacks have run when it returns. May be called again.
    virtual void join() = 0;

    /// Returns what the running task of the job says of how far it has come; nothing if it says
    /// nothing.
    virtual std::optional<Progress> reported(const Job& /*job*/) const { return std::nullopt; }
    /// Returns how much has been done of the chunks that run, in items.
    virtual double under_way(const Job& /*job*/) const { return 0; }

    /// Has the end of the program wait for what was accepted, instead of ending the workers.
    virtual void linger() {}
    /// Ends the workers, with SIGKILL if `at_once`; what has no result fails with
    /// BrokenProcessPool.
    virtual void break_off(bool /*at_once*/) { terminate(); }
    /// Tells whether the calling thread is one that `wait` must put to work.
    virtual bool is_own_thread() const { return false; }

    /// Returns how many workers it is meant to have.
    virtual int processes() const noexcept = 0;
    /// Returns the workers that it has.
    virtual std::vector<WorkerInfo> workers() const = 0;
};

/// Decides when initializers that fail break the pool: when as many in a row failed as there are
/// workers, so that no worker can have got through; one that failed once only does not. \safety one
/// thread at a time.
class InitializerBreaker {
  public:
    explicit InitializerBreaker(int processes) noexcept : limit_(processes < 2 ? 2 : processes) {}

    void succeeded() noexcept { in_a_row_ = 0; }
    /// Returns whether the pool is broken by this failure.
    bool failed() noexcept { return ++in_a_row_ >= limit_; }

  private:
    int limit_;
    int in_a_row_ = 0;
};

/// Returns the `BrokenProcessPool` that every task gets whose pool's initializer fails with
/// `cause`, which is nested in it (`std::rethrow_if_nested`).
template <class Lazy = void>
std::exception_ptr broken_pool_error(std::exception_ptr cause);

[[noreturn]] inline void throw_not_running() { throw ValueError("Pool not running"); }

// -------------------------------------------------------------------------------------------------

template <class Lazy>
std::exception_ptr broken_pool_error(std::exception_ptr cause) {
    std::string text = "something that is no std::exception";
    try {
        std::rethrow_exception(cause);
    } catch (const std::exception& error) { text = error.what(); } catch (...) {
        // Named above; it stays nested.
    }
    try {
        try {
            std::rethrow_exception(cause);
        } catch (...) {
            std::throw_with_nested(
                BrokenProcessPool(text_of("the initializer fails in every worker: {}", {text})));
        }
    } catch (...) { return std::current_exception(); }
}

}  // namespace multiprocessing::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Start methods: how a child comes to be.
///
///     mp::set_start_method("fork");            // for the whole program
///
///     const auto ctx = mp::get_context("fork");  // for what is made through it
///     auto queue = ctx.Queue<int>();
///     auto process = ctx.Process(produce, queue);
///
/// Mirrors `multiprocessing.get_start_method` and its kin, and `multiprocessing.context`. This
/// version has `fork`; asking for `spawn` or `forkserver` is an error that says so.

#include <multiprocessing/connection.hpp>
#include <multiprocessing/errors.hpp>
#include <multiprocessing/logging.hpp>
#include <multiprocessing/pool.hpp>
#include <multiprocessing/process.hpp>
#include <multiprocessing/queues.hpp>
#include <multiprocessing/sharedctypes.hpp>
#include <multiprocessing/synchronize.hpp>

#include <atomic>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <optional>
#include <ranges>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace multiprocessing {

/// Makes a program ready for start methods that run its image anew; the first line of `main`.
///
/// With `fork` there is nothing to do: the call is there so that a program need not change later.
inline void freeze_support() {}

/// Returns the start methods that this version has, the default first.
inline std::vector<std::string> get_all_start_methods() { return {"fork"}; }

/// Returns the start method of this program, and settles it if nobody has.
std::string get_start_method();

/// Settles the start method, once.
/// \throws ValueError when it is unknown; ProcessError when it has been settled (unless `force`),
/// and when
///         this version does not have it.
void set_start_method(std::string_view method, bool force = false);

/// The library with a start method of its own. What it makes are the ordinary classes, by value.
/// \safety immutable.
class Context {
  public:
    std::string get_start_method() const { return "fork"; }
    Context get_context() const { return *this; }
    /// \throws ValueError when the method is another than its own.
    Context get_context(std::string_view method) const;
    /// \throws ValueError always: a context is for one method.
    void set_start_method(std::string_view method, bool force = false) const;

    // All are templates, so that a program pays for the compilation of what it makes.
    template <class... Args>
    multiprocessing::Process Process(Args&&... args) const {
        return multiprocessing::Process(std::forward<Args>(args)...);
    }
    template <class F, class... Args>
    multiprocessing::Process Process(ProcessOptions options, F&& target, Args&&... args) const {
        return multiprocessing::Process(std::move(options), std::forward<F>(target),
                                        std::forward<Args>(args)...);
    }
    template <class Lazy = void>
    multiprocessing::Pool Pool(int processes = 0) const {
        return multiprocessing::Pool(processes);
    }
    template <class Lazy = void>
    multiprocessing::Pool Pool(PoolOptions options) const {
        return multiprocessing::Pool(std::move(options));
    }

    template <class T>
    multiprocessing::Queue<T> Queue(std::size_t maxsize = 0) const {
        return multiprocessing::Queue<T>(maxsize);
    }
    template <class T>
    multiprocessing::JoinableQueue<T> JoinableQueue(std::size_t maxsize = 0) const {
        return multiprocessing::JoinableQueue<T>(maxsize);
    }
    template <class T>
    multiprocessing::SimpleQueue<T> SimpleQueue() const {
        return multiprocessing::SimpleQueue<T>();
    }
    template <class Lazy = void>
    std::pair<Connection, Connection> Pipe(bool duplex = true) const {
        return multiprocessing::Pipe(duplex);
    }

    template <class Lazy = void>
    multiprocessing::Lock Lock(LockOptions options = {}) const {
        return multiprocessing::Lock(std::move(options));
    }
    template <class Lazy = void>
    multiprocessing::RLock RLock(LockOptions options = {}) const {
        return multiprocessing::RLock(std::move(options));
    }
    template <class Lazy = void>
    multiprocessing::Semaphore Semaphore(long long value = 1, SemaphoreOptions options = {}) const {
        return multiprocessing::Semaphore(value, options);
    }
    template <class Lazy = void>
    multiprocessing::BoundedSemaphore BoundedSemaphore(long long value = 1,
                                                       SemaphoreOptions options = {}) const {
        return multiprocessing::BoundedSemaphore(value, options);
    }
    /// With an RLock of its own, or with the lock that is given.
    template <class... LockType>
    multiprocessing::Condition Condition(LockType... lock) const {
        return multiprocessing::Condition(std::move(lock)...);
    }
    template <class Lazy = void>
    multiprocessing::Event Event() const {
        return {};
    }
    template <class Lazy = void>
    multiprocessing::Barrier Barrier(int parties, std::function<void()> action = {},
                                     Timeout timeout = forever) const {
        return multiprocessing::Barrier(parties, std::move(action), timeout);
    }

    template <class T, class... Lock>
    multiprocessing::Value<T> Value(T value, Lock... lock) const {
        return multiprocessing::Value<T>(std::move(value), std::move(lock)...);
    }
    template <class T>
    multiprocessing::RawValue<T> RawValue(T value) const {
        return multiprocessing::RawValue<T>(std::move(value));
    }
    template <class T>
    multiprocessing::Array<T> Array(std::size_t size, bool lock = true) const {
        return multiprocessing::Array<T>(size, lock);
    }
    template <class T, std::ranges::input_range R>
    multiprocessing::Array<T> Array(R&& values) const {
        return multiprocessing::Array<T>(std::forward<R>(values));
    }
    template <class T>
    multiprocessing::Array<T> Array(std::initializer_list<T> values) const {
        return multiprocessing::Array<T>(values);
    }
    template <class T>
    multiprocessing::RawArray<T> RawArray(std::size_t size) const {
        return multiprocessing::RawArray<T>(size);
    }
    template <class T, std::ranges::input_range R>
    multiprocessing::RawArray<T> RawArray(R&& values) const {
        return multiprocessing::RawArray<T>(std::forward<R>(values));
    }
    template <class T>
    multiprocessing::RawArray<T> RawArray(std::initializer_list<T> values) const {
        return multiprocessing::RawArray<T>(values);
    }

    CurrentProcess current_process() const { return multiprocessing::current_process(); }
    template <class Lazy = void>
    std::optional<ParentProcess> parent_process() const {
        return multiprocessing::parent_process();
    }
    template <class Lazy = void>
    std::vector<ChildProcess> active_children() const {
        return multiprocessing::active_children();
    }
    int cpu_count() const { return multiprocessing::cpu_count(); }
    int process_cpu_count() const { return multiprocessing::process_cpu_count(); }
    Logger& get_logger() const { return multiprocessing::get_logger(); }
    void log_to_stderr(LogLevel level = LogLevel::notset) const {
        multiprocessing::log_to_stderr(level);
    }
};

/// Returns the library with that start method; with the program's, which is settled by the call,
/// when none is named.
/// \throws ValueError when it is unknown; ProcessError when this version does not have it.
Context get_context(std::string_view method = {});

// -------------------------------------------------------------------------------------------------

namespace detail {

inline std::atomic<bool>& start_method_is_settled() {
    static std::atomic<bool> settled{false};
    return settled;
}

/// \throws ValueError when there is no such start method.
inline void check_start_method(std::string_view method) {
    if (method != "fork" && method != "spawn" && method != "forkserver") {
        throw ValueError(text_of("cannot find a start method \"{}\"", {method}));
    }
}

/// \throws ProcessError when this version does not have it.
inline void check_has_start_method(std::string_view method) {
    if (method != "fork") {
        throw ProcessError(text_of("this version has no start method \"{}\"", {method}));
    }
}

}  // namespace detail

inline std::string get_start_method() {
    detail::start_method_is_settled().store(true);
    return "fork";
}

inline void set_start_method(std::string_view method, bool force) {
    detail::check_start_method(method);
    if (detail::start_method_is_settled().exchange(true) && !force) {
        throw ProcessError("the start method has already been set");
    }
    detail::check_has_start_method(method);
}

inline Context get_context(std::string_view method) {
    if (method.empty()) {
        get_start_method();
    } else {
        detail::check_start_method(method);
        detail::check_has_start_method(method);
    }
    return {};
}

inline Context Context::get_context(std::string_view method) const {
    if (method != get_start_method()) {
        throw ValueError(detail::text_of("a context of \"{}\" cannot give one of \"{}\"",
                                         {get_start_method(), method}));
    }
    return *this;
}

inline void Context::set_start_method(std::string_view method, bool) const {
    throw ValueError(detail::text_of("a context of \"{}\" cannot be set to \"{}\"",
                                     {get_start_method(), method}));
}

}  // namespace multiprocessing

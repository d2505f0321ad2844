// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Start methods: how a child comes to be.
///
///     int main() {
///         mp::freeze_support();                      // the first line, for all but "fork"
///         mp::set_start_method("spawn");             // for the whole program
///
///         const auto ctx = mp::get_context("fork");  // for what is made through it
///         auto queue = ctx.Queue<int>();
///         auto process = ctx.Process(produce, queue);
///
/// `fork` copies this process as it is: nothing need be sent, and what other threads had locked
/// stays locked. `spawn` runs a fresh image of the program; `forkserver` forks one that was set
/// aside. There the target and its arguments are sent, and global variables have the values that
/// the program starts with.
///
/// Mirrors `multiprocessing.get_start_method` and its kin, and `multiprocessing.context`.

#include <multiprocessing/connection.hpp>
#include <multiprocessing/errors.hpp>
#include <multiprocessing/logging.hpp>
#include <multiprocessing/pool.hpp>
#include <multiprocessing/process.hpp>
#include <multiprocessing/process/start_method.hpp>
#include <multiprocessing/queues.hpp>
#include <multiprocessing/sharedctypes.hpp>
#include <multiprocessing/spawn/forkserver.hpp>
#include <multiprocessing/spawn/spawn.hpp>
#include <multiprocessing/synchronize.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
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
/// In an image that was started for a child this is where the child runs: it does not return. What
/// stands before it runs in every child.
template <class Lazy = void>
void freeze_support() {
    detail::StartMethods::spawn.store(&detail::start_by_spawn<Lazy>);
    detail::StartMethods::forkserver.store(&detail::start_by_forkserver<Lazy>);
    detail::become_spawned_child<Lazy>();
}

/// Has "spawn" execute another file than this program's own: one of which the program is a copy,
/// say below another path. \throws ValueError when the path is empty.
void set_executable(const std::filesystem::path& path);

/// Returns the start methods that this version has, the default first.
inline std::vector<std::string> get_all_start_methods() { return {"fork", "spawn", "forkserver"}; }

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
    explicit Context(detail::StartKind kind = detail::StartKind::fork) noexcept : kind_(kind) {}

    std::string get_start_method() const {
        return detail::start_kind_names[static_cast<std::size_t>(kind_)];
    }
    Context get_context() const { return *this; }
    /// \throws ValueError when the method is another than its own.
    Context get_context(std::string_view method) const;
    /// \throws ValueError always: a context is for one method.
    void set_start_method(std::string_view method, bool force = false) const;

    // All are templates, so that a program pays for the compilation of what it makes.
    template <class... Args>
    multiprocessing::Process Process(Args&&... args) const {
        return multiprocessing::Process(ProcessOptions{.start_method = get_start_method()},
                                        std::forward<Args>(args)...);
    }
    template <class... Args>
    multiprocessing::Process Process(ProcessOptions options, Args&&... args) const {
        options.start_method = get_start_method();
        return multiprocessing::Process(std::move(options), std::forward<Args>(args)...);
    }
    template <class Lazy = void>
    multiprocessing::Pool Pool(int processes = 0) const {
        return Pool(PoolOptions{.processes = processes});
    }
    template <class Lazy = void>
    multiprocessing::Pool Pool(PoolOptions options) const {
        if (kind_ != detail::StartKind::fork) {
            throw ProcessError(detail::text_of(
                "this version's pools fork their workers; a context of \"{}\" cannot make one",
                {get_start_method()}));
        }
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

  private:
    detail::StartKind kind_;
};

/// Returns the library with that start method; with the program's, which is settled by the call,
/// when none is named.
/// \throws ValueError when it is unknown; ProcessError when this version does not have it.
Context get_context(std::string_view method = {});

// -------------------------------------------------------------------------------------------------

inline std::string get_start_method() {
    auto unsettled = detail::StartMethods::unsettled;
    detail::StartMethods::settled.compare_exchange_strong(
        unsettled, static_cast<std::uint8_t>(detail::StartKind::fork));
    return Context(detail::StartMethods::current()).get_start_method();
}

inline void set_start_method(std::string_view method, bool force) {
    const auto kind = static_cast<std::uint8_t>(detail::start_kind(method));
    auto unsettled = detail::StartMethods::unsettled;
    if (force) {
        detail::StartMethods::settled.store(kind);
    } else if (!detail::StartMethods::settled.compare_exchange_strong(unsettled, kind)) {
        throw ProcessError("the start method has already been set");
    }
}

inline Context get_context(std::string_view method) {
    return Context(detail::start_kind(method.empty() ? get_start_method() : std::string(method)));
}

inline void set_executable(const std::filesystem::path& path) {
    if (path.empty()) { throw ValueError("set_executable: the path is empty"); }
    detail::Executable::set(path.string());
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

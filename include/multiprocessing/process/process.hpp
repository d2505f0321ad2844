// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// `Process`: a function that runs in a process of its own.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/fork.hpp>
#include <multiprocessing/process/child.hpp>
#include <multiprocessing/process/fork_child.hpp>
#include <multiprocessing/process/invoke.hpp>
#include <multiprocessing/process/local.hpp>
#include <multiprocessing/process/start_method.hpp>
#include <multiprocessing/serialize/callable.hpp>
#include <multiprocessing/timeout.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>

namespace multiprocessing {

/// How a process is to be; what is left out is as in Python.
struct ProcessOptions {
    std::string name = {};                      ///< "Process-1", "Process-1:2", ... when empty
    std::optional<bool> daemon = std::nullopt;  ///< the creator's own when left out
    /// "fork", "spawn" or "forkserver"; the program's when it is started, if empty.
    std::string start_method = {};
};

namespace detail {

/// A target and its arguments as they are kept.
template <class F, class... Arguments>
class BoundTarget final : public Target {
  public:
    template <class G, class... Given>
    explicit BoundTarget(G&& function, Given&&... arguments)
        : function_(std::forward<G>(function)), arguments_(std::forward<Given>(arguments)...) {}

    void call() override { invoke_with_copies(function_, arguments_); }
    const SpawnEntry& save(Writer& out) const override {
        if constexpr (is_sendable) {
            save_callable(out, function_);
            std::apply([&](const Arguments&... each) { (detail::save(out, each), ...); },
                       arguments_);
            return entry;
        } else {
            refuse();
        }
    }

  private:
    static constexpr bool is_sendable = sendable_callable<F> && (sendable<Arguments> && ...);

    static void run(Reader& in) {
        if constexpr (is_sendable) {
            F function = load_callable<F>(in);
            std::tuple<Arguments...> arguments{detail::load<Arguments>(in)...};
            if (in.remaining() != 0) { refuse_bytes("bytes are left over"); }
            if (in.handles != nullptr) { in.handles->finish(); }
            invoke_with_copies(function, arguments);
        }
    }
    [[noreturn]] static void refuse() {
        if (!sendable_callable<F>) {
            throw SerializationError(
                text_of("the target of a process, a {}, cannot be sent to another image of the "
                        "program: start it by \"fork\", or pass what it captures as arguments",
                        {type_name<F>()}));
        }
        int number = 0;
        std::string_view culprit;
        static_cast<void>(
            ((++number, sendable<Arguments> || (culprit = type_name<Arguments>(), false)) && ...));
        throw SerializationError(
            text_of("argument {} of a process, a {}, cannot be sent to another image of the "
                    "program: start it by \"fork\"",
                    {number, culprit}));
    }

    static constexpr SpawnEntry entry{
        SpawnEntry::right_magic,
        hash_mix(hash_text(type_name<F>()), hash_text(type_name<std::tuple<Arguments...>>())),
        &run};

    F function_;
    std::tuple<Arguments...> arguments_;
};

}  // namespace detail

/// A function that runs in a process of its own, and what its parent can do with that process.
///
/// With `fork` the child gets target and arguments as they are in the parent, captures and
/// move-only values included. To subclass, override `run()`; options go to the base:
/// `mp::Process({.name = "x"})`.
///
/// Dropping a `Process` neither blocks nor kills: a child that still runs is joined when the
/// program ends (`main` returns or `std::exit`), a daemonic one is terminated there.
///
/// \safety `join`, `is_alive`, `exitcode` and the signals may be called from several threads at
/// once; the rest is one thread's. Belongs to the process that made it: elsewhere AssertionError.
/// \cost `start()` is a `fork` and some 10 us.
class Process {
  public:
    /// Prepares a process that calls `target` with copies of `arguments` (a string literal as
    /// `std::string`). They are passed as lvalues of the child's copies, unless a parameter is a
    /// value or an rvalue reference that needs an rvalue.
    template <class F, class... Args>
    requires(!std::is_base_of_v<Process, std::remove_cvref_t<F>> &&
             !std::is_same_v<std::remove_cvref_t<F>,
                             ProcessOptions>) explicit Process(F&& target, Args&&... arguments)
        : Process(ProcessOptions{}, std::forward<F>(target), std::forward<Args>(arguments)...) {}

    /// The same with a name, or daemonic: `mp::Process p({.name = "loader"}, load, path);`
    template <class F, class... Args>
    Process(ProcessOptions options, F&& target, Args&&... arguments) : Process(std::move(options)) {
        static_assert(
            detail::callable_with_copies<std::decay_t<F>, detail::kept_argument_t<Args>...>,
            "multiprocessing::Process: the target cannot be called with copies of these arguments");
        using Bound = detail::BoundTarget<std::decay_t<F>, detail::kept_argument_t<Args>...>;
        target_ =
            std::make_unique<Bound>(std::forward<F>(target), std::forward<Args>(arguments)...);
    }

    /// For subclasses, and for a process that does nothing.
    template <class Lazy = void>
    explicit Process(ProcessOptions options = {});

    Process(Process&&) noexcept = default;
    Process& operator=(Process&&) noexcept = default;
    virtual ~Process() = default;

    /// What the child does: calls the target. Called directly it runs in the caller.
    virtual void run();

    /// Starts the child. At most once.
    /// \throws AssertionError when started before, or made by another process; OSError when the
    /// kernel
    ///         refuses, and then nothing was started.
    void start();

    /// Waits until the child has ended.
    /// \throws AssertionError before `start()`, or in another process.
    void join() { join(forever); }
    /// The same with a bound; true when the child has ended.
    bool join(Timeout timeout) { return child("join").join(timeout); }

    /// Tells whether the child runs; false before `start()`.
    bool is_alive() const;

    /// Asks the child to end (SIGTERM). Nothing happens when it has ended already.
    void terminate() { signal(SIGTERM); }
    /// Ends the child (SIGKILL).
    void kill() { signal(SIGKILL); }
    /// Interrupts the child as Ctrl-C does (SIGINT).
    void interrupt() { signal(SIGINT); }
    /// Ends the child and all its descendants: SIGTERM, and SIGKILL for who is left after `grace`.
    void terminate_tree(Timeout grace = std::chrono::seconds(1)) {
        child("terminate").terminate_tree(grace);
    }

    /// Gives the resources back; the object can then only be asked for its name and daemon flag.
    /// \throws ValueError when the child is still running.
    void close();

    std::string name() const { return name_; }
    void set_name(std::string name);
    bool daemon() const { return daemon_; }
    /// \throws AssertionError after `start()`.
    void set_daemon(bool daemon);

    /// Returns the child's process id; nothing before `start()`.
    std::optional<pid_t> pid() const;
    std::optional<pid_t> ident() const { return pid(); }

    /// Returns 0 for a normal end, 1 for an exception that nobody caught, -SIGNAL when a signal
    /// ended it; nothing while it runs, and nothing when it was killed and somebody else reaped it.
    std::optional<int> exitcode() const;

    /// Returns a descriptor that is readable once the child has ended; see `connection::wait`.
    /// \throws ValueError before `start()`.
    int sentinel() const;

    /// Returns the key with which the child authenticates itself; the creator's unless set.
    std::string authkey() const;
    void set_authkey(std::string key);

  private:
    detail::Child& child(const char* what) const;
    void require_open() const;
    void signal(int number) const;

    std::string name_;
    std::string identity_;
    bool daemon_;
    std::string authkey_;
    std::uint64_t maker_;                          // token of the process that made the object
    std::optional<detail::StartKind> start_kind_;  // the program's if it is nothing
    detail::StartMethod start_by_fork_;       // what a program without a Process does not compile
    std::unique_ptr<detail::Target> target_;  // until the child has it
    std::shared_ptr<detail::Child> child_;    // from start() to close()
    bool runs_here_ = false;  // in the child: the object stands for the process it is in
    bool closed_ = false;
};

// -------------------------------------------------------------------------------------------------

template <class Lazy>
Process::Process(ProcessOptions options)
    : maker_(detail::os::process_token()), start_by_fork_(&detail::start_by_fork<Lazy>) {
    if (!options.start_method.empty()) { start_kind_ = detail::start_kind(options.start_method); }
    detail::LocalProcess& self = detail::LocalProcess::instance();
    identity_ = self.next_child_identity();
    name_ = options.name.empty() ? "Process-" + identity_ : std::move(options.name);
    daemon_ = options.daemon.value_or(self.daemon());
    authkey_ = self.authkey();
}

inline void Process::run() {
    if (target_ != nullptr) { target_->call(); }
}

inline void Process::start() {
    require_open();
    if (child_ != nullptr || runs_here_) {
        throw AssertionError(detail::text_of("cannot start {} twice", {name_}));
    }
    if (maker_ != detail::os::process_token()) {
        throw AssertionError(
            detail::text_of("can only start a process that was made by process {}", {::getpid()}));
    }
    struct Body final : detail::Target {
        explicit Body(Process& started) : process(started) {}
        void call() override {
            process.runs_here_ = true;
            process.run();
        }
        const detail::SpawnEntry& save(detail::Writer& out) const override {
            if (process.target_ == nullptr || typeid(process) != typeid(Process)) {
                throw SerializationError(detail::text_of(
                    "{} is of a class derived from Process, which can be started by \"fork\" only",
                    {process.name_}));
            }
            return process.target_->save(out);
        }
        Process& process;
    } body(*this);
    const bool dies_with_parent = detail::LocalProcess::instance().dies_with_parent();
    const detail::StartMethod method = detail::StartMethods::find(
        start_kind_.value_or(detail::StartMethods::current()), start_by_fork_);
    child_ = method({.name = name_,
                     .identity = identity_,
                     .daemon = daemon_,
                     .dies_with_parent = daemon_ || dies_with_parent,
                     .authkey = authkey_,
                     .start_kind = start_kind_},
                    body);
    target_.reset();  // the child has its own
}

inline void Process::require_open() const {
    if (closed_) { throw ValueError(detail::text_of("process object {} is closed", {name_})); }
}

inline detail::Child& Process::child(const char* what) const {
    require_open();
    if (child_ == nullptr) {
        throw AssertionError(
            runs_here_ ? detail::text_of("cannot {} the current process", {what})
                       : detail::text_of("can only {} a started process: {}", {what, name_}));
    }
    return *child_;
}

inline bool Process::is_alive() const {
    require_open();
    if (runs_here_) { return true; }
    if (maker_ != detail::os::process_token()) {
        throw AssertionError(detail::text_of(
            "can only test a child process: {} is not one of process {}", {name_, ::getpid()}));
    }
    return child_ != nullptr && child_->is_alive();
}

inline void Process::signal(int number) const { child("signal").signal(number); }

inline void Process::close() {
    if (child_ != nullptr) {
        if (child_->is_alive()) {
            throw ValueError(
                detail::text_of("cannot close {} while it is still running: "
                                "call join() or terminate() first",
                                {name_}));
        }
        child_.reset();
    }
    closed_ = true;
}

inline void Process::set_name(std::string name) {
    name_ = std::move(name);
    if (child_ != nullptr) { child_->set_name(name_); }
    if (runs_here_) { detail::LocalProcess::instance().set_name(name_); }
}

inline void Process::set_daemon(bool daemon) {
    require_open();
    if (child_ != nullptr || runs_here_) {
        throw AssertionError(detail::text_of("{} has already started", {name_}));
    }
    daemon_ = daemon;
}

inline std::optional<pid_t> Process::pid() const {
    require_open();
    if (runs_here_) { return ::getpid(); }
    return child_ != nullptr ? std::optional(child_->pid()) : std::nullopt;
}

inline std::optional<int> Process::exitcode() const {
    require_open();
    return child_ != nullptr ? child_->exitcode() : std::nullopt;
}

inline int Process::sentinel() const {
    require_open();
    if (child_ == nullptr) {
        throw ValueError(detail::text_of("{} has not been started", {name_}));
    }
    return child_->sentinel();
}

inline std::string Process::authkey() const {
    require_open();
    return authkey_;
}

inline void Process::set_authkey(std::string key) {
    require_open();
    authkey_ = std::move(key);
    if (runs_here_) { detail::LocalProcess::instance().set_authkey(authkey_); }
}

}  // namespace multiprocessing

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The start method `fork`: a copy of this process that runs one function and ends.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/logging.hpp>
#include <multiprocessing/os/death_pipe.hpp>
#include <multiprocessing/os/standard_error.hpp>
#include <multiprocessing/process/child.hpp>
#include <multiprocessing/process/children.hpp>
#include <multiprocessing/process/forked_child.hpp>
#include <multiprocessing/process/local.hpp>
#include <multiprocessing/process/report.hpp>
#include <multiprocessing/process/start_method.hpp>
#include <multiprocessing/process/streams.hpp>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace multiprocessing::detail {

/// Returns what this process is to a child of its.
inline ParentRecord self_as_parent() {
    const MemberId member = Family::self();
    return {.pid = ::getpid(),
            .birth = os::birth_of(os::pidfd_open(::getpid()), ::getpid()),
            .member = member,
            .name = LocalProcess::instance().name()};
}

/// Says once, to whoever has logging on, that a threaded process forks.
inline void warn_of_threads() {
    static std::atomic<bool> said{false};
    Logger& logger = get_logger();
    if (!logger.is_enabled_for(LogLevel::warning) || said.load()) { return; }
    const auto stat = os::proc_stat(::getpid());
    if (!stat || stat->threads < 2 || said.exchange(true)) { return; }
    logger.log_line(LogLevel::warning,
                    text_of("process {} has {} threads and forks: only the forking one goes on in "
                            "the child, and what the others had locked stays locked there",
                            {::getpid(), stat->threads}));
}

/// Runs `body` in a child and ends it there; does not return.
///
/// The child leaves by `exit`, so that handlers which it registered itself run, and its own end of
/// process (see LocalProcess) ends it before those of its parent would.
template <class Lazy, class Body>
[[noreturn]] void run_child(ChildOptions& options, std::optional<os::DeathPipe<Lazy>>& death,
                            pid_t forked_by, bool by_main_thread, Body& body) noexcept {
    int code = 1;
    bool armed = false;
    bool is_itself = false;  // not its parent any more
    LocalProcess& self = LocalProcess::instance();
    try {
        Children<Lazy>::instance().arm_exit(/*is_child=*/true);
        armed = true;
        if (death) { death->arm(forked_by, by_main_thread); }
        os::redirect_to_null(STDIN_FILENO);
        drop_inherited_text();
        const MemberId parent = options.parent->member;
        self.become(options.name, std::move(options.identity), options.daemon,
                    options.dies_with_parent, std::move(options.authkey),
                    std::move(*options.parent));
        is_itself = true;
        if (options.start_kind) {
            StartMethods::settled.store(static_cast<std::uint8_t>(*options.start_kind));
        }
        Family::set_parent(parent);
        body();
        code = 0;
    } catch (const SystemExit& exit) {
        code = exit.code();
        if (!exit.text().empty()) { os::write_to_stderr(exit.text() + "\n"); }
    } catch (...) {
        flush_standard_streams();
        os::write_to_stderr(
            text_of("Process {}:\n{}", {is_itself ? self.name() : options.name,
                                        describe_exception(std::current_exception())}));
    }
    // Without our own end of process std::exit would run the parent's.
    if (!armed) { ::_exit(code); }
    std::exit(code);
}

/// Forks a child that runs `body()`; returns its record. The child is not among
/// `Children::living` until somebody adds it.
/// \throws OSError when the kernel refuses (no more processes, no memory, no descriptors).
/// \cost a fork; in a process with many touched pages that is most of it.
template <class Body, class Lazy = void>
std::shared_ptr<ForkedChild<Lazy>> fork_child(ChildOptions options, Body body) {
    StartMethods::check_born();
    if (!options.parent) { options.parent = self_as_parent(); }
    warn_of_threads();
    std::optional<os::DeathPipe<Lazy>> death;
    if (options.dies_with_parent) { death.emplace(); }
    // What is buffered now would be written twice, here and by the child.
    flush_standard_streams();
    const pid_t self = ::getpid();
    const bool by_main_thread = os::thread_id() == self;
    const pid_t pid = ::fork();
    if (pid < 0) { throw_os_error(errno, "fork", options.name); }
    if (pid == 0) { run_child<Lazy>(options, death, self, by_main_thread, body); }
    try {
        return std::make_shared<ForkedChild<Lazy>>(
            pid, std::move(options.name), options.daemon,
            death ? death->hold() : typename os::DeathPipe<Lazy>::Holder());
    } catch (...) {
        // No descriptor or no memory left to take note of it: then it was not started either.
        ::kill(pid, SIGKILL);
        os::reap_by_pid(pid);
        throw;
    }
}

/// Starts a child that calls `target`, and adds it to this process's children.
/// \throws OSError as `fork_child`.
template <class Lazy = void>
std::shared_ptr<Child> start_by_fork(ChildOptions options, Target& target) {
    Children<Lazy>& children = Children<Lazy>::instance();
    children.living();  // reaps those that have ended
    children.arm_exit(/*is_child=*/false);
    std::shared_ptr<Child> child = fork_child(std::move(options), [&target] { target.call(); });
    children.add(child);
    return child;
}

}  // namespace multiprocessing::detail

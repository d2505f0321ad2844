// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The start method `fork`: a copy of this process that runs one function and ends.

#include <multiprocessing/os/death_pipe.hpp>
#include <multiprocessing/process/local.hpp>
#include <multiprocessing/process/report.hpp>

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace multiprocessing::detail {

/// How a child is to be.
struct ChildOptions {
    std::string name;
    std::string identity = {};
    bool daemon = false;
    bool dies_with_parent = false;
    std::string authkey = {};
    /// Whom the child takes for its parent, where that is not who forks it.
    std::optional<ParentRecord> parent = std::nullopt;
};

/// Returns what this process is to a child of its.
inline ParentRecord self_as_parent() {
    const MemberId member = Family::self();
    return {.pid = ::getpid(),
            .birth = os::birth_of(os::pidfd_open(::getpid()), ::getpid()),
            .member = member,
            .name = LocalProcess::instance().name()};
}

/// Runs `body` in a child and ends it there; does not return.
///
/// The child leaves by `exit`, so that handlers which it registered itself run, and its own end of
/// process (see LocalProcess) ends it before those of its parent would.
template <class Body>
[[noreturn]] void run_child(ChildOptions& options, std::optional<os::DeathPipe>& death, pid_t forked_by,
                            bool by_main_thread, Body& body) noexcept {
    int code = 1;
    const std::string name = options.name;
    try {
        if (death) { death->arm(forked_by, by_main_thread); }
        os::redirect_to_null(STDIN_FILENO);
        LocalProcess& self = LocalProcess::instance();
        const MemberId parent = options.parent->member;
        self.become(std::move(options.name), std::move(options.identity), options.daemon,
                    options.dies_with_parent, std::move(options.authkey), std::move(*options.parent));
        Family::set_parent(parent);
        self.arm_exit(/*is_child=*/true);
        body();
        code = 0;
    } catch (const SystemExit& exit) {
        code = exit.code();
        if (!exit.text().empty()) { write_to_stderr(exit.text() + "\n"); }
    } catch (...) {
        flush_standard_streams();
        write_to_stderr(fmt::format("Process {}:\n{}", LocalProcess::instance().name(),
                                    describe_exception(std::current_exception())));
    }
    std::exit(code);
}

/// Forks a child that runs `body()`; returns its record. The child is not among
/// `LocalProcess::living_children` until somebody adds it.
/// \throws OSError when the kernel refuses (no more processes, no memory, no descriptors).
/// \cost a fork; in a process with many touched pages that is most of it.
template <class Body>
std::shared_ptr<Child> fork_child(ChildOptions options, Body body) {
    if (!options.parent) { options.parent = self_as_parent(); }
    std::optional<os::DeathPipe> death;
    if (options.dies_with_parent) { death.emplace(); }
    // What is buffered now would be written twice, here and by the child.
    flush_standard_streams();
    const pid_t self = ::getpid();
    const bool by_main_thread = os::thread_id() == self;
    const pid_t pid = ::fork();
    if (pid < 0) { throw_os_error(errno, "fork", options.name); }
    if (pid == 0) { run_child(options, death, self, by_main_thread, body); }
    return std::make_shared<Child>(pid, std::move(options.name), options.daemon,
                                   death ? death->hold() : os::DeathPipe::Holder());
}

}  // namespace multiprocessing::detail

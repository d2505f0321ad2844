// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The start method `spawn`: a fresh image of this program that runs one function and ends.

#include <multiprocessing/connection/socket_channel.hpp>
#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/death_pipe.hpp>
#include <multiprocessing/os/exec.hpp>
#include <multiprocessing/os/process.hpp>
#include <multiprocessing/os/socket.hpp>
#include <multiprocessing/os/standard_error.hpp>
#include <multiprocessing/os/unique_fd.hpp>
#include <multiprocessing/process/children.hpp>
#include <multiprocessing/process/fork_child.hpp>
#include <multiprocessing/process/forked_child.hpp>
#include <multiprocessing/process/start_method.hpp>
#include <multiprocessing/process/streams.hpp>
#include <multiprocessing/spawn/bootstrap.hpp>

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// Which file `spawn` executes.
/// \safety threads; no lock, which a fork might find taken.
class Executable {
  public:
    static void set(const std::string& path) { chosen_.store(new std::string(path)); }  // for good
    /// Returns this program's own unless another was set.
    static std::string get() {
        const std::string* const path = chosen_.load();
        return path != nullptr ? *path : os::own_executable();
    }

  private:
    static inline std::atomic<const std::string*> chosen_{nullptr};
};

/// Tells a child that has just been started who it is.
template <class Lazy = void>
void tell_child(os::UniqueFd socket, const Writer& message, const StartHandles<Lazy>& handles,
                const std::string& program) {
    SocketChannel<Lazy> channel(std::move(socket), /*readable=*/false, /*writable=*/true);
    try {
        static_cast<Channel&>(channel).send({message.view()}, handles.fds());
    } catch (const OSError& error) {
        if (error.code().value() != EPIPE && error.code().value() != ECONNRESET) { throw; }
        throw ProcessError(
            text_of("a process of {} ended before it had read what it is to do: does "
                    "its main begin with multiprocessing::freeze_support()?",
                    {program}));
    }
}

/// Starts a child in an image of its own; it is not among `Children::living` until somebody adds
/// it. \throws SerializationError when target or arguments cannot be sent; OSError when there is no
///     process to be had, or no such executable; ProcessError when the child ended before it had
///     read what it is. Nothing was started then.
template <class Lazy = void>
std::shared_ptr<ForkedChild<Lazy>> spawn_child(ChildOptions options, const Target& target) {
    std::optional<os::DeathPipe<Lazy>> death;
    if (options.dies_with_parent) { death.emplace(); }
    const bool by_main_thread = os::thread_id() == ::getpid();
    Writer message;
    StartHandles<Lazy> handles;
    message.handles = &handles;
    save_bootstrap<Lazy>(message, options, self_as_parent(), death ? &*death : nullptr,
                         by_main_thread, target);
    flush_standard_streams();

    auto [ours, theirs] = os::socketpair();
    // In the child the standard numbers are what they always are.
    if (theirs.get() <= STDERR_FILENO) { theirs = os::duplicate(theirs.get()); }
    const std::string program = Executable::get();
    const pid_t pid =
        os::execute(program, {os::program_name(), "--multiprocessing-child", options.name},
                    StartMethods::child_variable, theirs.get());
    theirs.reset();
    try {
        tell_child(std::move(ours), message, handles, program);
        return std::make_shared<ForkedChild<Lazy>>(
            pid, std::move(options.name), options.daemon,
            death ? death->hold() : typename os::DeathPipe<Lazy>::Holder());
    } catch (...) {
        ::kill(pid, SIGKILL);
        os::reap_by_pid(pid);
        throw;
    }
}

/// Starts a child in an image of its own, and adds it to this process's children. \throws as
/// `spawn_child`.
template <class Lazy = void>
std::shared_ptr<Child> start_by_spawn(ChildOptions options, Target& target) {
    Children<Lazy>& children = Children<Lazy>::instance();
    children.living();  // reaps those that have ended
    children.arm_exit(/*is_child=*/false);
    const auto child = spawn_child(std::move(options), target);
    children.add(child);
    return child;
}

/// Reads who this process is from what came for it, runs it, and ends the process.
template <class Lazy = void>
[[noreturn]] void run_bootstrap(std::vector<std::byte> message, os::Descriptors& descriptors,
                                pid_t started_by) {
    std::optional<Bootstrap<Lazy>> bootstrap;
    try {
        bootstrap.emplace(std::move(message), descriptors);
    } catch (const std::exception& error) {
        os::write_to_stderr(
            text_of("multiprocessing: process {} cannot begin: {}\n", {::getpid(), error.what()}));
        ::_exit(1);
    }
    os::name_this_process(bootstrap->options().name);
    flush_standard_streams();  // what this image has written itself is not its parent's
    auto body = [&] { bootstrap->run(); };
    run_child<Lazy>(bootstrap->options(), bootstrap->death(), started_by,
                    bootstrap->by_main_thread(), body);
}

/// Becomes the child that this image was started for, runs it, and ends the process; does nothing
/// in any other.
template <class Lazy = void>
void become_spawned_child() {
    if (!StartMethods::is_unborn()) { return; }
    os::UniqueFd socket(os::take_child_socket(StartMethods::child_variable));
    os::open_standard_streams();
    const pid_t parent = ::getppid();
    std::vector<std::byte> message;
    os::Descriptors descriptors;
    try {
        SocketChannel<Lazy> channel(std::move(socket), /*readable=*/true, /*writable=*/false);
        message = static_cast<Channel&>(channel).receive(descriptors);
    } catch (const std::exception&) {
        ::_exit(1);  // whoever started it has died, and nobody is there to be told
    }
    run_bootstrap<Lazy>(std::move(message), descriptors, parent);
}

}  // namespace multiprocessing::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The start method `forkserver`: a child is forked from a copy of this program that has one thread
/// and has not come past `freeze_support()`, so it costs the same however big and however threaded
/// its parent is.
///
/// The copy is spawned with the first child, and waits on a socket that nobody else has. A request
/// is the child's bootstrap message, and behind its descriptors one to which the server writes how
/// the child ended, since it is the server's child to the kernel.

#include <multiprocessing/connection/socket_channel.hpp>
#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/death_pipe.hpp>
#include <multiprocessing/os/fork.hpp>
#include <multiprocessing/os/poll.hpp>
#include <multiprocessing/os/process.hpp>
#include <multiprocessing/os/signals.hpp>
#include <multiprocessing/os/socket.hpp>
#include <multiprocessing/os/unique_fd.hpp>
#include <multiprocessing/process/children.hpp>
#include <multiprocessing/process/fork_child.hpp>
#include <multiprocessing/process/forked_child.hpp>
#include <multiprocessing/process/start_method.hpp>
#include <multiprocessing/process/streams.hpp>
#include <multiprocessing/spawn/bootstrap.hpp>
#include <multiprocessing/spawn/spawn.hpp>

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// What the server answers to a request; the child's pidfd follows.
struct ForkServerAnswer {
    std::int32_t error;  ///< of `fork`; 0 when there is a child
    std::int32_t pid;
};

/// The server's side: forks what it is asked for until the other side is gone.
/// \safety the server's one thread.
template <class Lazy = void>
class ForkServer {
  public:
    explicit ForkServer(os::UniqueFd socket)
        : channel_(std::move(socket), /*readable=*/true, /*writable=*/true) {}

    [[noreturn]] void run();

  private:
    struct Served {
        os::UniqueFd pidfd;
        os::UniqueFd status;  // where its end is told
    };

    bool obey();
    void tell_ends();

    SocketChannel<Lazy> channel_;
    const os::IgnoredInterrupt interrupt_;
    const os::KeptExitCodes exit_codes_;
    std::vector<Served> children_;
};

/// The target of the process that is the server.
template <class Lazy = void>
class ForkServerTarget final : public Target {
  public:
    explicit ForkServerTarget(int socket) noexcept : socket_(socket) {}
    void call() override {}
    const SpawnEntry& save(Writer& out) const override {
        detail::save(out, out.handles->add(socket_));
        return entry;
    }

  private:
    static void run(Reader& in) {
        os::UniqueFd socket(in.handles->take(load<std::uint32_t>(in)));
        in.handles->finish();
        ForkServer<Lazy>(std::move(socket)).run();
    }
    static constexpr SpawnEntry entry{SpawnEntry::right_magic, hash_text("ForkServer"), &run};

    int socket_;
};

/// This process's server, once it has one.
/// \safety threads; its mutex is taken across `fork`. A child of a fork has none.
template <class Lazy = void>
class ForkServerLine {
  public:
    static ForkServerLine& instance() {
        static constinit std::atomic<ForkServerLine*> line{nullptr};
        return os::made_once(line, [] { return new ForkServerLine; });
    }

    /// Has a child forked; returns its record. A server that has died is replaced.
    /// \throws OSError when there is no process to be had.
    std::shared_ptr<ForkedChild<Lazy>> start(ChildOptions options, const Target& target);

  private:
    ForkServerLine();

    void open();
    void close() {
        channel_.reset();
        if (server_ == nullptr) { return; }
        server_->signal(SIGKILL);
        server_->join(std::chrono::seconds(1));
        server_.reset();
    }
    bool tell(const Writer& message, std::span<const int> descriptors);
    std::pair<pid_t, os::UniqueFd> ask(const Writer& message, std::span<const int> descriptors);

    std::mutex mutex_;  // guards what follows
    std::optional<SocketChannel<Lazy>> channel_;
    std::shared_ptr<ForkedChild<Lazy>> server_;
};

/// Starts a child by this process's server, and adds it to its children.
/// \throws SerializationError when target or arguments cannot be sent; OSError when there is no
///     process to be had. Nothing was started then.
template <class Lazy = void>
std::shared_ptr<Child> start_by_forkserver(ChildOptions options, Target& target) {
    Children<Lazy>& children = Children<Lazy>::instance();
    children.living();  // reaps those that have ended
    children.arm_exit(/*is_child=*/false);
    const auto child = ForkServerLine<Lazy>::instance().start(std::move(options), target);
    children.add(child);
    return child;
}

// -------------------------------------------------------------------------------------------------

template <class Lazy>
void ForkServer<Lazy>::run() {
    std::vector<pollfd> watched;
    for (bool serves = true; serves || !children_.empty();) {
        watched.clear();
        if (serves) {
            watched.push_back({.fd = channel_.fileno(), .events = POLLIN, .revents = 0});
        }
        for (const Served& each : children_) {
            watched.push_back({.fd = each.pidfd.get(), .events = POLLIN, .revents = 0});
        }
        os::poll(watched, Deadline(forever));
        tell_ends();
        if (serves && watched.front().revents != 0 && !obey()) {
            serves = false;
            channel_.close();  // so that the other side learns of it
        }
    }
    ::_exit(0);
}

template <class Lazy>
bool ForkServer<Lazy>::obey() {
    os::Descriptors descriptors;
    std::vector<std::byte> message;
    try {
        message = static_cast<Channel&>(channel_).receive(descriptors);
    } catch (const std::exception&) {
        return false;  // the other side is gone
    }
    ForkServerAnswer answer{.error = 0, .pid = 0};
    os::UniqueFd pidfd;
    os::UniqueFd status;
    if (descriptors.size() == 0 || descriptors.truncated()) {
        answer.error = EMFILE;
    } else {
        status = descriptors.take(descriptors.size() - 1);
        flush_standard_streams();
        const pid_t self = ::getpid();
        answer.pid = ::fork();
        if (answer.pid == 0) {
            channel_.close();
            children_.clear();
            status.reset();
            interrupt_.undo();
            exit_codes_.undo();
            run_bootstrap<Lazy>(std::move(message), descriptors, self);
        }
        if (answer.pid < 0) { answer.error = errno; }
    }
    try {
        if (answer.error == 0) { pidfd = os::pidfd_open(answer.pid); }
    } catch (const OSError& error) {
        ::kill(answer.pid, SIGKILL);
        os::reap_by_pid(answer.pid);
        answer.error = error.code().value();
    }
    try {
        channel_.send({std::as_bytes(std::span(&answer, 1))}, {});
        if (answer.error == 0) { channel_.send_handle(pidfd.get()); }
    } catch (const std::exception&) { return false; }
    if (answer.error == 0) { children_.push_back({std::move(pidfd), std::move(status)}); }
    return true;
}

template <class Lazy>
void ForkServer<Lazy>::tell_ends() {
    std::erase_if(children_, [](const Served& each) {
        if (!os::has_ended(each.pidfd)) { return false; }
        if (const auto status = os::reap(each.pidfd.get())) {
            const std::span<const std::byte> bytes = std::as_bytes(std::span(&*status, 1));
            try {
                os::send(each.status.get(), os::Transport::local, std::span(&bytes, 1), {});
            } catch (const OSError&) {
                // Nobody is there any more to be told.
            }
        }
        return true;
    });
}

template <class Lazy>
ForkServerLine<Lazy>::ForkServerLine() {
    // What is locked under our mutex, so that its fork handlers are registered before ours.
    os::DeathPipeEnds<Lazy>::instance();
    LocalProcess::instance();
    os::at_fork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                [] {
                    // The server is the parent's. Its record is left, not destroyed: that would
                    // take mutexes whose own handlers have not run.
                    if (instance().channel_) { instance().channel_->close(); }
                    new (&instance().server_) std::shared_ptr<ForkedChild<Lazy>>();
                    instance().mutex_.unlock();
                });
}

template <class Lazy>
void ForkServerLine<Lazy>::open() {
    if (server_ != nullptr && server_->is_alive()) { return; }
    close();
    auto [ours, theirs] = os::socketpair();
    server_ = spawn_child({.name = "ForkServer",
                           .identity = LocalProcess::instance().next_child_identity(),
                           .daemon = true,
                           .dies_with_parent = true,
                           .authkey = LocalProcess::instance().authkey()},
                          ForkServerTarget<Lazy>(theirs.get()));
    channel_.emplace(std::move(ours), /*readable=*/true, /*writable=*/true);
}

template <class Lazy>
std::shared_ptr<ForkedChild<Lazy>> ForkServerLine<Lazy>::start(ChildOptions options,
                                                               const Target& target) {
    std::optional<os::DeathPipe<Lazy>> death;
    if (options.dies_with_parent) { death.emplace(); }
    Writer message;
    StartHandles<Lazy> handles;
    message.handles = &handles;
    // The server's thread that forks is its main one, and outlives nobody: its death says nothing.
    save_bootstrap<Lazy>(message, options, self_as_parent(), death ? &*death : nullptr,
                         /*by_main_thread=*/false, target);
    flush_standard_streams();
    auto [end, told] = os::socketpair();
    std::vector<int> descriptors(handles.fds().begin(), handles.fds().end());
    descriptors.push_back(told.get());
    pid_t pid = 0;
    os::UniqueFd pidfd;
    {
        const std::scoped_lock lock(mutex_);
        open();
        std::tie(pid, pidfd) = ask(message, descriptors);
    }
    return std::make_shared<ForkedChild<Lazy>>(
        pid, std::move(pidfd), std::move(end), std::move(options.name), options.daemon,
        death ? death->hold() : typename os::DeathPipe<Lazy>::Holder());
}

// Sends the request; false when the server is gone.
template <class Lazy>
bool ForkServerLine<Lazy>::tell(const Writer& message, std::span<const int> descriptors) {
    try {
        static_cast<Channel&>(*channel_).send({message.view()}, descriptors);
        return true;
    } catch (const OSError& error) {
        if (error.code().value() != EPIPE && error.code().value() != ECONNRESET) { throw; }
        close();
        return false;
    }
}

template <class Lazy>
std::pair<pid_t, os::UniqueFd> ForkServerLine<Lazy>::ask(const Writer& message,
                                                         std::span<const int> descriptors) {
    if (descriptors.size() > os::max_descriptors) {
        throw ValueError(text_of("a process can be started with {} descriptors, not {}",
                                 {os::max_descriptors, descriptors.size()}));
    }
    // One that died a moment ago has been asked for nothing.
    if (!tell(message, descriptors)) {
        open();
        if (!tell(message, descriptors)) {
            throw ProcessError("the fork server dies before it can be asked for a process");
        }
    }
    ForkServerAnswer answer{};
    os::UniqueFd pidfd;
    try {
        Channel& channel = *channel_;
        const std::vector<std::byte> bytes = channel.receive(sizeof answer);
        std::memcpy(&answer, bytes.data(), std::min(bytes.size(), sizeof answer));
        if (answer.error == 0) { pidfd = channel.receive_handle(); }
    } catch (const std::exception& error) {
        // The next start has another server; what this one has begun ends.
        if (answer.pid > 0) { ::kill(answer.pid, SIGKILL); }
        close();
        throw ProcessError(
            text_of("the fork server died while it was asked for a process: {}", {error.what()}));
    }
    if (answer.error != 0) { throw_os_error(answer.error, "fork", "by the fork server"); }
    return {answer.pid, std::move(pidfd)};
}

}  // namespace multiprocessing::detail

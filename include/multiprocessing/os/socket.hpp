// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Stream sockets, and the descriptors that travel over them (`SCM_RIGHTS`).
///
/// Nothing here ends with EINTR, raises SIGPIPE, or makes a descriptor that survives `exec`. What
/// is no socket (a pipe, a terminal) is read and written just the same, without descriptors.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/poll.hpp>
#include <multiprocessing/os/unique_fd.hpp>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <ctime>
#include <span>
#include <utility>

namespace multiprocessing::detail::os {

/// What a descriptor is, as far as sending and receiving differ.
enum class Transport : unsigned char {
    local,   ///< a socket of this machine (AF_UNIX): carries descriptors
    remote,  ///< any other socket
    file,    ///< no socket, or not open at all
};
Transport transport_of(int fd) noexcept;

/// How many descriptors one message can carry at most (the kernel's SCM_MAX_FD).
inline constexpr std::size_t max_descriptors = 253;

/// The descriptors that came with some bytes; those that nobody took are closed with it.
/// \safety one thread at a time. Holds no memory of its own, so that receiving cannot fail for lack
/// of it while descriptors are in nobody's hands.
class Descriptors {
  public:
    Descriptors() = default;
    Descriptors(const Descriptors&) = delete;
    Descriptors& operator=(const Descriptors&) = delete;
    ~Descriptors() { clear(); }

    /// Returns how many came; the ones already taken count.
    std::size_t size() const noexcept { return size_; }
    /// Tells whether the kernel dropped some, because this process may not open more.
    bool truncated() const noexcept { return truncated_; }
    /// Returns descriptor `index`, which is the caller's from then on; nothing the second time.
    UniqueFd take(std::size_t index) noexcept {
        return index < size_ ? UniqueFd(std::exchange(fds_[index], -1)) : UniqueFd();
    }
    /// Takes a descriptor in; closes it when there are as many as one message can carry.
    void add(UniqueFd fd) noexcept {
        if (size_ < max_descriptors) { fds_[size_++] = fd.release(); }
    }
    void set_truncated() noexcept { truncated_ = true; }
    void clear() noexcept {
        for (std::size_t i = 0; i < size_; ++i) { take(i); }
        size_ = 0;
    }

  private:
    std::array<int, max_descriptors> fds_;  // the first `size_` are set; -1: taken
    std::size_t size_ = 0;
    bool truncated_ = false;
};

/// Makes two connected stream sockets.
template <class Lazy = void>
std::pair<UniqueFd, UniqueFd> socketpair();

/// Returns another descriptor of the same open file, behind the standard ones. \throws OSError when
/// there is none left.
template <class Lazy = void>
UniqueFd duplicate(int fd) {
    const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (copy < 0) { throw_os_error(errno, "fcntl", text_of("descriptor {}", {fd})); }
    return UniqueFd(copy);
}

/// Ends one direction for every process that has the socket.
enum class Direction : int { receiving = SHUT_RD, sending = SHUT_WR };
void shutdown(int fd, Direction direction) noexcept;

/// Makes `exec` close the descriptor.
void set_close_on_exec(int fd) noexcept;

/// Sends some of the bytes of `parts`, in one go; with the first of them, the descriptors.
/// Waits until there is room, also on a descriptor that is in non-blocking mode.
/// \returns how many bytes were sent, at least one if there are any.
/// \throws OSError (EPIPE) when nobody can receive them any more.
template <class Lazy = void>
std::size_t send(int fd, Transport, std::span<const std::span<const std::byte>> parts,
                 std::span<const int> descriptors = {});

/// Receives some bytes, and waits for the first; 0 means end of file. On a socket it waits until
/// `into` is full, unless a signal or the end comes in between.
/// Descriptors that come with the bytes are closed.
template <class Lazy = void>
std::size_t receive(int fd, Transport, std::span<std::byte> into);

/// The same, and keeps the descriptors that come with the bytes.
template <class Lazy = void>
std::size_t receive(int fd, Transport, std::span<std::byte> into, Descriptors& descriptors);

// -------------------------------------------------------------------------------------------------

inline Transport transport_of(int fd) noexcept {
    int domain = 0;
    socklen_t size = sizeof domain;
    if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0) { return Transport::file; }
    return domain == AF_UNIX ? Transport::local : Transport::remote;
}

template <class Lazy>
std::pair<UniqueFd, UniqueFd> socketpair() {
    int fds[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
        throw_os_error(errno, "socketpair", "AF_UNIX");
    }
    return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

inline void shutdown(int fd, Direction direction) noexcept {
    // It fails when the other side is gone or the descriptor is no socket: nothing is left to end.
    (void)::shutdown(fd, static_cast<int>(direction));
}

inline void set_close_on_exec(int fd) noexcept {
    // It fails on a descriptor that is not open, which its first use reports.
    if (const int flags = ::fcntl(fd, F_GETFD); flags >= 0 && (flags & FD_CLOEXEC) == 0) {
        (void)::fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
    }
}

/// Keeps SIGPIPE from this thread for as long as it lives; `write` has no MSG_NOSIGNAL.
class SigpipeBlock {
  public:
    SigpipeBlock() noexcept {
        sigset_t pending;
        ::sigpending(&pending);
        was_pending_ = ::sigismember(&pending, SIGPIPE) == 1;
        ::sigemptyset(&sigpipe_);
        ::sigaddset(&sigpipe_, SIGPIPE);
        ::pthread_sigmask(SIG_BLOCK, &sigpipe_, &previous_);
    }
    SigpipeBlock(const SigpipeBlock&) = delete;
    SigpipeBlock& operator=(const SigpipeBlock&) = delete;
    ~SigpipeBlock() {
        const int error = errno;  // of the call that was guarded
        constexpr timespec at_once{.tv_sec = 0, .tv_nsec = 0};
        // One that was pending before is somebody else's; the two would have merged into one.
        while (!was_pending_ && ::sigtimedwait(&sigpipe_, nullptr, &at_once) < 0 &&
               errno == EINTR) {}
        ::pthread_sigmask(SIG_SETMASK, &previous_, nullptr);
        errno = error;
    }

  private:
    sigset_t sigpipe_{};
    sigset_t previous_{};
    bool was_pending_ = false;
};

/// Repeats `call` for as long as a signal interrupts it or the descriptor is "not ready yet".
/// \returns what `call` returned; below zero is an error in `errno`.
template <class Call>
ssize_t until_done(int fd, short events, Call call) {
    for (;;) {
        const ssize_t count = call();
        if (count >= 0) { return count; }
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            poll(fd, events, Deadline(forever));
        } else if (errno != EINTR) {
            return count;
        }
    }
}

template <class Lazy>
std::size_t send(int fd, Transport transport, std::span<const std::span<const std::byte>> parts,
                 std::span<const int> descriptors) {
    std::array<iovec, 4> vectors;
    std::size_t count = 0;
    for (const auto part : parts.first(std::min(parts.size(), vectors.size()))) {
        // sendmsg() does not write to it; iovec serves reading as well and has no const.
        vectors[count++] = {.iov_base = const_cast<std::byte*>(part.data()),
                            .iov_len = part.size()};
    }
    msghdr message{};
    message.msg_iov = vectors.data();
    message.msg_iovlen = count;
    alignas(cmsghdr) std::array<unsigned char, CMSG_SPACE(sizeof(int) * max_descriptors)> control;
    if (!descriptors.empty()) {
        if (descriptors.size() > max_descriptors || transport != Transport::local) {
            throw_os_error(EINVAL, "sendmsg", text_of("{} descriptors", {descriptors.size()}));
        }
        control = {};
        message.msg_control = control.data();
        message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
        cmsghdr* const header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
        std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
    }
    const ssize_t sent = until_done(fd, POLLOUT, [&] {
        if (transport != Transport::file) { return ::sendmsg(fd, &message, MSG_NOSIGNAL); }
        const SigpipeBlock block;
        return ::writev(fd, vectors.data(), static_cast<int>(count));
    });
    if (sent < 0) {
        // A local peer that closed with bytes unread shows as a reset to whoever was waiting for
        // room, and as a broken pipe to whoever comes later. Both are the latter.
        const bool broken = errno == ECONNRESET && transport == Transport::local;
        throw_os_error(broken ? EPIPE : errno, "send", text_of("descriptor {}", {fd}));
    }
    return static_cast<std::size_t>(sent);
}

/// Turns what a receiving call returned into a number of bytes.
inline std::size_t received(ssize_t count, int fd, Transport transport) {
    if (count >= 0) { return static_cast<std::size_t>(count); }
    // A local peer that closed before it had read everything is reported as a reset, once, after
    // its own last byte. That is the end of file: nothing that was sent to us is lost.
    if (errno == ECONNRESET && transport == Transport::local) { return 0; }
    throw_os_error(errno, "receive", text_of("descriptor {}", {fd}));
}

template <class Lazy>
std::size_t receive(int fd, Transport transport, std::span<std::byte> into) {
    const ssize_t count = until_done(fd, POLLIN, [&] {
        return transport == Transport::file ? ::read(fd, into.data(), into.size())
                                            : ::recv(fd, into.data(), into.size(), MSG_WAITALL);
    });
    return received(count, fd, transport);
}

template <class Lazy>
std::size_t receive(int fd, Transport transport, std::span<std::byte> into,
                    Descriptors& descriptors) {
    if (transport != Transport::local) { return receive(fd, transport, into); }
    iovec vector{.iov_base = into.data(), .iov_len = into.size()};
    alignas(cmsghdr) std::array<unsigned char, CMSG_SPACE(sizeof(int) * max_descriptors)> control;
    msghdr message{};
    const ssize_t count = until_done(fd, POLLIN, [&] {
        message = {};
        message.msg_iov = &vector;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        return ::recvmsg(fd, &message, MSG_WAITALL | MSG_CMSG_CLOEXEC);
    });
    for (cmsghdr* header = count < 0 ? nullptr : CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) { continue; }
        for (std::size_t at = 0; at + sizeof(int) <= header->cmsg_len - CMSG_LEN(0);
             at += sizeof(int)) {
            int fd_here;
            std::memcpy(&fd_here, CMSG_DATA(header) + at, sizeof fd_here);
            descriptors.add(UniqueFd(fd_here));
        }
    }
    if (count >= 0 && (message.msg_flags & MSG_CTRUNC) != 0) { descriptors.set_truncated(); }
    return received(count, fd, transport);
}

}  // namespace multiprocessing::detail::os

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// One end of a stream of messages without types: what stands behind a `Connection`.
///
/// Whoever uses it sees messages, an end of file, and one descriptor that is readable whenever a
/// message or the end can be received.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/socket.hpp>
#include <multiprocessing/os/unique_fd.hpp>
#include <multiprocessing/timeout.hpp>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <system_error>
#include <vector>

namespace multiprocessing::detail {

/// Bytes that stand somewhere else.
using Bytes = std::span<const std::byte>;

/// Sends and receives whole messages.
///
/// An interface, so that what stands behind it is compiled only where a connection is made; see
/// docs/design.md, "What a program does not use".
/// \safety one sending and one receiving thread at a time, of all processes that have this end.
/// `close` only when neither is at work. After `fork` both processes have the end; the other side
/// sees the end of file when all of them have closed it.
class Channel {
  public:
    Channel() = default;
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;
    virtual ~Channel() = default;

    /// Sends the parts (three at most) as one message, and the descriptors with it.
    /// \throws ValueError when it is longer than `max_message()` or has too many descriptors, and
    /// nothing was sent; OSError (EPIPE) when the other side is closed.
    virtual void send(std::initializer_list<Bytes> parts, std::span<const int> descriptors) = 0;

    /// Receives a message; closes descriptors that come with it.
    /// \throws EOFError at the end; OSError when the end comes within a message, and when the
    /// message is longer than `limit`: then the stream cannot be read any more.
    virtual std::vector<std::byte> receive(std::uint64_t limit) = 0;
    /// Receives a message and the descriptors that came with it.
    virtual std::vector<std::byte> receive(os::Descriptors& descriptors) = 0;
    /// Receives a message into `buffer` and returns its length.
    /// \throws BufferTooShort with the message when it is longer; `buffer` is as it was.
    virtual std::size_t receive_into(std::span<std::byte> buffer) = 0;

    /// Sends one descriptor outside of any message, with a byte that the other side's
    /// `receive_handle` takes; CPython's `reduction.send_handle`.
    virtual void send_handle(int fd) = 0;
    /// \throws ProcessError when a byte came without a descriptor.
    virtual os::UniqueFd receive_handle() = 0;

    /// Tells whether `receive` has something to begin with: a message, the first part of one, or
    /// the end.
    virtual bool poll(const Deadline& deadline) const = 0;
    /// Returns a descriptor that is readable when `poll` is true.
    virtual int fileno() const = 0;

    /// \throws OSError (EBADF) when it is closed or made for the other direction only.
    virtual void check_readable() const = 0;
    virtual void check_writable() const = 0;

    virtual void close() noexcept = 0;
    virtual bool closed() const noexcept = 0;
    virtual bool readable() const noexcept = 0;
    virtual bool writable() const noexcept = 0;

    virtual std::uint64_t max_message() const noexcept = 0;
    virtual void set_max_message(std::uint64_t bytes) noexcept = 0;
};

[[noreturn]] inline void throw_handle_error(int error, const std::string& text) {
    throw OSError(error, std::system_category(), text);
}

}  // namespace multiprocessing::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// One end of a pipe: see connection.hpp.

#include <multiprocessing/connection/channel.hpp>
#include <multiprocessing/connection/message.hpp>
#include <multiprocessing/connection/socket_channel.hpp>
#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/socket.hpp>
#include <multiprocessing/os/unique_fd.hpp>
#include <multiprocessing/serialize.hpp>
#include <multiprocessing/timeout.hpp>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace multiprocessing {

class Connection;

namespace detail {

/// The way to a connection's channel for the rest of the library.
struct ConnectionAccess {
    static Channel& channel(const Connection& connection);
};

}  // namespace detail

/// Sends and receives messages: values, or bytes.
///
/// A copy refers to the same end; closing one closes them all in this process, and so does
/// destroying the last. What `fork` copies is another process's: the other side sees the end of
/// file when the last process that has this end has closed it. \safety one user per end at a time:
/// one thread of one process may send and one may receive. A process that is killed within a
/// message leaves an end of file there, which is `OSError` for the other side.
class Connection {
  public:
    /// Makes a closed one.
    Connection() noexcept = default;
    /// Takes over a descriptor, of a stream socket or a pipe, and makes it close-on-exec. One that
    /// is not open is found out by the first use. \throws ValueError when `fd` is negative, or
    /// neither direction is wanted; `fd` is not taken then.
    template <class Lazy = void>
    explicit Connection(int fd, bool readable = true, bool writable = true);

    /// Sends a value; a string literal as `std::string`. Waits until there is room for all of it.
    /// \throws OSError when the other side is closed (EPIPE), when this end is (EBADF) or cannot
    /// send (EBADF); ValueError when the message is longer than `max_message()`;
    /// SerializationError.
    template <class T>
    void send(const T& value) const;
    /// Waits for a message and returns the value in it.
    /// \throws EOFError when the other side is closed and everything it sent has been received;
    /// OSError when its end comes within a message; SerializationError when the message holds
    /// something else than a `T`, and the next one can be received.
    template <class T>
    T recv() const;

    /// Sends `size` bytes from `offset` on (left out: to the end) as a message, which may be empty.
    /// \throws ValueError when `data` has no such bytes, and as `send`.
    void send_bytes(std::span<const std::byte> data, std::size_t offset = 0,
                    std::optional<std::size_t> size = {}) const;
    void send_bytes(std::string_view data, std::size_t offset = 0,
                    std::optional<std::size_t> size = {}) const {
        send_bytes(std::as_bytes(std::span(data)), offset, size);
    }
    /// Waits for a message and returns its bytes.
    /// \throws OSError (EMSGSIZE) when there are more than `maxlength`: nothing can be received any
    /// more, and an end that cannot send is closed. EOFError and OSError as `recv`.
    std::vector<std::byte> recv_bytes(std::optional<std::size_t> maxlength = {}) const;
    /// Waits for a message, puts its bytes into `buffer` from `offset` on and returns their number.
    /// \throws BufferTooShort, which has the message, when it does not fit: `buffer` is as it was.
    /// ValueError when `offset` is not within `buffer`, and nothing was received. Else as `recv`.
    std::size_t recv_bytes_into(std::span<std::byte> buffer, std::size_t offset = 0) const;

    /// Waits until there is something to receive, a message or the end of file; false when there
    /// was not in time. Consumes nothing. A message of which only a part has come counts.
    bool poll(Timeout timeout = std::chrono::seconds(0)) const;
    /// Returns the descriptor; readable when `poll()` is true.
    int fileno() const { return channel().fileno(); }

    /// Closes this end, for all copies in this process. Closing it again does nothing.
    void close() const noexcept {
        if (channel_) { channel_->close(); }
    }
    bool closed() const noexcept { return !channel_ || channel_->closed(); }
    bool readable() const noexcept { return channel_ && channel_->readable(); }
    bool writable() const noexcept { return channel_ && channel_->writable(); }

    /// Bounds what `send` accepts and `recv` allocates; 2^40 bytes unless it is set.
    std::uint64_t max_message() const { return channel().max_message(); }
    void set_max_message(std::uint64_t bytes) const { channel().set_max_message(bytes); }

    /// Tells whether two handles are one end in this process.
    friend bool operator==(const Connection&, const Connection&) = default;

  private:
    friend struct detail::ConnectionAccess;

    detail::Channel& channel() const {
        if (!channel_) { detail::throw_handle_error(EBADF, "handle is closed"); }
        return *channel_;
    }

    std::shared_ptr<detail::Channel> channel_;  // null: closed from the beginning, or moved from
};

/// A connection can be sent over a connection, and given to a process that is being started; the
/// sender keeps its own.
template <>
struct serializer<Connection> {
    static void save(auto& archive, const Connection& connection);
    static Connection load(auto& archive);
};

// -------------------------------------------------------------------------------------------------

inline detail::Channel& detail::ConnectionAccess::channel(const Connection& connection) {
    return connection.channel();
}

template <class Lazy>
Connection::Connection(int fd, bool readable, bool writable) {
    if (fd < 0) { throw ValueError(detail::text_of("invalid handle: descriptor {}", {fd})); }
    if (!readable && !writable) { throw ValueError("a connection must be readable or writable"); }
    detail::os::UniqueFd owned(fd);
    detail::os::set_close_on_exec(fd);
    channel_ = std::make_shared<detail::SocketChannel<Lazy>>(std::move(owned), readable, writable);
}

template <class T>
void Connection::send(const T& value) const {
    using Sent = detail::sent_t<const T&>;
    if constexpr (std::is_same_v<Sent, T>) {
        detail::Message<T>::send(channel(), value);
    } else {
        detail::Message<Sent>::send(channel(), Sent(value));
    }
}

template <class T>
T Connection::recv() const {
    return detail::Message<T>::receive(channel());
}

inline void Connection::send_bytes(std::span<const std::byte> data, std::size_t offset,
                                   std::optional<std::size_t> size) const {
    channel().check_writable();
    if (offset > data.size()) {
        throw ValueError(
            detail::text_of("offset {} is behind the end of {} bytes", {offset, data.size()}));
    }
    data = data.subspan(offset);
    if (size && *size > data.size()) {
        throw ValueError(detail::text_of("{} bytes from offset {} on are more than there are: {}",
                                         {*size, offset, data.size()}));
    }
    channel().send({data.first(size.value_or(data.size()))}, {});
}

inline std::vector<std::byte> Connection::recv_bytes(std::optional<std::size_t> maxlength) const {
    return channel().receive(maxlength.value_or(std::numeric_limits<std::size_t>::max()));
}

inline std::size_t Connection::recv_bytes_into(std::span<std::byte> buffer,
                                               std::size_t offset) const {
    channel().check_readable();
    if (offset > buffer.size()) {
        throw ValueError(
            detail::text_of("offset {} is behind the end of {} bytes", {offset, buffer.size()}));
    }
    return channel().receive_into(buffer.subspan(offset));
}

inline bool Connection::poll(Timeout timeout) const {
    return channel().poll(detail::Deadline(timeout));
}

void serializer<Connection>::save(auto& archive, const Connection& connection) {
    if (archive.handles == nullptr) {
        throw SerializationError(
            "a Connection can be sent over a Connection or to a process that is being started, and "
            "nowhere else");
    }
    const int directions = (connection.readable() ? 1 : 0) | (connection.writable() ? 2 : 0);
    archive(archive.handles->add(connection.fileno()), static_cast<std::uint8_t>(directions),
            connection.max_message());
}

Connection serializer<Connection>::load(auto& archive) {
    std::uint32_t index = 0;
    std::uint8_t directions = 0;
    std::uint64_t max_message = 0;
    archive(index, directions, max_message);
    if (directions < 1 || directions > 3) {
        detail::refuse_bytes("a Connection without direction");
    }
    if (archive.handles == nullptr) { detail::refuse_bytes("a Connection without its descriptor"); }
    const Connection connection(archive.handles->take(index), (directions & 1) != 0,
                                (directions & 2) != 0);
    connection.set_max_message(max_message);
    return connection;
}

}  // namespace multiprocessing

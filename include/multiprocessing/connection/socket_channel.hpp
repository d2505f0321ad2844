// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A channel over a stream socket or a pipe. This class alone knows that there is one.

#include <multiprocessing/connection/channel.hpp>
#include <multiprocessing/connection/framing.hpp>
#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/poll.hpp>
#include <multiprocessing/os/socket.hpp>
#include <multiprocessing/os/unique_fd.hpp>
#include <multiprocessing/timeout.hpp>

#include <poll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// Messages with their lengths in front; see framing.hpp.
template <class Lazy = void>
class SocketChannel final : public Channel {
  public:
    /// A message without bound would let a corrupt length ask for all memory there is.
    static constexpr std::uint64_t default_max_message = std::uint64_t{1} << 40;

    /// Takes the descriptor.
    SocketChannel(os::UniqueFd fd, bool readable, bool writable)
        : fd_(std::move(fd)),
          transport_(os::transport_of(fd_.get())),
          readable_(readable),
          writable_(writable) {}

    /// \cost one system call for what fits into the socket's buffer; the bytes are copied by the
    /// kernel alone.
    void send(std::initializer_list<Bytes> parts, std::span<const int> descriptors) override;
    std::vector<std::byte> receive(std::uint64_t limit) override;
    std::vector<std::byte> receive(os::Descriptors& descriptors) override;
    std::size_t receive_into(std::span<std::byte> buffer) override;
    void send_handle(int fd) override;
    os::UniqueFd receive_handle() override;
    bool poll(const Deadline& deadline) const override;
    int fileno() const override;
    void check_readable() const override;
    void check_writable() const override;

    void close() noexcept override { fd_.reset(); }
    bool closed() const noexcept override { return !fd_; }
    bool readable() const noexcept override { return readable_.load(std::memory_order_relaxed); }
    bool writable() const noexcept override { return writable_; }

    std::uint64_t max_message() const noexcept override {
        return max_message_.load(std::memory_order_relaxed);
    }
    void set_max_message(std::uint64_t bytes) noexcept override {
        max_message_.store(bytes, std::memory_order_relaxed);
    }

  private:
    class Reading;

    std::uint64_t receive_length(os::Descriptors* descriptors);
    std::vector<std::byte> receive_body(std::uint64_t length);
    void receive_exactly(std::span<std::byte> into);
    void stop_reading() noexcept;

    os::UniqueFd fd_;
    const os::Transport transport_;
    // Relaxed: the receiving thread writes it, and nothing that the sending one does depends on it.
    std::atomic<bool> readable_;
    const bool writable_;
    bool unreadable_ = false;  // `readable_` was taken back by stop_reading()
    bool at_end_ = false;  // the end came within a message: nothing is left that could be misread
    std::atomic<std::uint64_t> max_message_ = default_max_message;
};

// -------------------------------------------------------------------------------------------------

/// The time between a message's length and its last byte. Whoever leaves it in between leaves bytes
/// in the stream that the next reader would take for a length.
template <class Lazy>
class SocketChannel<Lazy>::Reading {
  public:
    explicit Reading(SocketChannel& channel) noexcept : channel_(channel) {}
    Reading(const Reading&) = delete;
    Reading& operator=(const Reading&) = delete;
    ~Reading() {
        if (!done_ && !channel_.at_end_) { channel_.stop_reading(); }
    }
    void done() noexcept { done_ = true; }

  private:
    SocketChannel& channel_;
    bool done_ = false;
};

template <class Lazy>
int SocketChannel<Lazy>::fileno() const {
    if (closed()) { throw_handle_error(EBADF, "handle is closed"); }
    return fd_.get();
}

template <class Lazy>
void SocketChannel<Lazy>::check_readable() const {
    fileno();
    if (readable()) { return; }
    throw_handle_error(EBADF, unreadable_ ? "connection cannot be read any more: bad message length"
                                          : "connection is write-only");
}

template <class Lazy>
void SocketChannel<Lazy>::check_writable() const {
    fileno();
    if (!writable()) { throw_handle_error(EBADF, "connection is read-only"); }
}

template <class Lazy>
void SocketChannel<Lazy>::stop_reading() noexcept {
    // A peer that goes on sending then learns that nobody reads it, instead of waiting for room.
    os::shutdown(fd_.get(), os::Direction::receiving);
    unreadable_ = true;
    readable_ = false;
    if (!writable_) { close(); }
}

template <class Lazy>
void SocketChannel<Lazy>::send(std::initializer_list<Bytes> parts,
                               std::span<const int> descriptors) {
    check_writable();
    std::uint64_t length = 0;
    for (const Bytes part : parts) { length += part.size(); }
    if (length > max_message()) {
        throw ValueError(
            text_of("a message of {} bytes is longer than the connection's limit of {}",
                    {length, max_message()}));
    }
    if (descriptors.size() > os::max_descriptors) {
        throw ValueError(text_of("a message can carry {} descriptors, not {}",
                                 {os::max_descriptors, descriptors.size()}));
    }
    const FrameHeader header(length);
    std::array<Bytes, 4> left;  // the header and up to three parts
    std::size_t count = 0;
    left[count++] = header.bytes();
    for (const Bytes part : parts) {
        if (!part.empty()) { left[count++] = part; }
    }

    // Half a message must not be followed by another one: should the kernel refuse the rest, the
    // other side sees the end of file within the message, and a later send fails.
    struct Writing {
        int fd;
        bool half_sent = false;
        ~Writing() {
            if (half_sent) { os::shutdown(fd, os::Direction::sending); }
        }
    } writing{fd_.get()};
    for (std::span<Bytes> rest = std::span(left).first(count); !rest.empty();) {
        std::size_t sent = os::send(fd_.get(), transport_, rest, descriptors);
        descriptors = {};  // they went with the first byte
        while (!rest.empty() && sent >= rest.front().size()) {
            sent -= rest.front().size();
            rest = rest.subspan(1);
        }
        if (!rest.empty()) { rest.front() = rest.front().subspan(sent); }
        writing.half_sent = !rest.empty();
    }
}

template <class Lazy>
std::vector<std::byte> SocketChannel<Lazy>::receive(std::uint64_t limit) {
    check_readable();
    const std::uint64_t length = receive_length(nullptr);
    if (length > limit) {
        stop_reading();
        throw_handle_error(
            EMSGSIZE, text_of("bad message length {}, at most {} are allowed", {length, limit}));
    }
    return receive_body(length);
}

template <class Lazy>
std::vector<std::byte> SocketChannel<Lazy>::receive(os::Descriptors& descriptors) {
    check_readable();
    return receive_body(receive_length(&descriptors));
}

template <class Lazy>
std::size_t SocketChannel<Lazy>::receive_into(std::span<std::byte> buffer) {
    check_readable();
    const std::uint64_t length = receive_length(nullptr);
    if (length > buffer.size()) { throw BufferTooShort(receive_body(length)); }
    Reading reading(*this);
    receive_exactly(buffer.first(static_cast<std::size_t>(length)));
    reading.done();
    return static_cast<std::size_t>(length);
}

template <class Lazy>
void SocketChannel<Lazy>::send_handle(int fd) {
    check_writable();
    // The byte is the number of descriptors, modulo 256.
    constexpr std::byte one{1};
    const Bytes part(&one, 1);
    os::send(fd_.get(), transport_, std::span(&part, 1), std::span(&fd, 1));
}

template <class Lazy>
os::UniqueFd SocketChannel<Lazy>::receive_handle() {
    check_readable();
    os::Descriptors descriptors;
    std::byte count;
    if (os::receive(fd_.get(), transport_, std::span(&count, 1), descriptors) == 0) {
        throw EOFError();
    }
    if (descriptors.size() != 1) {
        throw ProcessError(text_of(
            "received {} descriptors instead of one{}",
            {descriptors.size(), descriptors.truncated() ? ": no more can be opened" : ""}));
    }
    return descriptors.take(0);
}

template <class Lazy>
bool SocketChannel<Lazy>::poll(const Deadline& deadline) const {
    check_readable();
    return os::poll(fd_.get(), POLLIN, deadline);
}

template <class Lazy>
std::uint64_t SocketChannel<Lazy>::receive_length(os::Descriptors* descriptors) {
    std::array<std::byte, short_header> first;
    const std::size_t got = descriptors != nullptr
                                ? os::receive(fd_.get(), transport_, first, *descriptors)
                                : os::receive(fd_.get(), transport_, first);
    if (got == 0) { throw EOFError(); }
    receive_exactly(std::span(first).subspan(got));

    Reading reading(*this);
    std::optional<std::uint64_t> length = decode_short_length(first);
    if (!length) {
        std::array<std::byte, long_header> second;
        receive_exactly(second);
        length = decode_long_length(second);
    }
    if (*length > max_message()) {
        throw_handle_error(EMSGSIZE, text_of("bad message length {}, the connection's limit is {}",
                                             {*length, max_message()}));
    }
    reading.done();
    return *length;
}

template <class Lazy>
std::vector<std::byte> SocketChannel<Lazy>::receive_body(std::uint64_t length) {
    // Memory follows the bytes that came, so that a length alone costs the receiver nothing.
    constexpr std::size_t first_step = std::size_t{1} << 20;
    Reading reading(*this);
    std::vector<std::byte> body;
    while (body.size() < length) {
        const std::size_t have = body.size();
        const std::size_t step = std::max(have, first_step);
        const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(length, have + step));
        body.reserve(want);  // resize() alone would round up
        body.resize(want);
        receive_exactly(std::span(body).subspan(have));
    }
    reading.done();
    return body;
}

template <class Lazy>
void SocketChannel<Lazy>::receive_exactly(std::span<std::byte> into) {
    while (!into.empty()) {
        const std::size_t got = os::receive(fd_.get(), transport_, into);
        if (got == 0) {
            at_end_ = true;
            throw_handle_error(ECONNRESET, "got end of file during message");
        }
        into = into.subspan(got);
    }
}

}  // namespace multiprocessing::detail

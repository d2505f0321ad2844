// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Waiting for several things at once: see connection.hpp.

#include <multiprocessing/connection/connection.hpp>
#include <multiprocessing/os/poll.hpp>
#include <multiprocessing/timeout.hpp>

#include <cerrno>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <type_traits>
#include <vector>

namespace multiprocessing::connection {

/// Something that `wait` can wait for: made implicitly from a `Connection`, a `Queue`, a process's
/// sentinel or any other descriptor, and from everything that has an `int fileno() const`.
/// \safety a value; what it was made from must stay open for as long as it is waited for.
class Waitable {
  public:
    /// From a descriptor, a sentinel among them.
    Waitable(int fd) noexcept : fd_(fd) {}
    /// \throws OSError (EBADF) when nothing can be received from the connection, or it is closed.
    Waitable(const Connection& connection) : fd_(connection.fileno()) {
        // The descriptor of an end that only sends is always "readable": at its end.
        if (!connection.readable()) {
            detail::throw_handle_error(EBADF, "wait: connection is write-only");
        }
    }
    template <class T>
    requires requires(const T& object) {
        { object.fileno() } -> std::same_as<int>;
    }
    Waitable(const T& object) : fd_(object.fileno()) {}
    /// The same object in place `index` of a list.
    Waitable(const Waitable& other, std::size_t index) noexcept : fd_(other.fd_), index_(index) {}

    int fileno() const noexcept { return fd_; }
    /// Returns where it stood among the objects that `wait` was given.
    std::size_t index() const noexcept { return index_; }

    /// Tells whether both stand for the same descriptor.
    friend bool operator==(const Waitable& a, const Waitable& b) noexcept { return a.fd_ == b.fd_; }

  private:
    int fd_;
    std::size_t index_ = 0;
};

/// Something that can be gone through twice, and whose elements can be waited for.
template <class Range>
concept WaitableRange = requires(Range& range) {
    { *std::begin(range) } -> std::convertible_to<Waitable>;
    { std::begin(range) } -> std::forward_iterator;
    std::end(range);
};

/// Waits until at least one of the objects is ready and returns the ready ones, in the order given;
/// none when the timeout is over. A connection is ready when it can receive a message or the end of
/// file, a sentinel when its process has ended. Without objects it returns after the timeout, and
/// at once when that is `forever`.
///
///     for (auto& ready : mp::connection::wait({connection, process.sentinel()}, 2s)) { ... }
///
/// \throws OSError (EBADF) that names an object which is not open.
/// \cost one system call, in proportion to the number of objects.
template <class Lazy = void>
std::vector<Waitable> wait(std::initializer_list<Waitable> objects, Timeout timeout = forever);

/// The same for a range of objects of one type; returns copies of the ready ones.
template <WaitableRange Range>
auto wait(Range&& objects, Timeout timeout = forever)
    -> std::vector<std::iter_value_t<decltype(std::begin(objects))>>;

}  // namespace multiprocessing::connection

// -------------------------------------------------------------------------------------------------

namespace multiprocessing::detail {

/// Waits for the objects and calls `is_ready(object, index)` for each that is.
template <class Objects, class F>
void wait_each(Objects& objects, Timeout timeout, F is_ready) {
    std::vector<pollfd> entries;
    for (const connection::Waitable object : objects) {
        entries.push_back({.fd = object.fileno(), .events = POLLIN, .revents = 0});
    }
    if (entries.empty() && timeout.is_infinite()) { return; }
    if (os::poll(entries, Deadline(timeout)) == 0) { return; }
    std::size_t index = 0;
    for (auto&& object : objects) {
        if (entries[index].revents != 0) { is_ready(object, index); }
        ++index;
    }
}

}  // namespace multiprocessing::detail

namespace multiprocessing::connection {

template <class Lazy>
std::vector<Waitable> wait(std::initializer_list<Waitable> objects, Timeout timeout) {
    std::vector<Waitable> ready;
    detail::wait_each(objects, timeout, [&](const Waitable& object, std::size_t index) {
        ready.emplace_back(object, index);
    });
    return ready;
}

template <WaitableRange Range>
auto wait(Range&& objects, Timeout timeout)
    -> std::vector<std::iter_value_t<decltype(std::begin(objects))>> {
    using Object = std::iter_value_t<decltype(std::begin(objects))>;
    std::vector<Object> ready;
    detail::wait_each(objects, timeout, [&](auto&& object, std::size_t index) {
        if constexpr (std::is_same_v<Object, Waitable>) {
            ready.emplace_back(object, index);
        } else {
            ready.push_back(object);
        }
    });
    return ready;
}

}  // namespace multiprocessing::connection

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Waiting for descriptors, for any number of them and for no longer than a deadline.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/timeout.hpp>

#include <poll.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <ctime>
#include <span>

namespace multiprocessing::detail::os {

/// Waits until at least one entry has an event or the deadline is over; a signal does not end it.
/// \returns how many entries have an event.
/// \throws OSError (EBADF) that names the first descriptor which is not open. The kernel passes
/// over a negative descriptor; here it is an error as well.
template <class Lazy = void>
std::size_t poll(std::span<pollfd> entries, const Deadline& deadline);

/// The same for one descriptor; `events` is POLLIN or POLLOUT. True when it is ready, at its end or
/// in error: when the call that is meant would not block.
template <class Lazy = void>
bool poll(int fd, short events, const Deadline& deadline);

// -------------------------------------------------------------------------------------------------

template <class Lazy>
std::size_t poll(std::span<pollfd> entries, const Deadline& deadline) {
    const auto refuse = [](int fd) {
        throw_os_error(EBADF, "poll", text_of("descriptor {}", {fd}));
    };
    for (const pollfd& entry : entries) {
        if (entry.fd < 0) { refuse(entry.fd); }
    }
    for (;;) {
        // In slices, so that a deadline in a hundred years fits into every `time_t`.
        const auto left = deadline.left(std::chrono::hours(1));
        const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
        const timespec bound{.tv_sec = static_cast<std::time_t>(seconds.count()),
                             .tv_nsec = static_cast<long>((left - seconds).count())};
        const int ready =
            ::ppoll(entries.data(), static_cast<nfds_t>(entries.size()), &bound, nullptr);
        if (ready < 0 && errno != EINTR) {
            throw_os_error(errno, "poll", text_of("{} descriptors", {entries.size()}));
        }
        if (ready > 0) {
            for (const pollfd& entry : entries) {
                if ((entry.revents & POLLNVAL) != 0) { refuse(entry.fd); }
            }
            return static_cast<std::size_t>(ready);
        }
        // Not after EINTR: then nobody has looked yet.
        if (ready == 0 && deadline.has_passed()) { return 0; }
    }
}

template <class Lazy>
bool poll(int fd, short events, const Deadline& deadline) {
    pollfd entry{.fd = fd, .events = events, .revents = 0};
    return poll(std::span(&entry, 1), deadline) > 0;
}

}  // namespace multiprocessing::detail::os

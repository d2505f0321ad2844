// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What workers write to standard error: it goes where the nursery's goes, and its end is kept, to
/// be told when the worker dies.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/unique_fd.hpp>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// One pipe for each worker. A worker waits when standard error takes no more, as it would without;
/// the nursery does not.
/// \safety one thread's.
template <class Lazy = void>
class StderrTaps {
  public:
    /// Makes the pipe of the worker in that place; returns the end for the worker, to be given to
    /// `attach` there. \throws OSError
    os::UniqueFd open(std::size_t place) {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) {
            throw_os_error(errno, "pipe2", "a worker's standard error");
        }
        taps_.push_back({.end = os::UniqueFd(ends[0]), .place = place, .tail = {}});
        ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
        return os::UniqueFd(ends[1]);
    }
    /// In the worker: what it writes goes to the pipe from here on; the others' are not its
    /// business.
    void attach(os::UniqueFd end) {
        ::dup2(end.get(), STDERR_FILENO);
        taps_.clear();
        pending_.clear();
    }

    /// Adds what is to be watched.
    void watch(std::vector<pollfd>& watched) const {
        if (!pending_.empty()) {
            watched.push_back({.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0});
        }
        if (pending_.size() >= most_pending) { return; }
        for (const Tap& tap : taps_) {
            if (tap.end) {
                watched.push_back({.fd = tap.end.get(), .events = POLLIN, .revents = 0});
            }
        }
    }
    /// Passes on what is there, as far as standard error takes it.
    void pass_on() {
        for (Tap& tap : taps_) {
            if (pending_.size() < most_pending) { read(tap, most_pending); }
        }
        std::erase_if(taps_, [](const Tap& tap) { return !tap.end && !tap.place; });
        write();
    }
    /// Returns the last that the worker wrote, which has ended; what it started may write on.
    std::string tail_of(std::size_t place) {
        std::string tail;
        for (Tap& tap : taps_) {
            if (tap.place != place) { continue; }
            read(tap, largest_pipe);
            tail = std::move(tap.tail);
            tail.erase(0, tail.size() - std::min(tail.size(), kept));
            tap.place.reset();
        }
        write();
        return tail;
    }
    /// Passes on the rest; gives standard error a moment for it.
    void finish() {
        pass_on();
        pollfd out{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
        constexpr int moment = 200;  // milliseconds
        while (!pending_.empty() && ::poll(&out, 1, moment) > 0) { pass_on(); }
    }

  private:
    static constexpr std::size_t kept = 4096;
    static constexpr std::size_t most_pending = 64 * 1024;
    static constexpr std::size_t largest_pipe = 1024 * 1024;

    struct Tap {
        os::UniqueFd end;                  // empty: nobody writes there any more
        std::optional<std::size_t> place;  // nothing: its worker has ended
        std::string tail;
    };

    // At most so many bytes: who writes all the time would have it read all the time.
    void read(Tap& tap, std::size_t most) {
        char part[4096];
        for (std::size_t all = 0; tap.end && all < most;) {
            const ssize_t size = ::read(tap.end.get(), part, sizeof part);
            if (size < 0 && errno == EINTR) { continue; }
            if (size < 0) { break; }  // nothing at the moment
            if (size == 0) {
                tap.end.reset();
                break;
            }
            const auto length = static_cast<std::size_t>(size);
            all += length;
            pending_.append(part, length);
            tap.tail.append(part, length);
            if (tap.tail.size() > 2 * kept) { tap.tail.erase(0, tap.tail.size() - kept); }
        }
    }
    void write() {
        while (!pending_.empty()) {
            pollfd out{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
            if (::poll(&out, 1, 0) < 0) { return; }
            if ((out.revents & (POLLERR | POLLNVAL)) != 0) {
                pending_.clear();  // there is nobody to read it
                return;
            }
            if ((out.revents & POLLOUT) == 0) { return; }
            // A pipe that is writable takes so much.
            const std::size_t size = std::min<std::size_t>(pending_.size(), 4096);
            const ssize_t written = ::write(STDERR_FILENO, pending_.data(), size);
            if (written < 0 && errno == EINTR) { continue; }
            if (written < 0 && errno == EAGAIN) { return; }
            if (written < 0) { pending_.clear(); }
            if (written > 0) { pending_.erase(0, static_cast<std::size_t>(written)); }
        }
    }

    std::vector<Tap> taps_;
    std::string pending_;  // read, and not yet passed on
};

}  // namespace multiprocessing::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A descriptor that is readable or not, as its owners say: what `poll` sees of an object in
/// memory.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/unique_fd.hpp>

#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

namespace multiprocessing::detail::os {

/// A switch that `poll` can wait for. Every process that inherits the descriptor has the same
/// switch.
/// \safety all members: threads and processes.
/// \cost one system call each.
class EventFd {
  public:
    /// \throws OSError when there is no descriptor left.
    EventFd() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
        if (!fd_) { throw_os_error(errno, "eventfd", "a descriptor to wait for"); }
    }

    /// Takes over one of another process's.
    explicit EventFd(UniqueFd fd) noexcept : fd_(std::move(fd)) {}

    int get() const noexcept { return fd_.get(); }
    /// Gives the descriptor back before the object ends.
    void close() noexcept { fd_.reset(); }

    /// Makes it readable.
    void set() const noexcept {
        const std::uint64_t one = 1;
        // EAGAIN says that the counter is at its end: readable is all that it has to be.
        static_cast<void>(!::write(fd_.get(), &one, sizeof one));
    }
    /// Makes it unreadable.
    void clear() const noexcept {
        std::uint64_t count;
        // EAGAIN says that it was.
        static_cast<void>(!::read(fd_.get(), &count, sizeof count));
    }

  private:
    UniqueFd fd_;
};

/// Tells whether the descriptor is such a switch, which stays as it is.
inline bool is_event_fd(int fd) noexcept {
    // Writing is tried on none that has a type: the bytes would go into it.
    struct stat file {};
    if (::fstat(fd, &file) != 0 || (file.st_mode & S_IFMT) != 0) { return false; }
    const std::uint64_t nothing = 0;  // to be added
    return ::write(fd, &nothing, sizeof nothing) == sizeof nothing;
}

}  // namespace multiprocessing::detail::os

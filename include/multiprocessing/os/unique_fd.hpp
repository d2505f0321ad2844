// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Ownership of one file descriptor.

#include <unistd.h>

#include <utility>

namespace multiprocessing::detail::os {

/// Closes its descriptor when it is destroyed.
/// \safety one thread at a time. A copy made by `fork` closes the child's own copy.
class UniqueFd {
  public:
    UniqueFd() = default;
    explicit UniqueFd(int fd) noexcept : fd_(fd) {}
    UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    UniqueFd& operator=(UniqueFd&& other) noexcept {
        reset(std::exchange(other.fd_, -1));
        return *this;
    }
    ~UniqueFd() { reset(); }

    int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }
    [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

    void reset(int fd = -1) noexcept {
        // close() releases the descriptor on Linux whatever it returns, EINTR included, so there is
        // nothing to retry and nobody to tell.
        if (fd_ >= 0 && fd_ != fd) { ::close(fd_); }
        fd_ = fd;
    }

  private:
    int fd_ = -1;
};

}  // namespace multiprocessing::detail::os

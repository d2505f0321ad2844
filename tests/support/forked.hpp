// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A child process for tests of what stands below `mp::Process`.
///
///     support::Forked child([&] { return ring.put(...) == ok ? 0 : 1; });
///     CHECK(child.join() == 0);

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <system_error>
#include <utility>

namespace support {

/// Runs a function in a child, whose exit code is what it returns; 99 when it throws.
/// The child ends itself after two minutes, and is killed with this object.
class Forked {
  public:
    template <class F>
    explicit Forked(F f) : pid_(::fork()) {
        if (pid_ < 0) { throw std::system_error(errno, std::system_category(), "fork"); }
        if (pid_ != 0) { return; }
        ::alarm(120);
        try {
            ::_exit(static_cast<int>(f()));
        } catch (const std::exception& error) {
            std::fprintf(stderr, "a child threw: %s\n", error.what());
            ::_exit(99);
        }
    }
    Forked(Forked&& other) noexcept : pid_(std::exchange(other.pid_, 0)) {}
    Forked& operator=(Forked&& other) noexcept {
        std::swap(pid_, other.pid_);
        return *this;
    }
    ~Forked() {
        if (pid_ <= 0) { return; }
        kill();
        join();
    }

    pid_t pid() const noexcept { return pid_; }
    void kill(int signal = SIGKILL) const { ::kill(pid_, signal); }

    /// Waits for its end; returns its exit code, or -SIGNAL.
    int join() {
        int status = 0;
        while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {}
        pid_ = 0;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }

    /// Waits until it has stopped itself by SIGSTOP; false when it ended instead.
    bool wait_stopped() const {
        int status = 0;
        while (::waitpid(pid_, &status, WUNTRACED) < 0 && errno == EINTR) {}
        return WIFSTOPPED(status);
    }

  private:
    pid_t pid_;
};

}  // namespace support

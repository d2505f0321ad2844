// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Ends this process by SIGKILL when a clock comes to a time: nothing that the process is at, a
/// lock that it holds or a loop that it is in, can hold that up.

#include <multiprocessing/errors.hpp>

#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <ctime>
#include <utility>

namespace multiprocessing::detail::os {

/// Returns what that clock of the process shows.
inline std::chrono::nanoseconds time_of(clockid_t clock) noexcept {
    std::timespec time{};
    ::clock_gettime(clock, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

/// A timer of the kernel's for one clock. A forked child has none of its parent's.
/// \safety one thread's.
class KillTimer {
  public:
    explicit KillTimer(clockid_t clock) noexcept : clock_(clock) {}
    KillTimer(const KillTimer&) = delete;
    KillTimer& operator=(const KillTimer&) = delete;
    ~KillTimer() {
        if (id_ >= 0) { ::syscall(SYS_timer_delete, id_); }
    }

    /// Sets it to `time` from now. \throws OSError when the kernel has no timer left.
    void start(std::chrono::nanoseconds time) {
        if (!try_start(time)) { throw_os_error(errno, "timer_create", "the bound of a task"); }
    }
    /// The same without an error, for signal handlers.
    bool try_start(std::chrono::nanoseconds time) noexcept {
        if (id_ < 0 && !make()) { return false; }
        set(time);
        return true;
    }
    void stop() noexcept {
        if (id_ >= 0) { set(std::chrono::nanoseconds(0)); }
    }

  private:
    // By system calls, since older C libraries have these functions in a library of its own.
    bool make() noexcept {
        ::sigevent event{};
        event.sigev_notify = SIGEV_SIGNAL;
        event.sigev_signo = SIGKILL;
        int id = -1;
        if (::syscall(SYS_timer_create, clock_, &event, &id) != 0) { return false; }
        id_ = id;
        return true;
    }
    void set(std::chrono::nanoseconds time) noexcept {
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(time);
        ::itimerspec setting{};
        setting.it_value = {.tv_sec = static_cast<std::time_t>(seconds.count()),
                            .tv_nsec = static_cast<long>((time - seconds).count())};
        ::syscall(SYS_timer_settime, id_, 0, &setting, nullptr);
    }

    clockid_t clock_;
    int id_ = -1;
};

}  // namespace multiprocessing::detail::os

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A process that goes on after a death, and has two seconds for it.

#include "row.hpp"
#include "stage.hpp"

#include <multiprocessing/shm/family.hpp>

#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>

namespace step {

/// Thrown to the driver: this point is bad.
struct BadPoint : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class Survivor {
  public:
    static constexpr std::chrono::milliseconds bound{2000};

    /// Runs `f`, whose result is a small number, in a process that has `time` for it.
    template <class F>
    explicit Survivor(F f, std::chrono::milliseconds time = bound) : pid_(::fork()) {
        if (pid_ < 0) { throw std::runtime_error("fork failed"); }
        if (pid_ > 0) { return; }
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        const itimerval timer{
            .it_interval = {},
            .it_value = {.tv_sec = time.count() / 1000, .tv_usec = time.count() % 1000 * 1000}};
        ::setitimer(ITIMER_REAL, &timer, nullptr);
        int code = bad_code;
        try {
            code = f();
        } catch (const std::exception& error) { complain(error.what()); }
        // Of its own accord: else it would be one more of the dead.
        mp::detail::Family::record_exit(code);
        ::_exit(code);
    }
    Survivor(const Survivor&) = delete;
    Survivor& operator=(const Survivor&) = delete;
    ~Survivor() {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            ::waitpid(pid_, nullptr, 0);
        }
    }

    pid_t pid() const { return pid_; }

    /// Returns what `f` did.
    /// \throws BadPoint when it threw, or its time was over.
    int join() {
        int status = 0;
        ::waitpid(pid_, &status, 0);
        pid_ = 0;
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
            throw BadPoint("the survivor did not finish in time");
        }
        if (WIFSIGNALED(status)) {
            throw BadPoint("the survivor was ended by signal " + std::to_string(WTERMSIG(status)));
        }
        if (WEXITSTATUS(status) == bad_code) { throw BadPoint(stage().text); }
        return WEXITSTATUS(status);
    }

  private:
    static constexpr int bad_code = 99;

    pid_t pid_;
};

}  // namespace step

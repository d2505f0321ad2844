// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Signals: who gets them, and what they do to a process that is not the program's own.

#include <pthread.h>
#include <signal.h>

#include <initializer_list>

namespace multiprocessing::detail::os {

/// Keeps every signal but those of a fault of its own from this thread, and from threads that it
/// starts, for the scope: the library's threads leave the program's signals to the program's
/// threads. \safety one thread's.
class BlockedSignals {
  public:
    BlockedSignals() noexcept {
        sigset_t all;
        ::sigfillset(&all);
        for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS}) {
            ::sigdelset(&all, fault);
        }
        ::pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    BlockedSignals(const BlockedSignals&) = delete;
    BlockedSignals& operator=(const BlockedSignals&) = delete;
    ~BlockedSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

  private:
    sigset_t before_;
};

/// Takes the parent's handlers from a process that the library made for itself: SIGTERM ends it,
/// and Ctrl-C, which the terminal sends to the whole group, is the parent's affair.
inline void take_signals_of_a_worker() noexcept {
    ::signal(SIGTERM, SIG_DFL);
    ::signal(SIGINT, SIG_IGN);
    // It may have been forked by a thread of the library's, which has all signals blocked.
    sigset_t none;
    ::sigemptyset(&none);
    ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
}

/// Leaves Ctrl-C, which the terminal sends to the whole group, to others.
class IgnoredInterrupt {
  public:
    IgnoredInterrupt() noexcept {
        struct sigaction ignore {};
        ignore.sa_handler = SIG_IGN;
        ::sigaction(SIGINT, &ignore, &before_);
    }

    /// Gives a child of this process the disposition that there was.
    void undo() const noexcept { ::sigaction(SIGINT, &before_, nullptr); }

  private:
    struct sigaction before_ {};
};

/// Has the kernel keep what it knows of this process's ended children for whoever asks: with
/// SIGCHLD ignored it would not, and a handler of the program's might be quicker.
class KeptExitCodes {
  public:
    KeptExitCodes() noexcept {
        struct sigaction by_default {};
        by_default.sa_handler = SIG_DFL;
        ::sigaction(SIGCHLD, &by_default, &before_);
    }

    /// Gives a child of this process the disposition that the program has.
    void undo() const noexcept { ::sigaction(SIGCHLD, &before_, nullptr); }

  private:
    struct sigaction before_ {};
};

}  // namespace multiprocessing::detail::os

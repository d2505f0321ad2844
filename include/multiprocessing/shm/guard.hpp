// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The robust guard: the lock of the library's own short sections in shared memory.
///
/// A process-shared robust mutex. The kernel hands it on the moment its owner dies; who gets it
/// then first rebuilds what is derived from the structure's commit words, and goes on. No user code
/// runs inside, and the thread that enters also leaves, which is what a robust mutex demands.
/// User-visible locks, which any process may release, are another thing: see owner_word.hpp.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/futex.hpp>
#include <multiprocessing/os/kill_point.hpp>
#include <multiprocessing/timeout.hpp>

#include <pthread.h>

#include <cerrno>
#include <chrono>
#include <ctime>
#include <utility>

namespace multiprocessing::detail {

/// A lock in shared memory that survives the death of its holder at any instruction.
/// \safety processes and threads. Not recursive. Its holder must not fork, and must not throw
/// before the structure's commit word is in order.
/// \cost 19 ns for entering and leaving when nobody else is there.
class Guard {
  public:
    Guard() {
        pthread_mutexattr_t attributes;
        ::pthread_mutexattr_init(&attributes);
        ::pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
        ::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
        const int error = ::pthread_mutex_init(&mutex_, &attributes);
        ::pthread_mutexattr_destroy(&attributes);
        if (error != 0) { throw_os_error(error, "pthread_mutex_init", "guard"); }
    }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

    /// Being inside; leaves at the end of the scope.
    class [[nodiscard]] Section {
      public:
        Section() = default;
        explicit Section(Guard& guard) noexcept : guard_(&guard) {}
        Section(Section&& other) noexcept : guard_(std::exchange(other.guard_, nullptr)) {}
        Section& operator=(Section&& other) noexcept {
            leave();
            guard_ = std::exchange(other.guard_, nullptr);
            return *this;
        }
        ~Section() { leave(); }

        explicit operator bool() const noexcept { return guard_ != nullptr; }
        void leave() noexcept {
            if (guard_ != nullptr) {
                ::pthread_mutex_unlock(&std::exchange(guard_, nullptr)->mutex_);
            }
        }

      private:
        Guard* guard_ = nullptr;
    };

    /// Enters. If the last holder died inside, `recover()` runs first: it rebuilds every derived
    /// field from the commit words, may be killed and run again by the next, and does not throw.
    template <class Recover>
    Section enter(Recover&& recover) {
        return enter(Deadline(forever), recover);
    }

    /// The same with a bound; an empty section when it passed.
    template <class Recover>
    Section enter(const Deadline& deadline, Recover&& recover) {
        // First without looking at the clock: nearly always the guard is free.
        int error = ::pthread_mutex_trylock(&mutex_);
        // A slice at a time. Who is woken and killed before it has entered takes the wake with it
        // if somebody else has come in meanwhile, and the one who sleeps on is known to nobody.
        while (error == EBUSY || (error == ETIMEDOUT && !deadline.has_passed())) {
            error = lock_for(deadline.left(os::wait_slice));
        }
        return entered(error, recover);
    }

    /// The same without waiting; an empty section when somebody is inside.
    template <class Recover>
    Section try_enter(Recover&& recover) {
        return entered(::pthread_mutex_trylock(&mutex_), recover);
    }

  private:
    int lock_for(std::chrono::nanoseconds time) noexcept {
#if defined(__SANITIZE_THREAD__)
        // g++ 12's knows nothing of pthread_mutex_clocklock and would take us for not having it.
        using Clock = std::chrono::system_clock;
#else
        using Clock = std::chrono::steady_clock;  // which is CLOCK_MONOTONIC
#endif
        const std::chrono::nanoseconds until = Clock::now().time_since_epoch() + time;
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(until);
        const std::timespec at{.tv_sec = static_cast<std::time_t>(seconds.count()),
                               .tv_nsec = static_cast<long>((until - seconds).count())};
#if defined(__SANITIZE_THREAD__)
        return ::pthread_mutex_timedlock(&mutex_, &at);
#else
        return ::pthread_mutex_clocklock(&mutex_, CLOCK_MONOTONIC, &at);
#endif
    }

    template <class Recover>
    Section entered(int error, Recover& recover) {
        if (error == 0) [[likely]] { return Section(*this); }
        if (error == ETIMEDOUT || error == EBUSY) { return Section(); }
        if (error != EOWNERDEAD) { throw_os_error(error, "pthread_mutex_lock", "guard"); }
        MULTIPROCESSING_KILL_POINT("guard.recover.begin");
        recover();
        MULTIPROCESSING_KILL_POINT("guard.recover.rebuilt");
        ::pthread_mutex_consistent(&mutex_);
        MULTIPROCESSING_KILL_POINT("guard.recover.consistent");
        return Section(*this);
    }

    // Written by the C library and, at the death of the holder, by the kernel.
    pthread_mutex_t mutex_;
};

}  // namespace multiprocessing::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Sleeping on a word of shared memory, and waking who sleeps there.
///
/// Every sleep is bounded (`wait_slice`) and its caller looks at the whole condition again: a waker
/// may be killed between its store and its wake, and nobody may need the dead. The return of a wait
/// therefore says nothing; only the words do.

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdint>
#include <ctime>

namespace multiprocessing::detail::os {

/// A word that processes sleep on.
using FutexWord = std::atomic<std::uint32_t>;
static_assert(sizeof(FutexWord) == 4 && FutexWord::is_always_lock_free);

/// The longest sleep before a waiter looks again; what a lost wake costs at most.
inline constexpr std::chrono::nanoseconds wait_slice = std::chrono::milliseconds(50);

/// Sleeps while `word` is `expected`, until woken, a signal, or `timeout` (at most).
/// \cost one system call.
void futex_wait(FutexWord& word, std::uint32_t expected, std::chrono::nanoseconds timeout) noexcept;

/// The same on two words at once: returns when either changes hands (`futex_waitv`, Linux 5.16).
/// Elsewhere it watches the first alone, and the caller's slice stands in for the second.
void futex_wait_either(FutexWord& first, std::uint32_t first_expected, FutexWord& second,
                       std::uint32_t second_expected, std::chrono::nanoseconds timeout) noexcept;

/// Wakes at most `count` sleepers.
/// \safety async-signal-safe; keeps `errno`.
void futex_wake(FutexWord& word, int count) noexcept;

/// Stores 0 and wakes one sleeper in one system call, so that no SIGKILL falls between the two.
void futex_clear_and_wake(FutexWord& word) noexcept;

// -------------------------------------------------------------------------------------------------

inline long futex_call(FutexWord& word, int operation, std::uint32_t value,
                       std::uintptr_t timeout_or_count, FutexWord* second = nullptr,
                       std::uint32_t third = 0) noexcept {
    const int saved = errno;
    const long result =
        ::syscall(SYS_futex, &word, operation, value, timeout_or_count, second, third);
    errno = saved;
    return result;
}

inline std::timespec to_timespec(std::chrono::nanoseconds duration) noexcept {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration);
    return {.tv_sec = static_cast<std::time_t>(seconds.count()),
            .tv_nsec = static_cast<long>((duration - seconds).count())};
}

inline void futex_wait(FutexWord& word, std::uint32_t expected,
                       std::chrono::nanoseconds timeout) noexcept {
    const std::timespec relative = to_timespec(timeout);
    futex_call(word, FUTEX_WAIT, expected, reinterpret_cast<std::uintptr_t>(&relative));
}

inline void futex_wait_either(FutexWord& first, std::uint32_t first_expected, FutexWord& second,
                              std::uint32_t second_expected,
                              std::chrono::nanoseconds timeout) noexcept {
    // Laid out here because the headers of kernels before 5.16 do not have it.
    struct Waiter {
        std::uint64_t value;
        std::uint64_t address;
        std::uint32_t flags;
        std::uint32_t reserved;
    };
    constexpr long waitv = 449;  // the same number on every architecture
    constexpr std::uint32_t flag_32_bits = 2;
    static std::atomic<bool> available{true};
    if (available.load(std::memory_order_relaxed)) {
        Waiter waiters[2] = {
            {first_expected, reinterpret_cast<std::uint64_t>(&first), flag_32_bits, 0},
            {second_expected, reinterpret_cast<std::uint64_t>(&second), flag_32_bits, 0}};
        std::timespec deadline{};
        ::clock_gettime(CLOCK_MONOTONIC, &deadline);
        const auto now =
            std::chrono::seconds(deadline.tv_sec) + std::chrono::nanoseconds(deadline.tv_nsec);
        deadline = to_timespec(now + timeout);
        const int saved = errno;
        const long result = ::syscall(waitv, waiters, 2, 0, &deadline, CLOCK_MONOTONIC);
        const int error = errno;
        errno = saved;
        // A seccomp filter that does not know the call says EPERM where an old kernel says ENOSYS.
        if (result >= 0 || (error != ENOSYS && error != EPERM)) { return; }
        available.store(false, std::memory_order_relaxed);
    }
    futex_wait(first, first_expected, timeout);
}

inline void futex_wake(FutexWord& word, int count) noexcept {
    futex_call(word, FUTEX_WAKE, static_cast<std::uint32_t>(count), 0);
}

inline void futex_clear_and_wake(FutexWord& word) noexcept {
    // WAKE_OP on one and the same word: store 0, wake one; the comparison that could wake further
    // sleepers asks for at most none.
    constexpr std::uint32_t store_zero = FUTEX_OP(FUTEX_OP_SET, 0, FUTEX_OP_CMP_EQ, 0);
    futex_call(word, FUTEX_WAKE_OP, 1, 0, &word, store_zero);
}

}  // namespace multiprocessing::detail::os

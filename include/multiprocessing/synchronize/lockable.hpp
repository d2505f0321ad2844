// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The spelling of the standard library for what has `acquire` and `release`.
///
///     const std::scoped_lock guard(lock);        // Python's `with lock:`

#include <multiprocessing/timeout.hpp>

#include <chrono>
#include <concepts>

namespace multiprocessing {

/// What an `acquire` came to: true when it is held.
/// \safety a value.
class LockResult {
  public:
    constexpr LockResult(bool acquired, bool owner_died) noexcept
        : acquired_(acquired), owner_died_(owner_died) {}

    constexpr operator bool() const noexcept { return acquired_; }
    /// Tells whether the holder before died holding it: what it protects may be half-written.
    constexpr bool owner_died() const noexcept { return owner_died_; }

  private:
    bool acquired_;
    bool owner_died_;
};

namespace detail {

/// Gives `Handle` the members that `std::scoped_lock`, `std::unique_lock` and `std::lock` use.
template <class Handle>
class Lockable {
  public:
    void lock() const { static_cast<void>(handle().acquire()); }
    bool try_lock() const { return handle().acquire(false); }

    template <class Rep, class Period>
    bool try_lock_for(const std::chrono::duration<Rep, Period>& duration) const {
        return handle().acquire(Timeout(duration));
    }

    template <class Clock, class Duration>
    bool try_lock_until(const std::chrono::time_point<Clock, Duration>& end) const {
        // Another clock may have run unevenly meanwhile: what counts is what it says now.
        for (;;) {
            const auto left = end - Clock::now();
            if (handle().acquire(Timeout(left))) { return true; }
            if (Clock::now() >= end) { return false; }
        }
    }

    void unlock() const { handle().release(); }

  private:
    friend Handle;
    Lockable() = default;

    const Handle& handle() const noexcept { return static_cast<const Handle&>(*this); }
};

/// What is no timeout and no yes or no: `lock.acquire(5)` does not say five of what.
template <class T>
concept bare_number = std::integral<T> && !std::same_as<T, bool>;

}  // namespace detail
}  // namespace multiprocessing

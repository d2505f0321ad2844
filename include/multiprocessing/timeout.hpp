// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// How long a call may wait.
///
///     queue.get(2s);                 // any duration of std::chrono
///     lock.acquire(true, 150ms);
///     event.wait();                  // mp::forever, which is what is meant when nothing is said
///
/// Mirrors Python's `timeout=` arguments: left out (or `std::nullopt`, Python's `None`) is for
/// ever, zero or negative is "do not wait". A bare number does not compile, since it does not say
/// its unit.

#include <chrono>
#include <concepts>
#include <optional>

namespace multiprocessing {

/// A bound on a wait: a duration, or for ever.
/// \safety a value; immutable.
class Timeout {
  public:
    using clock = std::chrono::steady_clock;

    /// Waits without bound.
    static constexpr Timeout infinite() noexcept { return Timeout(std::nullopt); }

    template <class Rep, class Period>
    constexpr Timeout(std::chrono::duration<Rep, Period> duration) noexcept  // implicit on purpose
        : duration_(clamp(duration)) {}
    /// `None`: waits without bound.
    constexpr Timeout(std::nullopt_t) noexcept {}

    constexpr bool is_infinite() const noexcept { return !duration_.has_value(); }
    /// Tells whether a call with this bound returns at once.
    constexpr bool is_zero() const noexcept { return duration_ && duration_->count() <= 0; }
    /// Returns the bound; not to be asked of an infinite one.
    constexpr std::chrono::nanoseconds duration() const noexcept { return *duration_; }

  private:
    // Half the clock's range (146 years): adding it to a time point cannot overflow.
    static constexpr std::chrono::nanoseconds longest = std::chrono::nanoseconds::max() / 2;

    template <class Rep, class Period>
    static constexpr std::chrono::nanoseconds clamp(std::chrono::duration<Rep, Period> duration) {
        using seconds = std::chrono::duration<double>;
        const auto wide = std::chrono::duration_cast<seconds>(duration);
        if (wide >= std::chrono::duration_cast<seconds>(longest)) { return longest; }
        // Written this way round so that a NaN counts as "do not wait".
        if (!(wide > seconds::zero())) { return std::chrono::nanoseconds::zero(); }
        return std::chrono::ceil<std::chrono::nanoseconds>(duration);
    }

    std::optional<std::chrono::nanoseconds> duration_;
};

/// Waits without bound; what every timeout is when it is left out.
inline constexpr Timeout forever = Timeout::infinite();

// -------------------------------------------------------------------------------------------------

namespace detail {

/// The moment at which a `Timeout` that began now ends.
///
/// Waits that are built from several sleeps share one deadline, so that the whole keeps the bound.
class Deadline {
  public:
    using clock = Timeout::clock;

    explicit Deadline(Timeout timeout)
        : at_(timeout.is_infinite() ? clock::time_point::max()
                                    : clock::now() + timeout.duration()) {}

    bool is_infinite() const noexcept { return at_ == clock::time_point::max(); }
    bool has_passed() const { return !is_infinite() && clock::now() >= at_; }
    clock::time_point at() const noexcept { return at_; }

    /// Returns what is left, never negative, and at most `slice`.
    std::chrono::nanoseconds left(std::chrono::nanoseconds slice) const {
        if (is_infinite()) { return slice; }
        const auto rest = std::chrono::nanoseconds(at_ - clock::now());
        if (rest <= std::chrono::nanoseconds::zero()) { return std::chrono::nanoseconds::zero(); }
        return rest < slice ? rest : slice;
    }

    /// Returns what is left as a `Timeout` for a nested call.
    Timeout left() const {
        if (is_infinite()) { return forever; }
        return left(std::chrono::nanoseconds::max());
    }

  private:
    clock::time_point at_;
};

}  // namespace detail
}  // namespace multiprocessing

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A lock that is one word, and the word is its holder's identity.
///
/// A robust mutex cannot be what users hold: any process may release a `Lock`, and the end of a
/// thread must not. So the word names the holding process; taking over from a dead one is one
/// compare-and-swap from its id to ours, which exactly one waiter wins. Identity and lock are the
/// same store, so there is no moment at which it is held by nobody knows whom.

#include <multiprocessing/os/futex.hpp>
#include <multiprocessing/os/kill_point.hpp>
#include <multiprocessing/shm/family.hpp>
#include <multiprocessing/timeout.hpp>

#include <cstdint>
#include <optional>

namespace multiprocessing::detail {

/// The word of a `Lock` or `RLock` in shared memory.
///
/// | value            | meaning                                                       |
/// |------------------|---------------------------------------------------------------|
/// | 0                | free                                                          |
/// | id               | held by that process                                          |
/// | id, inherited    | held, and its former holder died holding it                   |
/// | 0, inherited     | free, and what the dead holder left has not been repaired yet |
///
/// with or without `waiters`: somebody may sleep on it.
/// \safety all members: threads and processes.
class OwnerWord {
  public:
    enum class Result {
        timeout,  ///< not acquired
        acquired,
        inherited,   ///< acquired; the former holder died holding it (or nobody repaired what it
                     ///< left)
        owner_died,  ///< not acquired: the holder is dead and `take_over` was false
    };

    /// Acquires; with `take_over` also from a holder that has ended.
    /// \cost one atomic instruction when it is free.
    Result acquire(const Deadline& deadline, bool take_over);
    bool try_acquire() noexcept;

    /// Frees it, whoever holds it; false when nobody does.
    /// \cost one atomic instruction when nobody waits, one system call else.
    bool release() noexcept;
    /// Frees it, leaving what the dead holder left to the next one.
    void release_unrepaired() noexcept;

    /// Frees it if its holder is dead; what `Lock::recover` does.
    void recover();

    /// Returns the process that holds it, dead or alive.
    MemberId owner() const noexcept { return word_.load() & member_id_mask; }
    bool is_inherited() const noexcept { return (word_.load() & inherited_bit) != 0; }

  private:
    static constexpr std::uint32_t inherited_bit = 1U << 30;
    static constexpr std::uint32_t waiters_bit = 1U << 31;

    Result acquire_slowly(MemberId self, const Deadline& deadline, bool take_over);

    os::FutexWord word_{0};  // changed by compare-and-swap or exchange only, by anybody
};

// -------------------------------------------------------------------------------------------------

inline bool OwnerWord::try_acquire() noexcept {
    std::uint32_t expected = 0;
    return word_.compare_exchange_strong(expected, Family::self(), std::memory_order_acquire,
                                         std::memory_order_relaxed);
}

inline OwnerWord::Result OwnerWord::acquire(const Deadline& deadline, bool take_over) {
    const MemberId self = Family::self();
    std::uint32_t expected = 0;
    // Acquire pairs with the release of the exchange in release().
    if (word_.compare_exchange_strong(expected, self, std::memory_order_acquire,
                                      std::memory_order_relaxed)) [[likely]] {
        return Result::acquired;
    }
    return acquire_slowly(self, deadline, take_over);
}

inline OwnerWord::Result OwnerWord::acquire_slowly(MemberId self, const Deadline& deadline,
                                                   bool take_over) {
    // Who has slept takes the word with the waiters bit: others may still sleep, and only the next
    // release can wake them.
    std::uint32_t waiters = 0;
    for (;;) {
        std::uint32_t seen = word_.load();
        const MemberId owner = seen & member_id_mask;
        if (owner == 0) {
            const std::uint32_t inherited = seen & inherited_bit;
            if (word_.compare_exchange_strong(seen,
                                              self | inherited | (seen & waiters_bit) | waiters)) {
                return inherited != 0 ? Result::inherited : Result::acquired;
            }
            continue;
        }
        // Asked before the first sleep, so that a lock whose holder died long ago costs nothing.
        if (owner != self && Family::has_ended(owner)) {
            if (!take_over) { return Result::owner_died; }
            MULTIPROCESSING_KILL_POINT("owner_word.acquire.found_dead");
            if (word_.compare_exchange_strong(seen, self | inherited_bit | waiters_bit)) {
                MULTIPROCESSING_KILL_POINT("owner_word.acquire.taken_over");
                return Result::inherited;
            }
            continue;
        }
        const auto left = deadline.left(os::wait_slice);
        const bool is_late = left <= std::chrono::nanoseconds::zero();
        // Who has slept and gives up may have been woken in the place of another.
        if (is_late && waiters == 0) { return Result::timeout; }
        if ((seen & waiters_bit) == 0 && !word_.compare_exchange_strong(seen, seen | waiters_bit)) {
            continue;
        }
        if (is_late) { return Result::timeout; }
        Family::wait_with_owner(word_, seen | waiters_bit, owner, left);
        waiters = waiters_bit;
    }
}

inline bool OwnerWord::release() noexcept {
    std::uint32_t seen = word_.load(std::memory_order_relaxed);
    for (;;) {
        if ((seen & member_id_mask) == 0) { return false; }
        if ((seen & waiters_bit) != 0) {
            // By its holder: nobody else may change the holder's id, so the store cannot take away
            // another's lock; storing and waking in one call leaves no moment to be killed between.
            if ((seen & member_id_mask) == Family::self()) {
                // Changes nothing; says to the memory model what the kernel's store does not say.
                word_.fetch_or(0, std::memory_order_release);
                os::futex_clear_and_wake(word_);
                return true;
            }
            if (word_.compare_exchange_weak(seen, 0)) {
                MULTIPROCESSING_KILL_POINT("owner_word.release.freed");
                os::futex_wake(word_, 1);
                return true;
            }
        } else if (word_.compare_exchange_weak(seen, 0, std::memory_order_release,
                                               std::memory_order_relaxed)) {
            return true;
        }
    }
}

inline void OwnerWord::release_unrepaired() noexcept {
    word_.store(inherited_bit);
    os::futex_wake(word_, 1);
}

inline void OwnerWord::recover() {
    std::uint32_t seen = word_.load();
    const MemberId owner = seen & member_id_mask;
    if (owner != 0 && Family::has_ended(owner) && word_.compare_exchange_strong(seen, 0)) {
        os::futex_wake(word_, INT_MAX);
    }
}

}  // namespace multiprocessing::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A semaphore in shared memory: a ledger of what each process holds.
///
/// The value is not stored but follows: base - (the sum of what is held). So the units of a process
/// that died come back by one store, its entry's, and there are never more than there were.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/futex.hpp>
#include <multiprocessing/os/kill_point.hpp>
#include <multiprocessing/shm/family.hpp>
#include <multiprocessing/shm/guard.hpp>
#include <multiprocessing/shm/segment.hpp>
#include <multiprocessing/timeout.hpp>

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>

namespace multiprocessing {

/// What becomes of the units that a process holds when it dies.
enum class UnitDeath : std::uint32_t {
    reclaim,  ///< they come back, as far as the value stays at or below the initial one
    lose,     ///< they stay taken until somebody releases for the dead one
};

namespace detail {

/// The state of a `Semaphore`; the ledger follows it.
/// \safety all members: threads and processes.
class SemaphoreState {
  public:
    static constexpr std::int64_t max_value = std::numeric_limits<std::int32_t>::max();

    /// Returns what the ledger of a semaphore with that initial value takes.
    static std::size_t ledger_bytes(std::int64_t initial) {
        return entries_for(initial) * sizeof(Entry);
    }

    SemaphoreState(std::int64_t initial, UnitDeath policy, bool bounded)
        : initial_(static_cast<std::int32_t>(initial)),
          entries_(static_cast<std::uint32_t>(entries_for(initial))),
          policy_(policy),
          bounded_(bounded),
          base_(initial),
          value_(initial) {}

    /// Tells whether what stands in these `size` bytes is a semaphore.
    bool is_intact(std::size_t size) const noexcept {
        return tag_.names(magic("SEMA")) && std::has_single_bit(entries_) &&
               entries_ <= (size - sizeof(SemaphoreState)) / sizeof(Entry);
    }
    bool is_bounded() const noexcept { return bounded_; }

    /// Takes a unit; false when there was none in time.
    bool acquire(Timeout timeout);
    /// Gives back or adds `n` units, all or none.
    void release(std::int64_t n);
    /// Returns how many there are, with those of the dead.
    std::int64_t value();

  private:
    // Member id << 32 | units held; without units anybody's, and the id a hint to who had it last.
    using Entry = std::atomic<std::uint64_t>;

    static MemberId id_of(std::uint64_t entry) { return static_cast<MemberId>(entry >> 32); }
    static std::uint32_t held(std::uint64_t entry) { return static_cast<std::uint32_t>(entry); }
    static std::uint64_t pack(MemberId id, std::uint64_t units) {
        return static_cast<std::uint64_t>(id) << 32 | units;
    }

    static constexpr std::uint32_t nothing = std::numeric_limits<std::uint32_t>::max();
    // A power of two, so that a process's own place is found by a mask.
    static std::size_t entries_for(std::int64_t initial) {
        return std::bit_ceil(
            static_cast<std::size_t>(std::clamp<std::int64_t>(initial, 32, Family::capacity)));
    }

    Entry* ledger() noexcept { return reinterpret_cast<Entry*>(this + 1); }
    std::uint32_t entries() const noexcept { return entries_; }

    Guard::Section enter() {
        return guard_.enter([this]() noexcept { recover(); });
    }

    // Inside the guard.
    void take();
    std::uint32_t find_own(MemberId self);
    std::uint32_t find_place(MemberId self);
    std::uint32_t find_other(MemberId preferred) noexcept;
    void give(MemberId self, std::uint32_t own, std::int64_t n, MemberId preferred);
    void change(std::uint32_t index, std::uint64_t entry, std::int64_t base,
                std::int64_t unsettled) noexcept;
    void finish_change() noexcept;
    void settle(MemberId preferred) noexcept;
    void recover() noexcept;
    void reclaim(std::uint32_t index);
    void refuse_too_many(std::int64_t n) const;
    int announce(std::int64_t units);

    // Outside.
    bool acquire_slowly(Timeout timeout);
    MemberId look_for_deaths();
    MemberId prefer_ended(MemberId self);

    LayoutTag tag_{magic("SEMA"), 1};
    Guard guard_;
    // Written once at creation:
    std::int32_t initial_;   // 0 .. max_value
    std::uint32_t entries_;  // of the ledger, a power of two
    UnitDeath policy_;
    bool bounded_;

    // The words below and the ledger are written inside the guard only. What is committed is
    // `base_` and the ledger: each operation changes one of them by one store, or both by way of
    // `change_`.
    std::atomic<std::int64_t> base_;  // units there are, held or not

    // A change of more than one word, as the values after it: it has happened once `index` is
    // stored, and whoever finds that stored repeats the rest.
    struct Change {
        std::atomic<std::uint32_t> index{
            nothing};                            // of the entry that changes; `nothing`: no change
        std::atomic<std::uint64_t> entry{0};     // what the entry is then
        std::atomic<std::int64_t> base{0};       // what base_ is then
        std::atomic<std::int64_t> unsettled{0};  // what unsettled_ is then
    } change_;
    // Units that were released but not yet taken off the entry of somebody who holds some. They
    // count in base_ and in the entry, so settling them leaves the value as it is. 0 outside the
    // guard.
    std::atomic<std::int64_t> unsettled_{0};

    // Derived: base - sum of the ledger. Read by anybody.
    std::atomic<std::int64_t> value_;

    // Hints; any value is right. Who sleeps does so on the first, which counts releases; the second
    // says that somebody may sleep, and is taken down by who wakes.
    os::FutexWord releases_{0};
    std::atomic<std::uint32_t> sleepers_{0};
};
static_assert(shared_layout<SemaphoreState> && sizeof(SemaphoreState) == 128);

// -------------------------------------------------------------------------------------------------

// The order of stores is what a death leaves, so the compiler must keep it: each is a release at
// least, whose partner is the guard's next holder.

inline std::uint32_t SemaphoreState::find_own(MemberId self) {
    const std::uint32_t count = entries();
    const std::uint32_t home = self & (count - 1);
    if (id_of(ledger()[home]) == self) [[likely]] { return home; }
    for (std::uint32_t i = 0; i < count; ++i) {
        if (id_of(ledger()[i]) == self && held(ledger()[i]) > 0) { return i; }
    }
    return nothing;
}

inline std::uint32_t SemaphoreState::find_place(MemberId self) {
    if (const std::uint32_t own = find_own(self); own != nothing) { return own; }
    const std::uint32_t count = entries();
    const std::uint32_t home = self & (count - 1);
    for (std::uint32_t i = 0; i < count; ++i) {
        const std::uint32_t index = (home + i) & (count - 1);
        if (held(ledger()[index]) == 0) { return index; }
    }
    // What those who have ended still hold can stand in base_ as well.
    for (std::uint32_t i = 0; i < count; ++i) {
        const std::uint64_t entry = ledger()[i];
        if (!Family::has_ended(id_of(entry))) { continue; }
        if (policy_ == UnitDeath::reclaim && Family::has_died(id_of(entry))) {
            reclaim(i);
        } else {
            change(i, 0, base_ - held(entry), 0);
        }
        return i;
    }
    return nothing;
}

inline void SemaphoreState::take() {
    const MemberId self = Family::self();
    const std::uint32_t index = find_place(self);
    if (index != nothing) {
        Entry& entry = ledger()[index];
        entry.store(pack(self, held(entry.load(std::memory_order_relaxed)) + 1),
                    std::memory_order_release);
    } else {
        base_.store(base_ - 1, std::memory_order_release);
    }
    MULTIPROCESSING_KILL_POINT("semaphore.acquire.taken");
    value_.store(value_.load(std::memory_order_relaxed) - 1, std::memory_order_release);
    MULTIPROCESSING_KILL_POINT("semaphore.acquire.value");
}

inline bool SemaphoreState::acquire(Timeout timeout) {
    // Without looking at the clock, or at who lives: nearly always there is a unit.
    {
        const auto section = guard_.try_enter([this]() noexcept { recover(); });
        if (section && value_.load(std::memory_order_relaxed) > 0) {
            take();
            return true;
        }
    }
    return acquire_slowly(timeout);
}

inline bool SemaphoreState::acquire_slowly(Timeout timeout) {
    const Deadline deadline(timeout);
    // Who is stopped inside the guard does not make us wait for ever; who is only in it does not
    // make "do not wait" fail.
    const Deadline patience(timeout.is_infinite() ? timeout
                                                  : Timeout(timeout.duration() + os::wait_slice));
    bool slept = false;
    for (;;) {
        std::uint32_t seen = 0;
        {
            auto section = guard_.enter(patience, [this]() noexcept { recover(); });
            if (!section) { return false; }
            // After a sleep too: others may sleep besides, whom the one that woke us left asleep.
            if (slept || !timeout.is_zero()) {
                sleepers_.store(1, std::memory_order_release);
                MULTIPROCESSING_KILL_POINT("semaphore.acquire.announced");
            }
            if (value_.load(std::memory_order_relaxed) > 0) {
                take();
                const bool more = slept && value_.load(std::memory_order_relaxed) > 0;
                section.leave();
                if (more) { os::futex_wake(releases_, 1); }
                return true;
            }
            seen = releases_.load(std::memory_order_relaxed);
        }
        const MemberId living_holder = look_for_deaths();
        if (value_.load(std::memory_order_acquire) > 0) { continue; }
        const auto left = deadline.left(os::wait_slice);
        if (left <= left.zero()) { return false; }
        if (living_holder != 0) {
            // Its death wakes us early; that of another holder is seen after the slice.
            Family::wait_with_owner(releases_, seen, living_holder, left);
        } else {
            os::futex_wait(releases_, seen, left);
        }
        slept = true;
    }
}

/// Gives back what the dead hold; returns somebody who holds units and lives, 0 if there is nobody.
/// Asks the kernel outside the guard: a process that has ended stays so.
inline MemberId SemaphoreState::look_for_deaths() {
    const MemberId self = Family::self();
    MemberId living = 0;
    for (std::uint32_t i = 0; i < entries(); ++i) {
        const std::uint64_t entry = ledger()[i].load(std::memory_order_acquire);
        const MemberId id = id_of(entry);
        if (held(entry) == 0 || id == self) { continue; }
        if (!Family::has_ended(id)) {
            living = id;
        } else if (policy_ == UnitDeath::reclaim && Family::has_died(id)) {
            int wakes = 0;
            {
                const auto section = enter();
                const std::int64_t before = value_.load(std::memory_order_relaxed);
                if (id_of(ledger()[i]) == id && held(ledger()[i]) > 0) { reclaim(i); }
                wakes = announce(value_.load(std::memory_order_relaxed) - before);
            }
            if (wakes > 0) { os::futex_wake(releases_, wakes); }
        }
    }
    return living;
}

inline void SemaphoreState::reclaim(std::uint32_t index) {
    const std::int64_t units = held(ledger()[index]);
    const std::int64_t value = value_.load(std::memory_order_relaxed);
    // What lifts the value above the initial one was not taken from there: tokens that were used
    // up.
    const std::int64_t back = std::min(units, std::max<std::int64_t>(0, initial_ - value));
    change(index, 0, base_ - (units - back), 0);
    value_.store(value + back, std::memory_order_release);
    MULTIPROCESSING_KILL_POINT("semaphore.reclaim.value");
}

inline void SemaphoreState::change(std::uint32_t index, std::uint64_t entry, std::int64_t base,
                                   std::int64_t unsettled) noexcept {
    change_.entry.store(entry);
    change_.base.store(base);
    change_.unsettled.store(unsettled);
    MULTIPROCESSING_KILL_POINT("semaphore.change.prepared");
    change_.index.store(index);
    MULTIPROCESSING_KILL_POINT("semaphore.change.committed");
    finish_change();
}

inline void SemaphoreState::finish_change() noexcept {
    const std::uint32_t index = change_.index;
    if (index == nothing) { return; }
    if (index < entries()) {
        ledger()[index].store(change_.entry);
        MULTIPROCESSING_KILL_POINT("semaphore.change.entry");
    }
    base_.store(change_.base);
    MULTIPROCESSING_KILL_POINT("semaphore.change.base");
    unsettled_.store(change_.unsettled);
    MULTIPROCESSING_KILL_POINT("semaphore.change.unsettled");
    change_.index.store(nothing);
    MULTIPROCESSING_KILL_POINT("semaphore.change.done");
}

/// Takes released units off the entries of those who hold some, `preferred` first.
inline void SemaphoreState::settle(MemberId preferred) noexcept {
    while (unsettled_ > 0) {
        const std::uint32_t index = find_other(preferred);
        if (index == nothing) {
            unsettled_.store(0);  // nobody holds any: they were added
            MULTIPROCESSING_KILL_POINT("semaphore.settle.added");
            return;
        }
        const std::uint64_t entry = ledger()[index];
        const std::int64_t units = std::min<std::int64_t>(unsettled_, held(entry));
        change(index, entry - static_cast<std::uint64_t>(units), base_ - units, unsettled_ - units);
    }
}

inline void SemaphoreState::recover() noexcept {
    finish_change();
    settle(0);
    std::int64_t value = base_;
    for (std::uint32_t i = 0; i < entries(); ++i) { value -= held(ledger()[i]); }
    value_.store(value);
    MULTIPROCESSING_KILL_POINT("semaphore.recover.value");
}

inline void SemaphoreState::refuse_too_many(std::int64_t n) const {
    if (n < 1) { throw ValueError(text_of("release({}) of a Semaphore: at least 1", {n})); }
    const std::int64_t bound = bounded_ ? initial_ : max_value;
    const std::int64_t value = value_.load(std::memory_order_relaxed);
    if (n > bound - value) {
        throw ValueError(text_of("release({}) of a {}Semaphore whose value is {}: at most {}",
                                 {n, bounded_ ? "Bounded" : "", value, bound}));
    }
}

/// Says that `units` have come; returns how many sleepers to wake outside the guard.
inline int SemaphoreState::announce(std::int64_t units) {
    if (units <= 0) { return 0; }
    releases_.store(releases_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    MULTIPROCESSING_KILL_POINT("semaphore.release.announced");
    if (sleepers_.load(std::memory_order_relaxed) == 0) { return 0; }
    sleepers_.store(0, std::memory_order_release);
    return static_cast<int>(std::min(units, max_value));
}

/// Finds out for whom to release first where there is a choice: for one who has ended. Else 0.
inline MemberId SemaphoreState::prefer_ended(MemberId self) {
    const auto others = [&](auto visit) {
        for (std::uint32_t i = 0; i < entries(); ++i) {
            const std::uint64_t entry = ledger()[i].load(std::memory_order_acquire);
            if (held(entry) > 0 && id_of(entry) != self) { visit(id_of(entry)); }
        }
    };
    int holders = 0;
    others([&](MemberId) { ++holders; });
    MemberId ended = 0;
    if (holders > 1) {
        others([&](MemberId id) {
            if (ended == 0 && Family::has_ended(id)) { ended = id; }
        });
    }
    return ended;
}

inline std::uint32_t SemaphoreState::find_other(MemberId preferred) noexcept {
    std::uint32_t index = nothing;
    for (std::uint32_t i = 0; i < entries(); ++i) {
        if (held(ledger()[i]) == 0) { continue; }
        if (index == nothing) { index = i; }
        if (id_of(ledger()[i]) == preferred) { return i; }
    }
    return index;
}

/// Releases `n` units, first those in this process's own entry.
inline void SemaphoreState::give(MemberId self, std::uint32_t own, std::int64_t n,
                                 MemberId preferred) {
    const std::int64_t units = own != nothing ? held(ledger()[own]) : 0;
    if (units >= n) {
        ledger()[own].store(pack(self, static_cast<std::uint64_t>(units - n)),
                            std::memory_order_release);
    } else if (n > 1) {
        // An index past the ledger: no entry changes.
        change(units > 0 ? own : entries(), pack(self, 0), base_ + (n - units), n - units);
        settle(preferred);
    } else if (const std::uint32_t other = find_other(preferred); other != nothing) {
        ledger()[other].store(ledger()[other] - 1, std::memory_order_release);
    } else {
        base_.store(base_ + 1, std::memory_order_release);
    }
    MULTIPROCESSING_KILL_POINT("semaphore.release.given");
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_release);
    MULTIPROCESSING_KILL_POINT("semaphore.release.value");
}

inline void SemaphoreState::release(std::int64_t n) {
    const MemberId self = Family::self();
    int wakes = 0;
    // Whether a unit is our own is seen inside; who has ended is asked outside, in a second round.
    for (std::optional<MemberId> preferred;; preferred = prefer_ended(self)) {
        const auto section = enter();
        refuse_too_many(n);
        const std::uint32_t own = find_own(self);
        const bool is_own = own != nothing && held(ledger()[own]) >= n;
        if (!is_own && !preferred && find_other(0) != nothing) { continue; }
        give(self, own, n, preferred.value_or(0));
        wakes = announce(n);
        break;
    }
    if (wakes > 0) { os::futex_wake(releases_, wakes); }
}

inline std::int64_t SemaphoreState::value() {
    // By way of the guard: a death inside it leaves the derived word behind.
    const auto read = [this] {
        const auto section = enter();
        return value_.load(std::memory_order_relaxed);
    };
    std::int64_t value = read();
    // The dead can only bring it back to the initial one.
    if (value < initial_) {
        look_for_deaths();
        value = read();
    }
    return std::max<std::int64_t>(0, value);
}

}  // namespace detail
}  // namespace multiprocessing

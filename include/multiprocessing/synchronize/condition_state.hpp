// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A condition in shared memory: a table of those who wait.
///
/// Each waiter has one word, which is also what it sleeps on; being notified is one store to it.
/// Nobody acknowledges anything, so a waiter that died keeps nobody waiting; and a notification
/// that it had got and could not use is handed on.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/futex.hpp>
#include <multiprocessing/os/kill_point.hpp>
#include <multiprocessing/shm/family.hpp>
#include <multiprocessing/shm/guard.hpp>
#include <multiprocessing/shm/segment.hpp>
#include <multiprocessing/synchronize/low_word.hpp>
#include <multiprocessing/synchronize/table.hpp>
#include <multiprocessing/timeout.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace multiprocessing::detail {

/// The state of a `Condition`.
/// \safety all members: threads and processes.
class ConditionState {
  public:
    /// How many can wait at a time: what makes the whole 4 KiB.
    static constexpr std::uint32_t capacity = 504;

    bool is_intact(std::size_t /*size*/) const noexcept { return tag_.names(magic("COND")); }

    /// Registers a waiter; from now on it can be notified. Returns its place in the table.
    /// \throws ProcessError when `capacity` threads wait already.
    std::uint32_t begin_wait();
    /// Waits until notified; false when the deadline or `given_up()` came first.
    template <class GivenUp>
    bool wait(std::uint32_t place, const Deadline& deadline, GivenUp given_up);
    /// Takes the waiter off the table; returns whether it was notified (if only just now).
    bool end_wait(std::uint32_t place) noexcept;
    /// The same for one who cannot go on: what it was given goes to another.
    void abandon_wait(std::uint32_t place);

    /// Notifies the `n` that wait longest and live; needs the condition's lock.
    void notify(std::int64_t n);

  private:
    // Member id << 32 | ticket << 2 | state. WAITING becomes GRANTED inside the guard, by
    // compare-and-swap, since the waiter itself frees its entry without it. A waiter's ticket says
    // when it came; a granted one's says when it was notified: who came later must not inherit
    // that.
    using Entry = std::atomic<std::uint64_t>;
    enum State : std::uint32_t { unused = 0, waiting = 1, granted = 2 };
    static constexpr std::uint32_t ticket_mask = 0x3fff'ffff;

    static MemberId id_of(std::uint64_t entry) { return static_cast<MemberId>(entry >> 32); }
    static State state_of(std::uint64_t entry) { return static_cast<State>(entry & 3); }
    static std::uint32_t ticket_of(std::uint64_t entry) {
        return static_cast<std::uint32_t>(entry) >> 2;
    }
    static std::uint64_t pack(MemberId id, std::uint32_t ticket, State state) {
        return static_cast<std::uint64_t>(id) << 32 | (ticket & ticket_mask) << 2 | state;
    }
    // Tickets go round; no two in use are half a billion apart.
    static bool is_earlier(std::uint32_t a, std::uint32_t b) {
        return ((a - b) & ticket_mask) > ticket_mask / 2;
    }

    // Places whose waiters are to be woken once the guard has been left.
    struct Wakes {
        std::array<std::uint16_t, capacity> places;
        std::size_t count = 0;
        void add(std::uint32_t place) { places[count++] = static_cast<std::uint16_t>(place); }
    };

    Guard::Section enter() {
        return guard_.enter([this]() noexcept { recover(); });
    }
    Table<Entry> in_use() noexcept {
        return {entries_.data(), used_.load(std::memory_order_acquire)};
    }

    // Inside the guard.
    std::optional<std::uint32_t> find_place();
    bool grant_oldest(std::optional<std::uint32_t> earlier_than, Wakes& wakes);
    void hand_on(std::uint32_t place, std::uint64_t entry, Wakes& wakes);
    void recover() noexcept;

    // Outside.
    void hand_on_of_the_dead();
    void wake(const Wakes& wakes) noexcept;

    LayoutTag tag_{magic("COND"), 1};
    Guard guard_;
    std::atomic<std::uint32_t> next_ticket_{1};  // inside the guard; ahead of every ticket in use
    // Inside the guard, derived: no entry at or past this place is in use. It grows before the
    // entry.
    std::atomic<std::uint32_t> used_{0};
    std::array<Entry, capacity> entries_{};
};
static_assert(shared_layout<ConditionState> && sizeof(ConditionState) <= 4096);

// -------------------------------------------------------------------------------------------------

inline void ConditionState::recover() noexcept {
    std::uint32_t used = capacity;
    while (used > 0 && entries_[used - 1] == 0) { --used; }
    used_.store(used);
    MULTIPROCESSING_KILL_POINT("condition.recover.used");
}

inline std::optional<std::uint32_t> ConditionState::find_place() {
    const std::uint32_t used = used_.load(std::memory_order_relaxed);
    for (std::uint32_t i = 0; i < used; ++i) {
        if (entries_[i] == 0) { return i; }
    }
    if (used < capacity) {
        used_.store(used + 1, std::memory_order_release);
        MULTIPROCESSING_KILL_POINT("condition.wait.used");
        return used;
    }
    Wakes wakes;
    std::optional<std::uint32_t> found;
    for (std::uint32_t i = 0; i < capacity; ++i) {
        std::uint64_t entry = entries_[i];
        if (entry == 0 || !Family::has_ended(id_of(entry))) { continue; }
        if (state_of(entry) == granted) {
            hand_on(i, entry, wakes);
        } else {
            entries_[i].compare_exchange_strong(entry, 0);
            MULTIPROCESSING_KILL_POINT("condition.sweep.freed");
        }
        found = i;
    }
    wake(wakes);  // rare enough to do it inside
    return found;
}

inline std::uint32_t ConditionState::begin_wait() {
    const MemberId self = Family::self();
    const auto section = enter();
    const auto place = find_place();
    if (!place) {
        throw ProcessError(text_of("more than {} threads wait on one Condition", {capacity}));
    }
    const std::uint32_t ticket = next_ticket_.fetch_add(1);
    entries_[*place].store(pack(self, ticket, waiting), std::memory_order_release);
    MULTIPROCESSING_KILL_POINT("condition.wait.registered");
    return *place;
}

template <class GivenUp>
bool ConditionState::wait(std::uint32_t place, const Deadline& deadline, GivenUp given_up) {
    Entry& entry = entries_[place];
    for (;;) {
        const std::uint64_t seen = entry.load(std::memory_order_acquire);
        if (state_of(seen) == granted) { return true; }
        const auto left = deadline.left(os::wait_slice);
        if (left <= left.zero() || given_up()) { return false; }
        os::futex_wait(low_word(entry), static_cast<std::uint32_t>(seen), left);
        if (state_of(entry.load(std::memory_order_acquire)) != granted) { hand_on_of_the_dead(); }
    }
}

inline bool ConditionState::end_wait(std::uint32_t place) noexcept {
    const std::uint64_t entry = entries_[place].exchange(0);
    MULTIPROCESSING_KILL_POINT("condition.wait.freed");
    return state_of(entry) == granted;
}

inline void ConditionState::abandon_wait(std::uint32_t place) {
    Wakes wakes;
    {
        const auto section = enter();
        const std::uint64_t entry = entries_[place];
        if (state_of(entry) == granted) {
            hand_on(place, entry, wakes);
        } else {
            entries_[place].store(0);
            MULTIPROCESSING_KILL_POINT("condition.wait.abandoned");
        }
    }
    wake(wakes);
}

/// Grants the waiter that came first (of those before ticket `earlier_than`) and lives. False:
/// there is none.
inline bool ConditionState::grant_oldest(std::optional<std::uint32_t> earlier_than, Wakes& wakes) {
    for (;;) {
        std::uint32_t oldest = capacity;
        std::uint64_t entry = 0;
        for (std::uint32_t i = 0; i < used_.load(std::memory_order_relaxed); ++i) {
            const std::uint64_t candidate = entries_[i];
            if (state_of(candidate) != waiting) { continue; }
            if (earlier_than && !is_earlier(ticket_of(candidate), *earlier_than)) { continue; }
            if (oldest == capacity || is_earlier(ticket_of(candidate), ticket_of(entry))) {
                oldest = i;
                entry = candidate;
            }
        }
        if (oldest == capacity) { return false; }
        const MemberId id = id_of(entry);
        if (Family::has_ended(id)) {
            entries_[oldest].compare_exchange_strong(entry, 0);
            MULTIPROCESSING_KILL_POINT("condition.sweep.freed");
            continue;
        }
        const std::uint32_t now = next_ticket_.load(std::memory_order_relaxed);
        // It fails if the waiter has just left of its own accord.
        if (!entries_[oldest].compare_exchange_strong(entry, pack(id, now, granted))) { continue; }
        MULTIPROCESSING_KILL_POINT("condition.notify.granted");
        wakes.add(oldest);
        return true;
    }
}

/// Gives the notification of `entry`, whose waiter cannot use it, to one who waited at that time
/// too.
inline void ConditionState::hand_on(std::uint32_t place, std::uint64_t entry, Wakes& wakes) {
    // First, so that a death between the two hands it on twice and not never.
    grant_oldest(ticket_of(entry), wakes);
    entries_[place].compare_exchange_strong(entry, 0);
    MULTIPROCESSING_KILL_POINT("condition.hand_on.freed");
}

inline void ConditionState::hand_on_of_the_dead() {
    for (Entry& entry : in_use()) {
        const std::uint64_t seen = entry.load(std::memory_order_acquire);
        if (state_of(seen) != granted || !Family::has_ended(id_of(seen))) { continue; }
        Wakes wakes;
        {
            const auto section = enter();
            if (entry == seen) {
                hand_on(static_cast<std::uint32_t>(&entry - entries_.data()), seen, wakes);
            }
        }
        wake(wakes);
    }
}

inline void ConditionState::notify(std::int64_t n) {
    // Who waits registered under the lock that the caller has now, so there is nobody to miss.
    bool anybody = false;
    for (const Entry& entry : in_use()) { anybody = anybody || entry != 0; }
    if (n < 1 || !anybody) { return; }
    Wakes wakes;
    {
        const auto section = enter();
        for (std::uint32_t i = 0; i < used_.load(std::memory_order_relaxed); ++i) {
            const std::uint64_t entry = entries_[i];
            if (state_of(entry) == granted && Family::has_ended(id_of(entry))) {
                hand_on(i, entry, wakes);
            }
        }
        while (n > 0 && grant_oldest(std::nullopt, wakes)) { --n; }
    }
    wake(wakes);
}

inline void ConditionState::wake(const Wakes& wakes) noexcept {
    for (std::size_t i = 0; i < wakes.count; ++i) {
        os::futex_wake(low_word(entries_[wakes.places[i]]), 1);
    }
}

}  // namespace multiprocessing::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A barrier in shared memory: one word that says which round it is, and a table of who has
/// arrived.
///
/// A round ends by one store, whatever its end is. A slow waiter may find that several further
/// rounds have passed; what became of its own it reads from its own entry.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/futex.hpp>
#include <multiprocessing/os/kill_point.hpp>
#include <multiprocessing/shm/family.hpp>
#include <multiprocessing/shm/guard.hpp>
#include <multiprocessing/shm/segment.hpp>
#include <multiprocessing/synchronize/low_word.hpp>
#include <multiprocessing/synchronize/table.hpp>
#include <multiprocessing/timeout.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace multiprocessing::detail {

/// The state of a `Barrier`; its two tables follow it.
/// \safety all members: threads and processes.
class BarrierState {
  public:
    /// Returns what the tables of a barrier for so many take.
    static std::size_t table_bytes(std::uint32_t parties) {
        return table_size(parties) * (sizeof(Entry) + sizeof(Member));
    }

    explicit BarrierState(std::uint32_t parties) : parties_(parties) {}

    /// Tells whether what stands in these `size` bytes is a barrier.
    bool is_intact(std::size_t size) const noexcept {
        return tag_.names(magic("BARR")) && parties_ >= 1 &&
               table_bytes(parties_) <= size - sizeof(BarrierState);
    }

    /// Waits for the others; `action()` is run by the last one before anybody is released. Returns
    /// how many had arrived before.
    /// \throws BrokenBarrierError; what the action throws.
    template <class Action>
    std::uint32_t wait(Timeout timeout, bool has_action, Action action);

    void reset();
    void abort() noexcept;

    std::uint32_t parties() const noexcept { return parties_; }
    std::uint32_t waiting();
    bool broken();

  private:
    // The table of those who wait: member id << 32 | round << 2 | state. An entry is taken, and
    // found wanting, inside the guard; its waiter frees it without.
    using Entry = std::atomic<std::uint64_t>;
    // The table of processes that ever waited: member ids, 0 for none. Written inside the guard,
    // except that anybody takes out one that has ended of its own accord.
    using Member = std::atomic<MemberId>;
    enum State : std::uint32_t { unused = 0, arrived = 1, failed = 2 };

    static constexpr std::uint32_t round_mask = 0x3fff'ffff;
    static constexpr std::uint64_t broken_bit = 1;

    static std::size_t table_size(std::uint32_t parties) {
        constexpr std::uint64_t largest = 1 << 16;
        return std::min<std::uint64_t>(std::uint64_t{2} * parties + 16, largest);
    }
    static std::uint32_t round_of(std::uint64_t word) {
        return static_cast<std::uint32_t>(word) >> 2;
    }
    static State state_of(std::uint64_t entry) { return static_cast<State>(entry & 3); }
    static MemberId id_of(std::uint64_t entry) { return static_cast<MemberId>(entry >> 32); }
    static std::uint32_t last_reset(std::uint64_t word) {
        return static_cast<std::uint32_t>(word >> 32);
    }
    static bool is_broken(std::uint64_t word) { return (word & broken_bit) != 0; }
    static std::uint64_t pack(std::uint32_t high, std::uint32_t round, std::uint32_t low) {
        return static_cast<std::uint64_t>(high) << 32 | (round & round_mask) << 2 | low;
    }

    Table<Entry> table() noexcept {
        return {reinterpret_cast<Entry*>(this + 1), table_size(parties_)};
    }
    Table<Member> members() noexcept {
        return {reinterpret_cast<Member*>(table().end()), table_size(parties_)};
    }
    Guard::Section enter() {
        return guard_.enter([this]() noexcept { recover(); });
    }

    // Inside the guard.
    std::uint32_t count_arrived(std::uint32_t round) noexcept;
    Entry* find_place(std::uint32_t round);
    void remember(MemberId member);
    void recover() noexcept;

    // Outside, or inside.
    struct Arrival {
        std::uint32_t index;  // how many came before
        std::uint32_t round;
        Entry* entry;  // null: the last one, and the round has been ended
    };
    class Place;

    Arrival arrive(Timeout timeout, const Deadline& deadline, bool has_action);
    void await_round(const Arrival& arrival, const Deadline& deadline);
    bool end_round(std::uint32_t round) noexcept;
    void break_round(std::uint32_t round) noexcept;
    void break_if_somebody_died();
    bool has_dead_party(std::uint32_t round);
    void wake_all() noexcept { os::futex_wake(low_word(round_), INT_MAX); }

    LayoutTag tag_{magic("BARR"), 1};
    Guard guard_;
    std::uint32_t parties_;  // written once at creation, >= 1
    // last round that was reset << 32 | round << 2 | broken_bit. Changed by compare-and-swap:
    // anybody sets the bit at any time; the round goes on by one when all have arrived, or by
    // reset(), inside the guard.
    std::atomic<std::uint64_t> round_{std::uint64_t{1} << 2};
};
static_assert(shared_layout<BarrierState> && sizeof(BarrierState) == 64);

// -------------------------------------------------------------------------------------------------

/// Frees a waiter's entry; breaks the round first if the waiter leaves by an exception.
class BarrierState::Place {
  public:
    Place(BarrierState& state, const Arrival& arrival) : state_(state), arrival_(arrival) {}
    ~Place() {
        if (!completed) { state_.break_round(arrival_.round); }
        if (arrival_.entry != nullptr) { arrival_.entry->store(0); }
        MULTIPROCESSING_KILL_POINT("barrier.wait.left");
    }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

    bool completed = false;

  private:
    BarrierState& state_;
    const Arrival& arrival_;
};

template <class Action>
std::uint32_t BarrierState::wait(Timeout timeout, bool has_action, Action action) {
    const Deadline deadline(timeout);
    const Arrival arrival = arrive(timeout, deadline, has_action);
    Place place(*this, arrival);
    if (arrival.index + 1 < parties_) {
        await_round(arrival, deadline);
    } else if (has_action) {
        // Our entry stands in the table meanwhile, so our death breaks the round like any other's.
        action();
        if (!end_round(arrival.round)) { throw BrokenBarrierError(); }
    }
    place.completed = true;
    return arrival.index;
}

inline BarrierState::Arrival BarrierState::arrive(Timeout timeout, const Deadline& deadline,
                                                  bool has_action) {
    const MemberId self = Family::self();
    // Who is stopped inside the guard does not make us wait for ever.
    const Deadline patience(timeout.is_infinite() ? timeout
                                                  : Timeout(timeout.duration() + os::wait_slice));
    for (;;) {
        break_if_somebody_died();
        std::uint64_t word = round_.load();
        std::chrono::nanoseconds pause = os::wait_slice;
        if (const auto section = guard_.enter(patience, [this]() noexcept { recover(); })) {
            word = round_.load();
            if (is_broken(word)) { throw BrokenBarrierError(); }
            const std::uint32_t round = round_of(word);
            const std::uint32_t before = count_arrived(round);
            // Else all have arrived and the action runs: its end is also the end of this round.
            if (before < parties_) {
                remember(self);
                if (before + 1 == parties_ && !has_action) {
                    if (!end_round(round)) { throw BrokenBarrierError(); }
                    return {before, round, nullptr};
                }
                if (Entry* const entry = find_place(round)) {
                    entry->store(pack(self, round, arrived));
                    MULTIPROCESSING_KILL_POINT("barrier.wait.arrived");
                    return {before, round, entry};
                }
                // The table is full of those who are about to leave earlier rounds.
                pause = std::chrono::milliseconds(1);
            }
        }
        const auto left = deadline.left(pause);
        if (left <= left.zero()) {
            break_round(round_of(word));
            throw BrokenBarrierError();
        }
        os::futex_wait(low_word(round_), static_cast<std::uint32_t>(word), left);
    }
}

inline void BarrierState::await_round(const Arrival& arrival, const Deadline& deadline) {
    for (;;) {
        const std::uint64_t word = round_.load();
        if (round_of(word) != arrival.round) {
            // A reset of our round stands in the word until the next reset, which first sees to it
            // that it stands in our entry; so this order of looking misses none.
            if (last_reset(word) == arrival.round || state_of(*arrival.entry) == failed) {
                throw BrokenBarrierError();
            }
            return;
        }
        if (is_broken(word)) { throw BrokenBarrierError(); }
        const auto left = deadline.left(os::wait_slice);
        if (left <= left.zero()) {
            break_round(arrival.round);
            continue;
        }
        break_if_somebody_died();
        os::futex_wait(low_word(round_), static_cast<std::uint32_t>(word), left);
    }
}

/// Releases everybody of this round; false when it was broken or reset.
inline bool BarrierState::end_round(std::uint32_t round) noexcept {
    std::uint64_t word = round_.load();
    do {
        if (is_broken(word) || round_of(word) != round) { return false; }
    } while (!round_.compare_exchange_weak(word, pack(last_reset(word), round + 1, 0)));
    MULTIPROCESSING_KILL_POINT("barrier.wait.ended");
    if (parties_ > 1) { wake_all(); }
    return true;
}

inline void BarrierState::break_round(std::uint32_t round) noexcept {
    std::uint64_t word = round_.load();
    do {
        if (is_broken(word) || round_of(word) != round) { return; }
    } while (!round_.compare_exchange_weak(word, word | broken_bit));
    MULTIPROCESSING_KILL_POINT("barrier.break.stored");
    wake_all();
}

inline void BarrierState::abort() noexcept {
    round_.fetch_or(broken_bit);
    MULTIPROCESSING_KILL_POINT("barrier.abort.stored");
    wake_all();
}

inline void BarrierState::reset() {
    const auto section = enter();
    // Who died before counts no more afterwards. Until the reset itself they break the barrier, by
    // the word as long as they are not on the list.
    bool somebody_died = false;
    for (Member& member : members()) {
        const MemberId id = member;
        if (id == 0 || !Family::has_died(id)) { continue; }
        if (!somebody_died) { round_.fetch_or(broken_bit); }
        MULTIPROCESSING_KILL_POINT("barrier.reset.broken");
        somebody_died = true;
        member.store(0);
        MULTIPROCESSING_KILL_POINT("barrier.reset.forgotten");
    }
    std::uint64_t word = round_.load();
    while (!round_.compare_exchange_weak(word, pack(round_of(word), round_of(word) + 1, 0))) {}
    MULTIPROCESSING_KILL_POINT("barrier.reset.stored");
    recover();
    wake_all();
}

/// Writes to the entries what became of the round that was reset last.
inline void BarrierState::recover() noexcept {
    const std::uint32_t round = last_reset(round_);
    for (Entry& entry : table()) {
        std::uint64_t seen = entry;
        if (state_of(seen) == arrived && round_of(seen) == round) {
            // It fails when the waiter has left.
            entry.compare_exchange_strong(seen, pack(id_of(seen), round, failed));
            MULTIPROCESSING_KILL_POINT("barrier.reset.marked");
        }
    }
}

inline std::uint32_t BarrierState::count_arrived(std::uint32_t round) noexcept {
    std::uint32_t count = 0;
    for (const Entry& entry : table()) {
        const std::uint64_t seen = entry;
        count += state_of(seen) == arrived && round_of(seen) == round ? 1U : 0U;
    }
    return count;
}

inline BarrierState::Entry* BarrierState::find_place(std::uint32_t round) {
    for (Entry& entry : table()) {
        if (entry == 0) { return &entry; }
    }
    bool all_wait = true;
    for (Entry& entry : table()) {
        std::uint64_t seen = entry;
        if (round_of(seen) == round) { continue; }
        all_wait = false;
        if (!Family::has_ended(id_of(seen))) { continue; }
        entry.compare_exchange_strong(seen, 0);
        return &entry;
    }
    if (all_wait) {
        throw ProcessError(text_of("more than {} threads wait at one Barrier", {table().count}));
    }
    return nullptr;
}

/// Notes that this process is a party, so that its death breaks the barrier. When more processes
/// have waited than the table holds, those that do not wait any more and live are not all known.
inline void BarrierState::remember(MemberId self) {
    Member* vacant = nullptr;
    for (Member& member : members()) {
        if (member == self) { return; }
        if (vacant == nullptr && member == 0) { vacant = &member; }
    }
    if (vacant != nullptr) {
        vacant->store(self);
        MULTIPROCESSING_KILL_POINT("barrier.wait.remembered");
    }
}

inline bool BarrierState::has_dead_party(std::uint32_t round) {
    const MemberId self = Family::self();
    bool full = true;
    for (Member& member : members()) {
        MemberId id = member;
        full = full && id != 0;
        if (id == 0 || id == self || !Family::has_ended(id)) { continue; }
        if (Family::has_died(id)) { return true; }
        // A party that ended of its own accord is none any more.
        member.compare_exchange_strong(id, 0);
        MULTIPROCESSING_KILL_POINT("barrier.party.forgotten");
    }
    if (!full) { return false; }
    for (const Entry& entry : table()) {
        const std::uint64_t seen = entry;
        if (state_of(seen) == arrived && round_of(seen) == round && id_of(seen) != self &&
            Family::has_died(id_of(seen))) {
            return true;
        }
    }
    return false;
}

inline void BarrierState::break_if_somebody_died() {
    for (;;) {
        std::uint64_t word = round_.load();
        if (is_broken(word) || !has_dead_party(round_of(word))) { return; }
        // Only the very word that was looked at: a reset since has forgotten the dead.
        if (round_.compare_exchange_strong(word, word | broken_bit)) {
            MULTIPROCESSING_KILL_POINT("barrier.break.stored");
            return wake_all();
        }
    }
}

inline std::uint32_t BarrierState::waiting() {
    break_if_somebody_died();
    const std::uint64_t word = round_.load();
    return is_broken(word) ? 0 : count_arrived(round_of(word));
}

inline bool BarrierState::broken() {
    break_if_somebody_died();
    return is_broken(round_);
}

}  // namespace multiprocessing::detail

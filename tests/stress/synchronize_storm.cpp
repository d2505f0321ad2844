// SPDX-License-Identifier: BSL-1.0

// Users of one lock, semaphore, condition, event or barrier.

#include "storm.hpp"

#include <multiprocessing/synchronize.hpp>

#include <type_traits>

namespace storm {

namespace {

constexpr std::size_t users = 8;

// What a lock protects: two numbers that are equal unless a holder was killed between them.
struct Protected {
    std::atomic<std::uint64_t> first, second;
    std::atomic<std::uint64_t> inside;  // who is, 0 for nobody
    std::atomic<std::uint64_t> violations;
    std::atomic<std::uint64_t> orphaned;  // sections that began after a holder's death
};

void section(Protected& data, bool owner_died, const Team::Member& self) {
    const bool clean = data.inside == 0 && data.first == data.second;
    if (!clean && !owner_died) { ++data.violations; }
    if (owner_died) {
        ++data.orphaned;
        data.second = data.first.load();
    }
    data.inside = self.number;
    ++data.first;
    for (int i = 0; i < 20; ++i) {
        if (data.inside != self.number) { ++data.violations; }
    }
    ++data.second;
    data.inside = 0;
}

template <class Lock>
void storm_lock(std::uint64_t kills, Random& random, Figures& figures) {
    const Lock lock;
    const Shared<Protected> data;
    const auto work = [&](const Team::Member& self) {
        Random own(self.seed);
        for (;;) {
            mp::LockResult held = own() % 4 == 0 ? lock.acquire(100us) : lock.acquire();
            if (!held) { continue; }
            if constexpr (std::is_same_v<Lock, mp::RLock>) {
                const std::scoped_lock again(lock);
                section(*data, held.owner_died(), self);
            } else {
                section(*data, held.owner_died(), self);
            }
            lock.release();
            ++self.progress;
        }
    };
    Team team(1, users, work, random, figures);
    const std::uint64_t killed_before = figures.kills;
    team.storm(
        kills, [](std::size_t) {}, [&](std::size_t place) { team.await_roles(place); });
    team.await_progress();
    team.kill();
    expect_equal(data->violations, 0, "sections that were not alone");
    expect_at_most(data->orphaned, figures.kills - killed_before, "reports of a holder's death");
    const std::uint64_t sections = data->first;
    expect(sections >= team.done(), "sections are missing");
    expect_at_most(sections, team.done() + figures.kills - killed_before, "sections");
    // The last holder is perhaps dead.
    expect(lock.acquire(hang), "the lock is held by nobody who lives");
    lock.release();
    expect(!lock.locked(), "the lock is held");
}

}  // namespace

void lock_storm(std::uint64_t kills, Random& random, Figures& figures) {
    storm_lock<mp::Lock>(kills, random, figures);
}

void rlock_storm(std::uint64_t kills, Random& random, Figures& figures) {
    storm_lock<mp::RLock>(kills, random, figures);
}

void semaphore_storm(std::uint64_t kills, Random& random, Figures& figures) {
    constexpr int units = 3;
    struct Holders {
        std::atomic<std::uint32_t> holds[users];
        // Odd while a victim's mark may stand though its unit is back.
        std::atomic<std::uint64_t> deaths;
        std::atomic<std::uint64_t> violations;
    };
    const mp::BoundedSemaphore bounded(units);
    const mp::Semaphore plain(units);
    const mp::Semaphore& semaphore = random() % 2 == 0 ? bounded : plain;
    const Shared<Holders> holders;
    const auto work = [&](const Team::Member& self) {
        Random own(self.seed);
        for (;;) {
            if (!(own() % 4 == 0 ? semaphore.acquire(100us) : semaphore.acquire())) { continue; }
            const std::uint64_t deaths = holders->deaths;
            holders->holds[self.place] = 1;
            int count = 0;
            for (const auto& holds : holders->holds) { count += holds != 0 ? 1 : 0; }
            const bool all_marks_hold = deaths % 2 == 0 && deaths == holders->deaths;
            if (count > units + (all_marks_hold ? 0 : 1)) { ++holders->violations; }
            holders->holds[self.place] = 0;
            semaphore.release();
            ++self.progress;
        }
    };
    Team team(1, users, work, random, figures);
    team.storm(
        kills, [&](std::size_t) { ++holders->deaths; },
        [&](std::size_t place) {
            holders->holds[place] = 0;
            ++holders->deaths;
            team.await_roles(place);
        });
    team.await_progress();
    team.kill();
    expect_equal(holders->violations, 0, "times that more held a unit than there are");
    for (int i = 0; i < units; ++i) { expect(semaphore.acquire(hang), "a unit is missing"); }
    expect(!semaphore.acquire(false), "there is a unit too many");
    semaphore.release(units);
    expect_equal(static_cast<std::uint64_t>(semaphore.get_value()), units, "units");
}

// A place for one item: who puts waits until it is empty, who takes until it is full. With one
// place each notification matters, so one that a victim took with it would stop everybody.
void condition_storm(std::uint64_t kills, Random& random, Figures& figures) {
    struct Place {
        std::atomic<int> full;
    };
    const mp::RLock lock;
    const mp::Condition has_room(lock);
    const mp::Condition has_item(lock);
    const Shared<Place> place;
    // Who looks again after a moment hides what others have missed, so not always.
    const bool some_are_impatient = random() % 2 == 0;
    const auto work = [&](const Team::Member& self) {
        Random own(self.seed);
        const bool puts = self.place < users / 2;
        const mp::Condition& mine = puts ? has_room : has_item;
        const mp::Condition& theirs = puts ? has_item : has_room;
        const auto ready = [&] { return place->full == (puts ? 0 : 1); };
        for (;;) {
            const std::scoped_lock held(mine);
            if (some_are_impatient && own() % 4 == 0) {
                if (!mine.wait_for(ready, 200us)) { continue; }
            } else {
                mine.wait_for(ready);
            }
            place->full = puts ? 1 : 0;
            if (own() % 8 == 0) {
                theirs.notify_all();
            } else {
                theirs.notify();
            }
            ++self.progress;
        }
    };
    Team team(2, users / 2, work, random, figures);
    team.storm(
        kills, [](std::size_t) {}, [&](std::size_t dead) { team.await_roles(dead); });
    team.await_progress();
    team.kill();
    expect(has_room.acquire(hang), "the lock is held by nobody who lives");
    has_room.notify_all();
    has_room.release();
}

// A baton goes round: each waits for its own event, clears it and sets the next one's. Who missed
// a set would keep the baton for ever.
void event_storm(std::uint64_t kills, Random& random, Figures& figures) {
    // Not the copies of one handle, which would be one event.
    std::vector<mp::Event> events;
    for (std::size_t i = 0; i < users; ++i) { events.emplace_back(); }
    const bool some_are_impatient = random() % 2 == 0;
    const auto work = [&](const Team::Member& self) {
        Random own(self.seed);
        for (;;) {
            if (some_are_impatient && own() % 4 == 0) {
                if (!events[self.place].wait(200us)) { continue; }
            } else {
                events[self.place].wait();
            }
            events[self.place].clear();
            events[(self.place + 1) % users].set();
            ++self.progress;
        }
    };
    Team team(1, users, work, random, figures);
    events.front().set();
    // The victim may have had the baton: it is given to the next one, and has to come round to the
    // victim's place.
    team.storm(
        kills, [](std::size_t) {},
        [&](std::size_t place) {
            const auto before = team.all_progress();
            events[(place + 1) % users].set();
            team.await_progress(before, place);
            events[place].set();
        });
    team.await_progress();
    team.kill();
    for (const mp::Event& event : events) {
        event.set();
        expect(event.wait(hang), "an event that is set is not");
    }
}

void barrier_storm(std::uint64_t kills, Random& random, Figures& figures) {
    constexpr std::size_t parties = 4;
    struct Counts {
        std::atomic<std::uint64_t> of_index[parties];
        std::atomic<std::uint64_t> wrong;
    };
    const mp::Barrier barrier(static_cast<int>(parties));
    const mp::Event usable;  // not between a kill and the reset that follows it
    usable.set();
    const Shared<Counts> counts;
    const auto work = [&](const Team::Member& self) {
        for (;;) {
            try {
                const auto index = static_cast<std::size_t>(barrier.wait());
                ++(index < parties ? counts->of_index[index] : counts->wrong);
                ++self.progress;
            } catch (const mp::BrokenBarrierError&) { usable.wait(); }
        }
    };
    Team team(1, parties, work, random, figures);
    const std::uint64_t killed_before = figures.kills;
    team.storm(
        kills, [&](std::size_t) { usable.clear(); },
        [&](std::size_t) {
            barrier.reset();
            usable.set();
        });
    team.await_progress();
    team.kill();
    expect_equal(counts->wrong, 0, "indexes out of range");
    const auto [least, most] = std::minmax_element(
        std::begin(counts->of_index), std::end(counts->of_index),
        [](const auto& left, const auto& right) { return left.load() < right.load(); });
    // Of a round every index goes to one party; a victim may not have come to counting its own.
    expect_at_most(*most - *least, figures.kills - killed_before, "rounds that passed some only");
    expect(barrier.broken(), "a barrier whose parties are dead is not broken");
    barrier.reset();
    expect(!barrier.broken(), "a barrier is broken after its reset");
}

}  // namespace storm

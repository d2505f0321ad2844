// SPDX-License-Identifier: BSL-1.0

// Lock and RLock.

#include "row.hpp"
#include "rows.hpp"
#include "stage.hpp"

#include <multiprocessing/errors.hpp>
#include <multiprocessing/sharedctypes.hpp>
#include <multiprocessing/synchronize.hpp>

#include <unistd.h>

#include <chrono>
#include <optional>
#include <string>
#include <utility>

namespace step {

namespace {

using namespace std::chrono_literals;
using support::Forked;

template <class LockType>
struct Scenery {
    LockType lock;
    std::optional<Forked> other = {};
    mp::Event go = {};
};

template <class LockType>
bool is_victims(const LockType& lock) {
    const auto owner = lock.owner();
    return owner && is_victim(*owner);
}

/// A survivor's use: it may take over from the dead, never from the victim while that lives.
template <class LockType>
Worked use(const LockType& lock, mp::Timeout bound) {
    const bool from_victim = is_victims(lock);
    const mp::LockResult result = lock.acquire(bound);
    if (!result) { return Worked::timed_out; }
    lock.release();
    return result.owner_died() && from_victim ? Worked::took_over : Worked::yes;
}

/// Anybody can have it, one at a time; `died` is what the first one is told.
template <class LockType>
void must_work(const LockType& lock, std::optional<bool> died) {
    for (int i = 0; i < 2; ++i) {
        const mp::LockResult result = lock.acquire(1s);
        must(static_cast<bool>(result), "the lock cannot be had");
        must(i != 0 || !died || result.owner_died() == *died, "owner_died() is wrong");
        must(i == 0 || !result.owner_died(), "owner_died() is said twice");
        must(lock.previous_owner_died() == result.owner_died(), "previous_owner_died() is wrong");
        must(lock.owner() == ::getpid(), "owner() is somebody else");
        lock.release();
        must(!lock.locked(), "the lock is not free after release()");
    }
}

/// The operation was to take the lock.
template <class LockType>
int check_taken(const LockType& lock, const Aftermath& after) {
    const bool held = lock.locked();
    must(!held || after.worked == Worked::not_tried || after.completed,
         "it is held by nobody who lives");
    must(!held || is_victims(lock), "it is held by a stranger");
    must_work(lock, held);
    return held ? 1 : 0;
}

/// The operation was to free the lock, which the victim had.
template <class LockType>
int check_freed(const LockType& lock, const Aftermath& after) {
    const bool held = lock.locked();
    must(!held || is_victims(lock), "it is held by a stranger");
    must_work(lock, held);
    return held || after.worked == Worked::took_over ? 0 : 1;
}

/// Holds it until the victim sleeps, or is dead.
template <class LockType>
Scenery<LockType> held_until_victim_sleeps() {
    Scenery<LockType> scene{LockType()};
    scene.other.emplace([&] {
        scene.lock.acquire();
        scene.go.set();
        await_victim_asleep();
        scene.lock.release();
        scene.go.wait();
        mp::Event().wait();
        return 0;
    });
    scene.go.wait();
    return scene;
}

template <class LockType>
void left_by_the_dead(const LockType& lock, int depth = 1) {
    die([&] {
        for (int i = 0; i < depth; ++i) { lock.acquire(); }
    });
}

/// What a repair function has to mend: two numbers that are to be the same.
struct Repaired {
    mp::RawValue<int> first{1}, second{0};
    mp::Lock lock{{.on_owner_death = mp::OwnerDeath::repair,
                   .repair = [first = first, second = second] { second = first; }}};
};

template <class LockType>
void add_rows_of(const std::string& object, const std::string& name) {
    using Scene = Scenery<LockType>;
    const auto worked = [](Scene& s, mp::Timeout bound) { return use(s.lock, bound); };
    const auto taken = [](Scene& s, const Aftermath& after) { return check_taken(s.lock, after); };
    const auto freed = [](Scene& s, const Aftermath& after) { return check_freed(s.lock, after); };
    const auto acquire = [](Scene& s) { s.lock.acquire(5s); };
    const auto release = [](Scene& s) { s.lock.release(); };
    const auto poisoned = [] {
        Scene s{LockType({.on_owner_death = mp::OwnerDeath::poison})};
        left_by_the_dead(s.lock);
        return s;
    };

    add(object + ".acquire/free", name + "::acquire",
        Plan<Scene>{.make = [] { return Scene{LockType()}; },
                    .run = acquire,
                    .work = worked,
                    .check = taken});
    add(object + ".acquire/contended", name + "::acquire",
        Plan<Scene>{.make = held_until_victim_sleeps<LockType>,
                    .run = acquire,
                    .work = worked,
                    .check = [](Scene& s, const Aftermath& after) {
                        // The other lets it go when it sees that the victim is dead.
                        must(support::eventually([&] { return s.lock.owner() != s.other->pid(); },
                                                 1s),
                             "the holder does not let go");
                        return check_taken(s.lock, after);
                    }});
    add(object + ".acquire/timed out", name + "::acquire",
        Plan<Scene>{.make =
                        [] {
                            Scene s{LockType()};
                            s.other.emplace([&] {
                                s.lock.acquire();
                                s.go.set();
                                mp::Event().wait();
                                return 0;
                            });
                            s.go.wait();
                            return s;
                        },
                    .run =
                        [](Scene& s) {
                            if (s.lock.acquire(1ms)) { throw Bad("acquired what another holds"); }
                        },
                    .check =
                        [](Scene& s, const Aftermath&) {
                            must(s.lock.owner() == s.other->pid(),
                                 "it is not its holder's any more");
                            must(!s.lock.acquire(false), "it can be had though another holds it");
                            s.other->kill();
                            must_work(s.lock, true);
                            return 1;
                        }});
    add(object + ".acquire/dead owner", name + "::acquire",
        Plan<Scene>{.make =
                        [] {
                            Scene s{LockType()};
                            left_by_the_dead(s.lock, std::is_same_v<LockType, mp::RLock> ? 2 : 1);
                            return s;
                        },
                    .run = acquire,
                    .work = worked,
                    .check =
                        [](Scene& s, const Aftermath& after) {
                            const bool mine = is_victims(s.lock);
                            // A survivor that has used it has cleared it. Whoever came before that
                            // was told.
                            const bool cleared = after.worked != Worked::not_tried && !mine;
                            must_work(s.lock, cleared ? std::nullopt : std::optional(true));
                            return mine ? 1 : 0;
                        }});
    add(object + ".acquire/poisoned", name + "::acquire",
        Plan<Scene>{.make = poisoned,
                    .run =
                        [](Scene& s) {
                            try {
                                s.lock.acquire();
                                throw Bad("acquired what is poisoned");
                            } catch (const mp::OwnerDiedError&) {}
                        },
                    .check =
                        [](Scene& s, const Aftermath&) {
                            try {
                                s.lock.acquire(1s);
                                throw Bad("acquired what is poisoned");
                            } catch (const mp::OwnerDiedError& error) {
                                must(error.pid() == s.lock.owner(), "poisoned by another");
                            }
                            s.lock.recover();
                            must_work(s.lock, false);
                            return 1;
                        },
                    .stride = throwing});
    add(object + ".release/own", name + "::release",
        Plan<Scene>{.make = [] { return Scene{LockType()}; },
                    .prepare = acquire,
                    .run = release,
                    .work = worked,
                    .check = freed});
    add(object + ".release/somebody sleeps", name + "::release",
        Plan<Scene>{
            .make =
                [] {
                    Scene s{LockType()};
                    s.other.emplace([&] {
                        s.go.wait();
                        stage().notes[1] = 1;
                        const mp::LockResult result = s.lock.acquire(10s);
                        s.lock.release();
                        stage().notes[0] = result ? (result.owner_died() ? 2 : 1) : 3;
                        mp::Event().wait();
                        return 0;
                    });
                    return s;
                },
            .prepare =
                [](Scene& s) {
                    s.lock.acquire();
                    s.go.set();
                    // Asleep on the lock, not before it on the event.
                    support::eventually([] { return stage().notes[1] == 1; });
                    await_asleep(s.other->pid());
                },
            .run = release,
            .work = worked,
            .check =
                [](Scene& s, const Aftermath& after) {
                    must(support::eventually([] { return stage().notes[0] != 0; }, 1500ms),
                         "the sleeper sleeps on");
                    const int note = stage().notes[0];
                    must(note == 1 || note == 2, "the sleeper did not get the lock");
                    must(!after.completed || note == 1, "the sleeper took over from the living");
                    // A second victim may have died with it since.
                    const bool unknown = after.worked == Worked::took_over || after.victims > 1;
                    must_work(s.lock, unknown ? std::nullopt : std::optional(false));
                    return note == 1 ? 1 : 0;
                }});
    add(object + ".recover/poisoned", name + "::recover",
        Plan<Scene>{.make = poisoned,
                    .run = [](Scene& s) { s.lock.recover(); },
                    .check =
                        [](Scene& s, const Aftermath&) {
                            const bool recovered = !s.lock.locked();
                            if (!recovered) { s.lock.recover(); }
                            must_work(s.lock, false);
                            return recovered ? 1 : 0;
                        }});
}

}  // namespace

void add_lock_rows() {
    add_rows_of<mp::Lock>("lock", "Lock");
    add_rows_of<mp::RLock>("rlock", "RLock");

    using LScene = Scenery<mp::Lock>;
    const auto worked = [](LScene& s, mp::Timeout bound) { return use(s.lock, bound); };
    add("lock.release/for another", "Lock::release",
        Plan<LScene>{.make =
                         [] {
                             LScene s{mp::Lock()};
                             s.other.emplace([&] {
                                 s.lock.acquire();
                                 s.go.set();
                                 mp::Event().wait();
                                 return 0;
                             });
                             s.go.wait();
                             return s;
                         },
                     .run = [](LScene& s) { s.lock.release(); },
                     .work = worked,
                     .check =
                         [](LScene& s, const Aftermath&) {
                             const bool held = s.lock.locked();
                             must(!held || s.lock.owner() == s.other->pid(),
                                  "it is held by a stranger");
                             if (held) { s.lock.release(); }
                             must_work(s.lock, false);
                             return held ? 0 : 1;
                         },
                     .runs_twice = false,
                     .work_may_time_out = true});
    add("lock.release/of the dead", "Lock::release",
        Plan<LScene>{.make =
                         [] {
                             LScene s{mp::Lock()};
                             left_by_the_dead(s.lock);
                             return s;
                         },
                     .run =
                         [](LScene& s) {
                             // A survivor may have cleared it meanwhile.
                             try {
                                 s.lock.release();
                             } catch (const mp::ValueError&) {}
                         },
                     .work = worked,
                     .check =
                         [](LScene& s, const Aftermath&) {
                             const bool held = s.lock.locked();
                             must_work(s.lock, held);
                             return held ? 0 : 1;
                         }});
    add("lock.acquire/dead owner, repaired", "Lock::acquire",
        Plan<Repaired>{
            .make =
                [] {
                    Repaired object;
                    die([&] {
                        object.lock.acquire();
                        object.first = 2;
                    });
                    return object;
                },
            .run = [](Repaired& object) { object.lock.acquire(); },
            .work = [](Repaired& object, mp::Timeout bound) { return use(object.lock, bound); },
            .check =
                [](Repaired& object, const Aftermath&) {
                    const bool mine = is_victims(object.lock);
                    must(static_cast<bool>(object.lock.acquire(1s)), "the lock cannot be had");
                    must(object.first == 2 && object.second == 2, "it was not repaired");
                    object.lock.release();
                    must_work(object.lock, false);
                    return mine ? 1 : 0;
                }});

    using RScene = Scenery<mp::RLock>;
    const auto rworked = [](RScene& s, mp::Timeout bound) { return use(s.lock, bound); };
    const auto nested = [](RScene& s) { s.lock.acquire(), s.lock.acquire(); };
    const auto still_held = [](RScene& s, const Aftermath& after) {
        const bool held = s.lock.locked();
        must(held || after.worked == Worked::took_over, "it is free though its owner had it twice");
        must_work(s.lock, held);
        return 1;
    };
    add("rlock.acquire/nested", "RLock::acquire",
        Plan<RScene>{.make = [] { return RScene{mp::RLock()}; },
                     .prepare = [](RScene& s) { s.lock.acquire(); },
                     .run = [](RScene& s) { s.lock.acquire(); },
                     .work = rworked,
                     .check = still_held});
    add("rlock.release/nested", "RLock::release",
        Plan<RScene>{.make = [] { return RScene{mp::RLock()}; },
                     .prepare = nested,
                     .run = [](RScene& s) { s.lock.release(); },
                     .work = rworked,
                     .check = still_held});
}

}  // namespace step

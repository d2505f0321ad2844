// SPDX-License-Identifier: BSL-1.0

// Barrier.

#include "row.hpp"
#include "rows.hpp"
#include "stage.hpp"

#include <multiprocessing/errors.hpp>
#include <multiprocessing/sharedctypes.hpp>
#include <multiprocessing/shm/family.hpp>
#include <multiprocessing/synchronize.hpp>

#include <unistd.h>

#include <chrono>
#include <functional>
#include <optional>
#include <utility>

namespace step {

namespace {

using namespace std::chrono_literals;
using mp::detail::Family;
using support::Forked;

struct Place {
    mp::Barrier barrier{2};
    mp::RawValue<int> actions{0};
    std::optional<Forked> other = {};
};

// What became of a party, in a note.
enum : int { passed = 1, broken = 2 };

/// Waits, and ends of its own accord: a party that dies breaks the barrier.
Forked party(const mp::Barrier& barrier, int note, std::function<void()> before = {}) {
    return Forked([&] {
        if (before) { before(); }
        try {
            barrier.wait(10s);
            stage().notes[note] = passed;
        } catch (const mp::BrokenBarrierError&) { stage().notes[note] = broken; }
        Family::record_exit(0);
        return 0;
    });
}

Place with_party() {
    Place place;
    place.other.emplace(party(place.barrier, 0));
    if (!await_asleep(place.other->pid())) { throw Bad("a party does not come to rest"); }
    return place;
}

bool party_is_through() {
    return support::eventually([] { return stage().notes[0] != 0; }, 1500ms);
}

/// After a reset two can meet, and nobody is left of what was before.
void must_work(const mp::Barrier& barrier) {
    barrier.reset();
    must(!barrier.broken(), "it is broken after reset()");
    must(barrier.n_waiting() == 0, "somebody waits after reset()");
    const Forked other = party(barrier, 7);
    try {
        barrier.wait(1s);
    } catch (const mp::BrokenBarrierError&) { throw Bad("nobody can meet"); }
    must(support::eventually([] { return stage().notes[7] != 0; }, 1s), "the other waits on");
    must(stage().notes[7] == passed, "it broke for the other");
    must(support::eventually([&] { return is_dead(other.pid()); }, 1s), "the other does not end");
}

/// The barrier does not break for a party that lives.
Worked use(Place& place, mp::Timeout) {
    place.barrier.n_waiting();
    return place.barrier.broken() ? Worked::took_over : Worked::yes;
}

/// The operation was to meet the other one.
int check_met(Place& place, const Aftermath& after) {
    // Who dies before it is a party is unknown to the barrier; then somebody has to say so.
    const auto is_through = [&] {
        if (place.barrier.n_waiting() == 1) { place.barrier.abort(); }
        return stage().notes[0] != 0;
    };
    must(support::eventually(is_through, 1500ms), "the other waits on");
    const int end = stage().notes[0];
    must(!after.completed || end == passed, "it broke though all arrived");
    must(stage().notes[1] != 1 || end == broken, "the other met one who was dead");
    must_work(place.barrier);
    return end == passed ? 1 : 0;
}

/// The operation was to send the other one away.
int check_sent_away(Place& place, const Aftermath&) {
    const bool happened = place.barrier.n_waiting() == 0;
    if (!happened) { place.barrier.abort(); }
    must(party_is_through(), "the other waits on");
    must(stage().notes[0] == broken, "the other passed alone");
    must_work(place.barrier);
    return happened ? 1 : 0;
}

int check_works(Place& place, const Aftermath&) {
    must_work(place.barrier);
    return 1;
}

void wait_or_break(Place& place, mp::Timeout bound) {
    try {
        place.barrier.wait(bound);
    } catch (const mp::BrokenBarrierError&) {}
}

}  // namespace

void add_barrier_rows() {
    const auto meet = [](Place& place) {
        try {
            place.barrier.wait(10s);
        } catch (const mp::BrokenBarrierError&) {
            // An earlier victim's death is a reason.
            if (stage().earlier_victim == 0) { throw; }
        }
    };

    add("barrier.wait/last", "Barrier::wait",
        Plan<Place>{.make = with_party, .run = meet, .work = use, .check = check_met});
    add("barrier.wait/last, with an action", "Barrier::wait",
        Plan<Place>{.make =
                        [] {
                            Place place;
                            place.barrier =
                                mp::Barrier(2, [actions = place.actions] { actions += 1; });
                            place.other.emplace(party(place.barrier, 0));
                            await_asleep(place.other->pid());
                            return place;
                        },
                    .run = meet,
                    .work = use,
                    .check =
                        [](Place& place, const Aftermath& after) {
                            const int actions = place.actions;
                            const int met = check_met(place, after);
                            must(actions <= after.victims && (met == 0 || actions >= 1),
                                 "the action was not run once");
                            return met;
                        }});
    add("barrier.wait/first", "Barrier::wait",
        Plan<Place>{.make =
                        [] {
                            Place place;
                            place.other.emplace(party(place.barrier, 0, [] {
                                await_victim_asleep();
                                stage().notes[1] = is_dead(stage().victim) ? 1 : 2;
                            }));
                            return place;
                        },
                    .run = meet,
                    .work = use,
                    .check = check_met});
    add("barrier.wait/timed out", "Barrier::wait",
        Plan<Place>{.make = [] { return Place(); },
                    .run = [](Place& place) { wait_or_break(place, 1ms); },
                    .check =
                        [](Place& place, const Aftermath& after) {
                            must(!after.completed || place.barrier.broken(), "it is not broken");
                            return check_works(place, after);
                        },
                    .stride = throwing});
    add("barrier.wait/a party died", "Barrier::wait",
        Plan<Place>{.make =
                        [] {
                            Place place;
                            Forked dead = party(place.barrier, 6);
                            await_asleep(dead.pid());
                            dead.kill();
                            dead.join();
                            return place;
                        },
                    .run = [](Place& place) { wait_or_break(place, 10s); },
                    .check =
                        [](Place& place, const Aftermath& after) {
                            must(place.barrier.broken(), "it is not broken");
                            return check_works(place, after);
                        },
                    .stride = throwing});
    add("barrier.wait/for itself", "Barrier::wait",
        Plan<Place>{.make =
                        [] {
                            Place place;
                            place.barrier = mp::Barrier(1);
                            return place;
                        },
                    .run = meet,
                    .work = use,
                    .check =
                        [](Place& place, const Aftermath&) {
                            place.barrier.reset();
                            must(place.barrier.wait(1s) == 0, "one is not enough");
                            return 1;
                        }});
    add("barrier.reset/somebody waits", "Barrier::reset",
        Plan<Place>{.make = with_party,
                    .run = [](Place& place) { place.barrier.reset(); },
                    .work = use,
                    .check = check_sent_away});
    add("barrier.reset/broken", "Barrier::reset",
        Plan<Place>{.make =
                        [] {
                            Place place;
                            place.barrier.abort();
                            return place;
                        },
                    .run = [](Place& place) { place.barrier.reset(); },
                    .check =
                        [](Place& place, const Aftermath& after) {
                            const bool happened = !place.barrier.broken();
                            check_works(place, after);
                            return happened ? 1 : 0;
                        }});
    add("barrier.reset/a party died", "Barrier::reset",
        Plan<Place>{.make =
                        [] {
                            Place place;
                            Forked dead = party(place.barrier, 6);
                            await_asleep(dead.pid());
                            dead.kill();
                            dead.join();
                            return place;
                        },
                    .run = [](Place& place) { place.barrier.reset(); },
                    .check = check_works});
    add("barrier.abort/somebody waits", "Barrier::abort",
        Plan<Place>{.make = with_party,
                    .run = [](Place& place) { place.barrier.abort(); },
                    .check = check_sent_away});
}

}  // namespace step

// SPDX-License-Identifier: BSL-1.0

// Semaphore and BoundedSemaphore.

#include "row.hpp"
#include "rows.hpp"
#include "stage.hpp"

#include <multiprocessing/errors.hpp>
#include <multiprocessing/synchronize.hpp>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

namespace step {

namespace {

using namespace std::chrono_literals;
using support::Forked;

struct Units {
    mp::Semaphore semaphore;
    int all;        // units there are when nobody holds any
    int least = 0;  // of them, who lives holds so many at most: what a survivor need not get
    std::optional<Forked> other = {};
    mp::Event go = {};
};

/// Exactly `n` units can be had, and given back.
void must_have(const mp::Semaphore& semaphore, int n) {
    must(semaphore.get_value() == n, "get_value() is wrong");
    for (int i = 0; i < n; ++i) { must(semaphore.acquire(1s), "a unit is lost"); }
    must(!semaphore.acquire(false), "there is a unit too many");
    semaphore.release(n);
    must(semaphore.get_value() == n, "get_value() is wrong after release()");
}

/// A survivor's use: takes all, gives back what it got.
Worked use(Units& units, mp::Timeout bound) {
    const int wanted = units.all - units.least;
    int got = 0;
    while (got < wanted && units.semaphore.acquire(bound)) { ++got; }
    if (got > 0) { units.semaphore.release(got); }
    return got == wanted ? Worked::yes : Worked::timed_out;
}

/// The dead hold nothing, whatever they did.
int check_all_back(Units& units, const Aftermath&) {
    must_have(units.semaphore, units.all);
    return 1;
}

/// Somebody holds `held` units for ever.
void hold(Units& units, int held) {
    units.other.emplace([&] {
        for (int i = 0; i < held; ++i) { units.semaphore.acquire(); }
        units.go.set();
        mp::Event().wait();
        return 0;
    });
    units.go.wait();
    units.least = held;
}

Units with_dead_holder(int n) {
    Units units{mp::BoundedSemaphore(n), n};
    die([&] {
        for (int i = 0; i < n; ++i) { units.semaphore.acquire(); }
    });
    return units;
}

}  // namespace

void add_semaphore_rows() {
    const auto two = [] { return Units{mp::BoundedSemaphore(2), 2}; };
    const auto acquire = [](Units& units) { units.semaphore.acquire(5s); };

    add("semaphore.acquire/free", "Semaphore::acquire BoundedSemaphore::acquire",
        Plan<Units>{.make = two, .run = acquire, .work = use, .check = check_all_back});
    // Were a unit taken from the living, the release would be one too many, and throw.
    add("semaphore.acquire+release/free", "BoundedSemaphore::acquire BoundedSemaphore::release",
        Plan<Units>{.make = two,
                    .run =
                        [](Units& units) {
                            units.semaphore.acquire();
                            units.semaphore.acquire();
                            units.semaphore.release();
                            units.semaphore.release();
                        },
                    .work = use,
                    .check = check_all_back});
    add("semaphore.acquire/timed out", "Semaphore::acquire",
        Plan<Units>{.make =
                        [&] {
                            Units units{mp::Semaphore(2), 2};
                            hold(units, 2);
                            return units;
                        },
                    .run =
                        [](Units& units) {
                            if (units.semaphore.acquire(1ms)) { throw Bad("there was no unit"); }
                        },
                    .check =
                        [](Units& units, const Aftermath&) {
                            must(units.semaphore.get_value() == 0, "get_value() is wrong");
                            must(!units.semaphore.acquire(false), "there is a unit too many");
                            units.other->kill();
                            must(support::eventually([&] { return is_dead(units.other->pid()); }),
                                 "cannot be killed");
                            must_have(units.semaphore, 2);
                            return 1;
                        }});
    add("semaphore.acquire/contended", "Semaphore::acquire",
        Plan<Units>{.make =
                        [&] {
                            Units units{mp::BoundedSemaphore(1), 1};
                            units.other.emplace([&] {
                                units.semaphore.acquire();
                                units.go.set();
                                await_victim_asleep();
                                units.semaphore.release();
                                mp::Event().wait();
                                return 0;
                            });
                            units.go.wait();
                            return units;
                        },
                    .run = acquire,
                    .work = use,
                    .check =
                        [](Units& units, const Aftermath&) {
                            must(units.semaphore.acquire(1s), "the unit is lost");
                            units.semaphore.release();
                            must_have(units.semaphore, 1);
                            return 1;
                        }});
    add("semaphore.acquire/dead holder", "Semaphore::acquire BoundedSemaphore::acquire",
        Plan<Units>{.make = [] { return with_dead_holder(3); },
                    .run = acquire,
                    .work = use,
                    .check = check_all_back});
    add("semaphore.get_value/dead holder", "Semaphore::get_value",
        Plan<Units>{.make = [] { return with_dead_holder(3); },
                    .run = [](Units& units) { units.semaphore.get_value(); },
                    .work = use,
                    .check = check_all_back});
    add("semaphore.release/own", "Semaphore::release BoundedSemaphore::release",
        Plan<Units>{.make = two,
                    .prepare = acquire,
                    .run = [](Units& units) { units.semaphore.release(); },
                    .work = use,
                    .check = check_all_back});
    add("semaphore.release/for another", "Semaphore::release",
        Plan<Units>{.make =
                        [] {
                            Units units{mp::BoundedSemaphore(2), 2};
                            hold(units, 1);
                            return units;
                        },
                    .run = [](Units& units) { units.semaphore.release(); },
                    .work = use,
                    .check =
                        [](Units& units, const Aftermath&) {
                            const int value = units.semaphore.get_value();
                            must(value == 1 || value == 2, "get_value() is wrong");
                            must_have(units.semaphore, value);
                            units.other->kill();
                            must(support::eventually([&] { return is_dead(units.other->pid()); }),
                                 "cannot be killed");
                            must_have(units.semaphore, 2);
                            return value - 1;
                        },
                    .runs_twice = false});
    add("semaphore.release/several, not all its own", "Semaphore::release",
        Plan<Units>{.make =
                        [] {
                            Units units{mp::BoundedSemaphore(6), 6};
                            hold(units, 2);
                            return units;
                        },
                    .prepare =
                        [](Units& units) {
                            units.semaphore.acquire();
                            units.semaphore.acquire();
                        },
                    .run = [](Units& units) { units.semaphore.release(3); },
                    .work =
                        [](Units& units, mp::Timeout bound) {
                            const bool got = units.semaphore.acquire(bound);
                            if (got) { units.semaphore.release(); }
                            return got ? Worked::yes : Worked::timed_out;
                        },
                    .check =
                        [](Units& units, const Aftermath& after) {
                            // Without what the victim held: the other's two are out, or one.
                            const int value = units.semaphore.get_value();
                            must(value >= 4 && value <= 4 + after.victims, "get_value() is wrong");
                            must_have(units.semaphore, value);
                            units.other->kill();
                            must(support::eventually([&] { return is_dead(units.other->pid()); }),
                                 "cannot be killed");
                            must_have(units.semaphore, 6);
                            return std::min(value - 4, 1);
                        }});
    add("semaphore.release/adds", "Semaphore::release",
        Plan<Units>{.make =
                        [] {
                            return Units{mp::Semaphore(0), 0};
                        },
                    .run = [](Units& units) { units.semaphore.release(); },
                    .work =
                        [](Units& units, mp::Timeout bound) {
                            if (!units.semaphore.acquire(bound)) { return Worked::timed_out; }
                            stage().notes[0] = 1;
                            return Worked::yes;
                        },
                    .check =
                        [](Units& units, const Aftermath& after) {
                            // What a survivor took it has used up: it ended of its own accord.
                            const int used_up = stage().notes[0];
                            const int value = units.semaphore.get_value();
                            must(value >= 0 && value + used_up <= after.victims,
                                 "get_value() is wrong");
                            for (int i = 0; i < value; ++i) {
                                must(units.semaphore.acquire(false), "a unit is lost");
                            }
                            must(!units.semaphore.acquire(false), "there is a unit too many");
                            return value + used_up;
                        },
                    .work_may_time_out = true});
    add("semaphore.release/somebody sleeps", "Semaphore::release",
        Plan<Units>{.make =
                        [] {
                            Units units{mp::BoundedSemaphore(1), 1};
                            units.other.emplace([&] {
                                units.go.wait();
                                stage().notes[1] = 1;
                                const bool got = units.semaphore.acquire(10s);
                                if (got) { units.semaphore.release(); }
                                stage().notes[0] = got ? 1 : 2;
                                mp::Event().wait();
                                return 0;
                            });
                            return units;
                        },
                    .prepare =
                        [](Units& units) {
                            units.semaphore.acquire();
                            units.go.set();
                            support::eventually([] { return stage().notes[1] == 1; });
                            await_asleep(units.other->pid());
                        },
                    .run = [](Units& units) { units.semaphore.release(); },
                    .work = use,
                    .check =
                        [](Units& units, const Aftermath&) {
                            must(support::eventually([] { return stage().notes[0] != 0; }, 1500ms),
                                 "the sleeper sleeps on");
                            must(stage().notes[0] == 1, "the sleeper did not get the unit");
                            must_have(units.semaphore, 1);
                            return 1;
                        }});
    add("semaphore.release/too many", "BoundedSemaphore::release",
        Plan<Units>{.make = two,
                    .run =
                        [](Units& units) {
                            try {
                                units.semaphore.release();
                                throw Bad("released above the bound");
                            } catch (const mp::ValueError&) {}
                        },
                    .work = use,
                    .check = check_all_back,
                    .stride = throwing});
}

}  // namespace step

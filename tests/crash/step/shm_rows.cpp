// SPDX-License-Identifier: BSL-1.0

// What everything rests on: the family's registry, and the slots of slabs.

#include "row.hpp"
#include "rows.hpp"
#include "stage.hpp"

#include <multiprocessing/shm/family.hpp>
#include <multiprocessing/shm/slab.hpp>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

namespace step {

namespace {

using mp::detail::Family;
using mp::detail::MemberId;
using Slab = mp::detail::Slab<>;
using mp::detail::slot_size;
using namespace std::chrono_literals;

struct Nothing {
    // The registry comes first.
    MemberId driver = Family::self();
};

/// Somebody joins as ever, and tells the living from the dead.
void must_work() {
    const MemberId self = Family::self();
    must(self != 0 && !Family::has_ended(self), "who lives has ended");
    must(Family::pid(self) == ::getpid(), "who lives has another's pid");
    must(Family::find(::getpid(), 0) == self, "who lives is not found");
    support::Forked other([] { return Family::self() != 0 ? 0 : 1; });
    must(other.join() == 0, "nobody can join");
}

Worked use(Nothing&, mp::Timeout) {
    must_work();
    const auto victim = Family::find(stage().victim, 0);
    return victim && Family::has_ended(*victim) ? Worked::took_over : Worked::yes;
}

using Memory = std::shared_ptr<std::byte>;

/// What the driver has, who is the parent of all, and what the victim makes.
struct Slots {
    static constexpr std::size_t size = 2 * slot_size;
    Memory before = filled(1);
    Memory made = {};

    static Memory filled(int filler) {
        Memory memory = Slab::allocate(size);
        std::memset(memory.get(), filler, size);
        return memory;
    }
};

bool is_all(const Memory& memory, int filler) {
    return std::all_of(memory.get(), memory.get() + Slots::size,
                       [=](std::byte byte) { return byte == std::byte(filler); });
}

/// What was there before is as it was and nobody else's; new ones are zeroed and apart.
int check_slots(Slots& slots, const Aftermath&) {
    must(is_all(slots.before, 1), "a slot in use was written to");
    std::vector<Memory> fresh;
    for (int i = 0; i < 8; ++i) {
        fresh.push_back(Slab::allocate(Slots::size));
        must(is_all(fresh.back(), 0), "a fresh slot is not zeroed");
        std::memset(fresh.back().get(), 2, Slots::size);
        must(fresh.back().get() != slots.before.get(), "a slot in use was handed out");
    }
    must(is_all(slots.before, 1), "a slot in use was handed out");
    return 1;
}

Worked use_slots(Slots& slots, mp::Timeout) {
    check_slots(slots, {});
    return Worked::yes;
}

}  // namespace

void add_shm_rows() {
    add("family.join/new", "Family::self",
        Plan<Nothing>{.make = [] { return Nothing(); },
                      .run = [](Nothing&) { Family::self(); },
                      .work = use,
                      .check =
                          [](Nothing&, const Aftermath&) {
                              must_work();
                              const auto victim = Family::find(stage().victim, 0);
                              must(!victim || Family::has_ended(*victim), "the dead one lives");
                              must(!victim || Family::has_died(*victim), "it has not died");
                              return victim ? 1 : 0;
                          },
                      .joins_before = false});
    add("family.record_exit/member", "Family::record_exit",
        Plan<Nothing>{.make = [] { return Nothing(); },
                      .run = [](Nothing&) { Family::record_exit(7); },
                      .work = use,
                      .check =
                          [](Nothing&, const Aftermath&) {
                              must_work();
                              const auto victim = Family::find(stage().victim, 0);
                              must(victim.has_value(), "a member is not found");
                              const std::optional<int> code = Family::exit_record(*victim);
                              must(!code || *code == 7, "another code");
                              must(Family::has_ended(*victim), "the dead one lives");
                              must(Family::has_died(*victim) == !code, "has_died() is wrong");
                              return code ? 1 : 0;
                          }});
    add("family.set_parent/member", "Family::set_parent",
        Plan<Nothing>{.make = [] { return Nothing(); },
                      .run = [](Nothing&) { Family::set_parent(77); },
                      .work = use,
                      .check =
                          [](Nothing&, const Aftermath&) {
                              must_work();
                              const auto victim = Family::find(stage().victim, 0);
                              must(victim.has_value(), "a member is not found");
                              const MemberId parent = Family::parent(*victim);
                              must(parent == 0 || parent == 77, "another parent");
                              return parent == 77 ? 1 : 0;
                          }});
    add("slab.allocate/first of a child", "Slab::allocate",
        Plan<Slots>{.make = [] { return Slots(); },
                    .run = [](Slots& slots) { slots.made = Slab::allocate(Slots::size); },
                    .work = use_slots,
                    .check = check_slots});
    add("slab.allocate/next", "Slab::allocate",
        Plan<Slots>{.make = [] { return Slots(); },
                    .prepare = [](Slots& slots) { slots.made = Slots::filled(3); },
                    .run = [](Slots& slots) { slots.made = Slots::filled(4); },
                    .work = use_slots,
                    .check = check_slots});
    add("slab.free/of the parent", "Slab::free",
        Plan<Slots>{.make = [] { return Slots(); },
                    .run =
                        [](Slots& slots) {
                            slots.before.reset();
                            slots.made = Slots::filled(5);
                        },
                    .work = use_slots,
                    .check = check_slots});
    // A slot that another process may still see is not used again.
    add("slab.free/a child still sees it", "Slab::free",
        Plan<Slots>{.make = [] { return Slots(); },
                    .prepare =
                        [](Slots& slots) {
                            slots.made = Slots::filled(3);
                            // It outlives the victim, looks, and ends.
                            const pid_t child = ::fork();
                            if (child != 0) { return; }
                            ::alarm(20);
                            await_victim_dead();
                            stage().notes[1] = is_all(slots.made, 3) ? 1 : 2;
                            ::_exit(0);
                        },
                    .run =
                        [](Slots& slots) {
                            slots.made.reset();
                            slots.made = Slots::filled(4);
                        },
                    .work = use_slots,
                    .check =
                        [](Slots& slots, const Aftermath& after) {
                            must(support::eventually([] { return stage().notes[1] != 0; }, 1s),
                                 "the child does not come to an end");
                            must(stage().notes[1] == 1, "a slot that a child sees was used again");
                            return check_slots(slots, after);
                        },
                    .runs_twice = false});
    add("slab.free/its own, and again", "Slab::allocate Slab::free",
        Plan<Slots>{.make = [] { return Slots(); },
                    .prepare = [](Slots& slots) { slots.made = Slots::filled(3); },
                    .run =
                        [](Slots& slots) {
                            slots.made.reset();
                            slots.made = Slots::filled(4);
                        },
                    .work = use_slots,
                    .check = check_slots});
}

}  // namespace step

// SPDX-License-Identifier: BSL-1.0
// Explores the models of the lock, of the guard and of the ring: every interleaving, every death.
// usage: model (owner_word | guard | ring) [--large] [--way]
//
// Fails when an unchanged model has a fault, and when a fault that was put into one is not noticed.
// --way prints the steps that lead to each fault.

#include "explorer.hpp"
#include "guard.hpp"
#include "owner_word.hpp"
#include "ring.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

bool prints_way = false;
bool large = false;
bool failed = false;

/// Explores; `expected` is the fault that must be found, nullptr when there must be none.
template <class Model>
void explore(const char* name, const typename Model::Options& options, const char* expected) {
    const Model subject(options);
    const model::Outcome outcome = model::Explorer<Model>(subject).run();
    const bool right = outcome.fault == (expected == nullptr ? "" : expected);
    std::printf("%-4s %9zu states  %s - %s\n", right ? "ok" : "FAIL", outcome.states, name,
                outcome.fault.empty() ? "no fault" : outcome.fault.c_str());
    if (!outcome.fault.empty() && (prints_way || !right)) {
        for (const std::string& step : outcome.way) { std::printf("         %s\n", step.c_str()); }
    }
    failed = failed || !right;
}

void explore_owner_word() {
    using Model = model::OwnerWordModel;
    using Mutant = Model::Mutant;
    const int rounds = large ? 3 : 2;
    const Model::Options wakes{.rounds = rounds};
    const Model::Options holders{.rounds = 2, .deaths = 2, .victims = Model::Victims::watched};
    const Model::Options deaths{.rounds = 2, .deaths = 2, .slices = true};
    Model::Options handed{.rounds = 2, .deaths = 1, .slices = true, .hands_over = true};
    const Model::Options poison{.rounds = 2, .deaths = 2, .slices = true, .poison = true};
    const Model::Options repair{.rounds = 2, .deaths = 2, .slices = true, .repair_may_fail = true};
    explore<Model>("every wake arrives", wakes, nullptr);
    explore<Model>("every wake arrives, a holder dies", holders, nullptr);
    explore<Model>("anybody dies", deaths, nullptr);
    Model::Options late = deaths;
    late.has_deadlines = true;
    explore<Model>("anybody dies or gives up", late, nullptr);
    explore<Model>("anybody dies, and another releases", handed, nullptr);
    handed.deaths = 0;
    handed.slices = false;
    explore<Model>("every wake arrives, and another releases", handed, nullptr);
    explore<Model>("anybody dies, and poisons it", poison, nullptr);
    explore<Model>("anybody dies, and the repair fails", repair, nullptr);

    late.deaths = 0;
    late.slices = false;
    explore<Model>("every wake arrives, who waits gives up", late, nullptr);

    // What a slice is needed for: without a bound each of these would wait for ever.
    Model::Options unwatched = holders;
    unwatched.victims = Model::Victims::holders;
    explore<Model>("no bound: who sleeps watches another than died", unwatched, model::stuck);
    Model::Options unbounded = deaths;
    unbounded.slices = false;
    unbounded.deaths = 1;
    explore<Model>("no bound: who was woken is killed", unbounded, model::stuck);

    const auto mutate = [](Model::Options options, Mutant mutant, const char* name,
                           const char* noticed) {
        options.mutant = mutant;
        explore<Model>((std::string("mutant: ") + name).c_str(), options, noticed);
    };
    const char* const two = "two are inside";
    mutate(deaths, Mutant::owner_after_lock, "the owner is written after the lock is taken",
           model::stuck);
    mutate(deaths, Mutant::takeover_by_time, "who waits in vain takes over", two);
    mutate(deaths, Mutant::takeover_without_look, "taking over is a store", two);
    mutate(deaths, Mutant::dead_not_asked, "nobody takes over", model::stuck);
    mutate(wakes, Mutant::waiters_forgotten, "who has slept forgets the others", model::stuck);
    mutate(holders, Mutant::heir_forgets_waiters, "who takes over forgets the others",
           model::stuck);
    mutate(late, Mutant::late_forgets_waiters, "who was woken and gives up forgets the others",
           model::stuck);
    mutate(holders, Mutant::release_in_two, "freeing and waking are two calls", model::stuck);
    mutate(wakes, Mutant::release_without_wake, "the release wakes nobody", model::stuck);
    mutate(wakes, Mutant::sleep_without_compare, "one sleeps on whatever there is", model::stuck);
    mutate(repair, Mutant::inheritance_dropped, "what is not repaired is not told",
           "the death of a holder is not told");
}

void explore_guard() {
    using Model = model::GuardModel;
    using Mutant = Model::Mutant;
    const Model::Options wakes{.rounds = large ? 4 : 3};
    const Model::Options holders{.rounds = large ? 4 : 3, .deaths = 2, .only_holders_die = true};
    const Model::Options deaths{.rounds = large ? 4 : 3, .deaths = 2, .slices = true};
    explore<Model>("every wake arrives", wakes, nullptr);
    explore<Model>("every wake arrives, holders die", holders, nullptr);
    explore<Model>("anybody dies", deaths, nullptr);

    const auto mutate = [&](Mutant mutant, const char* name, const char* noticed) {
        Model::Options options = deaths;
        options.mutant = mutant;
        explore<Model>((std::string("mutant: ") + name).c_str(), options, noticed);
    };
    Model::Options unbounded = deaths;
    unbounded.slices = false;
    explore<Model>("no bound: who was woken is killed", unbounded, model::stuck);
    mutate(Mutant::not_robust, "the guard is not robust", model::stuck);
    mutate(Mutant::not_consistent, "it is not made consistent",
           "the guard cannot be entered any more");
    mutate(Mutant::recovery_left_out, "the recovery is left out",
           "what the dead left is not repaired");
    mutate(Mutant::takeover_by_time, "who waits in vain enters", "two are inside");
}

void explore_ring() {
    using Model = model::RingModel;
    using Mutant = Model::Mutant;
    const int puts = large ? 2 : 1;
    const Model::Options two_to_one{.producers = 2, .consumers = 1, .puts = puts, .gets = 2 * puts};
    const Model::Options one_to_two{.producers = 1, .consumers = 2, .puts = 2 + puts, .gets = 2};
    const Model::Options two_to_two{.producers = 2, .consumers = 2, .puts = 1, .gets = 1};
    const Model::Options one_to_three{.producers = 1, .consumers = 3, .puts = 2, .gets = 1};
    const auto longer = [](Model::Options options) {
        options.limit = 2;
        return options;
    };
    const auto dying = [](Model::Options options, int deaths) {
        options.deaths = deaths;
        options.slices = true;
        return options;
    };
    const auto large_records = [](Model::Options options) {
        options.extents = true;
        return options;
    };
    const auto giving_up = [](Model::Options options) {
        options.has_deadlines = true;
        return options;
    };
    explore<Model>("anybody dies, 2 to 1", dying(two_to_one, 1), nullptr);
    explore<Model>("anybody dies, 1 to 2", dying(one_to_two, 1), nullptr);
    explore<Model>("anybody dies, 2 to 1, extents", dying(large_records(two_to_one), 1), nullptr);
    explore<Model>("anybody dies, 1 to 2, extents", dying(large_records(one_to_two), 1), nullptr);
    if (large) {
        explore<Model>("two die, 2 to 1", dying(longer(two_to_one), 2), nullptr);
        explore<Model>("two die, 1 to 2", dying(longer(one_to_two), 2), nullptr);
        explore<Model>("two die, 2 to 1, extents", dying(large_records(longer(two_to_one)), 2),
                       nullptr);
        explore<Model>("two die, 1 to 2, extents", dying(large_records(longer(one_to_two)), 2),
                       nullptr);
        explore<Model>("two die, 2 to 2", dying(two_to_two, 2), nullptr);
    }
    explore<Model>("every wake arrives, 2 to 1", two_to_one, nullptr);
    explore<Model>("every wake arrives, 1 to 2", one_to_two, nullptr);
    explore<Model>("every wake arrives, 1 to 2, limit 2", longer(one_to_two), nullptr);
    explore<Model>("every wake arrives, 2 to 2", two_to_two, nullptr);
    explore<Model>("every wake arrives, who waits gives up, 2 to 2", giving_up(two_to_two),
                   nullptr);
    // What a slice is needed for: without a bound this one would wait for ever.
    Model::Options unbounded = dying(one_to_two, 1);
    unbounded.slices = false;
    explore<Model>("no bound: who was woken is killed", unbounded, model::stuck);

    const auto mutate = [](Model::Options options, Mutant mutant, const char* name,
                           const char* noticed) {
        options.mutant = mutant;
        explore<Model>((std::string("mutant: ") + name).c_str(), options, noticed);
    };
    const char* const torn = "a record is read that nobody put";
    mutate(one_to_two, Mutant::commit_before_write,
           "the tail is moved before the record is written", torn);
    mutate(one_to_two, Mutant::commit_before_copy, "the head is moved before the record is read",
           torn);
    mutate(dying(two_to_one, 1), Mutant::guard_not_robust, "the guard is not robust", model::stuck);
    mutate(two_to_one, Mutant::guard_by_time, "who waits in vain enters", torn);
    mutate(dying(large_records(longer(two_to_one)), 1), Mutant::producers_not_repaired,
           "what a dead producer left is not repaired", torn);
    mutate(dying(large_records(one_to_two), 1), Mutant::consumers_not_repaired,
           "what a dead consumer left is not repaired", model::stuck);
    mutate(dying(large_records(longer(two_to_one)), 1), Mutant::note_cleared_first,
           "a note is cleared before it is carried out", torn);
    mutate(dying(large_records(one_to_two), 1), Mutant::punched_uncommitted,
           "what was not read is given back", "memory is read that was given back");
    mutate(one_to_two, Mutant::flag_before_commit, "the flag is taken down before the change",
           model::stuck);
    mutate(two_to_two, Mutant::one_for_all, "who was woken does not wake the next", model::stuck);
    if (large) {
        explore<Model>("every wake arrives, who waits gives up, 1 to 3", giving_up(one_to_three),
                       nullptr);
        mutate(giving_up(one_to_three), Mutant::late_for_himself,
               "who was woken and gives up does not wake the next", model::stuck);
    }
    mutate(one_to_two, Mutant::no_wake, "a put wakes nobody", model::stuck);
    mutate(one_to_two, Mutant::sleep_without_compare, "one sleeps on whatever there is",
           model::stuck);
    // The wake of an earlier record takes down the flag of one who is about to sleep, and finds
    // nobody to wake; the kernel then compares a commit word that has not changed.
    Model::Options on_end = two_to_one;
    on_end.on_end = true;
    explore<Model>("mutant: one sleeps on the end, not on the flag", on_end, model::stuck);
}

}  // namespace

int main(int argc, char** argv) {
    std::string subject;
    for (int i = 1; i < argc; ++i) {
        if (std::strcmp(argv[i], "--large") == 0) {
            large = true;
        } else if (std::strcmp(argv[i], "--way") == 0) {
            prints_way = true;
        } else {
            subject = argv[i];
        }
    }
    if (subject == "owner_word") {
        explore_owner_word();
    } else if (subject == "guard") {
        explore_guard();
    } else if (subject == "ring") {
        explore_ring();
    } else {
        std::fprintf(stderr, "usage: model (owner_word | guard | ring) [--large] [--way]\n");
        return EXIT_FAILURE;
    }
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A model of multiprocessing/shm/owner_word.hpp, with the futex and the life word it sleeps on.

#include "explorer.hpp"

#include <array>
#include <cstdint>

namespace model {

/// Processes that acquire one OwnerWord, are inside, and release it, a number of times.
class OwnerWordModel {
  public:
    static constexpr int processes = 3;

    /// What is done otherwise than in the header.
    enum class Mutant {
        none,
        owner_after_lock,       ///< the word is taken first, and told whose it is afterwards
        takeover_by_time,       ///< who has slept a slice takes it from whoever holds it
        takeover_without_look,  ///< a store instead of the compare-and-swap
        dead_not_asked,         ///< nobody takes over from the dead
        waiters_forgotten,      ///< who has slept takes the word without the waiters bit
        heir_forgets_waiters,   ///< who takes over does
        late_forgets_waiters,   ///< who was woken and gives up does
        release_in_two,         ///< the holder frees the word, and wakes in another call
        release_without_wake,   ///<
        sleep_without_compare,  ///< the kernel does not look at the word again
        inheritance_dropped,    ///< who takes an unrepaired word is not told
    };

    /// Who is killed: `holders` are not in acquire_slowly; of `watched` ones whoever sleeps
    /// watches the life word.
    enum class Victims { anybody, holders, watched };

    struct Options {
        int rounds = 2;
        int deaths = 0;
        Victims victims = Victims::anybody;
        bool slices = false;           ///< sleeps have a bound
        bool has_deadlines = false;    ///< acquire may give up
        bool poison = false;           ///< `take_over` is false; who is refused recovers
        bool repair_may_fail = false;  ///< who inherits may release_unrepaired
        bool hands_over = false;       ///< A's lock is released by B
        Mutant mutant = Mutant::none;
    };

    enum Pc : std::uint8_t {
        idle,
        name_owner,  // of a mutant
        load,
        take_free,
        ask,
        take_dead,
        mark,
        watch,
        wake_watchers,
        await_end,
        fall_asleep,
        fall_asleep_on_word,
        asleep,
        asleep_on_word,
        recover_load,
        recover_free,
        recover_wake,
        inside,
        release_load,
        release_by_kernel,
        release_free,
        release_wake,
        unrepaired_wake,
        done,
    };
    enum Life : std::uint8_t { alive, marked, ended };

    struct Process {
        Pc pc;
        Life life;
        std::uint8_t life_watched;  // FUTEX_WAITERS of its life word
        std::uint8_t rounds;        // still to do
        std::uint8_t seen;
        std::uint8_t waiters;  // the local of acquire_slowly
        std::uint8_t heir;     // Result::inherited
        std::uint8_t foreign;  // this release is of another's lock
    };
    struct State {
        std::array<Process, processes> process;
        std::uint8_t word;  // as in the header, with 4 bits for the id
        std::uint8_t deaths;
        std::uint8_t broken;  // not in memory: a holder died, nobody has repaired yet
        std::uint8_t handed;  // not in memory: A has left B to release
    };

    explicit OwnerWordModel(const Options& options) : options_(options) {}

    State begin() const { return begin_of<State>(options_.rounds, options_.deaths); }

    bool is_complete(const State& state) const {
        for (const Process& process : state.process) {
            if (process.life == marked || (process.life == alive && process.pc != done)) {
                return false;
            }
        }
        return true;
    }

    template <class Emit>
    void steps(const State& state, Emit&& emit) const {
        for (int self = 0; self < processes; ++self) {
            const Process& process = state.process[at(self)];
            if (process.life == marked) {
                State next = state;
                next.process[at(self)].life = ended;
                emit(next, {"has ended", self, false, nullptr});
            }
            if (process.life != alive) { continue; }
            step(state, self, emit);
            if (state.deaths != 0 && may_die(state, self)) { die(state, self, emit); }
        }
    }

  private:
    static constexpr std::uint8_t id_mask = 0x0f;
    static constexpr std::uint8_t anonymous = 0x0f;  // of a mutant: held by nobody knows whom
    static constexpr std::uint8_t inherited_bit = 0x40;
    static constexpr std::uint8_t waiters_bit = 0x80;

    bool is(Mutant mutant) const { return options_.mutant == mutant; }

    static Life life_of(const State& state, std::uint8_t word) {
        const int owner = word & id_mask;
        return owner == anonymous ? alive : state.process[at(owner - 1)].life;
    }

    // Whoever sleeps on the word, one after the other as the one that is woken.
    template <class Emit>
    void wake_one(const State& state, const Step& step, Emit&& emit) const {
        const auto sleeps = [&](int other) {
            const Process& process = state.process[at(other)];
            return process.life == alive && (process.pc == asleep || process.pc == asleep_on_word);
        };
        wake_any(
            state, processes, step, sleeps, [](Process& woken) { wake(woken); }, emit);
    }
    static void wake(Process& sleeper) {
        sleeper.pc = load;
        sleeper.seen = 0;
        sleeper.waiters = waiters_bit;
    }

    bool may_die(const State& state, int self) const {
        const Process& process = state.process[at(self)];
        if (process.pc == done) { return false; }
        // What B releases must still be A's, and who else should release it?
        const bool handing = state.handed != 0 || state.process[1].foreign != 0;
        if (options_.hands_over && self <= 1 && handing) { return process.pc == release_wake; }
        if (options_.victims == Victims::anybody) { return true; }
        if (process.pc == idle || process.pc == release_wake) { return true; }
        if (process.pc < inside && process.pc != name_owner) { return false; }
        if (options_.victims == Victims::holders) { return true; }
        for (const Process& sleeper : state.process) {
            if (sleeper.life == alive && (sleeper.seen & id_mask) != 0 &&
                (sleeper.seen & id_mask) != id(self)) {
                return false;
            }
        }
        return true;
    }

    template <class Emit>
    void die(const State& state, int self, Emit&& emit) const {
        State next = state;
        Process& process = next.process[at(self)];
        const bool watched = process.life_watched != 0;
        if ((state.word & id_mask) == id(self)) { next.broken = 1; }
        process = Process{};
        process.life = marked;
        --next.deaths;
        // The kernel marks the life word, and wakes one of those who sleep on it.
        bool nobody = true;
        for (int other = 0; watched && other < processes; ++other) {
            const Process& sleeper = next.process[at(other)];
            if (sleeper.life != alive || sleeper.pc != asleep ||
                (sleeper.seen & id_mask) != id(self)) {
                continue;
            }
            nobody = false;
            State woken = next;
            wake(woken.process[at(other)]);
            emit(woken, {"is killed", self, true, nullptr});
        }
        if (nobody) { emit(next, {"is killed", self, true, nullptr}); }
    }

    // It is ours, by a first or a later attempt.
    static Step entered(State& next, int self, bool heir, Step step) {
        Process& process = next.process[at(self)];
        process.pc = inside;
        process.heir = heir;
        process.seen = process.waiters = 0;
        for (int other = 0; other < processes; ++other) {
            const Process& there = next.process[at(other)];
            if (other != self && there.life == alive && there.pc == inside) {
                step.broken = "two are inside";
            }
        }
        if (next.broken != 0 && !heir) { step.broken = "the death of a holder is not told"; }
        return step;
    }

    void finish_round(Process& process) const {
        process.seen = process.waiters = process.heir = process.foreign = 0;
        process.pc = --process.rounds == 0 ? done : idle;
    }

    template <class Emit>
    void step(const State& state, int self, Emit&& emit) const {
        State next = state;
        Process& process = next.process[at(self)];
        std::uint8_t& word = next.word;
        const auto go = [&](Pc pc, const char* name) {
            process.pc = pc;
            emit(next, Step{name, self, false, nullptr});
        };
        const std::uint8_t owner = process.seen & id_mask;
        switch (process.pc) {
            case idle:
                if (options_.hands_over && self == 1 && state.handed != 0) {
                    next.handed = 0;
                    process.foreign = 1;
                    return go(release_load, "release of A's lock");
                }
                if (word != 0) { return go(load, "acquire: not free"); }
                if (is(Mutant::owner_after_lock)) {
                    word = anonymous;
                    return go(name_owner, "acquire: takes it");
                }
                word = id(self);
                emit(next, entered(next, self, false, {"acquire: takes it", self}));
                return;
            case name_owner:
                word = static_cast<std::uint8_t>((word & ~id_mask) | id(self));
                emit(next, entered(next, self, false, {"acquire: says whose it is", self}));
                return;
            case load:
                process.seen = word;
                return go((word & id_mask) == 0 ? take_free : ask, "acquire_slowly: load");
            case take_free: {
                if (word != process.seen) {
                    process.seen = 0;
                    return go(load, "acquire_slowly: no longer free");
                }
                const std::uint8_t kept =
                    is(Mutant::waiters_forgotten)
                        ? std::uint8_t{0}
                        : static_cast<std::uint8_t>((process.seen & waiters_bit) | process.waiters);
                const bool heir = (process.seen & inherited_bit) != 0;
                word = static_cast<std::uint8_t>(id(self) | (process.seen & inherited_bit) | kept);
                emit(next, entered(next, self, heir && !is(Mutant::inheritance_dropped),
                                   {"acquire_slowly: takes what is free", self}));
                return;
            }
            case ask:
                if (!is(Mutant::dead_not_asked) && life_of(state, process.seen) == ended) {
                    return go(options_.poison ? recover_load : take_dead,
                              "acquire_slowly: has_ended");
                }
                if (options_.has_deadlines &&
                    (process.waiters == 0 || (process.seen & waiters_bit) != 0 ||
                     is(Mutant::late_forgets_waiters))) {
                    State late = state;
                    finish_round(late.process[at(self)]);
                    emit(late, Step{"acquire_slowly: the time is over", self, false, nullptr});
                }
                return go(mark, "acquire_slowly: has not ended");
            case take_dead:
                if (word != process.seen && !is(Mutant::takeover_without_look)) {
                    process.seen = 0;
                    return go(load, "acquire_slowly: another took over");
                }
                word = id(self) | inherited_bit;
                if (!is(Mutant::heir_forgets_waiters)) { word |= waiters_bit; }
                emit(next,
                     entered(next, self, true, {"acquire_slowly: takes over from the dead", self}));
                return;
            case mark:
                if ((process.seen & waiters_bit) != 0) {
                    return go(watch, "acquire_slowly: marked");
                }
                if (word != process.seen) {
                    process.seen = 0;
                    return go(load, "acquire_slowly: changed before it was marked");
                }
                word |= waiters_bit;
                process.seen = word;
                if (options_.has_deadlines) {
                    State late = next;
                    finish_round(late.process[at(self)]);
                    emit(late, Step{"acquire_slowly: the time is over", self, false, nullptr});
                }
                return go(watch, "acquire_slowly: sets the waiters bit");
            case watch: {
                const Life life = life_of(state, process.seen);
                if (life != alive) { return go(wake_watchers, "wait_with_owner: sees the mark"); }
                if (owner != anonymous) { next.process[at(owner - 1)].life_watched = 1; }
                return go(fall_asleep, "wait_with_owner: watches the life word");
            }
            case wake_watchers:
                for (Process& other : next.process) {
                    if (&other != &process && other.life == alive && other.pc == asleep &&
                        (other.seen & id_mask) == owner) {
                        wake(other);
                    }
                }
                return go(await_end, "wait_with_owner: wakes all who watch it");
            case await_end:
                if (options_.slices) {
                    State slow = next;
                    slow.process[at(self)].pc = fall_asleep_on_word;
                    emit(slow,
                         Step{"wait_with_owner: has not ended in time", self, false, nullptr});
                }
                if (life_of(state, process.seen) != ended) { return; }
                wake(process);
                return go(load, "wait_with_owner: wait_ended");
            case fall_asleep:
            case fall_asleep_on_word:
                if (!is(Mutant::sleep_without_compare) &&
                    (word != process.seen ||
                     (process.pc == fall_asleep && life_of(state, process.seen) != alive))) {
                    wake(process);
                    return go(load, "futex_wait: changed before the sleep");
                }
                return go(process.pc == fall_asleep ? asleep : asleep_on_word,
                          "futex_wait: sleeps");
            case asleep:
            case asleep_on_word:
                if (!options_.slices) { return; }
                if (is(Mutant::takeover_by_time)) {
                    word = id(self) | inherited_bit | waiters_bit;
                    emit(next, entered(next, self, true, {"takes over: it took too long", self}));
                    return;
                }
                wake(process);
                return go(load, "futex_wait: the slice is over");
            case recover_load:
                process.seen = word;
                if ((word & id_mask) == 0 || life_of(state, word) != ended) {
                    process.seen = 0;
                    return go(load, "recover: nobody is dead");
                }
                return go(recover_free, "recover: has_ended");
            case recover_free:
                if (word != process.seen) {
                    process.seen = 0;
                    return go(load, "recover: another did");
                }
                word = 0;
                next.broken = 0;
                return go(recover_wake, "recover: frees it");
            case recover_wake:
                for (Process& other : next.process) {
                    if (&other != &process && other.life == alive &&
                        (other.pc == asleep || other.pc == asleep_on_word)) {
                        wake(other);
                    }
                }
                process.seen = 0;
                return go(load, "recover: wakes all");
            case inside:
                if (process.heir != 0 && options_.repair_may_fail) {
                    State failed = state;
                    failed.word = inherited_bit;
                    failed.process[at(self)].pc = unrepaired_wake;
                    emit(failed, Step{"release_unrepaired: frees it", self, false, nullptr});
                }
                if (process.heir != 0) { next.broken = 0; }
                if (options_.hands_over && self == 0 && state.handed == 0 &&
                    state.process[1].life == alive && state.process[1].pc == idle) {
                    State handed = next;
                    handed.handed = 1;
                    finish_round(handed.process[0]);
                    emit(handed, Step{"leaves it to B to release", self, false, nullptr});
                }
                return go(release_load, "leaves the section");
            case release_load:
                process.seen = word;
                if ((word & id_mask) == 0) {
                    emit(next, Step{"release", self, false, "a lock was freed behind its holder"});
                    return;
                }
                return go((word & waiters_bit) != 0 && process.foreign == 0 &&
                                  !is(Mutant::release_in_two) && !is(Mutant::release_without_wake)
                              ? release_by_kernel
                              : release_free,
                          "release: load");
            case release_by_kernel:
                word = 0;
                finish_round(process);
                wake_one(next, {"release: futex_clear_and_wake", self}, emit);
                return;
            case release_free: {
                if (word != process.seen) { return go(release_load, "release: it has changed"); }
                const bool wakes = (word & waiters_bit) != 0 && !is(Mutant::release_without_wake);
                word = 0;
                if (!wakes) { finish_round(process); }
                return go(wakes ? release_wake : process.pc, "release: frees it");
            }
            case release_wake:
            case unrepaired_wake:
                finish_round(process);
                wake_one(next, {"release: futex_wake", self}, emit);
                return;
            case done:
                return;
        }
    }

    Options options_;
};

}  // namespace model

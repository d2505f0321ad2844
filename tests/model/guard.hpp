// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A model of multiprocessing/shm/guard.hpp, down to what the C library's robust mutex does with
/// its futex word and what the kernel does for it when a process ends.

#include "explorer.hpp"

#include <array>
#include <cstdint>

namespace model {

/// Processes that enter one Guard, change something in two steps, and leave, a number of times.
class GuardModel {
  public:
    static constexpr int processes = 3;

    enum class Mutant {
        none,
        not_robust,         ///< the kernel leaves a dead holder's word as it is
        not_consistent,     ///< pthread_mutex_consistent is not called
        recovery_left_out,  ///< but it is made consistent
        takeover_by_time,   ///< who has slept a slice enters
    };

    struct Options {
        int rounds = 2;
        int deaths = 0;
        bool slices = false;            ///< Guard::enter sleeps a slice at a time
        bool only_holders_die = false;  ///< and nobody who is in pthread_mutex_lock or _unlock
        Mutant mutant = Mutant::none;
    };

    enum Pc : std::uint8_t {
        idle,
        try_lock,
        lock_begin,
        lock,
        fall_asleep,
        asleep,
        reload,
        recover,
        make_consistent,
        change,
        settle,
        unlock_owner,
        unlock,
        unlock_wake,
        done,
    };

    struct Process {
        Pc pc;
        std::uint8_t is_dead;
        std::uint8_t rounds;  // still to do
        std::uint8_t old;     // the locals of pthread_mutex_lock: the word as it was seen,
        std::uint8_t shared;  // and assume_other_futex_waiters
    };
    enum Usable : std::uint8_t { usable, inconsistent, not_recoverable };
    struct State {
        std::array<Process, processes> process;
        std::uint8_t word;
        Usable usable;  // in __data.__owner
        std::uint8_t deaths;
        std::uint8_t half_done;  // what the guard protects is between two of its states
    };

    explicit GuardModel(const Options& options) : options_(options) {}

    State begin() const { return begin_of<State>(options_.rounds, options_.deaths); }

    bool is_complete(const State& state) const {
        for (const Process& process : state.process) {
            if (process.is_dead == 0 && process.pc != done) { return false; }
        }
        return true;
    }

    template <class Emit>
    void steps(const State& state, Emit&& emit) const {
        for (int self = 0; self < processes; ++self) {
            const Process& process = state.process[at(self)];
            if (process.is_dead != 0 || process.pc == done) { continue; }
            step(state, self, emit);
            const bool holds = process.pc >= recover && process.pc <= settle;
            if (state.deaths != 0 && (holds || !options_.only_holders_die)) {
                die(state, self, emit);
            }
        }
    }

  private:
    static constexpr std::uint8_t id_mask = 0x0f;
    static constexpr std::uint8_t died_bit = 0x40;     // FUTEX_OWNER_DIED
    static constexpr std::uint8_t waiters_bit = 0x80;  // FUTEX_WAITERS

    bool is(Mutant mutant) const { return options_.mutant == mutant; }

    template <class Emit>
    void wake_one(const State& state, const Step& step, Emit&& emit) const {
        const auto sleeps = [&](int other) {
            const Process& process = state.process[at(other)];
            return process.is_dead == 0 && process.pc == asleep;
        };
        wake_any(
            state, processes, step, sleeps, [](Process& woken) { woken.pc = reload; }, emit);
    }

    // handle_futex_death, kernel/futex/core.c.
    template <class Emit>
    void die(const State& state, int self, Emit&& emit) const {
        State next = state;
        Process& process = next.process[at(self)];
        const Pc pc = process.pc;
        const bool pending = (pc >= try_lock && pc <= reload) || pc >= unlock;
        process = Process{};
        process.is_dead = 1;
        --next.deaths;
        const Step killed{"is killed", self, true, nullptr};
        const std::uint8_t owner = next.word & id_mask;
        if (is(Mutant::not_robust)) { return emit(next, killed); }
        // Woken and killed, or killed before it woke: another is woken if nobody has come in.
        if (pending && owner == 0) { return wake_one(next, killed, emit); }
        if (owner != id(self)) { return emit(next, killed); }
        const bool wakes = (next.word & waiters_bit) != 0;
        next.word = static_cast<std::uint8_t>((next.word & waiters_bit) | died_bit);
        if (wakes) { return wake_one(next, killed, emit); }
        emit(next, killed);
    }

    template <class Emit>
    void enter(State next, int self, bool from_dead, const char* name, Emit&& emit) const {
        Process& process = next.process[at(self)];
        process.old = process.shared = 0;
        if (from_dead) { next.usable = inconsistent; }
        process.pc = !from_dead                      ? change
                     : is(Mutant::recovery_left_out) ? make_consistent
                                                     : recover;
        Step step{name, self};
        for (int other = 0; other < processes; ++other) {
            const Process& there = next.process[at(other)];
            if (other != self && there.is_dead == 0 && there.pc >= recover && there.pc <= settle) {
                step.broken = "two are inside";
            }
        }
        if (!from_dead && next.usable == not_recoverable) {
            step.broken = "the guard cannot be entered any more";
        }
        emit(next, step);
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
        switch (process.pc) {
            case idle:
                process.old = word;
                return go(try_lock, "pthread_mutex_trylock: load");
            case try_lock:
                if ((process.old & died_bit) != 0) {
                    if (word != process.old) {
                        process.old = word;
                        return go(try_lock, "pthread_mutex_trylock: changed");
                    }
                    word = static_cast<std::uint8_t>((process.old & waiters_bit) | id(self));
                    return enter(next, self, true, "pthread_mutex_trylock: EOWNERDEAD", emit);
                }
                if (word == 0) {
                    word = id(self);
                    return enter(next, self, false, "pthread_mutex_trylock: enters", emit);
                }
                process.old = word;
                return go((word & died_bit) != 0 ? try_lock : lock_begin,
                          "pthread_mutex_trylock: EBUSY");
            case lock_begin:
            case reload:
                if (process.pc == lock_begin) { process.shared = 0; }
                process.old = word;
                return go(lock, "pthread_mutex_clocklock: load");
            case lock:
                if (process.old == 0 || (process.old & died_bit) != 0) {
                    if (word != process.old) {
                        process.old = word;
                        return go(lock, "pthread_mutex_clocklock: changed");
                    }
                    const bool from_dead = process.old != 0;
                    word = static_cast<std::uint8_t>((process.old & waiters_bit) | process.shared |
                                                     id(self));
                    return enter(next, self, from_dead, "pthread_mutex_clocklock: enters", emit);
                }
                if ((process.old & waiters_bit) == 0) {
                    if (word != process.old) {
                        process.old = word;
                        return go(lock, "pthread_mutex_clocklock: changed");
                    }
                    word |= waiters_bit;
                    process.old = word;
                }
                process.shared = waiters_bit;
                return go(fall_asleep, "pthread_mutex_clocklock: sets the waiters bit");
            case fall_asleep:
                return go(word == process.old ? asleep : reload, "futex_wait");
            case asleep:
                if (!options_.slices) { return; }
                if (is(Mutant::takeover_by_time)) {
                    return enter(next, self, false, "enters: it took too long", emit);
                }
                process.old = process.shared = 0;
                return go(lock_begin, "Guard::enter: the slice is over");
            case recover:
                next.half_done = 0;
                return go(is(Mutant::not_consistent) ? change : make_consistent,
                          "Guard::entered: recover");
            case make_consistent:
                next.usable = usable;
                return go(change, "Guard::entered: pthread_mutex_consistent");
            case change: {
                Step step{"inside: begins a change", self};
                if (next.half_done != 0) { step.broken = "what the dead left is not repaired"; }
                next.half_done = 1;
                process.pc = settle;
                return emit(next, step);
            }
            case settle:
                next.half_done = 0;
                return go(unlock_owner, "inside: ends the change");
            case unlock_owner:
                if (next.usable == inconsistent) { next.usable = not_recoverable; }
                return go(unlock, "pthread_mutex_unlock: leaves the list");
            case unlock: {
                const bool wakes = (word & waiters_bit) != 0;
                word = 0;
                if (!wakes) { finish_round(process); }
                return go(wakes ? unlock_wake : process.pc, "pthread_mutex_unlock: frees it");
            }
            case unlock_wake:
                finish_round(process);
                return wake_one(next, {"pthread_mutex_unlock: futex_wake", self}, emit);
            case done:
                return;
        }
    }

    static void finish_round(Process& process) { process.pc = --process.rounds == 0 ? done : idle; }

    Options options_;
};

}  // namespace model

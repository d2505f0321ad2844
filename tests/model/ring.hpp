// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A model of multiprocessing/shm/ring_put.hpp, ring_get.hpp and of what they use of ring_core.hpp:
/// putting and getting one record, sleeping and waking, recovery, and records with an extent.
///
/// The guards are one step here; guard.hpp has their inside. Not in the model: several areas,
/// batches, the descriptor, and the end of a ring.

#include "explorer.hpp"

#include <array>
#include <cstdint>

namespace model {

/// Producers that put a number of records each, and consumers that get a number of them each.
class RingModel {
  public:
    static constexpr int most_processes = 4;
    static constexpr int most_records = 6;

    enum class Mutant {
        none,
        commit_before_write,     ///< `tail` is moved, then the record is written
        commit_before_copy,      ///< `head` is moved, then the record is copied out
        guard_not_robust,        ///< a dead holder's guard stays shut
        guard_by_time,           ///< who waits for a guard in vain enters
        producers_not_repaired,  ///< recover_producers is left out
        consumers_not_repaired,  ///< recover_consumers is left out
        note_cleared_first,      ///< keep_stretch clears its note before `file_end` is moved
        punched_uncommitted,     ///< give_back does not ask whether `head` was moved
        flag_before_commit,      ///< the flag is taken down before the commit
        one_for_all,             ///< who was woken does not wake the next
        no_wake,                 ///< after a put
        sleep_without_compare,   ///< the kernel does not look at the word again
        late_for_himself,        ///< who was woken and gives up does not wake the next
    };

    struct Options {
        int producers = 1;
        int consumers = 1;
        int puts = 2;   // each
        int gets = 2;   // each
        int limit = 1;  // most records at a time
        int deaths = 0;
        bool slices = false;         ///< sleeps have a bound
        bool extents = false;        ///< every record has one
        bool has_deadlines = false;  ///< put and get may give up
        bool on_end = false;         ///< one sleeps on the commit word, not on the flag
        Mutant mutant = Mutant::none;
    };

    enum Pc : std::uint8_t {
        enter,
        recover,
        recover_clear,
        look,  // producers: is there room; consumers: is there a record
        note,
        reserve,
        write_begin,
        write_end,
        copy,
        commit,
        keep,
        clear,
        leave,
        flag_early,
        wake_look,
        wake_exchange,
        wake_call,
        stand_flag,
        stand_load,
        stand_compare,
        next_look,
        next_exchange,
        next_call,
        sleep_flag,
        sleep_check,
        fall_asleep,
        asleep,
        finish,
        done,
    };

    struct Process {
        Pc pc;
        std::uint8_t is_dead;
        std::uint8_t left;       // records still to put or get
        std::uint8_t seen;       // head_seen or tail_seen, kept to sleep on
        std::uint8_t has_slept;  // of Patience
        std::uint8_t full;       // this turn found no room, or nothing
        std::uint8_t record;     // copied out
        std::uint8_t early;      // of a mutant: what it did too early
    };
    struct Redo {
        std::uint8_t length;
        std::uint8_t offset;
        std::uint8_t end_before;
    };
    struct State {
        std::array<Process, most_processes> process;
        std::array<std::uint8_t, 2> guard;  // of producers, of consumers: holder
        std::array<std::uint8_t, 2> end;    // tail, head: how many records
        std::array<std::uint8_t, 2> flag;   // producers_wait, consumers_wait
        std::uint8_t head_seen;
        std::uint8_t tail_seen;
        std::array<std::uint8_t, 2> slot;    // what is written in the area
        std::array<std::uint8_t, 2> extent;  // where the payload of that record stands
        std::uint8_t file_end;
        std::uint8_t reserved;  // bit k: the stretch at k has memory
        std::array<std::uint8_t, most_records> memory;
        Redo taking;
        Redo giving_back;
        std::uint8_t deaths;
        // Not in memory:
        std::array<std::uint8_t, most_records> put;  // the records in the order of their commits
        std::uint8_t got;                            // a bit for each that was returned
    };

    explicit RingModel(const Options& options) : options_(options) {}

    State begin() const {
        State state{};
        for (int self = 0; self < most_processes; ++self) {
            Process& process = state.process[at(self)];
            const bool exists = self < options_.producers + options_.consumers;
            process.left = static_cast<std::uint8_t>(!exists          ? 0
                                                     : produces(self) ? options_.puts
                                                                      : options_.gets);
            process.pc = exists ? enter : done;
        }
        state.deaths = static_cast<std::uint8_t>(options_.deaths);
        return state;
    }

    // All have put and got what they came for, or there is nobody left to do it with. What was put
    // is in the ring, or was returned, or died in somebody's hands, and no memory is left over.
    bool is_complete(const State& state) const {
        const auto items = static_cast<int>(state.end[tail] - state.end[head]);
        bool puts_wait = false;
        bool gets_wait = false;
        bool puts_end = true;
        bool gets_end = true;
        int in_dead_hands = 0;
        for (int self = 0; self < most_processes; ++self) {
            const Process& process = state.process[at(self)];
            if (process.is_dead != 0) {
                in_dead_hands += process.record != 0 ? 1 : 0;
                continue;
            }
            if (process.pc == done) { continue; }
            const bool sleeps = process.pc == asleep;
            (produces(self) ? puts_wait : gets_wait) |= sleeps;
            (produces(self) ? puts_end : gets_end) = false;
            if (!sleeps) { return false; }
        }
        if (puts_wait && (items < options_.limit || gets_wait || !gets_end)) { return false; }
        if (gets_wait && (items != 0 || !puts_end)) { return false; }
        int returned = 0;
        for (int record = 0; record < most_records; ++record) {
            returned += state.got >> record & 1;
        }
        if (returned + in_dead_hands != state.end[head]) { return false; }
        // Behind a dead holder it is for the next one to tidy up.
        const bool tidy = state.guard[0] == 0 && state.guard[1] == 0;
        std::uint8_t used = 0;
        for (int i = state.end[head]; options_.extents && i < state.end[tail]; ++i) {
            used |= static_cast<std::uint8_t>(1U << state.extent[at(i % options_.limit)]);
        }
        return !tidy || used == state.reserved;
    }

    template <class Emit>
    void steps(const State& state, Emit&& emit) const {
        for (int self = 0; self < options_.producers + options_.consumers; ++self) {
            const Process& process = state.process[at(self)];
            if (process.is_dead != 0 || process.pc == done) { continue; }
            produces(self) ? put(state, self, emit) : get(state, self, emit);
            if (state.deaths == 0) { continue; }
            State next = state;
            Process& victim = next.process[at(self)];
            // What was taken out of the ring and not yet returned dies with it.
            const bool took = victim.record != 0 && victim.pc > commit;
            victim = Process{};
            victim.pc = done;
            victim.is_dead = 1;
            victim.record = took ? 1 : 0;
            --next.deaths;
            emit(next, Step{"is killed", self, true, nullptr});
        }
    }

  private:
    enum End { tail, head };
    static constexpr std::uint8_t half_written = 0xff;

    bool is(Mutant mutant) const { return options_.mutant == mutant; }
    bool produces(int process) const { return process < options_.producers; }
    // Records are numbered from 1; which one of which producer it is.
    std::uint8_t record_of(int producer, const Process& process) const {
        return static_cast<std::uint8_t>(1 + producer * options_.puts + options_.puts -
                                         process.left);
    }
    // Guard::enter: free, or of a dead one, which is recovered first.
    template <class Emit>
    void enter_guard(const State& state, int self, End which, Emit&& emit) const {
        const std::uint8_t holder = state.guard[which];
        State next = state;
        Process& process = next.process[at(self)];
        next.guard[which] = id(self);
        process.full = 0;
        if (holder == 0) {
            process.pc = look;
            emit(next, Step{"Guard::enter", self, false, nullptr});
        } else if (state.process[at(holder - 1)].is_dead != 0) {
            if (is(Mutant::guard_not_robust)) { return; }
            const bool repairs = !is(which == tail ? Mutant::producers_not_repaired
                                                   : Mutant::consumers_not_repaired);
            process.pc = repairs ? recover : look;
            emit(next, Step{"Guard::enter: of a dead one", self, false, nullptr});
        } else if (is(Mutant::guard_by_time)) {
            process.pc = look;
            emit(next, Step{"enters the guard of a living one", self, false, nullptr});
        }
    }

    // RingCore::wake, to wake those who sleep on `end`. Goes on to `then`.
    template <class Emit>
    void wake(const State& state, int self, End end, int stage, Pc then, Emit&& emit) const {
        const int flag = end == tail ? 1 : 0;
        State next = state;
        Process& process = next.process[at(self)];
        const Pc here = process.pc;
        if (stage == 0) {
            process.pc = next.flag[at(flag)] != 0 ? static_cast<Pc>(here + 1) : then;
            return emit(next, Step{"RingCore::wake: looks at the flag", self, false, nullptr});
        }
        if (stage == 1) {
            process.pc = next.flag[at(flag)] != 0 ? static_cast<Pc>(here + 1) : then;
            next.flag[at(flag)] = 0;
            return emit(next, Step{"RingCore::wake: takes the flag down", self, false, nullptr});
        }
        process.pc = then;
        const Step step{"RingCore::wake: futex_wake", self, false, nullptr};
        const auto sleeps = [&](int other) {
            const Process& sleeper = state.process[at(other)];
            return produces(other) == (end == head) && sleeper.is_dead == 0 && sleeper.pc == asleep;
        };
        const auto wake_up = [](Process& woken) {
            woken.pc = enter;
            woken.seen = 0;
        };
        wake_any(next, options_.producers + options_.consumers, step, sleeps, wake_up, emit);
    }

    // RingCore::sleep on `end`, and what is the same in put and get after the guard was left: the
    // wake, whether to stand for the others who sleep, and the return.
    template <class Emit>
    void outside(const State& state, int self, Emit&& emit) const {
        const bool producer = produces(self);
        const End own = producer ? tail : head;    // what we move
        const End other = producer ? head : tail;  // what we sleep on
        const int flag = producer ? 0 : 1;         // the one that we raise
        State next = state;
        Process& process = next.process[at(self)];
        const auto go = [&](Pc pc, const char* name) {
            process.pc = pc;
            emit(next, Step{name, self, false, nullptr});
        };
        // get wakes only if it has taken something, put whatever it did.
        const bool stands = process.has_slept != 0 && !is(Mutant::one_for_all);
        const Pc after = process.full != 0 ? sleep_flag : stands ? stand_flag : finish;
        switch (process.pc) {
            case wake_look:
                return wake(state, self, own, 0, after, emit);
            case wake_exchange:
                return wake(state, self, own, 1, after, emit);
            case wake_call:
                return wake(state, self, own, 2, after, emit);
            case stand_flag:
                next.flag[at(flag)] = 1;
                return go(stand_load, "put/get: raises the flag for the others");
            case stand_load:
                process.seen = next.end[tail];
                return go(stand_compare, "put/get: load_tail");
            case stand_compare: {
                const auto items = static_cast<std::uint8_t>(process.seen - next.end[head]);
                const bool more = producer ? items < options_.limit : items != 0;
                process.seen = 0;
                return go(more ? next_look : finish, "put/get: load_head, is there more");
            }
            case next_look:
                return wake(state, self, other, 0, finish, emit);
            case next_exchange:
                return wake(state, self, other, 1, finish, emit);
            case next_call:
                return wake(state, self, other, 2, finish, emit);
            case sleep_flag:
                if (options_.has_deadlines && process.has_slept != 0) {
                    State late = state;
                    late.process[at(self)].pc = is(Mutant::late_for_himself) ? finish : stand_flag;
                    emit(late, Step{"put/get: the time is over", self, false, nullptr});
                }
                process.has_slept = 1;
                next.flag[at(flag)] = 1;
                return go(sleep_check, "RingCore::sleep: raises the flag");
            case sleep_check:
                if (next.end[other] != process.seen) {
                    process.seen = 0;
                    return go(enter, "RingCore::sleep: it has changed");
                }
                return go(fall_asleep, "RingCore::sleep: unchanged");
            case fall_asleep:
                if ((options_.on_end ? next.end[other] != process.seen
                                     : next.flag[at(flag)] == 0) &&
                    !is(Mutant::sleep_without_compare)) {
                    process.seen = 0;
                    return go(enter, "futex_wait: it has changed");
                }
                return go(asleep, "futex_wait: sleeps");
            case asleep:
                if (!options_.slices) { return; }
                process.seen = 0;
                return go(enter, "futex_wait: the slice is over");
            case finish: {
                Step step{"put/get returns", self, false, nullptr};
                if (!producer && process.full == 0) {
                    const auto bit = static_cast<std::uint8_t>(1U << (process.record - 1));
                    if ((next.got & bit) != 0) { step.broken = "a record was got twice"; }
                    next.got |= bit;
                }
                const auto left = static_cast<std::uint8_t>(process.left - 1);
                process = Process{};
                process.left = left;
                process.pc = left == 0 ? done : enter;
                return emit(next, step);
            }
            default:
                return;
        }
    }

    template <class Emit>
    void put(const State& state, int self, Emit&& emit) const {
        State next = state;
        Process& process = next.process[at(self)];
        Redo& taking = next.taking;
        const auto slot = at(next.end[tail] % options_.limit);
        const auto go = [&](Pc pc, const char* name) {
            process.pc = pc;
            emit(next, Step{name, self, false, nullptr});
        };
        const auto commit_record = [&](Pc pc) {
            next.put[next.end[tail] % most_records] = record_of(self, process);
            ++next.end[tail];
            go(pc, "RingProducer::commit");
        };
        const Pc committed = options_.extents ? keep : leave;
        switch (process.pc) {
            case enter:
                enter_guard(state, self, tail, emit);
                return;
            case recover: {
                if (taking.length == 0) { return go(look, "recover_producers: nothing to do"); }
                const bool in_use = next.end[tail] != taking.end_before;
                if (in_use) {
                    next.file_end = static_cast<std::uint8_t>(taking.offset + 1);
                } else {
                    next.reserved &= static_cast<std::uint8_t>(~(1U << taking.offset));
                }
                return go(recover_clear, "recover_producers: keeps or drops the stretch");
            }
            case recover_clear:
                taking = Redo{};
                return go(look, "recover_producers: clears the note");
            case look: {
                const int limit = options_.limit;
                if (next.end[tail] - next.head_seen >= limit) { next.head_seen = next.end[head]; }
                if (next.end[tail] - next.head_seen >= limit) {
                    process.full = 1;
                    process.seen = next.head_seen;
                    return go(leave, "produce: it is full");
                }
                return go(options_.extents ? note : write_begin, "produce: there is room");
            }
            case note:
                taking = {1, next.file_end, next.end[tail]};
                return go(reserve, "take_stretch: notes it");
            case reserve:
                next.reserved |= static_cast<std::uint8_t>(1U << taking.offset);
                return go(write_begin, "take_stretch: reserves it");
            case write_begin:
                if (is(Mutant::commit_before_write) && process.early == 0) {
                    process.early = 1;
                    return commit_record(write_begin);
                }
                write(next, slot, half_written);
                return go(write_end, "produce: begins to write");
            case write_end:
                write(next, slot, record_of(self, process));
                if (is(Mutant::commit_before_write)) {
                    process.early = 0;
                    return go(committed, "produce: has written");
                }
                return go(is(Mutant::flag_before_commit) ? flag_early : commit,
                          "produce: has written");
            case flag_early:
                process.early = next.flag[1];
                next.flag[1] = 0;
                return go(commit, "takes the flag down too early");
            case commit:
                return commit_record(committed);
            case keep:
                if (is(Mutant::note_cleared_first)) {
                    process.seen = taking.offset;
                    taking = Redo{};
                    return go(clear, "keep_stretch: clears the note too early");
                }
                next.file_end = static_cast<std::uint8_t>(taking.offset + 1);
                return go(clear, "keep_stretch: moves file_end");
            case clear:
                if (is(Mutant::note_cleared_first)) {
                    next.file_end = static_cast<std::uint8_t>(process.seen + 1);
                    process.seen = 0;
                } else {
                    taking = Redo{};
                }
                return go(leave, "keep_stretch: clears the note");
            case leave: {
                release(next.guard[tail], self);
                const bool silent = is(Mutant::no_wake);
                if (is(Mutant::flag_before_commit) && process.full == 0) {
                    const bool wakes = process.early != 0;
                    process.early = 0;
                    return go(wakes ? wake_call : finish, "leaves the guard");
                }
                if (silent) {
                    return go(process.full != 0 ? sleep_flag : finish, "leaves the guard");
                }
                return go(wake_look, "leaves the guard");
            }
            default:
                return outside(state, self, emit);
        }
    }

    template <class Emit>
    void get(const State& state, int self, Emit&& emit) const {
        State next = state;
        Process& process = next.process[at(self)];
        Redo& giving = next.giving_back;
        // The slot of the record that is taken, also when the head has been moved already.
        const bool early = is(Mutant::commit_before_copy);
        const auto slot = at(next.end[head] % options_.limit);
        const auto go = [&](Pc pc, const char* name) {
            process.pc = pc;
            emit(next, Step{name, self, false, nullptr});
        };
        const auto punch = [&] {
            next.reserved &= static_cast<std::uint8_t>(~(1U << giving.offset));
        };
        switch (process.pc) {
            case enter:
                enter_guard(state, self, head, emit);
                return;
            case recover:
                if (giving.length == 0) { return go(look, "recover_consumers: nothing to do"); }
                if (next.end[head] != giving.end_before || is(Mutant::punched_uncommitted)) {
                    punch();
                }
                return go(recover_clear, "give_back: punches the extent if it was read");
            case recover_clear:
                giving = Redo{};
                return go(look, "give_back: clears the note");
            case look:
                if (next.tail_seen == next.end[head]) { next.tail_seen = next.end[tail]; }
                if (next.tail_seen == next.end[head]) {
                    process.full = 1;
                    process.seen = next.tail_seen;
                    return go(leave, "consume: it is empty");
                }
                return go(early ? commit : copy, "consume: there is a record");
            case copy: {
                const int position = next.end[head] - (early ? 1 : 0);
                const auto place = at(position % options_.limit);
                const std::uint8_t found = options_.extents
                                               ? next.memory[next.extent[place] % most_records]
                                               : next.slot[place];
                Step step{"consume: copies the record out", self, false, nullptr};
                if (options_.extents && (next.reserved >> next.extent[place] & 1) == 0) {
                    step.broken = "memory is read that was given back";
                } else if (found != next.put[at(position % most_records)]) {
                    step.broken = "a record is read that nobody put";
                }
                process.record = found;
                process.pc = early ? leave : options_.extents ? note : commit;
                return emit(next, step);
            }
            case note:
                giving = {1, next.extent[slot], next.end[head]};
                return go(commit, "note_giving_back");
            case commit:
                ++next.end[head];
                return go(early ? copy : options_.extents ? keep : leave, "RingConsumer::commit");
            case keep:
                punch();
                return go(clear, "give_back: punches the extent");
            case clear:
                giving = Redo{};
                return go(leave, "give_back: clears the note");
            case leave:
                release(next.guard[head], self);
                return go(process.full != 0 ? sleep_flag : wake_look, "leaves the guard");
            default:
                return outside(state, self, emit);
        }
    }

    static void release(std::uint8_t& guard, int self) {
        if (guard == id(self)) { guard = 0; }
    }
    void write(State& state, std::size_t slot, std::uint8_t value) const {
        if (options_.extents) {
            const std::uint8_t offset = state.taking.offset;
            state.memory[offset % most_records] = value;
            state.extent[slot] = offset;
            return;
        }
        state.slot[slot] = value;
    }

    Options options_;
};

}  // namespace model

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What is done to the victim of a row at each point of its operation.

#include "row.hpp"
#include "stage.hpp"
#include "survivor.hpp"
#include "trace.hpp"
#include "tracee.hpp"

#include <multiprocessing/shm/family.hpp>

#include <dlfcn.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <string>

namespace step {

/// What became of the points of a row.
struct Tally {
    std::size_t points = 0;
    std::size_t bad = 0;
    std::size_t before = 0;  ///< the operation had not happened
    std::size_t after = 0;   ///< it had
    double worst = 0;        ///< of the survivors, in milliseconds
    double seconds = 0;      ///< that all of it took

    Tally& operator+=(const Tally& other) {
        points += other.points;
        bad += other.bad;
        before += other.before;
        after += other.after;
        worst = std::max(worst, other.worst);
        seconds = std::max(seconds, other.seconds);
        return *this;
    }
    void take(int outcome, double milliseconds) {
        ++points;
        ++(outcome == 0 ? before : after);
        worst = std::max(worst, milliseconds);
    }
};

inline double now_in_ms() {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double, std::milli>(now).count();
}

/// A row under ptrace. Several processes share its points, since much of the time is spent in
/// waiting for the slices of those that sleep.
class Stepper {
  public:
    static constexpr std::size_t shares = 4;
    /// Which of the points are this process's: set in a fork of the one that made this object.
    std::size_t share = 0;

    /// Every row has at most so many bad points: more say nothing new.
    static constexpr std::size_t most_bad = 3;

    explicit Stepper(const Row& row) : row_(row) {
        clear_stage();
        const auto scene = row.make();
        Tracee victim([&] { live(*scene); });
        trace_ = std::make_unique<Trace>(victim);
    }

    /// Killed after every instruction, and in every system call that sleeps.
    Tally kill() {
        return at_points(
            "kill", [&](std::size_t k) { return k % at_least(1) == 0 || trace_->is_distinct(k); },
            [&](Scene& scene, Tracee& victim, Tally& tally, std::size_t k) {
                victim.kill();
                check(scene, {}, tally);
                if (trace_->sleeps(k)) { kill_asleep(tally, k); }
            });
    }

    /// Stopped at each distinct point, and at every eighth of the others, and killed once a
    /// survivor has blocked, or has done what it wanted.
    Tally late() {
        return at_points(
            "late", [&](std::size_t k) { return trace_->is_distinct(k) || k % at_least(8) == 0; },
            [&](Scene& scene, Tracee& victim, Tally& tally, std::size_t) {
                // Who may find nothing to do must find that out within the survivor's time.
                const auto patience =
                    std::chrono::milliseconds(row_.work_may_time_out ? 300 : 1500);
                Survivor user([&] { return static_cast<int>(scene.work(patience)); });
                if (!await_asleep(user.pid())) { throw BadPoint("the survivor is never at rest"); }
                victim.kill();
                const double begin = now_in_ms();
                const auto worked = static_cast<Worked>(user.join());
                if (worked == Worked::timed_out && !row_.work_may_time_out) {
                    throw BadPoint("the survivor waited in vain for the dead");
                }
                tally.worst = std::max(tally.worst, now_in_ms() - begin);
                check(scene, {.worked = worked}, tally);
            });
    }

    /// Stopped at each distinct point, and at every 32nd of the others; the others keep their
    /// bounds and take nothing from it. Then it goes on, and completes.
    Tally stopped() {
        return at_points(
            "stopped",
            [&](std::size_t k) { return trace_->is_distinct(k) || k % at_least(32) == 0; },
            [&](Scene& scene, Tracee& victim, Tally& tally, std::size_t) {
                constexpr std::chrono::milliseconds bound{20};
                // Room for several calls, each of which may wait a slice longer.
                Survivor user([&] { return static_cast<int>(scene.work(bound)); },
                              std::chrono::milliseconds(1000));
                const auto worked = static_cast<Worked>(user.join());
                if (worked == Worked::took_over) {
                    throw BadPoint("somebody took over from the living");
                }
                victim.run_to_end();
                victim.kill();
                check(scene, {.completed = true, .worked = worked}, tally);
            });
    }

  private:
    // In the victim.
    void live(Scene& scene) const {
        if (row_.joins_before) { mp::detail::Family::self(); }
        scene.prepare();
        mark();
        scene.run();
        mark();
    }

    std::size_t at_least(int stride) const {
        return static_cast<std::size_t>(std::max(stride, row_.stride));
    }

    template <class Wanted, class Point>
    Tally at_points(const char* mode, Wanted wanted, Point point) {
        Tally tally;
        const double begin = now_in_ms();
        std::size_t number = 0;
        for (std::size_t k = 0; k < trace_->size() && tally.bad < most_bad; ++k) {
            if (!wanted(k) && k + 1 != trace_->size()) { continue; }
            if (number++ % shares != share) { continue; }
            try {
                clear_stage();
                const auto scene = row_.make();
                Tracee victim([&] { live(*scene); });
                trace_->bring(victim, k);
                point(*scene, victim, tally, k);
            } catch (const std::exception& error) {
                ++tally.points;
                ++tally.bad;
                std::printf("BAD %s, %s at %zu of %zu (%s): %s\n", row_.name.c_str(), mode, k,
                            trace_->size() - 1, place(k).c_str(), error.what());
            }
        }
        tally.seconds = (now_in_ms() - begin) / 1000;
        return tally;
    }

    void kill_asleep(Tally& tally, std::size_t k) const {
        clear_stage();
        const auto scene = row_.make();
        Tracee victim([&] { live(*scene); });
        if (!trace_->bring(victim, k)) { return; }
        victim.begin_step();
        // Asleep in the call, or behind it already.
        for (char state = 0; state != 'S' && state != 't'; state = state_of(victim.pid())) {}
        victim.kill();
        check(*scene, {}, tally);
    }

    static void check(Scene& scene, const Aftermath& after, Tally& tally) {
        const double begin = now_in_ms();
        Survivor survivor([&] { return scene.check(after); });
        const int outcome = survivor.join();
        if (after.completed && outcome == 0) {
            throw BadPoint("the victim came through, and nothing has happened");
        }
        tally.take(outcome, now_in_ms() - begin);
    }

    // For addr2line.
    std::string place(std::size_t k) const {
        const auto address = trace_->address(k);
        Dl_info info{};
        if (::dladdr(reinterpret_cast<const void*>(address), &info) == 0) { return "?"; }
        char text[300];
        std::snprintf(text, sizeof text, "%s+0x%lx", info.dli_fname,
                      address - reinterpret_cast<std::uintptr_t>(info.dli_fbase));
        return text;
    }

    const Row& row_;
    std::unique_ptr<const Trace> trace_;
};

}  // namespace step

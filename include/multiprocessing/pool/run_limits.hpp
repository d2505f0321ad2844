// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Keeps a worker's task within its bounds.

#include <multiprocessing/os/kill_timer.hpp>
#include <multiprocessing/pool/job_table.hpp>
#include <multiprocessing/pool/limits.hpp>

#include <ctime>

namespace multiprocessing::detail {

/// The worker's own timers: the kernel ends the process when an item takes too long. What is needed
/// to tell why stands in the slot before the timer runs. Memory is watched by the nursery. \safety
/// one thread's.
class RunLimits {
  public:
    explicit RunLimits(WorkerSlot& slot) noexcept : slot_(slot) {}

    /// A task with these bounds begins. \throws OSError when the kernel has no timer left.
    void begin(const TaskLimits& limits) {
        limits_ = limits;
        slot_.most_memory.store(limits.memory);
        restart();
    }
    /// Its next item does.
    void restart() {
        if (limits_.run_time.count() != 0) {
            slot_.run_until.store((os::time_of(CLOCK_MONOTONIC) + limits_.run_time).count());
            run_timer_.start(limits_.run_time);
        }
        if (limits_.cpu_time.count() != 0) {
            slot_.cpu_until.store(
                (os::time_of(CLOCK_PROCESS_CPUTIME_ID) + limits_.cpu_time).count());
            cpu_timer_.start(limits_.cpu_time);
        }
    }
    /// It is over.
    void end() noexcept {
        if (limits_.run_time.count() != 0) { run_timer_.stop(); }
        if (limits_.cpu_time.count() != 0) { cpu_timer_.stop(); }
        if (!limits_.any()) { return; }
        limits_ = {};
        slot_.run_until.store(0);
        slot_.cpu_until.store(0);
        slot_.most_memory.store(0);
    }

  private:
    WorkerSlot& slot_;
    TaskLimits limits_;
    os::KillTimer run_timer_{CLOCK_MONOTONIC};
    os::KillTimer cpu_timer_{CLOCK_PROCESS_CPUTIME_ID};
};

}  // namespace multiprocessing::detail

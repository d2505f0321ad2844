// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What takes more than one look to know: speeds, and for how long a task has been running.

#include "snapshot.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>

namespace mp_top {

using Seconds = std::chrono::duration<double>;

/// Since when each running task has been seen to run.
class TaskTimes {
  public:
    struct Time {
        Seconds seconds{0};
        bool at_least = false;  // it ran already at the very first look
    };

    void update(const Snapshot& seen) {
        std::map<Task, Since> still;
        for (const auto& [inode, pool] : seen.pools) {
            for (const Worker& worker : pool.workers) {
                if (!worker.is_running) { continue; }
                const Task task{inode, worker.claim};
                const auto known = since_.find(task);
                still.emplace(
                    task, known != since_.end() ? known->second : Since{seen.at, is_first_look_});
            }
        }
        since_ = std::move(still);
        now_ = seen.at;
        is_first_look_ = false;
    }

    /// For how long the task with that number has been seen to run.
    Time of(Inode pool, std::uint64_t task) const {
        const auto known = since_.find(Task{pool, task});
        if (known == since_.end()) { return {}; }
        return {now_ - known->second.at, known->second.ran_before};
    }

  private:
    using Task = std::pair<Inode, std::uint64_t>;  // its number is never another's in that pool
    struct Since {
        Clock::time_point at;
        bool ran_before;
    };

    std::map<Task, Since> since_;
    Clock::time_point now_;
    bool is_first_look_ = true;
};

/// What is seen now and, but for the first time, what was seen before.
struct Looks {
    const Snapshot* before;  // null at the first look
    const Snapshot& now;
    const TaskTimes& times;

    /// Returns the time between them, not to be asked at the first look.
    double seconds() const { return Seconds(now.at - before->at).count(); }
    /// Returns how something was before; null when it was not there.
    template <class Key, class Thing>
    const Thing* earlier(std::map<Key, Thing> Snapshot::*kind, Key key) const {
        if (before == nullptr) { return nullptr; }
        const auto at = (before->*kind).find(key);
        return at == (before->*kind).end() ? nullptr : &at->second;
    }
};

/// Returns how many tasks have left the pool's ring since it was made, and are not being run: those
/// that are done, and those that were cancelled or died with their worker.
inline std::uint64_t tasks_done(const Snapshot& seen, const Pool& pool) {
    std::uint64_t running = 0;
    std::uint64_t latest = 0;
    for (const Worker& worker : pool.workers) {
        running += worker.is_running ? 1 : 0;
        latest = std::max(latest, worker.claim);
    }
    // The ring counts modulo 2^30; the number of the task that was taken last is near.
    std::uint64_t taken = seen.rings.at(pool.tasks).head.count();
    constexpr std::uint64_t round = detail::RingEnd::count_mask + 1;
    if (latest > round / 2) { taken += (latest - taken + round / 2) / round * round; }
    return taken > running ? taken - running : 0;
}

/// Returns how many are done in a second; nothing when the pool was not there before.
inline std::optional<double> tasks_per_second(const Looks& looks, Inode pool) {
    const Pool* const earlier = looks.earlier(&Snapshot::pools, pool);
    if (earlier == nullptr) { return std::nullopt; }
    const std::uint64_t before = tasks_done(*looks.before, *earlier);
    // What was taken in the middle of the earlier look counted as done there.
    const std::uint64_t now = std::max(before, tasks_done(looks.now, looks.now.pools.at(pool)));
    return static_cast<double>(now - before) / looks.seconds();
}

/// Returns how many are put (`&Ring::tail`) or taken (`&Ring::head`) in a second.
inline std::optional<double> records_per_second(const Looks& looks, Inode ring,
                                                detail::RingEnd Ring::*end) {
    const Ring* const earlier = looks.earlier(&Snapshot::rings, ring);
    if (earlier == nullptr) { return std::nullopt; }
    return (looks.now.rings.at(ring).*end).records_since(earlier->*end) / looks.seconds();
}

/// Returns how much of one processor a process uses, 1 being all of it.
inline std::optional<double> processor_share(const Looks& looks, pid_t pid) {
    const Process* const earlier = looks.earlier(&Snapshot::processes, pid);
    const Process& process = looks.now.processes.at(pid);
    if (earlier == nullptr || earlier->start_time != process.start_time) { return std::nullopt; }
    const auto ticks = static_cast<double>(process.cpu_ticks - earlier->cpu_ticks);
    return ticks / static_cast<double>(::sysconf(_SC_CLK_TCK)) / looks.seconds();
}

}  // namespace mp_top

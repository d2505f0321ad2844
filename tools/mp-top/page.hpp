// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The picture: lines of text, from what was seen.

#include "looks.hpp"
#include "programs.hpp"
#include "text.hpp"

#include <fmt/core.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace mp_top {

/// One line of the picture; how it looks is for the screen to decide.
struct Line {
    enum Kind { plain, title, heading };
    std::string text;
    Kind kind = plain;
};
using Page = std::vector<Line>;

// The first fills 80 columns.
constexpr auto worker_columns = "  {:>7} {:9}{:>7}{:>7}{:>10}  {:13}{:>7}{:>6}{:>9}";
constexpr auto queue_columns = "  {:14}{:6}{:>8} {:>8} {:>8} {:>8}  {}";

enum class WorkerState { starting, idle, busy, gone };

inline WorkerState state_of(const Worker& worker, const Process* process, bool tasks_wait) {
    if (process == nullptr || process->has_ended()) { return WorkerState::gone; }
    if (worker.is_running) { return WorkerState::busy; }
    // Whether its initializer is over is not noted; but who is through it takes what waits.
    const bool has_taken_any = worker.claim != 0;
    return !worker.has_joined || (!has_taken_any && tasks_wait) ? WorkerState::starting
                                                                : WorkerState::idle;
}

inline const char* name_of(WorkerState state) {
    switch (state) {
        case WorkerState::starting:
            return "starting";
        case WorkerState::idle:
            return "idle";
        case WorkerState::busy:
            return "busy";
        default:
            return "gone";
    }
}

inline std::string worker_line(const Worker& worker, Inode pool, bool tasks_wait,
                               const Looks& looks) {
    const auto found = looks.now.processes.find(worker.pid);
    const Process* const process = found == looks.now.processes.end() ? nullptr : &found->second;
    const WorkerState state = state_of(worker, process, tasks_wait);
    std::string task, item, time, progress, share = "-", memory = "-";
    if (state == WorkerState::busy) {
        task = std::to_string(worker.claim);
        item = std::to_string(worker.item + 1);
        const auto known = looks.times.of(pool, worker.claim);
        time = (known.at_least ? ">= " : "") + duration(known.seconds.count());
        if (worker.progress_total != 0) {
            progress = bar(worker.progress_done, worker.progress_total);
        }
    }
    if (state != WorkerState::gone) {
        share = percent(processor_share(looks, worker.pid));
        memory = bytes(process->memory);
    }
    const std::string pid = worker.pid != 0 ? std::to_string(worker.pid) : "-";
    return fmt::format(worker_columns, pid, name_of(state), task, item, time, progress, worker.done,
                       share, memory);
}

inline void draw_pool(Inode inode, const Looks& looks, Page& page) {
    const Pool& pool = looks.now.pools.at(inode);
    const std::uint32_t waiting = looks.now.rings.at(pool.tasks).length();
    const std::string name = pool.name.empty() ? "" : fmt::format(" \"{}\"", printable(pool.name));
    const std::size_t count = pool.workers.size();
    page.push_back({fmt::format("  pool{} of process {}, {} worker{}", name, pool.parent, count,
                                count == 1 ? "" : "s")});
    std::string figures =
        fmt::format("  tasks waiting {}, done {} ({}/s), results waiting {}", waiting,
                    tasks_done(looks.now, pool), speed(tasks_per_second(looks, inode)),
                    looks.now.rings.at(pool.results).length());
    if (pool.large != 0) { figures += ", large messages " + bytes(pool.large); }
    page.push_back({std::move(figures)});
    page.push_back({fmt::format(worker_columns, "PID", "STATE", "TASK", "ITEM", "FOR", "PROGRESS",
                                "DONE", "CPU", "MEMORY"),
                    Line::heading});
    for (const Worker& worker : pool.workers) {
        page.push_back({worker_line(worker, inode, waiting != 0, looks)});
    }
}

inline std::string queue_line(Inode inode, const Looks& looks) {
    const Ring& ring = looks.now.rings.at(inode);
    std::string holders;
    for (const pid_t pid : ring.holders) {
        holders += (holders.empty() ? "" : " ") + std::to_string(pid);
    }
    return fmt::format(queue_columns, printable(ring.name), ring.is_open() ? "open" : "shut",
                       ring.length(), ring.is_limited() ? std::to_string(ring.limit) : "-",
                       speed(records_per_second(looks, inode, &Ring::tail)),
                       speed(records_per_second(looks, inode, &Ring::head)), holders);
}

inline void draw_queues(const std::set<Inode>& queues, const Looks& looks, Page& page) {
    if (queues.empty()) { return; }
    page.push_back({fmt::format(queue_columns, "QUEUE", "STATE", "ITEMS", "LIMIT", "PUTS/S",
                                "GETS/S", "HELD BY"),
                    Line::heading});
    for (const Inode inode : queues) { page.push_back({queue_line(inode, looks)}); }
}

inline void draw_program(pid_t root, const Program& program, const Looks& looks, Page& page) {
    const std::size_t count = program.holders.size();
    page.push_back({});
    page.push_back({fmt::format("program {}, {} process{}: {}", root, count, count == 1 ? "" : "es",
                                printable(command_line(root))),
                    Line::title});
    for (const Inode inode : program.pools) { draw_pool(inode, looks, page); }
    draw_queues(program.queues, looks, page);
    if (!program.strange.empty()) {
        page.push_back(
            {fmt::format("  files of another version of the library: {}", program.strange.size())});
    }
}

/// Returns the picture of everything, or of what belongs to one process.
inline Page draw(const Looks& looks, std::optional<pid_t> root) {
    Page page;
    page.push_back({looks.before != nullptr ? fmt::format("mp-top: over {:.2f} s", looks.seconds())
                                            : "mp-top: the first look"});
    const auto programs = programs_in(looks.now, root);
    for (const auto& [pid, program] : programs) { draw_program(pid, program, looks, page); }
    if (programs.empty()) {
        page.push_back({(root ? fmt::format("process {} has no pool or queue", *root)
                              : "no process of this user has a pool or queue") +
                        ": nothing to show"});
    }
    return page;
}

}  // namespace mp_top

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Which pools and queues belong together: those of a process and of what descends from it.

#include "snapshot.hpp"

#include <fmt/core.h>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <vector>

namespace mp_top {

/// One program: a process and those that it has started, and what they share.
struct Program {
    std::set<pid_t> holders = {};  // its processes that share anything
    std::set<Inode> pools = {};
    std::set<Inode> queues = {};
    std::set<Inode> strange = {};  // files of another version of the library
};

/// Returns those that are this user's.
inline std::vector<pid_t> processes_of_user(const Processes& all) {
    std::vector<pid_t> own;
    for (const auto& [pid, process] : all) {
        struct stat folder {};
        const bool is_there = ::stat(fmt::format("/proc/{}", pid).c_str(), &folder) == 0;
        if (is_there && folder.st_uid == ::geteuid()) { own.push_back(pid); }
    }
    return own;
}

/// Returns the process and all that descends from it.
inline std::vector<pid_t> descendants(const Processes& all, pid_t root) {
    std::vector<pid_t> family;
    for (const auto& [pid, process] : all) {
        const std::vector<pid_t> line = lineage(all, pid);
        if (std::find(line.begin(), line.end(), root) != line.end()) { family.push_back(pid); }
    }
    return family;
}

/// Returns the processes that have any file that matters.
inline std::set<pid_t> holders_in(const Snapshot& seen) {
    std::set<pid_t> holders;
    for (const auto& [inode, ring] : seen.rings) {
        holders.insert(ring.holders.begin(), ring.holders.end());
    }
    for (const auto& [inode, pool] : seen.pools) {
        holders.insert(pool.holders.begin(), pool.holders.end());
    }
    for (const auto& [inode, pids] : seen.strange) { holders.insert(pids.begin(), pids.end()); }
    return holders;
}

/// Returns the rings that are parts of pools.
inline std::set<Inode> rings_of_pools(const Snapshot& seen) {
    std::set<Inode> rings;
    for (const auto& [inode, pool] : seen.pools) { rings.insert({pool.tasks, pool.results}); }
    return rings;
}

/// Returns the topmost ancestor of the process that is among `holders`.
inline pid_t top_of(pid_t pid, const Processes& all, const std::set<pid_t>& holders) {
    pid_t top = pid;
    for (const pid_t ancestor : lineage(all, pid)) {
        if (holders.contains(ancestor)) { top = ancestor; }
    }
    return top;
}

/// Sorts what was seen by program, each under the number of its root: that is `root` for all if
/// there is one, else the topmost ancestor that shares anything.
inline std::map<pid_t, Program> programs_in(const Snapshot& seen, std::optional<pid_t> root) {
    const std::set<pid_t> holders = holders_in(seen);
    std::map<pid_t, Program> programs;
    std::map<pid_t, Program*> program_of;
    for (const pid_t pid : holders) {
        Program& program = programs[root ? *root : top_of(pid, seen.processes, holders)];
        program.holders.insert(pid);
        program_of[pid] = &program;
    }
    const auto enter = [&](std::set<Inode> Program::*kind, Inode inode, const auto& pids) {
        for (const pid_t pid : pids) { (program_of[pid]->*kind).insert(inode); }
    };
    const std::set<Inode> parts = rings_of_pools(seen);
    for (const auto& [inode, pool] : seen.pools) { enter(&Program::pools, inode, pool.holders); }
    for (const auto& [inode, ring] : seen.rings) {
        if (!parts.contains(inode)) { enter(&Program::queues, inode, ring.holders); }
    }
    for (const auto& [inode, pids] : seen.strange) { enter(&Program::strange, inode, pids); }
    return programs;
}

}  // namespace mp_top

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What is seen at one look: pools and rings as they stand in shared memory, and the processes.
///
/// Nothing is believed before size, tag and version are right. What is right still changes while it
/// is read; but each number is a word of its own, which was true a moment ago.

#include "shared_files.hpp"

#include <multiprocessing/os/backtrace.hpp>
#include <multiprocessing/pool/job_table.hpp>
#include <multiprocessing/shm/family.hpp>
#include <multiprocessing/shm/ring_layout.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace mp_top {

namespace detail = multiprocessing::detail;
using Clock = std::chrono::steady_clock;
using Inode = std::uint64_t;

/// A ring: a queue, or one of the two that a pool has.
struct Ring {
    std::string name;
    std::uint32_t limit = 0;
    std::uint32_t state = 0;
    detail::RingEnd head{0};
    detail::RingEnd tail{0};
    std::vector<pid_t> holders = {};

    bool is_limited() const noexcept { return limit != detail::RingEnd::count_mask; }
    bool is_open() const noexcept { return state == detail::RingHeader::open; }
    std::uint32_t length() const noexcept {
        if (state == detail::RingHeader::discarded) { return 0; }
        // What came in between the two readings would count too much.
        return std::min(tail.records_since(head), limit);
    }
};

/// What a worker has noted.
struct Worker {
    pid_t pid = 0;
    bool has_joined = false;  // is a member of the family, so its own code runs
    bool is_running = false;
    std::uint64_t claim = 0;  // number of the task that it took last; the pool's first is 1
    std::uint64_t item = 0;   // which one of the task's; the first is 0
    std::uint64_t done = 0;
    std::uint64_t progress_done = 0;
    std::uint64_t progress_total = 0;  // 0: it says nothing
};

struct Pool {
    std::string name;
    pid_t parent = 0;
    Inode tasks = 0;
    Inode results = 0;
    std::vector<Worker> workers;
    std::uint64_t large = 0;  // bytes of messages that are too large for the rings
    std::vector<pid_t> holders = {};
};

struct Snapshot {
    Clock::time_point at;
    Processes processes;
    std::map<Inode, Ring> rings = {};
    std::map<Inode, Pool> pools = {};
    std::map<Inode, std::vector<pid_t>> strange = {};  // who holds files in an unknown layout
};

// -------------------------------------------------------------------------------------------------

enum class Kind { ring, pool, strange, other };

/// Tells what the file says that it is: `strange` is a ring or a pool in a layout that we do not
/// know.
inline Kind kind_of(const SharedFile& file) {
    detail::LayoutTag tag{};
    if (!file.read(0, &tag, sizeof tag)) { return Kind::other; }
    const bool is_pool = tag.magic == detail::magic("POOL");
    if (!is_pool && tag.magic != detail::magic("RING")) { return Kind::other; }
    if (tag.version != 1) { return Kind::strange; }
    return is_pool ? Kind::pool : Kind::ring;
}

inline std::optional<Ring> read_ring(const SharedFile& file) {
    detail::RingHeader header;
    if (!file.read(0, &header, sizeof header)) { return std::nullopt; }
    if (header.limit == 0 || header.limit > detail::RingEnd::count_mask) { return std::nullopt; }
    Ring ring{.name = file.name,
              .limit = header.limit,
              .state = header.state.load(),
              .holders = file.holders};
    // Head first: so the tail is never behind it.
    if (!file.read(offsetof(detail::RingHeader, head), &ring.head, sizeof ring.head) ||
        !file.read(offsetof(detail::RingHeader, tail), &ring.tail, sizeof ring.tail)) {
        return std::nullopt;
    }
    return ring;
}

inline Worker worker_of(const detail::WorkerSlot& slot) {
    return {.pid = slot.pid.load(),
            .has_joined = slot.member.load() != 0,
            .is_running = slot.run.is_running(),
            .claim = slot.claim.load(),
            .item = slot.item.load(),
            .done = slot.done.load(),
            .progress_done = slot.progress_done.load(),
            .progress_total = slot.progress_total.load()};
}

inline std::optional<Pool> read_pool(const SharedFile& file) {
    detail::PoolHeader header{};
    if (!file.read(0, &header, sizeof header)) { return std::nullopt; }
    // Each worker is a member of the family: a pool of more is none.
    if (header.workers == 0 || header.workers > detail::Family::capacity) { return std::nullopt; }
    std::vector<detail::WorkerSlot> slots(header.workers);
    const std::size_t slots_size = slots.size() * sizeof slots[0];
    if (!file.read(sizeof header, slots.data(), slots_size)) { return std::nullopt; }
    const std::uint64_t own = os::round_to_pages(sizeof header + slots_size +
                                                 slots.size() * sizeof(detail::os::FaultNote));
    Pool pool{.name = std::string(header.name, ::strnlen(header.name, sizeof header.name)),
              .parent = header.parent,
              .tasks = header.tasks_inode,
              .results = header.news_inode,
              .workers = {},
              .large = file.occupied > own ? file.occupied - own : 0,
              .holders = file.holders};
    for (const detail::WorkerSlot& slot : slots) { pool.workers.push_back(worker_of(slot)); }
    return pool;
}

/// Asks for workers that were started after the processes had been listed.
inline void add_new_workers(Snapshot& seen) {
    for (const auto& [inode, pool] : seen.pools) {
        for (const Worker& worker : pool.workers) {
            if (worker.pid <= 0 || seen.processes.contains(worker.pid)) { continue; }
            if (const auto process = find_process(worker.pid)) {
                seen.processes.emplace(worker.pid, *process);
            }
        }
    }
}

/// Looks into everything that these processes share.
inline Snapshot look(Processes processes, std::span<const pid_t> pids) {
    Snapshot seen{.at = Clock::now(), .processes = std::move(processes)};
    const SharedFiles files = find_shared_files(pids);
    // Pools first: a task that is seen to run has then left the ring.
    for (const auto& [inode, file] : files) {
        const Kind kind = kind_of(file);
        if (kind == Kind::strange) { seen.strange.emplace(inode, file.holders); }
        if (kind != Kind::pool) { continue; }
        if (auto pool = read_pool(file)) { seen.pools.emplace(inode, std::move(*pool)); }
    }
    for (const auto& [inode, file] : files) {
        if (kind_of(file) != Kind::ring) { continue; }
        if (auto ring = read_ring(file)) { seen.rings.emplace(inode, std::move(*ring)); }
    }
    add_new_workers(seen);
    // Without its rings it is being made or taken down, or it is none.
    std::erase_if(seen.pools, [&seen](const auto& entry) {
        return !seen.rings.contains(entry.second.tasks) ||
               !seen.rings.contains(entry.second.results);
    });
    return seen;
}

}  // namespace mp_top

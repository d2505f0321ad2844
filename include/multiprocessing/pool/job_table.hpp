// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What the processes of a pool share: two rings, and a slot for each worker.
///
/// Tasks go from the parent to whichever worker takes them, results and news from workers and
/// nursery to the parent. Before a worker's get is committed it notes in its slot which task it
/// takes; so what a dead worker had in hand is always known, and nothing else is lost with it.

#include <multiprocessing/pool/engine.hpp>
#include <multiprocessing/shm/family.hpp>
#include <multiprocessing/shm/ring.hpp>
#include <multiprocessing/shm/slab.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <utility>

namespace multiprocessing::detail {

/// One worker's notes. A replacement gets its predecessor's slot once that one's fate is settled.
struct alignas(64) WorkerSlot {
    // 1 + sequence of the task that it took last, 0 = none yet. By the worker, under the consumers'
    // guard of the ring of tasks, before the get is committed; by the parent, 0, after its death.
    std::atomic<std::uint64_t> claim;
    std::atomic<std::uint64_t> item;  // which item of that task runs; by the worker
    std::atomic<std::uint64_t> done;  // tasks whose results it has put; by the worker
    std::atomic<MemberId> member;     // who it is, 0 = not there; by the worker, first thing
    // 1 between taking a task and putting its result; by the worker.
    std::atomic<std::uint32_t> busy;
    // Its pid, 0 = not there; by the nursery when it has forked it, by the parent after its death.
    std::atomic<pid_t> pid;
};
static_assert(shared_layout<WorkerSlot> && sizeof(WorkerSlot) == 64);

/// What begins every record in the ring of tasks; the arguments follow.
struct TaskHeader {
    std::uint64_t sequence;
    RunFunction code;  // the same address in parent and worker, which are forks of one image
    std::uint32_t taken_back;  // 1: cancelled while it was in the ring
    std::uint32_t unused;
};

enum class NewsKind : std::uint32_t {
    ready,               ///< a worker has run the initializer
    initializer_failed,  ///< it threw; the exception follows
    result,              ///< of the task `sequence`; what its code wrote follows
    undeliverable,       ///< the result could not be put; the exception follows
    died,                ///< from the nursery: the worker has ended; a `DeathNotice` follows
};

/// What begins every record in the ring of results.
struct NewsHeader {
    NewsKind kind;
    std::uint32_t worker;
    std::uint64_t sequence;
};

struct DeathNotice {
    pid_t pid;
    int exitcode;
    std::uint32_t core_dumped;
};

/// The shared state of one pool.
/// \safety parent, nursery and workers; made before the first of them is forked.
template <class Lazy = void>
class JobTable {
  public:
    explicit JobTable(std::size_t workers)
        : workers_(workers),
          slots_(make_slots(workers)),
          tasks({.name = "tasks"}),
          news({.name = "results"}) {}

    WorkerSlot& slot(std::size_t worker) const { return slots_.get()[worker]; }
    std::size_t workers() const noexcept { return workers_; }

    /// Puts news for the parent: header and body.
    void tell(NewsHeader header, std::span<const std::byte> body) {
        news.put(
            sizeof header + body.size(),
            [&](std::span<std::byte> to) {
                std::memcpy(to.data(), &header, sizeof header);
                if (!body.empty()) {
                    std::memcpy(to.data() + sizeof header, body.data(), body.size());
                }
            },
            forever);
    }

  private:
    static std::shared_ptr<WorkerSlot> make_slots(std::size_t count) {
        std::shared_ptr<std::byte> memory = Slab<Lazy>::allocate(count * sizeof(WorkerSlot));
        auto* const slots = reinterpret_cast<WorkerSlot*>(memory.get());
        for (std::size_t i = 0; i < count; ++i) { ::new (slots + i) WorkerSlot{}; }
        return {std::move(memory), slots};
    }

    std::size_t workers_;
    std::shared_ptr<WorkerSlot> slots_;

  public:
    Ring tasks;  ///< parent to workers, first in first out
    Ring news;   ///< workers and nursery to parent
};

}  // namespace multiprocessing::detail

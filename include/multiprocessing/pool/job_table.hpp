// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What the processes of a pool share: two rings, and a slot for each worker.
///
/// Tasks go from the parent to whichever worker takes them, results and news from workers and
/// nursery to the parent. Before a worker's get is committed it notes in its slot which task it
/// takes; so what a dead worker had in hand is always known, and nothing else is lost with it.

#include <multiprocessing/os/backtrace.hpp>
#include <multiprocessing/os/futex.hpp>
#include <multiprocessing/os/memory.hpp>
#include <multiprocessing/pool/bulk.hpp>
#include <multiprocessing/pool/engine.hpp>
#include <multiprocessing/pool/limits.hpp>
#include <multiprocessing/shm/family.hpp>
#include <multiprocessing/shm/ring.hpp>
#include <multiprocessing/shm/segment.hpp>
#include <multiprocessing/timeout.hpp>

#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <string>

namespace multiprocessing::detail {

/// Whether a worker's task runs, and who may still decide what becomes of it: the worker, which
/// ends it, or the parent, which has the worker killed. Whoever changes the word first has it.
/// \safety the worker and the parent's threads.
class TaskRun {
  public:
    /// By the worker: the task begins; false when it has been given up already.
    bool begin(std::uint64_t sequence) noexcept { return advance(sequence, running); }
    /// By the worker: it has ended; false when it was given up meanwhile.
    bool finish(std::uint64_t sequence) noexcept { return advance(sequence, finished); }
    /// By the parent: nothing that the task still does counts; false when it has ended.
    bool give_up(std::uint64_t sequence) noexcept {
        for (std::uint64_t seen = word_.load();;) {
            if (seen >= word(sequence, finished)) { return false; }
            if (word_.compare_exchange_weak(seen, word(sequence, given_up))) { return true; }
        }
    }
    bool is_running() const noexcept { return (word_.load() & 3) == running; }
    /// Tells whether the task, or a later one, has come to its end.
    bool has_finished(std::uint64_t sequence) const noexcept {
        return word_.load() >= word(sequence, finished);
    }
    /// By the parent, when there is nobody who runs anything.
    void clear() noexcept { word_.store(0); }

  private:
    enum State : std::uint64_t { running = 1, finished = 2, given_up = 3 };
    static constexpr std::uint64_t word(std::uint64_t sequence, State state) {
        return (sequence + 1) << 2 | state;
    }
    bool advance(std::uint64_t sequence, State state) noexcept {
        std::uint64_t seen = word_.load(std::memory_order_relaxed);
        // What stands there is of an earlier task, or our own `running`, or we are given up.
        return seen < word(sequence, state) &&
               word_.compare_exchange_strong(seen, word(sequence, state));
    }

    std::atomic<std::uint64_t> word_{0};  // 1 + sequence << 2 | state
};

/// One worker's notes. A replacement gets its predecessor's slot once that one's fate is settled.
struct alignas(64) WorkerSlot {
    // 1 + sequence of the task that it took last, 0 = none yet. By the worker, under the consumers'
    // guard of the ring of tasks, before the get is committed; by the parent, 0, after its death.
    std::atomic<std::uint64_t> claim;
    std::atomic<std::uint64_t> item;  // which item of that task runs; by the worker
    std::atomic<std::uint64_t> done;  // tasks whose results it has put; by the worker
    std::atomic<MemberId> member;     // who it is, 0 = not there; by the worker, first thing
    // Its pid, 0 = not there; by the nursery when it has forked it, by the parent after its death.
    std::atomic<pid_t> pid;
    TaskRun run;  // of the task that it runs; by the worker and the parent
    // When the running item is to be over, in nanoseconds of the monotonic and of the process's own
    // clock, and how many bytes may be held meanwhile; 0 = no bound. By the worker, before it runs.
    std::atomic<std::int64_t> run_until;
    std::atomic<std::int64_t> cpu_until;
    std::atomic<std::uint64_t> most_memory;
    // How far the task says it has come; by the worker.
    std::atomic<std::uint64_t> progress_done;
    std::atomic<std::uint64_t> progress_total;  // 0: it says nothing
    // The low half of 1 + sequence of the task that is to stop; by the parent. A thread of the
    // worker's sleeps on it.
    os::FutexWord stop;
    // When the task began, in nanoseconds of the steady clock, 0 = no trace is written; by the
    // worker.
    std::atomic<std::int64_t> began;
    // The large result that it writes, 0 = none; by the worker, by the parent after its death.
    std::atomic<std::uint64_t> bulk;
};
static_assert(shared_layout<WorkerSlot> && sizeof(WorkerSlot) == 128);

/// Returns what stands for the task in `WorkerSlot::stop`.
inline std::uint32_t stop_number(std::uint64_t sequence) {
    return static_cast<std::uint32_t>(sequence + 1);
}

/// What begins every record in the ring of tasks; the arguments follow.
struct TaskHeader {
    std::uint64_t sequence;
    RunFunction code;  // the same address in parent and worker, which are forks of one image
    std::uint64_t seed;
    std::uint64_t first_item;  // index in the range of the chunk's first
    std::uint32_t taken_back;  // 1: cancelled while it was in the ring
    std::uint16_t is_limited;  // 1: its `TaskLimits` stand before the arguments
    std::uint16_t is_bulk;     // 1: all that follows is a `BulkMessage`, and stands there
};

enum class NewsKind : std::uint32_t {
    ready,               ///< a worker has run the initializer
    initializer_failed,  ///< it threw; the exception follows
    result,              ///< of the task `sequence`; what its code wrote follows
    undeliverable,       ///< the result could not be put; the exception follows
    nothing,             ///< from the parent itself, to be woken
    died,                ///< from the nursery: the worker has ended; a `DeathNotice` follows
};

/// What begins every record in the ring of results.
struct NewsHeader {
    NewsKind kind;
    std::uint32_t worker;
    std::uint64_t sequence;
    std::int64_t began = 0;  // of the task, where a trace is written
    std::int64_t ended = 0;
    std::uint64_t is_bulk = 0;  // 1: all that follows is a `BulkMessage`, and stands there
};

/// How a worker ended; the last bytes that it wrote to standard error follow.
struct DeathNotice {
    pid_t pid = 0;  // 0: there was no process to be had
    int exitcode = 0;
    std::uint32_t core_dumped = 0;
    std::uint32_t held_too_much = 0;  // 1: killed for its memory
    std::uint32_t oom_killed = 0;
    std::int64_t cpu_time = 0;      // nanoseconds
    std::uint64_t peak_memory = 0;  // bytes
};

/// What the file of a pool begins with; the slots of its workers follow, and their notes of faults.
/// What is large stands behind that; see bulk.hpp.
struct alignas(64) PoolHeader {
    LayoutTag tag;
    std::uint32_t workers;                   // written once at creation, as what follows
    pid_t parent;                            // who made it
    std::uint64_t tasks_inode, news_inode;   // the files of its rings
    char name[32];                           // as far as it fits, with a zero at its end
    std::atomic<std::uint64_t> bulk_number;  // of the last large message
};
static_assert(shared_layout<PoolHeader>);

/// The shared state of one pool.
/// \safety parent, nursery and workers; made before the first of them is forked.
template <class Lazy = void>
class JobTable {
  public:
    explicit JobTable(std::size_t workers, const std::string& name = {})
        : tasks({.name = "tasks"}),
          news({.name = "results"}),
          workers_(workers),
          segment_("pool", size_of(workers)),
          header_(make_header(workers, name)),
          slots_(make_array<WorkerSlot>(sizeof(PoolHeader))),
          faults_(make_array<os::FaultNote>(sizeof(PoolHeader) + workers * sizeof(WorkerSlot))),
          bulk(segment_.fd(), header_.bulk_number) {}
    JobTable(const JobTable&) = delete;
    JobTable& operator=(const JobTable&) = delete;

    WorkerSlot& slot(std::size_t worker) const { return slots_[worker]; }
    /// Where a worker notes the fault that ends it.
    os::FaultNote& fault(std::size_t worker) const { return faults_[worker]; }
    std::size_t workers() const noexcept { return workers_; }

    Ring tasks;  ///< parent to workers, first in first out
    Ring news;   ///< workers and nursery to parent

    /// Puts news for the parent: header and body.
    void tell(NewsHeader header, std::span<const std::byte> body, Timeout timeout = forever) {
        news.put(
            sizeof header + body.size(),
            [&](std::span<std::byte> to) {
                std::memcpy(to.data(), &header, sizeof header);
                if (!body.empty()) {
                    std::memcpy(to.data() + sizeof header, body.data(), body.size());
                }
            },
            timeout);
    }

  private:
    static std::size_t size_of(std::size_t workers) {
        return sizeof(PoolHeader) + workers * (sizeof(WorkerSlot) + sizeof(os::FaultNote));
    }
    PoolHeader& make_header(std::size_t workers, const std::string& name) const {
        auto* const header =
            ::new (segment_.data()) PoolHeader{.tag = {.magic = magic("POOL"), .version = 1},
                                               .workers = static_cast<std::uint32_t>(workers),
                                               .parent = ::getpid(),
                                               .tasks_inode = os::identify(tasks.file()).inode,
                                               .news_inode = os::identify(news.file()).inode,
                                               .name = {},
                                               .bulk_number = {}};
        name.copy(header->name, sizeof header->name - 1);
        return *header;
    }
    template <class T>
    T* make_array(std::size_t offset) const {
        auto* const array = reinterpret_cast<T*>(segment_.data() + offset);
        for (std::size_t i = 0; i < workers_; ++i) { ::new (array + i) T{}; }
        return array;
    }

    std::size_t workers_;
    Segment segment_;
    PoolHeader& header_;
    WorkerSlot* slots_;
    os::FaultNote* faults_;

  public:
    BulkArea bulk;  ///< what is too large for the rings
};

}  // namespace multiprocessing::detail

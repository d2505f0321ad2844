// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What a worker process of a pool does.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/signals.hpp>
#include <multiprocessing/pool/job_table.hpp>
#include <multiprocessing/pool/options.hpp>
#include <multiprocessing/process/local.hpp>
#include <multiprocessing/serialize/exception.hpp>
#include <multiprocessing/shm/family.hpp>

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <span>
#include <vector>

namespace multiprocessing::detail {

/// Takes tasks, runs them and puts their results, until the pool is closed and empty.
template <class Lazy = void>
class Worker {
  public:
    Worker(JobTable<Lazy>& table, std::uint32_t index, const PoolOptions& options)
        : table_(table), index_(index), options_(options), slot_(table.slot(index)) {}

    /// Returns when there is nothing left to do, or `maxtasksperchild` tasks are done.
    void run() {
        os::take_signals_of_a_worker();
        slot_.member.store(Family::self());
        initialize();
        table_.tell({NewsKind::ready, index_, 0}, {});
        for (int done = 0; options_.maxtasksperchild == 0 || done < options_.maxtasksperchild;) {
            if (!take_task()) { return; }
            if (task_.taken_back != 0) { continue; }
            slot_.busy.store(1, std::memory_order_relaxed);
            run_task();
            slot_.busy.store(0, std::memory_order_relaxed);
            slot_.done.fetch_add(1, std::memory_order_relaxed);
            ++done;
        }
    }

  private:
    // What is larger is not kept for the next task.
    static constexpr std::size_t kept_buffer = 1024 * 1024;

    void initialize() {
        try {
            if (options_.initializer) { options_.initializer(); }
        } catch (const SystemExit&) {
            throw;  // seen by the parent as a worker that ended before it was ready
        } catch (...) {
            tell_exception(NewsKind::initializer_failed);
            throw SystemExit(1);
        }
    }

    bool take_task() {
        const RingStatus status = table_.tasks.get(
            [&](std::span<const std::byte> record) {
                std::memcpy(&task_, record.data(), sizeof task_);
                record = record.subspan(sizeof task_);
                arguments_.assign(record.begin(), record.end());
                slot_.item.store(0, std::memory_order_relaxed);
                // Published together with the head of the ring; see WorkerSlot.
                slot_.claim.store(task_.sequence + 1, std::memory_order_release);
                MULTIPROCESSING_KILL_POINT("worker.take.claimed");
            },
            forever);
        return status == RingStatus::ok;
    }

    void run_task() {
        Reader arguments(arguments_);
        TaskScope scope(slot_.item);
        results_.clear();
        try {
            task_.code(arguments, results_, scope);
            table_.tell({NewsKind::result, index_, task_.sequence}, results_.view());
        } catch (const SystemExit&) {
            throw;  // the worker ends as the task asks; the parent reports its death
        } catch (...) { tell_exception(NewsKind::undeliverable); }
        MULTIPROCESSING_KILL_POINT("worker.run.told");
        if (results_.size() > kept_buffer) { results_.release(); }
        if (arguments_.size() > kept_buffer) { arguments_ = {}; }
    }

    void tell_exception(NewsKind kind) {
        Writer text;
        save_exception(text, std::current_exception(),
                       Origin{.pid = ::getpid(), .process_name = LocalProcess::instance().name()});
        table_.tell({kind, index_, task_.sequence}, text.view());
    }

    JobTable<Lazy>& table_;
    const std::uint32_t index_;
    const PoolOptions& options_;
    WorkerSlot& slot_;
    TaskHeader task_{};
    std::vector<std::byte> arguments_;
    Writer results_;
};

}  // namespace multiprocessing::detail

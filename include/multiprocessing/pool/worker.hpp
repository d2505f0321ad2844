// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What a worker process of a pool does.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/memory.hpp>
#include <multiprocessing/os/signals.hpp>
#include <multiprocessing/pool/bulk.hpp>
#include <multiprocessing/pool/job_table.hpp>
#include <multiprocessing/pool/options.hpp>
#include <multiprocessing/pool/run_limits.hpp>
#include <multiprocessing/pool/stop_watcher.hpp>
#include <multiprocessing/pool/task_scope.hpp>
#include <multiprocessing/pool/trace.hpp>
#include <multiprocessing/process/local.hpp>
#include <multiprocessing/serialize/exception.hpp>
#include <multiprocessing/shm/family.hpp>

#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <span>
#include <stop_token>
#include <vector>

namespace multiprocessing::detail {

/// Takes tasks, runs them and puts their results, until the pool is closed and empty.
template <class Lazy = void>
class Worker {
  public:
    Worker(JobTable<Lazy>& table, std::uint32_t index, const PoolOptions& options)
        : table_(table),
          index_(index),
          options_(options),
          slot_(table.slot(index)),
          bulk_(table.bulk, slot_.bulk) {}

    /// Returns when there is nothing left to do, or `maxtasksperchild` tasks are done.
    void run() {
        os::take_signals_of_a_worker();
        slot_.member.store(Family::self());
        os::FaultRecorder<Lazy>::begin(table_.fault(index_));
        initialize();
        if (BulkArea::is_usable()) { results_.overflow = &bulk_; }
        table_.tell({NewsKind::ready, index_, 0}, {});
        for (int done = 0; options_.maxtasksperchild == 0 || done < options_.maxtasksperchild;) {
            if (!take_task()) { return; }
            if (task_.taken_back != 0) { continue; }
            run_task();
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
            tell_exception({NewsKind::initializer_failed, index_, 0}, std::current_exception());
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
        if (!slot_.run.begin(task_.sequence)) { await_end(); }
        const bool traced = trace_flag_.load(std::memory_order_relaxed) != 0;
        NewsHeader header{NewsKind::result, index_, task_.sequence};
        header.began = traced ? Trace<Lazy>::now() : 0;
        slot_.began.store(header.began, std::memory_order_relaxed);
        std::exception_ptr error = call();
        header.ended = traced ? Trace<Lazy>::now() : 0;
        if (!slot_.run.finish(task_.sequence)) { await_end(); }
        try {
            if (error == nullptr) { tell_result(header); }
        } catch (...) { error = std::current_exception(); }
        if (error != nullptr) {
            bulk_.restart();
            header.is_bulk = 0;
            header.kind = NewsKind::undeliverable;
            tell_exception(header, error);
        }
        MULTIPROCESSING_KILL_POINT("worker.run.told");
        if (results_.size() > kept_buffer) { results_.release(); }
        if (arguments_.size() > kept_buffer) { arguments_ = {}; }
    }

    void tell_result(NewsHeader& header) {
        if (!results_.has_overflowed()) {
            bulk_.restart();  // what did not go well at the first attempt
            return table_.tell(header, results_.view());
        }
        results_.spill();
        header.is_bulk = 1;
        table_.tell(header, std::as_bytes(std::span(&bulk_.message(), 1)));
        MULTIPROCESSING_KILL_POINT("worker.tell.bulk");
        bulk_.let_go();
    }

    class Scope final : public TaskScope {
      public:
        explicit Scope(Worker& worker) noexcept
            : TaskScope(worker.slot_.item, worker.task_.seed, worker.task_.first_item),
              worker_(worker) {
            if (worker.task_.is_limited != 0) { watch_items(); }
        }
        std::stop_token stop_token() override {
            // Leaked, since its thread lives on.
            static auto* const watcher = new StopWatcher<Lazy>(worker_.slot_.stop);
            return watcher->token(stop_number(worker_.task_.sequence));
        }
        void report_progress(std::size_t done, std::size_t total) noexcept override {
            worker_.slot_.progress_done.store(done, std::memory_order_relaxed);
            worker_.slot_.progress_total.store(total, std::memory_order_relaxed);
        }

      private:
        void next_item() override { worker_.limits_.restart(); }

        Worker& worker_;
    };

    // Runs the task within its bounds; returns what it threw.
    std::exception_ptr call() {
        results_.clear();
        slot_.progress_total.store(0, std::memory_order_relaxed);
        Scope scope(*this);
        std::exception_ptr error;
        try {
            os::Mapping mapping;
            Reader arguments(task_.is_bulk != 0 ? table_.bulk.view(arguments_, mapping)
                                                : std::span<const std::byte>(arguments_));
            if (task_.is_limited != 0) { limits_.begin(arguments.raw<TaskLimits>()); }
            task_.code(arguments, results_, scope);
        } catch (const SystemExit&) {
            throw;  // the worker ends as the task asks; the parent reports its death
        } catch (...) { error = std::current_exception(); }
        limits_.end();
        return error;
    }

    // The parent has given the task up, and has this process killed in a moment.
    [[noreturn]] static void await_end() {
        for (;;) { ::pause(); }
    }

    void tell_exception(const NewsHeader& header, const std::exception_ptr& error) {
        Writer text;
        save_exception(text, error,
                       Origin{.pid = ::getpid(), .process_name = LocalProcess::instance().name()});
        table_.tell(header, text.view());
    }

    JobTable<Lazy>& table_;
    const std::uint32_t index_;
    const PoolOptions& options_;
    WorkerSlot& slot_;
    const std::atomic<std::uint32_t>& trace_flag_ = Trace<Lazy>::instance().flag();
    RunLimits limits_{slot_};
    TaskHeader task_{};
    std::vector<std::byte> arguments_;
    BulkWriter bulk_;  // of the result
    Writer results_;
};

}  // namespace multiprocessing::detail

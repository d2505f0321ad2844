// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The engine without workers: whoever submits a task runs it, before the call returns. For a
/// debugger, which then stops in the task, in the process that it looks at.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/pool/engine.hpp>
#include <multiprocessing/pool/options.hpp>
#include <multiprocessing/pool/task_code.hpp>

#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// \safety threads: each runs what it submits.
template <class Lazy = void>
class InlineEngine final : public Engine {
  public:
    /// With `sends` arguments and results go through bytes as they would between processes, so that
    /// what cannot cross shows here as well.
    InlineEngine(PoolOptions options, bool sends) : options_(std::move(options)), sends_(sends) {}

    void submit(const std::shared_ptr<Job>& job, std::size_t first, std::size_t count) override {
        if (closed_) { throw_not_running(); }
        std::call_once(initialized_, [this] {
            if (options_.initializer) { options_.initializer(); }
        });
        for (std::size_t chunk = first; chunk < first + count; ++chunk) {
            run(*job, chunk);
            done_.fetch_add(1, std::memory_order_relaxed);
        }
    }
    std::size_t cancel(Job&, Reach) override { return 0; }
    std::size_t cancel_waiting() override { return 0; }
    bool is_running(const Job&) const override { return false; }
    void close() override { closed_ = true; }
    void terminate() override { closed_ = true; }
    void join() override {}
    int processes() const noexcept override { return 1; }
    std::vector<WorkerInfo> workers() const override {
        return {{.pid = ::getpid(), .state = WorkerState::idle, .tasks_done = done_.load()}};
    }

  private:
    class Scope final : public TaskScope {
      public:
        Scope(std::atomic<std::uint64_t>& item, const Job& job, std::size_t chunk) noexcept
            : TaskScope(item, job.seed, job.first_item(chunk)) {}
    };

    void run(Job& job, std::size_t chunk) {
        std::atomic<std::uint64_t> item{0};
        Scope scope(item, job, chunk);
        if (!sends_) { return job.run_here(chunk); }
        Writer results;
        std::exception_ptr error;
        try {
            Writer arguments;
            job.encode(chunk, arguments);
            Reader reader(arguments.view());
            job.code()(reader, results, scope);
        } catch (...) { error = task_error_here(); }
        if (error != nullptr) {
            job.failed(chunk, item.load(), error);
            return;
        }
        Reader reader(results.view());
        job.completed(chunk, reader);
    }

    const PoolOptions options_;
    const bool sends_;
    std::once_flag initialized_;  // not if the initializer throws: whoever submits next tries again
    std::atomic<bool> closed_{false};
    std::atomic<std::uint64_t> done_{0};
};

}  // namespace multiprocessing::detail

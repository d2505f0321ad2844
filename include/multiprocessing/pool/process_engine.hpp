// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The engine that runs tasks in worker processes.

#include <multiprocessing/pool/engine.hpp>
#include <multiprocessing/pool/options.hpp>
#include <multiprocessing/pool/process_pool.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// A `ProcessPool` as the front sees it; both live as long as the other needs them.
template <class Lazy = void>
class ProcessEngine final : public Engine {
  public:
    explicit ProcessEngine(PoolOptions options)
        : pool_(std::make_shared<ProcessPool<Lazy>>(std::move(options))) {
        pool_->start();
    }

    void submit(const std::shared_ptr<Job>& job, std::size_t first, std::size_t count) override {
        pool_->submit(job, first, count);
    }
    std::size_t cancel(Job& job, Reach reach) override { return pool_->cancel(&job, reach); }
    std::size_t cancel_waiting() override { return pool_->cancel(nullptr, Reach::waiting); }
    bool is_running(const Job& job) const override { return pool_->is_running(job); }
    std::optional<Progress> reported(const Job& job) const override { return pool_->reported(job); }
    double under_way(const Job& job) const override { return pool_->under_way(job); }
    void linger() override { pool_->linger(); }
    void break_off(bool at_once) override { pool_->break_off(at_once); }
    bool is_own_thread() const override { return pool_->in_supervisor(); }
    bool wait(Job& job, Predicate there, const Deadline& deadline) override {
        return pool_->wait(job, there, deadline);
    }
    void close() override { pool_->close(); }
    void terminate() override { pool_->terminate(); }
    void join() override { pool_->join(); }
    int processes() const noexcept override { return pool_->processes(); }
    std::vector<WorkerInfo> workers() const override { return pool_->workers(); }

  private:
    std::shared_ptr<ProcessPool<Lazy>> pool_;
};

}  // namespace multiprocessing::detail

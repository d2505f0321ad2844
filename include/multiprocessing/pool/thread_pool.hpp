// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A pool whose workers are threads of this process.
///
///     mp::ThreadPool pool(4);
///     auto pages = pool.map([&](const Url& url) { return client.fetch(url); }, urls);
///
/// Mirrors `multiprocessing.pool.ThreadPool` and `multiprocessing.dummy.Pool`. Nothing is sent:
/// functions may capture, and values be of any type. A task that blocks, blocks its thread; nothing
/// can end it.

#include <multiprocessing/pool/basic_pool.hpp>
#include <multiprocessing/pool/thread_engine.hpp>

#include <utility>

namespace multiprocessing {

/// A pool of threads; its members are `BasicPool`'s.
/// \safety as `BasicPool`. A task may wait for another one of its own pool: it then runs that one
/// itself.
class ThreadPool : public BasicPool<detail::ThreadEngine<>, detail::Passing::here> {
  public:
    // Templates so that a program that makes no pool does not pay for the compilation of one.
    /// Starts so many threads; 0: `process_cpu_count()`. \throws ValueError when negative.
    template <class Lazy = void>
    explicit ThreadPool(int processes = 0) : ThreadPool(PoolOptions{.processes = processes}) {}
    template <class Lazy = void>
    explicit ThreadPool(PoolOptions options) : BasicPool(std::move(options)) {}
};

/// The library's interface over threads, as Python's `multiprocessing.dummy`.
namespace dummy {
using Pool = ThreadPool;
using multiprocessing::ThreadPool;
}  // namespace dummy

}  // namespace multiprocessing

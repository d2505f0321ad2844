// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Worker processes that run functions.
///
///     int square(int number) { return number * number; }
///
///     int main() {
///         mp::Pool pool(4);
///         std::vector<int> squares = pool.map(square, {1, 2, 3});
///         mp::AsyncResult<int> later = pool.apply_async(square, 4);
///         for (int result : pool.imap(square, std::views::iota(0))) { fmt::print("{}\n", result);
///         }
///     }
///
/// Mirrors `multiprocessing.Pool`. What crosses to a worker must be sendable (see `serialize.hpp`),
/// and the function a function pointer, a captureless lambda or a sendable function object
/// (`mp::partial`). A worker that dies costs the task that it had in hand.

#include <multiprocessing/pool/basic_pool.hpp>
#include <multiprocessing/pool/process_engine.hpp>
#include <multiprocessing/pool/share.hpp>
#include <multiprocessing/pool/thread_pool.hpp>

#include <utility>

namespace multiprocessing {

/// A pool of processes; its members are `BasicPool`'s.
/// \safety as `BasicPool`.
/// \cost one thread in this process, and a process besides the workers that starts them.
class Pool : public BasicPool<detail::ProcessEngine<>, detail::Passing::bytes> {
  public:
    // Templates so that a program that makes no pool does not pay for the compilation of one.
    /// Starts so many workers; 0: `process_cpu_count()`. \throws ValueError when negative.
    template <class Lazy = void>
    explicit Pool(int processes = 0) : Pool(PoolOptions{.processes = processes}) {}
    template <class Lazy = void>
    explicit Pool(PoolOptions options) : BasicPool(std::move(options)) {}
};

}  // namespace multiprocessing

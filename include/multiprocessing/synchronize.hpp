// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Locks, semaphores, conditions, events and barriers for processes and threads.
///
///     mp::Lock lock;
///     mp::Process p([](mp::Lock mine) { const std::scoped_lock guard(mine); ... }, lock);
///
/// Mirrors the synchronisation primitives of `multiprocessing`. SIGKILL of any process at any
/// moment leaves the others running: see each class for what they find.

#include <multiprocessing/synchronize/barrier.hpp>
#include <multiprocessing/synchronize/condition.hpp>
#include <multiprocessing/synchronize/event.hpp>
#include <multiprocessing/synchronize/lock.hpp>
#include <multiprocessing/synchronize/rlock.hpp>
#include <multiprocessing/synchronize/semaphore.hpp>

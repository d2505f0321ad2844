// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Everything that needs no further library.
///
///     #include <multiprocessing.hpp>
///     namespace mp = multiprocessing;   // as in Python: import multiprocessing as mp

#include <multiprocessing/connection.hpp>
#include <multiprocessing/context.hpp>
#include <multiprocessing/errors.hpp>
#include <multiprocessing/futures.hpp>
#include <multiprocessing/logging.hpp>
#include <multiprocessing/parallel_map.hpp>
#include <multiprocessing/pool.hpp>
#include <multiprocessing/process.hpp>
#include <multiprocessing/queues.hpp>
#include <multiprocessing/reduction.hpp>
#include <multiprocessing/serialize.hpp>
#include <multiprocessing/sharedctypes.hpp>
#include <multiprocessing/synchronize.hpp>
#include <multiprocessing/timeout.hpp>

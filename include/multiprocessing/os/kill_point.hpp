// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Named places at which the crash tests end a process.
///
/// `MULTIPROCESSING_KILL_POINT("object.operation.step")` stands after each store to shared memory
/// that another process could see. A normal build holds no trace of it; the crash tests define the
/// macro before they include the library.

#ifndef MULTIPROCESSING_KILL_POINT
#define MULTIPROCESSING_KILL_POINT(name) static_cast<void>(0)
#endif

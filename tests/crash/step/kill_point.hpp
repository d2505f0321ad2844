// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Makes the library's kill points end a process. Included before everything else, by an option of
/// the compiler, in the program `kill_points` alone.

namespace step {

/// Passes, or ends this process if it is the victim and this is where.
void reach(const char* name) noexcept;

}  // namespace step

#define MULTIPROCESSING_KILL_POINT(name) ::step::reach(name)

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What one task may use, as engines and workers know it.

#include <chrono>
#include <cstdint>

namespace multiprocessing::detail {

/// Bounds for each item of a job while it runs; 0 is none.
struct TaskLimits {
    std::chrono::nanoseconds run_time{0};  ///< from the start of the run
    std::chrono::nanoseconds cpu_time{0};  ///< of the worker, all its threads together
    std::uint64_t memory = 0;              ///< bytes that the worker holds

    bool any() const noexcept {
        return run_time.count() != 0 || cpu_time.count() != 0 || memory != 0;
    }
};

}  // namespace multiprocessing::detail

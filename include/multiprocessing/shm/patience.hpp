// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A timeout that costs nothing as long as nobody has to wait.

#include <multiprocessing/timeout.hpp>

#include <utility>

namespace multiprocessing::detail {

/// How long a call may go on. The clock is read when the first attempt has failed, not before.
class Patience {
  public:
    explicit Patience(Timeout timeout) : timeout_(timeout) {}

    bool is_infinite() const noexcept { return timeout_.is_infinite(); }
    bool is_over() { return timeout_.is_zero() || (!is_infinite() && deadline().has_passed()); }
    const Deadline& deadline() {
        if (!std::exchange(has_begun_, true)) { deadline_ = Deadline(timeout_); }
        return deadline_;
    }

    /// Whether this call has looked for a moment already, and whether it has been asleep.
    bool has_spun = false;
    bool has_slept = false;

  private:
    Timeout timeout_;
    bool has_begun_ = false;
    Deadline deadline_{forever};  // valid once `has_begun_`
};

}  // namespace multiprocessing::detail

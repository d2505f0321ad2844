// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What is done before the first test case, and what a group of tests adds to that.
///
///     const bool added = support::first_in_main().add([] { mp::freeze_support(); });

#include <vector>

namespace support {

/// Brings up what is there for the life of the process, so that no test case is blamed for it.
void mp_test_warm_up();

/// Functions that are called one after the other.
class Steps {
  public:
    bool add(void (*step)()) {
        steps_.push_back(step);
        return true;
    }
    void run() const {
        for (auto* const step : steps_) { step(); }
    }

  private:
    std::vector<void (*)()> steps_;
};

/// Run as the first thing of `main`.
inline Steps& first_in_main() {
    static Steps steps;
    return steps;
}
/// Run with `mp_test_warm_up`.
inline Steps& warm_up_steps() {
    static Steps steps;
    return steps;
}

}  // namespace support

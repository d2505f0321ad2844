// SPDX-License-Identifier: BSL-1.0
#include "warm_up.hpp"

#include <thread>

namespace support {

void mp_test_warm_up() {
    // ThreadSanitizer starts a thread of its own together with the first one.
    std::thread([] {}).join();
}

}  // namespace support

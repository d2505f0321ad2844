// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// First use of what the library keeps for the life of a process, before the first test case looks
/// at what is open.

namespace support {

void mp_test_warm_up();

}  // namespace support

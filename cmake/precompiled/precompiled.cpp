// SPDX-License-Identifier: BSL-1.0

// The one file that is compiled with the precompiled header in its own target; without it there would
// be none.
#include "engines.hpp"

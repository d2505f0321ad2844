// SPDX-License-Identifier: BSL-1.0
#include "engines.hpp"

#define MULTIPROCESSING_ENGINE template class
#include "engines.def"

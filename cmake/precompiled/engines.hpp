// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The library, for the tests and examples of this tree: parsed once, and what is the same in
/// every program that has a pool compiled once (engines.cpp). That halves the time which they take.
/// What a program by itself is like is seen by `odr`, the packages and the tests with kill points.

#include <multiprocessing.hpp>

#define MULTIPROCESSING_ENGINE extern template class
#include "engines.def"
#undef MULTIPROCESSING_ENGINE

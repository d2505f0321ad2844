// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What every test includes, compiled once. A test includes what it uses all the same.

#include "bounds.hpp"
#include "catch.hpp"
#include "leak_check.hpp"

#include "../../cmake/precompiled/engines.hpp"

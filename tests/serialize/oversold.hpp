// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// An exception that is registered in two translation units, as one is whose header registers it.

#include <multiprocessing/serialize/exception.hpp>

#include <stdexcept>

namespace shop {

class Oversold : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

}  // namespace shop

MULTIPROCESSING_EXCEPTION(shop::Oversold);

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The names of types at run time.

#include <cxxabi.h>

#include <cstdlib>
#include <string>

namespace multiprocessing::detail {

/// Returns the name of a type as the C++ library writes it; what it was given if that is none.
inline std::string demangle(const char* mangled) {
    int status = 0;
    char* const text = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
    struct Free {
        char* memory;
        ~Free() { std::free(memory); }
    } const owner{text};
    return text != nullptr ? text : mangled;
}

}  // namespace multiprocessing::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What a child says of an exception that nobody caught.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/serialize/demangle.hpp>

#include <cxxabi.h>

#include <exception>
#include <string>
#include <typeinfo>
#include <utility>

namespace multiprocessing::detail {

/// Returns "  type: text" for the exception and, below it, for each one that it was thrown from.
inline std::string describe_exception(std::exception_ptr exception, int depth = 0) {
    constexpr int deepest = 32;
    try {
        std::rethrow_exception(std::move(exception));
    } catch (const std::exception& error) {
        std::string text = text_of("{}{}: {}\n", {depth == 0 ? "  " : "  caused by ",
                                                  demangle(typeid(error).name()), error.what()});
        // Not rethrow_if_nested: thrown outside a handler there is none inside, and that ends the
        // program.
        const auto* const outer = dynamic_cast<const std::nested_exception*>(&error);
        if (outer != nullptr && outer->nested_ptr() != nullptr && depth < deepest) {
            text += describe_exception(outer->nested_ptr(), depth + 1);
        }
        return text;
    } catch (...) {
        const std::type_info* const type = abi::__cxa_current_exception_type();
        return text_of("  {}\n", {type != nullptr ? demangle(type->name()) : "unknown exception"});
    }
}

}  // namespace multiprocessing::detail

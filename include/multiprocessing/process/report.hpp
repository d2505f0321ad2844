// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What a child says of an exception that nobody caught.

#include <multiprocessing/errors.hpp>

#include <cxxabi.h>

#include <cerrno>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>

namespace multiprocessing::detail {

/// Returns the name of a type as the source has it.
inline std::string readable_type_name(const std::type_info& type) {
    int status = 0;
    char* const name = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
    if (status != 0) { return type.name(); }
    struct Free {
        char* memory;
        ~Free() { std::free(memory); }
    } const owner{name};
    return name;
}

/// Returns "  type: text" for the exception and, below it, for each one that it was thrown from.
inline std::string describe_exception(std::exception_ptr exception, int depth = 0) {
    constexpr int deepest = 32;
    try {
        std::rethrow_exception(std::move(exception));
    } catch (const std::exception& error) {
        std::string text = text_of("{}{}: {}\n", {depth == 0 ? "  " : "  caused by ",
                                                  readable_type_name(typeid(error)), error.what()});
        // Not rethrow_if_nested: thrown outside a handler there is none inside, and that ends the
        // program.
        const auto* const outer = dynamic_cast<const std::nested_exception*>(&error);
        if (outer != nullptr && outer->nested_ptr() != nullptr && depth < deepest) {
            text += describe_exception(outer->nested_ptr(), depth + 1);
        }
        return text;
    } catch (...) {
        const std::type_info* const type = abi::__cxa_current_exception_type();
        return text_of("  {}\n",
                       {type != nullptr ? readable_type_name(*type) : "unknown exception"});
    }
}

}  // namespace multiprocessing::detail

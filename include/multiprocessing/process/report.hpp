// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What a child says of an exception that nobody caught.

#include <multiprocessing/errors.hpp>

#include <cxxabi.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>

namespace multiprocessing::detail {

/// Returns the name of a type as the source has it.
inline std::string readable_type_name(const std::type_info& type) {
    int status = 0;
    const std::unique_ptr<char, decltype(&std::free)> name(
        abi::__cxa_demangle(type.name(), nullptr, nullptr, &status), &std::free);
    return status == 0 ? name.get() : type.name();
}

/// Returns "  type: text" for the exception and, below it, for each one that it was thrown from.
inline std::string describe_exception(std::exception_ptr exception, int depth = 0) {
    constexpr int deepest = 32;
    try {
        std::rethrow_exception(std::move(exception));
    } catch (const std::exception& error) {
        std::string text = fmt::format("{}{}: {}\n", depth == 0 ? "  " : "  caused by ",
                                       readable_type_name(typeid(error)), error.what());
        try {
            std::rethrow_if_nested(error);
        } catch (...) {
            if (depth < deepest) { text += describe_exception(std::current_exception(), depth + 1); }
        }
        return text;
    } catch (...) {
        const std::type_info* const type = abi::__cxa_current_exception_type();
        return fmt::format("  {}\n", type != nullptr ? readable_type_name(*type) : "unknown exception");
    }
}

/// Writes `text` to descriptor 2 in one call, so that the lines of two processes do not mix.
inline void write_to_stderr(std::string_view text) noexcept {
    while (!text.empty()) {
        const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
        if (written <= 0) { return; }  // closed or full: there is nobody else to tell
        text.remove_prefix(static_cast<std::size_t>(written));
    }
}

}  // namespace multiprocessing::detail

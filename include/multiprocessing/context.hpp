// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Start methods: how a child comes to be.
///
///     mp::set_start_method("fork");
///
/// Mirrors `multiprocessing.get_start_method` and its kin. This version has `fork`; asking for
/// `spawn` or `forkserver` is an error that says so.

#include <multiprocessing/errors.hpp>

#include <atomic>
#include <string>
#include <string_view>
#include <vector>

namespace multiprocessing {

/// Makes a program ready for start methods that run its image anew; the first line of `main`.
///
/// With `fork` there is nothing to do: the call is there so that a program need not change later.
inline void freeze_support() {}

/// Returns the start methods that this version has, the default first.
inline std::vector<std::string> get_all_start_methods() { return {"fork"}; }

/// Returns the start method of this program, and settles it if nobody has.
std::string get_start_method();

/// Settles the start method, once.
/// \throws ValueError when it is unknown; ProcessError when it has been settled (unless `force`),
/// and when
///         this version does not have it.
void set_start_method(std::string_view method, bool force = false);

// -------------------------------------------------------------------------------------------------

namespace detail {

inline std::atomic<bool>& start_method_is_settled() {
    static std::atomic<bool> settled{false};
    return settled;
}

}  // namespace detail

inline std::string get_start_method() {
    detail::start_method_is_settled().store(true);
    return "fork";
}

inline void set_start_method(std::string_view method, bool force) {
    if (method != "fork" && method != "spawn" && method != "forkserver") {
        throw ValueError(detail::text_of("cannot find a start method \"{}\"", {method}));
    }
    if (detail::start_method_is_settled().exchange(true) && !force) {
        throw ProcessError("the start method has already been set");
    }
    if (method != "fork") {
        throw ProcessError(detail::text_of("this version has no start method \"{}\"", {method}));
    }
}

}  // namespace multiprocessing

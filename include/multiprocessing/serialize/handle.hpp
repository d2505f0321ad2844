// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Sending handles: references to objects that stand in memory which only a started process shares.
///
///     template <>
///     struct serializer<Lock> : detail::handle_serializer<Lock> {};
///
/// A handle counts as sendable, because it may be an argument of a process that is being started.
/// Anywhere else it is refused when it is sent: bytes in a queue cannot say which memory is meant.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/serialize/archive.hpp>
#include <multiprocessing/serialize/reflect.hpp>

#include <string_view>

namespace multiprocessing::detail {

/// What `mp::serializer` is for a handle.
template <class Handle>
struct handle_serializer {
    [[noreturn]] static void save(auto& /*archive*/, const Handle& /*handle*/) { refuse(); }
    [[noreturn]] static Handle load(auto& /*archive*/) { refuse(); }

  private:
    [[noreturn]] static void refuse() {
        std::string_view name = type_name<Handle>();
        constexpr std::string_view home = "multiprocessing::";
        if (name.starts_with(home)) { name.remove_prefix(home.size()); }
        throw SerializationError(
            text_of("a {} can be sent only to a process that is being started", {name}));
    }
};

}  // namespace multiprocessing::detail

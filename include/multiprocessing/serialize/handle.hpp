// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Sending handles: references to objects that stand in memory which only a started process shares.
///
///     template <>
///     struct serializer<Lock> : detail::handle_serializer<Lock> {};
///
/// A handle counts as sendable, because it may be an argument of a process that is being started.
/// Then the descriptor of the memory goes with the bytes. Anywhere else it is refused when it is
/// sent: bytes in a queue cannot say which memory is meant.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/serialize/archive.hpp>
#include <multiprocessing/serialize/reflect.hpp>

#include <string_view>

namespace multiprocessing::detail {

/// Refuses to send a handle with a function of the user's.
[[noreturn]] inline void refuse_function(std::string_view what) {
    throw SerializationError(text_of(
        "{} cannot be sent: a std::function stays in the process that made it and its forked "
        "children",
        {what}));
}

/// The way to what every handle has among its private members:
///
///     void save_handle(Writer& out) const;       // where `out.handles` is that of a start
///     static Handle load_handle(Reader& in);
struct HandleAccess {
    template <class Handle>
    static void save(Writer& out, const Handle& handle) {
        handle.save_handle(out);
    }
    template <class Handle>
    static Handle load(Reader& in) {
        return Handle::load_handle(in);
    }
};

/// What `mp::serializer` is for a handle.
template <class Handle>
struct handle_serializer {
    static void save(auto& archive, const Handle& handle) {
        if (archive.handles == nullptr || !archive.handles->starts_process()) { refuse(); }
        HandleAccess::save(archive, handle);
    }
    static Handle load(auto& archive) {
        if (archive.handles == nullptr || !archive.handles->starts_process()) { refuse(); }
        return HandleAccess::load<Handle>(archive);
    }

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

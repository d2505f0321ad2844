// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Which types can stand in memory that several processes see.

#include <multiprocessing/serialize/reflect.hpp>

#include <array>
#include <cstddef>
#include <type_traits>

namespace multiprocessing::detail {

template <class T>
consteval bool holds_pointer();

template <class... Members>
consteval bool any_holds_pointer(types<Members...>) {
    return (holds_pointer<Members>() || ...);
}

template <class T>
struct array_element {
    using type = std::remove_all_extents_t<T>;
};
template <class T, std::size_t N>
struct array_element<std::array<T, N>> {
    using type = T;
};

/// Tells whether a `T` is or has a pointer, as far as can be seen: not into private members, and
/// not into aggregates so large that looking would take the compiler long.
template <class T>
consteval bool holds_pointer() {
    constexpr std::size_t largest = 1024;
    using Element = typename array_element<T>::type;
    if constexpr (!std::is_same_v<Element, T>) {
        return holds_pointer<Element>();
    } else if constexpr (std::is_pointer_v<T> || std::is_member_pointer_v<T> ||
                         std::is_reference_v<T>) {
        return true;
    } else if constexpr (std::is_class_v<T> && std::is_aggregate_v<T> && sizeof(T) <= largest) {
        if constexpr (reflectable<T>) {
            return any_holds_pointer(member_types<T>());
        } else {
            return false;
        }
    } else {
        return false;
    }
}

/// Refuses to compile, with an explanation, what must not stand in shared memory.
template <class T>
constexpr void check_shareable() {
    static_assert(
        std::is_object_v<T> && !std::is_const_v<T> && !std::is_array_v<T>,
        "multiprocessing: a shared value is a plain type; for several use Array<T> or RawArray<T>");
    if constexpr (std::is_object_v<T>) {
        static_assert(std::is_trivially_copyable_v<T>,
                      "multiprocessing: a shared value must be trivially copyable, since other "
                      "processes see its bytes. "
                      "Send a string or a container through a Queue, or use a shared::string or "
                      "shared::vector");
        static_assert(!holds_pointer<T>(),
                      "multiprocessing: a shared value must not be or hold a pointer, which means "
                      "nothing in another "
                      "process. Store an index or an offset, or the value itself");
    }
}

}  // namespace multiprocessing::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What can be sent, and what the compiler says of what cannot.
///
///     static_assert(sendable<Ticket>);
///     check_sendable<T>();            // refuses to compile, names the culprit and the way out
///     using Sent = sent_t<Arg&&>;     // what a function's argument is sent as
///
/// The message stands in a template whose parameters are the type that cannot be sent and the one
/// of which it is a part, so that the compiler names both.

#include <multiprocessing/serialize/archive.hpp>
#include <multiprocessing/serialize/codec.hpp>
#include <multiprocessing/serialize/reflect.hpp>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace multiprocessing::detail {

/// Why a type cannot be sent.
enum class Refusal { pointer, reference, view, closure, function, other };

/// The part that cannot be sent, and why.
template <class Culprit, Refusal why>
struct Refused {};
struct Accepted {};

template <class T>
inline constexpr bool is_view = false;
template <class C, class Traits>
inline constexpr bool is_view<std::basic_string_view<C, Traits>> = true;
template <class T, std::size_t N>
inline constexpr bool is_view<std::span<T, N>> = true;

/// Tells whether `T` is the type of a lambda. Only the choice of an error's text depends on it.
template <class T>
consteval bool is_closure() {
    constexpr std::string_view name = type_name<T>();
    return std::is_class_v<T> &&
           (name.find("<lambda") != name.npos || name.find("(lambda at") != name.npos);
}

template <class T, class... Seen>
consteval auto judge();

template <class... Seen>
consteval auto judge_parts(types<>, types<Seen...>) {
    return Accepted();
}
template <class First, class... Rest, class... Seen>
consteval auto judge_parts(types<First, Rest...>, types<Seen...> seen) {
    constexpr auto verdict = judge<First, Seen...>();
    if constexpr (std::is_same_v<decltype(verdict), const Accepted>) {
        return judge_parts(types<Rest...>(), seen);
    } else {
        return verdict;
    }
}

/// Decides whether `T` can be sent. `Seen` are the classes that `T` is a part of: a recursive type
/// can be sent if its other parts can.
template <class T, class... Seen>
consteval auto judge() {
    if constexpr (std::is_reference_v<T>) {
        return Refused<T, Refusal::reference>();
    } else if constexpr ((std::is_same_v<T, Seen> || ...)) {
        return Accepted();
    } else if constexpr (std::is_const_v<T> || std::is_volatile_v<T>) {
        return judge<std::remove_cv_t<T>, Seen...>();
    } else if constexpr (has_codec<T>) {
        return judge_parts(typename codec<T>::parts(), types<T, Seen...>());
    } else if constexpr (std::is_function_v<T> || std::is_function_v<std::remove_pointer_t<T>> ||
                         std::is_member_pointer_v<T>) {
        return Refused<T, Refusal::function>();
    } else if constexpr (std::is_pointer_v<T> || std::is_null_pointer_v<T>) {
        return Refused<T, Refusal::pointer>();
    } else if constexpr (is_view<T>) {
        return Refused<T, Refusal::view>();
    } else if constexpr (is_closure<T>()) {
        return Refused<T, Refusal::closure>();
    } else {
        return Refused<T, Refusal::other>();
    }
}

/// A type whose values can be sent to another process.
template <class T>
concept sendable = std::is_same_v<decltype(judge<T>()), Accepted>;

/// What the compiler shows of this function's instantiation names the type that cannot be sent, and
/// the type of which it is a part.
template <class Culprit, Refusal why, class Sent>
consteval void explain(Refused<Culprit, why>) {
    static_assert(
        why != Refusal::pointer,
        "multiprocessing: a raw pointer cannot be sent to another process, it points into this "
        "one. Send what it points to: by value, in a std::vector, std::string, "
        "std::unique_ptr or std::shared_ptr");
    static_assert(
        why != Refusal::reference,
        "multiprocessing: a reference cannot be sent to another process, it refers into this "
        "one. Send the object by value");
    static_assert(
        why != Refusal::view,
        "multiprocessing: a view (std::string_view, std::span) cannot be sent to another "
        "process, it looks into this one's memory. Send a std::string, std::vector or std::array");
    static_assert(
        why != Refusal::closure,
        "multiprocessing: a lambda with captures cannot be sent to another process. Pass what it "
        "captures as an argument (or bind it with mp::partial), vouch for trivially copyable "
        "captures with mp::by_value, or use mp::parallel_map, which forks");
    static_assert(
        why != Refusal::function,
        "multiprocessing: a pointer to a function or member cannot be sent as a value. Send what "
        "tells which one is meant, say an enum");
    static_assert(
        why != Refusal::other,
        "multiprocessing: this type cannot be sent to another process. Make it an aggregate of "
        "sendable members (at most 64, no base class), give it `template <class Archive> void "
        "serialize(Archive&)` or `save` and `load` and a default constructor, or specialise "
        "mp::serializer for it");
}

template <class Sent>
consteval void explain(Accepted) {}

/// Refuses to compile, with an explanation, unless `T` can be sent.
template <class T>
constexpr void check_sendable() {
    constexpr auto verdict = judge<T>();
    if constexpr (!std::is_same_v<decltype(verdict), const Accepted>) {
        []<class Culprit, Refusal why>(Refused<Culprit, why> refused) {
            explain<Culprit, why, T>(refused);
        }(verdict);
    }
}

/// What an argument of type `T` (as deduced for a forwarding reference) is sent as: itself,
/// decayed; a string literal is sent as a string.
template <class T>
struct Sent {
    using type = std::decay_t<T>;
};
template <character_type C, std::size_t N>
struct Sent<C (&)[N]> {
    using type = std::basic_string<C>;
};
template <character_type C, std::size_t N>
struct Sent<const C (&)[N]> {
    using type = std::basic_string<C>;
};
template <character_type C, std::size_t N>
struct Sent<const C[N]> : Sent<const C (&)[N]> {};
template <character_type C, std::size_t N>
struct Sent<C[N]> : Sent<C (&)[N]> {};
template <class T>
using sent_t = typename Sent<T>::type;

// -------------------------------------------------------------------------------------------------

template <class T>
void save(Writer& out, const T& value) {
    check_sendable<T>();
    if constexpr (sendable<T>) { codec<T>::save(out, value); }
}

template <class T>
T load(Reader& in) {
    check_sendable<T>();
    if constexpr (sendable<T>) {
        return codec<T>::load(in);
    } else {
        refuse_bytes("it cannot be sent");  // never runs: spares the reader further messages
    }
}

template <class T>
void load_into(Reader& in, T& value) {
    check_sendable<T>();
    if constexpr (requires { codec<T>::load_into(in, value); }) {
        codec<T>::load_into(in, value);
    } else {
        value = codec<T>::load(in);
    }
}

}  // namespace multiprocessing::detail

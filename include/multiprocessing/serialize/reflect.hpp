// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The names of types, and the members of aggregates.
///
///     struct Ticket { int id; std::string who; };
///     member_types<Ticket>                                        // types<int, std::string>
///     visit_members(ticket, [](auto&... member) { ... });
///
/// The language has no reflection; what it has is that an aggregate can be initialised with one
/// expression a member, and taken apart by a structured binding that knows how many there are.

#include <array>
#include <cstddef>
#include <string_view>
#include <type_traits>
#include <utility>

namespace multiprocessing::detail {

template <class...>
struct types {};

/// Returns the name of `T` as the compiler writes it.
template <class T>
constexpr std::string_view type_name() {
#if defined(__clang__)
    constexpr std::string_view before = "[T = ";
#else
    constexpr std::string_view before = "[with T = ";
#endif
    std::string_view text = __PRETTY_FUNCTION__;
    text.remove_prefix(text.find(before) + before.size());
    // g++ goes on with "; std::string_view = ..." to explain the return type.
    constexpr std::string_view alias = "; std::string_view = ";
    const auto end = text.rfind(alias);
    return text.substr(0, end != std::string_view::npos ? end : text.size() - 1);
}

/// The most members that an aggregate may have.
inline constexpr std::size_t max_members = 64;

/// Stands for a value of any type where one is needed to ask what compiles. The conversion is never
/// run; it has a body because clang counts some of the questions as uses.
struct Any {
    template <class T>
    operator T() const noexcept {
        __builtin_unreachable();
    }
};

template <std::size_t>
using AnyAt = Any;

/// Tells whether `T` can be initialised from that many values.
template <class T, std::size_t Count>
inline constexpr bool takes = []<std::size_t... I>(std::index_sequence<I...>) {
    return requires { T{AnyAt<I>{}...}; };
}
(std::make_index_sequence<Count>{});

/// The same where the value at `Before` is `{}`, or `Braced` values in braces of their own.
template <class T, std::size_t Before, std::size_t Braced, std::size_t After>
inline constexpr bool takes_braced = []<std::size_t... I, std::size_t... J, std::size_t... K>(
    std::index_sequence<I...>, std::index_sequence<J...>, std::index_sequence<K...>) {
    return requires { T{AnyAt<I>{}..., {AnyAt<J>{}...}, AnyAt<K>{}...}; };
}
(std::make_index_sequence<Before>{}, std::make_index_sequence<Braced>{},
 std::make_index_sequence<After>{});

/// Returns how many values `T` can be initialised from at most, between `Low`, which it takes, and
/// `High`, which it does not.
template <class T, std::size_t Low, std::size_t High>
consteval std::size_t most_values() {
    if constexpr (High - Low <= 1) {
        return Low;
    } else if constexpr (takes<T, (Low + High) / 2>) {
        return most_values<T, (Low + High) / 2, High>();
    } else {
        return most_values<T, Low, (Low + High) / 2>();
    }
}

inline constexpr std::size_t no_count = ~std::size_t{0};

/// Returns the smallest number of values that `T` can be initialised from. It is not 0 when the
/// last members have no default.
template <class T, std::size_t Count = 0>
consteval std::size_t fewest_values() {
    if constexpr (takes<T, Count>) {
        return Count;
    } else if constexpr (Count < max_members) {
        return fewest_values<T, Count + 1>();
    } else {
        return no_count;
    }
}

template <class T, std::size_t Low, std::size_t Step = 1>
consteval std::size_t flat_count() {
    // Each member is at least one bit wide, or an empty class of one byte.
    constexpr std::size_t limit = sizeof(T) * 8 + 1;
    if constexpr (Low + Step >= limit || !takes<T, Low + Step>) {
        return most_values<T, Low, (Low + Step < limit ? Low + Step : limit)>();
    } else {
        return flat_count<T, Low + Step, Step * 2>();
    }
}

template <class T, std::size_t At, std::size_t Braced, std::size_t Low, std::size_t High>
consteval std::size_t most_after() {
    if constexpr (High - Low <= 1) {
        return Low;
    } else if constexpr (takes_braced<T, At, Braced, (Low + High) / 2>) {
        return most_after<T, At, Braced, (Low + High) / 2, High>();
    } else {
        return most_after<T, At, Braced, Low, (Low + High) / 2>();
    }
}

/// Searches, upwards from `Count`, how many values an array at `At` swallows when what stands
/// behind it has no default, so that only the right number compiles.
template <class T, std::size_t At, std::size_t Flat, std::size_t Count = 2>
consteval std::size_t array_before_required() {
    constexpr std::size_t longest = 256;
    if constexpr (Count > longest || At + Count > Flat) {
        return 1;
    } else if constexpr (takes_braced<T, At, 0, Flat - At - Count> ||
                         (takes_braced<T, At, Count, Flat - At - Count> &&
                          !takes_braced<T, At, Count, Flat - At - Count + 1>)) {
        return Count;
    } else {
        return array_before_required<T, At, Flat, Count + 1>();
    }
}

/// Returns how many of the `Flat` values the member that begins at value `At` swallows. An array
/// takes one a (nested) element, because its braces may be left out; everything else takes one.
template <class T, std::size_t At, std::size_t Flat>
consteval std::size_t values_of_member() {
    if constexpr (takes_braced<T, At, 0, Flat - At - 1>) {
        return 1;
    } else if constexpr (takes_braced<T, At, 0, 0>) {
        return Flat - At - most_after<T, At, 0, 0, Flat - At>();
    } else {
        return array_before_required<T, At, Flat>();
    }
}

template <class T, std::size_t Flat, std::size_t At = 0, std::size_t Count = 0>
consteval std::size_t members_from() {
    if constexpr (At >= Flat || Count > max_members) {
        return Count;
    } else {
        return members_from<T, Flat, At + values_of_member<T, At, Flat>(), Count + 1>();
    }
}

/// Stands for a base class of `T` only.
template <class T>
struct BaseOf {
    template <class U>
    requires(std::is_base_of_v<U, T> && !std::is_same_v<U, T>) operator U() const noexcept;
};

template <class T>
consteval std::size_t count_members() {
    if constexpr (std::is_empty_v<T>) {
        return 0;
    } else if constexpr (requires { T{BaseOf<T>{}}; }) {
        return no_count;
    } else {
        constexpr std::size_t fewest = fewest_values<T>();
        if constexpr (fewest == no_count) {
            return no_count;
        } else {
            constexpr std::size_t count = members_from<T, flat_count<T, fewest>()>();
            return count >= 1 && count <= max_members ? count : no_count;
        }
    }
}

/// How many members the aggregate `T` has; `no_count` when it cannot be told, because it has a base
/// class, more than `max_members`, or a member that is an lvalue reference.
template <class T>
inline constexpr std::size_t member_count = count_members<T>();

/// A class that can be taken apart.
template <class T>
concept reflectable = std::is_class_v<T> && std::is_aggregate_v<T> &&(member_count<T> != no_count);

// clang-format off
// The names of a structured binding: q full groups of eight, then r further ones.
#define MULTIPROCESSING_P1(m, p) m(p##1)
#define MULTIPROCESSING_P2(m, p) MULTIPROCESSING_P1(m, p), m(p##2)
#define MULTIPROCESSING_P3(m, p) MULTIPROCESSING_P2(m, p), m(p##3)
#define MULTIPROCESSING_P4(m, p) MULTIPROCESSING_P3(m, p), m(p##4)
#define MULTIPROCESSING_P5(m, p) MULTIPROCESSING_P4(m, p), m(p##5)
#define MULTIPROCESSING_P6(m, p) MULTIPROCESSING_P5(m, p), m(p##6)
#define MULTIPROCESSING_P7(m, p) MULTIPROCESSING_P6(m, p), m(p##7)
#define MULTIPROCESSING_P8(m, p) MULTIPROCESSING_P7(m, p), m(p##8)
#define MULTIPROCESSING_G0(m)
#define MULTIPROCESSING_G1(m) MULTIPROCESSING_P8(m, a),
#define MULTIPROCESSING_G2(m) MULTIPROCESSING_G1(m) MULTIPROCESSING_P8(m, b),
#define MULTIPROCESSING_G3(m) MULTIPROCESSING_G2(m) MULTIPROCESSING_P8(m, c),
#define MULTIPROCESSING_G4(m) MULTIPROCESSING_G3(m) MULTIPROCESSING_P8(m, d),
#define MULTIPROCESSING_G5(m) MULTIPROCESSING_G4(m) MULTIPROCESSING_P8(m, e),
#define MULTIPROCESSING_G6(m) MULTIPROCESSING_G5(m) MULTIPROCESSING_P8(m, f),
#define MULTIPROCESSING_G7(m) MULTIPROCESSING_G6(m) MULTIPROCESSING_P8(m, g),
#define MULTIPROCESSING_NAME(x) x
#define MULTIPROCESSING_TYPE(x) decltype(x)
#define MULTIPROCESSING_NAMES(q, r, m) MULTIPROCESSING_G##q(m) MULTIPROCESSING_P##r(m, z)
#define MULTIPROCESSING_EIGHT(branch, q)                                                       \
    branch(q, 1) branch(q, 2) branch(q, 3) branch(q, 4) branch(q, 5) branch(q, 6) branch(q, 7) \
        branch(q, 8)
#define MULTIPROCESSING_ALL(branch)                                           \
    MULTIPROCESSING_EIGHT(branch, 0)                                          \
    MULTIPROCESSING_EIGHT(branch, 1) MULTIPROCESSING_EIGHT(branch, 2)         \
        MULTIPROCESSING_EIGHT(branch, 3) MULTIPROCESSING_EIGHT(branch, 4)     \
            MULTIPROCESSING_EIGHT(branch, 5) MULTIPROCESSING_EIGHT(branch, 6) \
                MULTIPROCESSING_EIGHT(branch, 7)
#define MULTIPROCESSING_VISIT(q, r)                                         \
    else if constexpr (count == q * 8 + r) {                                \
        auto& [MULTIPROCESSING_NAMES(q, r, MULTIPROCESSING_NAME)] = object; \
        return visitor(MULTIPROCESSING_NAMES(q, r, MULTIPROCESSING_NAME));  \
    }
#define MULTIPROCESSING_TYPES(q, r)                                         \
    else if constexpr (count == q * 8 + r) {                                \
        auto& [MULTIPROCESSING_NAMES(q, r, MULTIPROCESSING_NAME)] = object; \
        return types<MULTIPROCESSING_NAMES(q, r, MULTIPROCESSING_TYPE)>();  \
    }

// clang-format on

/// Calls `visitor` once, with all members of `object`.
template <class T, class Visitor>
constexpr decltype(auto) visit_members(T& object, Visitor&& visitor) {
    constexpr std::size_t count = member_count<std::remove_const_t<T>>;
    if constexpr (count == 0) { return visitor(); }
    MULTIPROCESSING_ALL(MULTIPROCESSING_VISIT)
}

template <class T>
constexpr auto list_member_types(T& object) {
    constexpr std::size_t count = member_count<T>;
    if constexpr (count == 0) { return types<>(); }
    MULTIPROCESSING_ALL(MULTIPROCESSING_TYPES)
}

#undef MULTIPROCESSING_P1
#undef MULTIPROCESSING_P2
#undef MULTIPROCESSING_P3
#undef MULTIPROCESSING_P4
#undef MULTIPROCESSING_P5
#undef MULTIPROCESSING_P6
#undef MULTIPROCESSING_P7
#undef MULTIPROCESSING_P8
#undef MULTIPROCESSING_G0
#undef MULTIPROCESSING_G1
#undef MULTIPROCESSING_G2
#undef MULTIPROCESSING_G3
#undef MULTIPROCESSING_G4
#undef MULTIPROCESSING_G5
#undef MULTIPROCESSING_G6
#undef MULTIPROCESSING_G7
#undef MULTIPROCESSING_NAME
#undef MULTIPROCESSING_TYPE
#undef MULTIPROCESSING_NAMES
#undef MULTIPROCESSING_EIGHT
#undef MULTIPROCESSING_ALL
#undef MULTIPROCESSING_VISIT
#undef MULTIPROCESSING_TYPES

template <class... Members>
types<std::remove_cv_t<Members>...> without_const(types<Members...>);

/// The members of the aggregate `T`, without `const`: `types<int, std::string>`.
template <class T>
using member_types = decltype(without_const(list_member_types(std::declval<T&>())));

}  // namespace multiprocessing::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The codecs of the language's own types: numbers, characters, enumerations, arrays.

#include <multiprocessing/serialize/archive.hpp>
#include <multiprocessing/serialize/codec.hpp>
#include <multiprocessing/serialize/reflect.hpp>
#include <multiprocessing/serialize/sendable.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

namespace multiprocessing::detail {

/// Numbers and characters that are nothing but their value.
template <class T>
concept raw_number =
    std::is_arithmetic_v<T> && !std::is_same_v<T, bool> && !std::is_same_v<T, long double>;

template <raw_number T>
struct std_codec<T> : raw_codec<T> {
    static constexpr std::uint64_t tag = make_tag(std::is_floating_point_v<T> ? "float"
                                                  : character_type<T>         ? "character"
                                                  : std::is_signed_v<T>       ? "signed"
                                                                              : "unsigned",
                                                  sizeof(T));
};

template <>
struct std_codec<bool> : Codec {
    static constexpr std::uint64_t tag = make_tag("bool");
    static consteval bool fixed() { return true; }
    static consteval std::size_t min_size() { return 1; }
    static void save(Writer& out, bool value) { out.raw(static_cast<std::uint8_t>(value)); }
    static bool load(Reader& in) {
        const auto value = in.raw<std::uint8_t>();
        if (value > 1) { refuse_bytes("a bool is neither 0 nor 1"); }
        return value == 1;
    }
};

template <>
struct std_codec<long double> : Codec {
    static constexpr std::uint64_t tag = make_tag("float", sizeof(long double));
    // The x87 format has 10 bytes of value and 6 of padding, which may hold anything.
    static constexpr std::size_t width =
        std::numeric_limits<long double>::digits == 64 ? 10 : sizeof(long double);
    static consteval bool fixed() { return true; }
    static consteval std::size_t min_size() { return width; }
    static void save(Writer& out, long double value) { out.bytes(&value, width); }
    static long double load(Reader& in) {
        long double value = 0;
        in.bytes(&value, width);
        return value;
    }
};

/// An enumeration whose underlying type is fixed: every value of that type is a value of it.
template <class T>
concept fixed_enum = std::is_enum_v<T> && requires {
    T{std::underlying_type_t<T>{}};
};

/// Tells whether all values of an enumeration without fixed type are values of `Number`: the
/// compiler then does not call the conversion narrowing. (g++ goes by the enumerators; clang by the
/// underlying type, so that there nothing is known.)
template <class T, class Number>
concept fits_into = requires(T value) {
    Number{value};
};

template <class T>
concept enumeration = std::is_enum_v<T>;

template <enumeration T>
struct std_codec<T> : Codec {
    using Number = std::underlying_type_t<T>;
    static constexpr std::uint64_t tag = make_tag("enum");
    using parts = types<Number>;
    static consteval bool raw() { return fixed_enum<T> && codec<Number>::raw(); }
    static consteval bool fixed() { return true; }
    static consteval std::size_t min_size() { return min_saved_size<Number>; }
    static void save(Writer& out, T value) { detail::save(out, static_cast<Number>(value)); }
    static T load(Reader& in) {
        const auto number = detail::load<Number>(in);
        if constexpr (!fixed_enum<T>) {
            check_range<std::int8_t>(number);
            check_range<std::uint8_t>(number);
            check_range<std::int16_t>(number);
            check_range<std::uint16_t>(number);
        }
        return static_cast<T>(number);
    }

  private:
    template <class Narrow>
    static void check_range(Number number) {
        if constexpr (fits_into<T, Narrow>) {
            if (!std::in_range<Narrow>(number)) {
                refuse_bytes("an enumeration is out of its range");
            }
        }
    }
};

/// An array in an aggregate. It cannot be returned, only filled.
template <class T, std::size_t N>
struct std_codec<T[N]> : Codec {
    static constexpr std::uint64_t tag = make_tag("C array", N);
    using parts = types<std::remove_cv_t<T>>;
    static consteval bool raw() { return codec<T>::raw(); }
    static consteval bool fixed() { return codec<T>::fixed(); }
    static consteval std::size_t min_size() { return N * min_saved_size<T>; }
    static std::size_t size(const T (&values)[N]) {
        std::size_t sum = 0;
        for (const auto& value : values) { sum += saved_size(value); }
        return sum;
    }
    static void save(Writer& out, const T (&values)[N]) {
        if constexpr (raw()) {
            out.bytes(&values, sizeof(values));
        } else {
            for (const auto& value : values) { detail::save(out, value); }
        }
    }
    static void load_into(Reader& in, T (&values)[N]) {
        if constexpr (raw()) {
            in.bytes(&values, sizeof(values));
        } else {
            for (auto& value : values) { detail::load_into(in, value); }
        }
    }
};

}  // namespace multiprocessing::detail

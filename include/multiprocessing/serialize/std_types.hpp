// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The codecs of the standard library's types that are no containers. (Includes all others: what
/// can be sent must not depend on which header a source file happened to include.)
///
/// What is behind a `unique_ptr` or `shared_ptr` is sent by value. `std::complex` and
/// `std::filesystem::path` are recognised by what they have, since their headers cost more than all
/// others here together.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/serialize/archive.hpp>
#include <multiprocessing/serialize/classes.hpp>
#include <multiprocessing/serialize/codec.hpp>
#include <multiprocessing/serialize/containers.hpp>
#include <multiprocessing/serialize/reflect.hpp>
#include <multiprocessing/serialize/scalars.hpp>
#include <multiprocessing/serialize/sendable.hpp>

#include <bitset>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <variant>

namespace multiprocessing::detail {

template <class Tuple, class... Ts>
struct tuple_codec : Codec {
    using parts = types<Ts...>;
    static consteval bool fixed() { return (codec<Ts>::fixed() && ...); }
    static consteval std::size_t min_size() {
        return sizeof...(Ts) == 0 ? 1 : (min_saved_size<Ts> + ... + 0);
    }
    static std::size_t size(const Tuple& values) {
        return std::apply(
            [](const auto&... value) { return (saved_size(value) + ... + std::size_t{0}); },
            values);
    }
    static void save(Writer& out, const Tuple& values) {
        if constexpr (sizeof...(Ts) == 0) { out.raw(std::uint8_t{0}); }
        std::apply([&out](const auto&... value) { (detail::save(out, value), ...); }, values);
    }
    static Tuple load(Reader& in) {
        if constexpr (sizeof...(Ts) == 0) {
            if (in.raw<std::uint8_t>() != 0) { refuse_bytes("an empty tuple is not 0"); }
            return {};
        } else {
            return Tuple{detail::load<Ts>(in)...};  // in order: braces say so
        }
    }
};
template <class A, class B>
struct std_codec<std::pair<A, B>> : tuple_codec<std::pair<A, B>, A, B> {
    static constexpr std::uint64_t tag = make_tag("pair");
};
template <class... Ts>
struct std_codec<std::tuple<Ts...>> : tuple_codec<std::tuple<Ts...>, Ts...> {
    static constexpr std::uint64_t tag = make_tag("tuple");
};

/// Reads the byte that says whether a value follows.
inline bool load_presence(Reader& in) { return detail::load<bool>(in); }

template <class T>
struct std_codec<std::optional<T>> : Codec {
    static constexpr std::uint64_t tag = make_tag("optional");
    using parts = types<T>;
    static consteval std::size_t min_size() { return 1; }
    static std::size_t size(const std::optional<T>& value) {
        return value ? 1 + saved_size(*value) : 1;
    }
    static void save(Writer& out, const std::optional<T>& value) {
        detail::save(out, value.has_value());
        if (value) { detail::save(out, *value); }
    }
    static std::optional<T> load(Reader& in) {
        if (!load_presence(in)) { return std::nullopt; }
        return std::optional<T>(detail::load<T>(in));
    }
};

template <class... Ts>
struct std_codec<std::variant<Ts...>> : Codec {
    using Variant = std::variant<Ts...>;
    using Index = std::conditional_t<sizeof...(Ts) <= 256, std::uint8_t, std::uint16_t>;
    static constexpr std::uint64_t tag = make_tag("variant");
    using parts = types<Ts...>;
    static consteval std::size_t min_size() {
        std::size_t smallest = ~std::size_t{0};
        ((smallest = min_saved_size<Ts> < smallest ? min_saved_size<Ts> : smallest), ...);
        return sizeof(Index) + smallest;
    }
    static std::size_t size(const Variant& value) {
        return sizeof(Index) +
               std::visit([](const auto& alternative) { return saved_size(alternative); }, value);
    }
    static void save(Writer& out, const Variant& value) {
        if (value.valueless_by_exception()) {
            throw SerializationError("a variant without a value cannot be sent");
        }
        out.raw(static_cast<Index>(value.index()));
        std::visit([&out](const auto& alternative) { detail::save(out, alternative); }, value);
    }
    static Variant load(Reader& in) {
        const std::size_t index = in.raw<Index>();
        if (index >= sizeof...(Ts)) { refuse_bytes("a variant has no such alternative"); }
        return [&in, index ]<std::size_t... I>(std::index_sequence<I...>) {
            using Load = Variant (*)(Reader&);
            constexpr Load load[] = {&load_alternative<I>...};
            return load[index](in);
        }
        (std::index_sequence_for<Ts...>());
    }

  private:
    template <std::size_t I>
    static Variant load_alternative(Reader& in) {
        using T = std::remove_cv_t<std::variant_alternative_t<I, Variant>>;
        return Variant(std::in_place_index<I>, detail::load<T>(in));
    }
};

template <>
struct std_codec<std::monostate> : Codec {
    static constexpr std::uint64_t tag = make_tag("monostate");
    static consteval bool fixed() { return true; }
    static consteval std::size_t min_size() { return 1; }
    static void save(Writer& out, std::monostate) { out.raw(std::uint8_t{0}); }
    static std::monostate load(Reader& in) {
        if (in.raw<std::uint8_t>() != 0) { refuse_bytes("a monostate is not 0"); }
        return {};
    }
};

/// What a smart pointer owns, by value.
template <class Pointer, class T>
struct pointer_codec : Codec {
    using Value = std::remove_cv_t<T>;
    using parts = types<Value>;
    static consteval std::size_t min_size() { return 1; }
    static std::size_t size(const Pointer& pointer) {
        return pointer ? 1 + saved_size<Value>(*pointer) : 1;
    }
    static void save(Writer& out, const Pointer& pointer) {
        const Level level(out);
        detail::save(out, pointer != nullptr);
        if (pointer == nullptr) { return; }
        if constexpr (std::is_polymorphic_v<T>) {
            const T& object = *pointer;
            if (typeid(object) != typeid(T)) {
                throw SerializationError(text_of(
                    "a pointer to {} owns an object of a derived class, which would be cut off",
                    {type_name<Value>()}));
            }
        }
        detail::save<Value>(out, *pointer);
    }
    static Pointer load(Reader& in) {
        const Level level(in);
        if (!load_presence(in)) { return nullptr; }
        return Pointer(new Value(detail::load<Value>(in)));
    }
};
/// What a pointer can own that knows how much that is.
template <class T>
concept single_object = !std::is_array_v<T> && !std::is_void_v<T>;

template <single_object T>
struct std_codec<std::unique_ptr<T>> : pointer_codec<std::unique_ptr<T>, T> {
    static constexpr std::uint64_t tag = make_tag("unique_ptr");
};
template <single_object T>
struct std_codec<std::shared_ptr<T>> : pointer_codec<std::shared_ptr<T>, T> {
    static constexpr std::uint64_t tag = make_tag("shared_ptr");
};

template <std::size_t N>
struct std_codec<std::bitset<N>> : Codec {
    static constexpr std::uint64_t tag = make_tag("bitset", N);
    static consteval bool fixed() { return true; }
    static consteval std::size_t min_size() { return N == 0 ? 1 : (N + 7) / 8; }
    static void save(Writer& out, const std::bitset<N>& bits) {
        for (std::size_t at = 0; at < min_size(); ++at) {
            unsigned byte = 0;
            for (std::size_t i = 8 * at; i < N && i < 8 * at + 8; ++i) {
                byte |= static_cast<unsigned>(bits[i]) << i % 8;
            }
            out.raw(static_cast<std::uint8_t>(byte));
        }
    }
    static std::bitset<N> load(Reader& in) {
        std::bitset<N> bits;
        for (std::size_t at = 0; at < min_size(); ++at) {
            const unsigned byte = in.raw<std::uint8_t>();
            for (std::size_t i = 8 * at; i < 8 * at + 8; ++i) {
                const bool bit = ((byte >> i % 8) & 1) != 0;
                if (i < N) {
                    bits[i] = bit;
                } else if (bit) {
                    refuse_bytes("a bitset has bits behind its end");
                }
            }
        }
        return bits;
    }
};

template <class Rep, class Period>
struct std_codec<std::chrono::duration<Rep, Period>> : Codec {
    using Duration = std::chrono::duration<Rep, Period>;
    static constexpr std::uint64_t tag = make_tag("duration", Period::num, Period::den);
    using parts = types<Rep>;
    static consteval bool raw() { return codec<Rep>::raw(); }
    static consteval bool fixed() { return codec<Rep>::fixed(); }
    static consteval std::size_t min_size() { return min_saved_size<Rep>; }
    static std::size_t size(const Duration& duration) { return saved_size(duration.count()); }
    static void save(Writer& out, const Duration& duration) { detail::save(out, duration.count()); }
    static Duration load(Reader& in) { return Duration(detail::load<Rep>(in)); }
};
template <class Clock, class Duration>
struct std_codec<std::chrono::time_point<Clock, Duration>> : Codec {
    using Point = std::chrono::time_point<Clock, Duration>;
    static constexpr std::uint64_t tag = make_tag("time_point", hash_text(type_name<Clock>()));
    using parts = types<Duration>;
    static consteval bool raw() { return codec<Duration>::raw(); }
    static consteval bool fixed() { return codec<Duration>::fixed(); }
    static consteval std::size_t min_size() { return min_saved_size<Duration>; }
    static std::size_t size(const Point& point) { return saved_size(point.time_since_epoch()); }
    static void save(Writer& out, const Point& point) {
        detail::save(out, point.time_since_epoch());
    }
    static Point load(Reader& in) { return Point(detail::load<Duration>(in)); }
};

template <>
struct std_codec<std::error_code> : Codec {
    enum class Category : std::uint8_t { system, generic, end };
    static constexpr std::uint64_t tag = make_tag("error_code");
    static consteval bool fixed() { return true; }
    static consteval std::size_t min_size() { return 1 + sizeof(int); }

    static bool knows(const std::error_category& category) {
        return category == std::system_category() || category == std::generic_category();
    }
    /// \throws SerializationError for a category that is not the standard library's: the receiver
    /// would not know which one is meant.
    static void save(Writer& out, const std::error_code& code) {
        if (!knows(code.category())) {
            throw SerializationError(text_of("an error code of the category \"{}\" cannot be sent",
                                             {code.category().name()}));
        }
        const bool is_system = code.category() == std::system_category();
        out.raw(is_system ? Category::system : Category::generic);
        out.raw(code.value());
    }
    static std::error_code load(Reader& in) {
        const auto category = in.raw<Category>();
        if (category >= Category::end) { refuse_bytes("an error code has no known category"); }
        const int value = in.raw<int>();
        return {value,
                category == Category::system ? std::system_category() : std::generic_category()};
    }
};

template <class T>
concept std_class = std::is_class_v<T> && type_name<T>()
.starts_with("std::");

/// `std::complex`.
template <class T>
concept complex_number = std_class<T> && std::is_floating_point_v<typename T::value_type> &&
    std::is_constructible_v<T, typename T::value_type, typename T::value_type> &&
    requires(const T& number) {
    { number.real() } -> std::same_as<typename T::value_type>;
    { number.imag() } -> std::same_as<typename T::value_type>;
};

template <complex_number T>
struct std_codec<T> : Codec {
    using Part = typename T::value_type;
    static constexpr std::uint64_t tag = make_tag("complex");
    using parts = types<Part>;
    // The standard makes it two numbers in a row.
    static consteval bool raw() { return codec<Part>::raw() && std::is_trivially_copyable_v<T>; }
    static consteval bool fixed() { return true; }
    static consteval std::size_t min_size() { return 2 * min_saved_size<Part>; }
    static void save(Writer& out, const T& number) { out(number.real(), number.imag()); }
    static T load(Reader& in) {
        const auto real = detail::load<Part>(in);
        return T(real, detail::load<Part>(in));
    }
};

/// `std::filesystem::path`.
template <class T>
concept filesystem_path = std_class<T> && requires(const T& path) {
    { path.native() } -> std::same_as<const typename T::string_type&>;
    { path.lexically_normal() } -> std::same_as<T>;
    typename T::value_type;
};

template <filesystem_path T>
struct std_codec<T> : Codec {
    using Text = typename T::string_type;
    static constexpr std::uint64_t tag = make_tag("path");
    using parts = types<Text>;
    static consteval std::size_t min_size() { return min_saved_size<Text>; }
    static std::size_t size(const T& path) { return saved_size(path.native()); }
    static void save(Writer& out, const T& path) { detail::save(out, path.native()); }
    static T load(Reader& in) { return T(detail::load<Text>(in)); }
};

/// The calendar of `std::chrono` (`year`, `month`, `year_month_day` ...): every number is a value,
/// though perhaps not `ok()`.
template <class T>
concept calendar_type = std::is_class_v<T> && type_name<T>()
.starts_with("std::chrono::") &&
    std::is_trivially_copyable_v<T>&& std::has_unique_object_representations_v<T>&& requires(
        const T& date) {
    { date.ok() } -> std::same_as<bool>;
};

template <calendar_type T>
struct std_codec<T> : raw_codec<T> {
    static constexpr std::uint64_t tag =
        hash_mix(make_tag("calendar", sizeof(T)), hash_text(type_name<T>()));
};

}  // namespace multiprocessing::detail

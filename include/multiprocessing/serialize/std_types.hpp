// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The codecs of the standard library's types.
///
/// Containers are a count and then the elements; a map or set that names a key twice is merged.
/// What is behind a `unique_ptr` or `shared_ptr` is sent by value. `std::complex` and
/// `std::filesystem::path` are recognised by what they have, since their headers cost more than all
/// others here together.

#include <multiprocessing/serialize/codec.hpp>

#include <array>
#include <bitset>
#include <chrono>
#include <cstring>
#include <deque>
#include <forward_list>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <tuple>
#include <typeinfo>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

namespace multiprocessing::detail {

template <class A>
inline constexpr bool is_std_allocator = false;
template <class T>
inline constexpr bool is_std_allocator<std::allocator<T>> = true;

/// Keys whose order and hash are the standard library's own code.
template <class K>
inline constexpr bool is_plain_key = std::is_arithmetic_v<K>;
template <class C>
inline constexpr bool is_plain_key<std::basic_string<C>> = true;

template <class F, class K>
inline constexpr bool is_plain_function =
    is_plain_key<K> && (std::is_same_v<F, std::less<K>> || std::is_same_v<F, std::less<>> ||
                        std::is_same_v<F, std::greater<K>> || std::is_same_v<F, std::greater<>> ||
                        std::is_same_v<F, std::hash<K>> || std::is_same_v<F, std::equal_to<K>> ||
                        std::is_same_v<F, std::equal_to<>>);

/// An order or hash without state: the receiver makes it anew.
template <class F>
concept stateless = std::is_empty_v<F> && std::is_default_constructible_v<F>;

/// What a range of elements is made of: a count, then the elements.
template <class Range, class T>
struct range_codec : Codec {
    using parts = types<T>;
    static consteval std::size_t min_size() { return sizeof(std::uint64_t); }
    static std::size_t size(const Range& range) {
        if constexpr (codec<T>::fixed()) {
            return sizeof(std::uint64_t) + count(range) * min_saved_size<T>;
        } else {
            std::size_t sum = sizeof(std::uint64_t);
            for (const auto& value : range) { sum += saved_size<T>(value); }
            return sum;
        }
    }
    static void save(Writer& out, const Range& range) {
        const Level level(out);
        out.length(count(range));
        for (const auto& value : range) { detail::save<T>(out, value); }
    }

  protected:
    static std::size_t count(const Range& range) {
        if constexpr (requires { range.size(); }) {
            return range.size();
        } else {
            return static_cast<std::size_t>(std::distance(range.begin(), range.end()));
        }
    }
    static std::size_t load_count(Reader& in) { return in.length(min_saved_size<T>); }
};

/// Returns for how many of `count` elements room is made at once. Small encodings of large types
/// (an empty `optional`) must not make a short message allocate much; such a container grows as it
/// fills.
template <class T>
std::size_t reservation(std::size_t count, const Reader& in) {
    const std::size_t most = 1 + 8 * in.remaining() / sizeof(T);
    return count < most ? count : most;
}

template <class T, class A>
struct std_codec<std::vector<T, A>> : range_codec<std::vector<T, A>, T> {
    static constexpr std::uint64_t tag = make_tag("vector");
    static consteval bool user_code() { return !is_std_allocator<A>; }

    static void save(Writer& out, const std::vector<T, A>& values) {
        if constexpr (codec<T>::raw()) {
            out.length(values.size());
            out.bytes(values.data(), values.size() * sizeof(T));
        } else {
            range_codec<std::vector<T, A>, T>::save(out, values);
        }
    }
    static std::vector<T, A> load(Reader& in) {
        std::vector<T, A> values;
        load_into(in, values);
        return values;
    }
    static void load_into(Reader& in, std::vector<T, A>& values) {
        const std::size_t n = std_codec::load_count(in);
        if constexpr (codec<T>::raw()) {
            load_raw(in, values, n);
        } else {
            const Level level(in);
            values.clear();
            values.reserve(reservation<T>(n, in));
            for (std::size_t i = 0; i < n; ++i) { values.push_back(detail::load<T>(in)); }
        }
    }

  private:
    static void load_raw(Reader& in, std::vector<T, A>& values, std::size_t n) {
        const auto bytes = in.take(n * sizeof(T));
        // `assign` copies in one pass where `resize` would write everything twice.
        if (std::bit_cast<std::uintptr_t>(bytes.data()) % alignof(T) == 0) {
            const auto* const first = reinterpret_cast<const T*>(bytes.data());
            values.assign(first, first + n);
        } else if constexpr (std::is_default_constructible_v<T>) {
            values.resize(n);
            if (n != 0) { std::memcpy(values.data(), bytes.data(), bytes.size()); }
        } else {
            Reader again(bytes);
            values.clear();
            values.reserve(n);
            for (std::size_t i = 0; i < n; ++i) { values.push_back(detail::load<T>(again)); }
        }
    }
};

/// Bits, eight to a byte.
template <class A>
struct std_codec<std::vector<bool, A>> : Codec {
    static constexpr std::uint64_t tag = make_tag("vector");
    using parts = types<bool>;
    static consteval bool user_code() { return !is_std_allocator<A>; }
    static consteval std::size_t min_size() { return sizeof(std::uint64_t); }
    static std::size_t size(const std::vector<bool, A>& bits) {
        return sizeof(std::uint64_t) + bits.size() / 8 + (bits.size() % 8 != 0);
    }
    static void save(Writer& out, const std::vector<bool, A>& bits) {
        out.length(bits.size());
        unsigned byte = 0;
        for (std::size_t i = 0; i < bits.size(); ++i) {
            byte |= static_cast<unsigned>(bits[i]) << i % 8;
            if (i % 8 == 7 || i + 1 == bits.size()) {
                out.raw(static_cast<std::uint8_t>(byte));
                byte = 0;
            }
        }
    }
    static std::vector<bool, A> load(Reader& in) {
        const auto n = in.raw<std::uint64_t>();
        const auto bytes = in.take(static_cast<std::size_t>(n / 8 + (n % 8 != 0)));
        std::vector<bool, A> bits(static_cast<std::size_t>(n));
        for (std::size_t i = 0; i < n; ++i) {
            bits[i] = ((std::to_integer<unsigned>(bytes[i / 8]) >> i % 8) & 1) != 0;
        }
        return bits;
    }
};

template <class C, class Traits, class A>
requires character_type<C>
struct std_codec<std::basic_string<C, Traits, A>> : Codec {
    using String = std::basic_string<C, Traits, A>;
    static constexpr std::uint64_t tag = make_tag("string");
    using parts = types<C>;
    static consteval bool user_code() {
        return !is_std_allocator<A> || !std::is_same_v<Traits, std::char_traits<C>>;
    }
    static consteval std::size_t min_size() { return sizeof(std::uint64_t); }
    static std::size_t size(const String& text) {
        return sizeof(std::uint64_t) + text.size() * sizeof(C);
    }
    static void save(Writer& out, const String& text) {
        out.length(text.size());
        out.bytes(text.data(), text.size() * sizeof(C));
    }
    static String load(Reader& in) {
        String text;
        load_into(in, text);
        return text;
    }
    static void load_into(Reader& in, String& text) {
        const std::size_t n = in.length(sizeof(C));
        const auto bytes = in.take(n * sizeof(C));
        if constexpr (sizeof(C) == 1) {
            text.assign(reinterpret_cast<const C*>(bytes.data()), n);
        } else {
            text.resize(n);
            if (n != 0) { std::memcpy(text.data(), bytes.data(), bytes.size()); }
        }
    }
};

/// `deque` and `list`, which are filled at their end.
template <class Sequence, class T, class A>
struct sequence_codec : range_codec<Sequence, T> {
    static consteval bool user_code() { return !is_std_allocator<A>; }
    static Sequence load(Reader& in) {
        const Level level(in);
        Sequence values;
        for (std::size_t n = sequence_codec::load_count(in); n != 0; --n) {
            values.push_back(detail::load<T>(in));
        }
        return values;
    }
};
template <class T, class A>
struct std_codec<std::deque<T, A>> : sequence_codec<std::deque<T, A>, T, A> {
    static constexpr std::uint64_t tag = make_tag("deque");
};
template <class T, class A>
struct std_codec<std::list<T, A>> : sequence_codec<std::list<T, A>, T, A> {
    static constexpr std::uint64_t tag = make_tag("list");
};

template <class T, class A>
struct std_codec<std::forward_list<T, A>> : range_codec<std::forward_list<T, A>, T> {
    static constexpr std::uint64_t tag = make_tag("forward_list");
    static consteval bool user_code() { return !is_std_allocator<A>; }
    static std::forward_list<T, A> load(Reader& in) {
        const Level level(in);
        std::forward_list<T, A> values;
        auto last = values.before_begin();
        for (std::size_t n = std_codec::load_count(in); n != 0; --n) {
            last = values.insert_after(last, detail::load<T>(in));
        }
        return values;
    }
};

/// The sets; `Functions` are their order, or their hash and equality.
template <class Set, class T, class A, class... Functions>
struct set_codec : range_codec<Set, T> {
    static consteval bool user_code() {
        return !is_std_allocator<A> || !(is_plain_function<Functions, T> && ...);
    }
    static Set load(Reader& in) {
        const Level level(in);
        Set values;
        for (std::size_t n = set_codec::load_count(in); n != 0; --n) {
            values.insert(values.end(), detail::load<T>(in));
        }
        return values;
    }
};
template <class T, stateless F, class A>
struct std_codec<std::set<T, F, A>> : set_codec<std::set<T, F, A>, T, A, F> {
    static constexpr std::uint64_t tag = make_tag("set");
};
template <class T, stateless F, class A>
struct std_codec<std::multiset<T, F, A>> : set_codec<std::multiset<T, F, A>, T, A, F> {
    static constexpr std::uint64_t tag = make_tag("multiset");
};
template <class T, stateless H, stateless E, class A>
struct std_codec<std::unordered_set<T, H, E, A>>
    : set_codec<std::unordered_set<T, H, E, A>, T, A, H, E> {
    static constexpr std::uint64_t tag = make_tag("unordered_set");
};
template <class T, stateless H, stateless E, class A>
struct std_codec<std::unordered_multiset<T, H, E, A>>
    : set_codec<std::unordered_multiset<T, H, E, A>, T, A, H, E> {
    static constexpr std::uint64_t tag = make_tag("unordered_multiset");
};

/// The maps. Their elements are pairs with a constant key.
template <class Map, class K, class V, class A, class... Functions>
struct map_codec : range_codec<Map, std::pair<const K, V>> {
    static consteval bool user_code() {
        return !is_std_allocator<A> || !(is_plain_function<Functions, K> && ...);
    }
    static Map load(Reader& in) {
        const Level level(in);
        Map values;
        for (std::size_t n = map_codec::load_count(in); n != 0; --n) {
            K key = detail::load<K>(in);
            V value = detail::load<V>(in);
            values.emplace_hint(values.end(), std::move(key), std::move(value));
        }
        return values;
    }
};
template <class K, class V, stateless F, class A>
struct std_codec<std::map<K, V, F, A>> : map_codec<std::map<K, V, F, A>, K, V, A, F> {
    static constexpr std::uint64_t tag = make_tag("map");
};
template <class K, class V, stateless F, class A>
struct std_codec<std::multimap<K, V, F, A>> : map_codec<std::multimap<K, V, F, A>, K, V, A, F> {
    static constexpr std::uint64_t tag = make_tag("multimap");
};
template <class K, class V, stateless H, stateless E, class A>
struct std_codec<std::unordered_map<K, V, H, E, A>>
    : map_codec<std::unordered_map<K, V, H, E, A>, K, V, A, H, E> {
    static constexpr std::uint64_t tag = make_tag("unordered_map");
};
template <class K, class V, stateless H, stateless E, class A>
struct std_codec<std::unordered_multimap<K, V, H, E, A>>
    : map_codec<std::unordered_multimap<K, V, H, E, A>, K, V, A, H, E> {
    static constexpr std::uint64_t tag = make_tag("unordered_multimap");
};

template <class T, std::size_t N>
struct std_codec<std::array<T, N>> : Codec {
    using Array = std::array<T, N>;
    static constexpr std::uint64_t tag = make_tag("array", N);
    using parts = types<T>;
    static consteval bool raw() { return N != 0 && codec<T>::raw(); }
    static consteval bool fixed() { return N == 0 || codec<T>::fixed(); }
    static consteval std::size_t min_size() { return N == 0 ? 1 : N * min_saved_size<T>; }
    static std::size_t size(const Array& values) {
        std::size_t sum = 0;
        for (const auto& value : values) { sum += saved_size(value); }
        return sum;
    }
    static void save(Writer& out, const Array& values) {
        if constexpr (N == 0) {
            out.raw(std::uint8_t{0});
        } else if constexpr (raw()) {
            out.bytes(&values, sizeof(values));
        } else {
            for (const auto& value : values) { detail::save(out, value); }
        }
    }
    static Array load(Reader& in) {
        if constexpr (std::is_default_constructible_v<Array>) {
            Array values;
            load_into(in, values);
            return values;
        } else {
            return [&in]<std::size_t... I>(std::index_sequence<I...>) {
                return Array{((void)I, detail::load<T>(in))...};
            }
            (std::make_index_sequence<N>());
        }
    }
    static void load_into(Reader& in, Array& values) {
        if constexpr (N == 0) {
            if (in.raw<std::uint8_t>() != 0) { refuse_bytes("an empty array is not 0"); }
        } else if constexpr (raw()) {
            in.bytes(&values, sizeof(values));
        } else {
            for (auto& value : values) { detail::load_into(in, value); }
        }
    }
};

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
                throw SerializationError(fmt::format(
                    "a pointer to {} owns an object of a derived class, which would be cut off",
                    type_name<Value>()));
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
template <class T>
requires(!std::is_array_v<T> && !std::is_void_v<T>) struct std_codec<std::unique_ptr<T>>
    : pointer_codec<std::unique_ptr<T>, T> {
    static constexpr std::uint64_t tag = make_tag("unique_ptr");
};
template <class T>
requires(!std::is_array_v<T> && !std::is_void_v<T>) struct std_codec<std::shared_ptr<T>>
    : pointer_codec<std::shared_ptr<T>, T> {
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
            throw SerializationError(fmt::format(
                "an error code of the category \"{}\" cannot be sent", code.category().name()));
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

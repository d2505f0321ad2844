// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The codecs of the standard library's containers and strings: a count, and then the elements.
///
/// A count is checked against the bytes that are there before anything is allocated. A map or set
/// that names a key twice is merged.

#include <multiprocessing/serialize/archive.hpp>
#include <multiprocessing/serialize/codec.hpp>
#include <multiprocessing/serialize/reflect.hpp>
#include <multiprocessing/serialize/scalars.hpp>
#include <multiprocessing/serialize/sendable.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <forward_list>
#include <functional>
#include <iterator>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <utility>
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

template <character_type C, class Traits, class A>
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

}  // namespace multiprocessing::detail

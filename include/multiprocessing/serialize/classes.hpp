// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The codecs of classes: with a specialisation of `mp::serializer`, with cereal's functions,
/// aggregates.

#include <multiprocessing/serialize/archive.hpp>
#include <multiprocessing/serialize/codec.hpp>
#include <multiprocessing/serialize/reflect.hpp>
#include <multiprocessing/serialize/sendable.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace multiprocessing::detail {

// What a class writes itself may be nothing; this byte in front of it makes that countable.
inline constexpr std::uint8_t class_mark = 0xc1;

inline void save_class_mark(Writer& out) { out.raw(class_mark); }
inline void load_class_mark(Reader& in) {
    if (in.raw<std::uint8_t>() != class_mark) {
        refuse_bytes("an object does not begin where it should");
    }
}

/// A type with a specialisation of `mp::serializer`.
template <class T>
struct serializer_codec : Codec {
    static constexpr std::uint64_t tag =
        hash_mix(make_tag("serializer"), hash_text(type_name<T>()));
    static consteval bool user_code() { return true; }
    static consteval std::size_t min_size() { return 1; }
    static void save(Writer& out, const T& value) {
        const Level level(out);
        save_class_mark(out);
        serializer<T>::save(out, value);
    }
    static T load(Reader& in) {
        const Level level(in);
        load_class_mark(in);
        return serializer<T>::load(in);
    }
};

/// A class with `serialize`, or `save` and `load`, as cereal has them.
template <class T>
struct class_codec : Codec {
    static constexpr std::uint64_t tag = hash_mix(make_tag("class"), hash_text(type_name<T>()));
    static consteval bool user_code() { return true; }
    static consteval std::size_t min_size() { return 1; }

    static void save(Writer& out, const T& value) {
        const Level level(out);
        save_class_mark(out);
        // `serialize` serves both directions and so cannot be const; it does not change what it
        // saves.
        if constexpr (has_member_save_load<T>) {
            value.save(out);
        } else if constexpr (has_member_serialize<T>) {
            const_cast<T&>(value).serialize(out);
        } else if constexpr (adl::has_save_load<probes::Archive, T>) {
            adl::call_save(out, value);
        } else {
            adl::call_serialize(out, const_cast<T&>(value));
        }
    }
    static T load(Reader& in) {
        T value{};
        load_into(in, value);
        return value;
    }
    static void load_into(Reader& in, T& value) {
        const Level level(in);
        load_class_mark(in);
        if constexpr (has_member_save_load<T>) {
            value.load(in);
        } else if constexpr (has_member_serialize<T>) {
            value.serialize(in);
        } else if constexpr (adl::has_save_load<probes::Archive, T>) {
            adl::call_load(in, value);
        } else {
            adl::call_serialize(in, value);
        }
    }
};

/// An aggregate: its members one after the other.
template <class T, class Members>
struct members_codec;

template <class T, class... Members>
struct members_codec<T, types<Members...>> : Codec {
    static constexpr std::uint64_t tag = make_tag("aggregate");
    using parts = types<Members...>;

    static consteval bool raw() {
        // The members being as large as the whole says that there is no padding, and no bit field.
        if constexpr (sizeof...(Members) == 0 || !std::is_trivially_copyable_v<T>) {
            return false;
        } else {
            return (codec<Members>::raw() && ...) && (sizeof(Members) + ...) == sizeof(T);
        }
    }
    static consteval bool fixed() { return (codec<Members>::fixed() && ...); }
    static consteval std::size_t min_size() {
        return sizeof...(Members) == 0 ? 1 : (min_saved_size<Members> + ... + 0);
    }
    static std::size_t size(const T& value) {
        return visit_members(value, [](const auto&... members) {
            return (saved_size(members) + ... + std::size_t{0});
        });
    }
    static void save(Writer& out, const T& value) {
        if constexpr (sizeof...(Members) == 0) {
            out.raw(std::uint8_t{0});
        } else if constexpr (raw()) {
            out.raw(value);
        } else {
            visit_members(value,
                          [&out](const auto&... members) { (detail::save(out, members), ...); });
        }
    }
    static T load(Reader& in) {
        if constexpr (sizeof...(Members) == 0) {
            if (in.raw<std::uint8_t>() != 0) { refuse_bytes("an empty class is not 0"); }
            return T{};
        } else if constexpr (raw()) {
            std::array<std::byte, sizeof(T)> bytes;
            in.bytes(bytes.data(), bytes.size());
            return std::bit_cast<T>(bytes);
        } else if constexpr ((std::is_array_v<Members> || ...)) {
            T value{};
            visit_members(value,
                          [&in](auto&... members) { (detail::load_into(in, members), ...); });
            return value;
        } else {
            return T{detail::load<Members>(in)...};  // in order: braces say so
        }
    }
};

template <class T>
struct aggregate_codec : members_codec<T, member_types<T>> {};

}  // namespace multiprocessing::detail

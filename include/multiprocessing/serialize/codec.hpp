// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// How a type is encoded, and what is known of that at compile time.
///
///     is_plain_v<T>      does it run no user code?   saved_size(value)  exactly what `save` writes
///     min_saved_size<T>  at least this many bytes    type_hash_v<T>     its structure as a number
///
/// Everything about one type stands in one place, its *codec*. A codec has
///
///     static constexpr std::uint64_t tag;       // its kind, and what of it is not in `parts`
///     using parts = types<...>;                 // the types it is made of
///     static consteval bool raw();              // all bytes are a value: a range is one memcpy
///     static consteval bool fixed();            // always takes min_size() bytes
///     static consteval std::size_t min_size();  // at least 1, so that counts can be checked
///     static consteval bool user_code();        // runs code neither ours nor the standard's
///     static void save(Writer&, const T&);   static std::size_t size(const T&);
///     static T load(Reader&);  and/or  static void load_into(Reader&, T&);
///
/// and is found in this order: `mp::serializer<T>`, the codecs of the language's and the standard
/// library's types, the class's own `serialize` or `save` and `load`, the members of an aggregate.

#include <multiprocessing/serialize/archive.hpp>
#include <multiprocessing/serialize/reflect.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace multiprocessing::detail {

constexpr std::uint64_t hash_text(std::string_view text) {
    std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
    for (const char c : text) { hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3; }
    return hash;
}

constexpr std::uint64_t hash_mix(std::uint64_t hash, std::uint64_t value) {
    hash = (hash ^ value) * 0x9e3779b97f4a7c15;
    return hash ^ (hash >> 29);
}

/// Makes the tag of a kind of type, such as "vector", with numbers that belong to it.
template <class... Numbers>
consteval std::uint64_t make_tag(std::string_view kind, Numbers... numbers) {
    std::uint64_t hash = hash_text(kind);
    ((hash = hash_mix(hash, static_cast<std::uint64_t>(numbers))), ...);
    return hash;
}

template <class T>
concept character_type = std::same_as<T, char> || std::same_as<T, wchar_t> ||
    std::same_as<T, char8_t> || std::same_as<T, char16_t> || std::same_as<T, char32_t>;

/// The codecs of the types of the language and of the standard library; undefined for others.
template <class T>
struct std_codec;

template <class T>
struct serializer_codec;
template <class T>
struct class_codec;
template <class T>
struct aggregate_codec;
struct no_codec {};

/// Stands for an archive where it is asked whether a class can be serialised. It is not `Writer` or
/// `Reader`, since for them there are functions in this namespace that would answer too.
namespace probes {
struct Archive {
    using is_saving = std::true_type;
    using is_loading = std::true_type;
    template <class... Ts>
    Archive& operator()(Ts&&...);
    template <class T>
    Archive& operator&(T&&);
    template <class T>
    Archive& operator<<(T&&);
    template <class T>
    Archive& operator>>(T&&);
    void bytes(void*, std::size_t);
};
}  // namespace probes

/// Calls a class's own free functions, found by argument-dependent lookup alone.
namespace adl {

// They end the search of the enclosing namespaces.
void serialize() = delete;
void save() = delete;
void load() = delete;

template <class A, class T>
concept has_serialize = requires(A& archive, T& value) {
    serialize(archive, value);
};
template <class A, class T>
concept has_save_load = requires(A& archive, T& value, const T& constant) {
    save(archive, constant);
    load(archive, value);
};

template <class A, class T>
void call_serialize(A& archive, T& value) {
    serialize(archive, value);
}
template <class A, class T>
void call_save(A& archive, const T& value) {
    save(archive, value);
}
template <class A, class T>
void call_load(A& archive, T& value) {
    load(archive, value);
}

}  // namespace adl

template <class T>
concept has_serializer = requires {
    sizeof(serializer<T>);
};
template <class T>
concept has_std_codec = requires {
    sizeof(std_codec<T>);
};
template <class T>
concept has_member_save_load = requires(probes::Archive& archive, T& value, const T& constant) {
    constant.save(archive);
    value.load(archive);
};
template <class T>
concept has_member_serialize = requires(probes::Archive& archive, T& value) {
    value.serialize(archive);
};
/// A class that follows cereal's convention.
template <class T>
concept cereal_class = std::is_class_v<T> && std::is_default_constructible_v<T> &&
    (has_member_save_load<T> || has_member_serialize<T> || adl::has_save_load<probes::Archive, T> ||
     adl::has_serialize<probes::Archive, T>);

template <class T>
consteval auto pick_codec() {
    if constexpr (has_serializer<T>) {
        return std::type_identity<serializer_codec<T>>();
    } else if constexpr (has_std_codec<T>) {
        return std::type_identity<std_codec<T>>();
    } else if constexpr (cereal_class<T>) {
        return std::type_identity<class_codec<T>>();
    } else if constexpr (reflectable<T>) {
        return std::type_identity<aggregate_codec<T>>();
    } else {
        return std::type_identity<no_codec>();
    }
}

/// How `T` is encoded; `no_codec` if it is not.
template <class T>
using codec = typename decltype(pick_codec<std::remove_cv_t<T>>())::type;

template <class T>
inline constexpr bool has_codec = !std::is_same_v<codec<T>, no_codec>;

// -------------------------------------------------------------------------------------------------

template <class T>
inline constexpr std::size_t min_saved_size = codec<T>::min_size();

/// Returns how many bytes `save` writes for `value`.
/// \cost nothing at run time where the size is always the same; else as many steps as there are
/// elements whose size differs.
template <class T>
std::size_t saved_size(const T& value) {
    if constexpr (codec<T>::fixed()) {
        return min_saved_size<T>;
    } else {
        return codec<T>::size(value);
    }
}

template <class T, class... Seen>
consteval bool judge_plain() {
    if constexpr ((std::is_same_v<T, Seen> || ...)) {
        return true;
    } else if constexpr (!has_codec<T>) {
        return false;
    } else {
        return !codec<T>::user_code() && []<class... Parts>(types<Parts...>) {
            return (judge_plain<std::remove_cv_t<Parts>, T, Seen...>() && ...);
        }(typename codec<T>::parts());
    }
}

/// Tells whether saving and loading a `T` runs no user code at all, so that it may be done while an
/// internal lock is held. The destructor and the assignment of an aggregate are not counted: a type
/// that has no constructor of its own is taken to have harmless ones.
template <class T>
inline constexpr bool is_plain_v = judge_plain<std::remove_cv_t<T>>();

template <class T, class... Seen>
consteval std::uint64_t hash_type() {
    // A class inside itself is the number of steps outwards to where it began.
    std::uint64_t outwards = 0;
    if (((++outwards, std::is_same_v<T, Seen>) || ...)) { return make_tag("itself", outwards); }
    if constexpr ((std::is_same_v<T, Seen> || ...)) {
        return 0;
    } else {
        return []<class... Parts>(types<Parts...>) {
            std::uint64_t hash = codec<T>::tag;
            ((hash = hash_mix(hash, hash_type<std::remove_cv_t<Parts>, T, Seen...>())), ...);
            return hash_mix(hash, sizeof...(Parts));
        }(typename codec<T>::parts());
    }
}

/// The structure of `T` as a number, the same in every translation unit: its kind, its parts and
/// theirs, sizes; the name only of a class that serialises itself.
template <class T>
inline constexpr std::uint64_t type_hash_v = hash_type<std::remove_cv_t<T>>();

/// What most codecs say.
struct Codec {
    using parts = types<>;
    static consteval bool raw() { return false; }
    static consteval bool fixed() { return false; }
    static consteval bool user_code() { return false; }
};

/// A type of which every pattern of bytes is a value, without padding.
template <class T>
struct raw_codec : Codec {
    static consteval bool raw() { return true; }
    static consteval bool fixed() { return true; }
    static consteval std::size_t min_size() { return sizeof(T); }
    static void save(Writer& out, const T& value) { out.raw(value); }
    static T load(Reader& in) { return in.raw<T>(); }
};

}  // namespace multiprocessing::detail

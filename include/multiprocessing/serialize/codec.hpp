// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// How a type is encoded, and what is known of that at compile time.
///
///     sendable<T>           is there a way?            check_sendable<T>()  the same, with an
///     explanation is_plain_v<T>         does it run no user code?  saved_size(value)    exactly
///     what `save` writes min_saved_size<T>     at least this many bytes   type_hash_v<T>       its
///     structure as a number
///
/// Everything about one type stands in one place, its *codec*. A codec has
///
///     static constexpr std::uint64_t tag;     // its kind, and what of it is not in `parts`
///     using parts = types<...>;               // the types it is made of
///     static consteval bool raw();            // all bytes of it are a value: a range is one
///     memcpy static consteval bool fixed();          // always takes min_size() bytes static
///     consteval std::size_t min_size();  // at least 1, so that counts can be checked static
///     consteval bool user_code();      // runs code that is neither ours nor the standard's static
///     void save(Writer&, const T&);   static std::size_t size(const T&); static T load(Reader&);
///     and/or  static void load_into(Reader&, T&);
///
/// and is found in this order: `mp::serializer<T>`, the codecs of the language's and the standard
/// library's types, the class's own `serialize` or `save` and `load`, the members of an aggregate.

#include <multiprocessing/serialize/archive.hpp>
#include <multiprocessing/serialize/reflect.hpp>

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

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

// --- what can be sent ---

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
template <class T>
concept character_type = std::same_as<T, char> || std::same_as<T, wchar_t> ||
    std::same_as<T, char8_t> || std::same_as<T, char16_t> || std::same_as<T, char32_t>;
template <class T>
requires(std::is_bounded_array_v<std::remove_reference_t<T>>&& character_type<
         std::remove_cvref_t<std::remove_extent_t<std::remove_reference_t<T>>>>) struct Sent<T> {
    using type =
        std::basic_string<std::remove_cvref_t<std::remove_extent_t<std::remove_reference_t<T>>>>;
};
template <class T>
using sent_t = typename Sent<T>::type;

// --- what is known of an encoding ---

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

// --- codecs ---

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

template <class T>
requires(std::is_arithmetic_v<T> && !std::is_same_v<T, bool> &&
         !std::is_same_v<T, long double>) struct std_codec<T> : raw_codec<T> {
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
requires std::is_enum_v<T>
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

// -------------------------------------------------------------------------------------------------

namespace multiprocessing::detail {

template <class T>
void save(Writer& out, const T& value) {
    check_sendable<T>();
    if constexpr (sendable<T>) { codec<T>::save(out, value); }
}

template <class T>
T load(Reader& in) {
    check_sendable<T>();
    return codec<T>::load(in);
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

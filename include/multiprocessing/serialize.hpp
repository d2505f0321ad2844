// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What can be sent to another process, and how it looks as bytes.
///
///     struct Ticket { int id; std::string who; };
///     auto bytes = mp::dumps(Ticket{1, "Ada"});
///     auto ticket = mp::loads<Ticket>(bytes);
///
/// Mirrors `pickle.dumps` and `loads`. No macros for ordinary data: aggregates of up to 64 members,
/// the types of the standard library, classes with cereal's `serialize` or `save`/`load`, and
/// whatever has a specialisation of `mp::serializer`. A string literal is sent as `std::string`.
/// Received bytes are never trusted: what is not a value of the type is `SerializationError`, and
/// nothing is allocated that is not in proportion to the bytes that are there.

#include <multiprocessing/serialize/archive.hpp>
#include <multiprocessing/serialize/callable.hpp>
#include <multiprocessing/serialize/codec.hpp>
#include <multiprocessing/serialize/sendable.hpp>
#include <multiprocessing/serialize/std_types.hpp>

#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

namespace multiprocessing {

/// Returns `value` as bytes.
/// \throws SerializationError when it cannot be sent after all (nested too deeply, a variant
/// without value)
template <class T>
std::vector<std::byte> dumps(const T& value);

/// Returns the value that `bytes` are.
/// \throws SerializationError when they are not a `T`, or more than that
template <class T>
T loads(std::span<const std::byte> bytes);

// -------------------------------------------------------------------------------------------------

template <class T>
std::vector<std::byte> dumps(const T& value) {
    using Value = detail::sent_t<const T&>;
    detail::check_sendable<Value>();
    detail::Writer out;
    if constexpr (std::is_same_v<Value, T>) {
        if constexpr (detail::is_plain_v<T>) { out.reserve(detail::saved_size(value)); }
        detail::save(out, value);
    } else {
        detail::save<Value>(out, Value(value));
    }
    return out.release();
}

template <class T>
T loads(std::span<const std::byte> bytes) {
    detail::Reader in(bytes);
    T value = detail::load<T>(in);
    if (in.remaining() != 0) { detail::refuse_bytes("bytes are left over"); }
    return value;
}

}  // namespace multiprocessing

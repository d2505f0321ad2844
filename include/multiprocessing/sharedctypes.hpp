// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Values and arrays in shared memory.
///
///     mp::Value<int> counter(0);
///     mp::Array<double> row(1000);
///     auto copied = mp::sharedctypes::copy(row.get_obj());      // elements of its own
///     auto guarded = mp::sharedctypes::synchronized(copied);    // the same ones, with a lock
///
/// Mirrors `multiprocessing.sharedctypes`. A small one is a slot of a slab: tens of nanoseconds to
/// make, and no descriptor.

#include <multiprocessing/sharedctypes/array.hpp>
#include <multiprocessing/sharedctypes/value.hpp>
#include <multiprocessing/synchronize/rlock.hpp>

#include <utility>

namespace multiprocessing::sharedctypes {

/// Returns a handle to a new object with the same value.
template <class T>
RawValue<T> copy(const RawValue<T>& value) {
    return RawValue<T>(value.value());
}
template <class T>
RawArray<T> copy(const RawArray<T>& array) {
    return RawArray<T>(array.span());
}

/// Puts a lock around an object: operations through the result, and its copies, exclude one
/// another.
template <class T>
Value<T> synchronized(RawValue<T> value, RLock lock = RLock()) {
    return Value<T>(std::move(value), std::move(lock));
}
template <class T>
Array<T> synchronized(RawArray<T> array, RLock lock = RLock()) {
    return Array<T>(std::move(array), std::move(lock));
}

}  // namespace multiprocessing::sharedctypes

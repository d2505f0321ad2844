// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// `Value` and `RawValue`: one object in shared memory.
///
///     mp::Value<int> counter(0);
///     mp::Process p([](mp::Value<int> c) { c += 1; }, counter);
///
/// Mirrors `multiprocessing.Value` and `RawValue`. Unlike there, `counter += 1` is one step.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/serialize/archive.hpp>
#include <multiprocessing/serialize/handle.hpp>
#include <multiprocessing/serialize/sendable.hpp>
#include <multiprocessing/serialize/std_types.hpp>
#include <multiprocessing/sharedctypes/cells.hpp>
#include <multiprocessing/sharedctypes/shareable.hpp>
#include <multiprocessing/sharedctypes/value_operators.hpp>
#include <multiprocessing/synchronize/rlock.hpp>

#include <concepts>
#include <mutex>
#include <optional>
#include <utility>

namespace multiprocessing {

template <class T>
class Value;

/// A handle to a `T` in shared memory, without a lock.
///
/// Reads and writes are atomic where `T` has 1, 2, 4 or 8 bytes, and operators where it is a number
/// as well. Anything larger may be seen, or left by a death, half-written: that is what Value is
/// for.
/// \safety as said; copies refer to the same object.
template <class T>
class RawValue : public detail::ValueOperators<RawValue<T>, T> {
  public:
    explicit RawValue(T value = {}) : cells_(1) {
        detail::check_shareable<T>();
        cells_.store(0, value);
    }

    T value() const noexcept { return cells_.load(0); }
    void set_value(const T& value) const noexcept { cells_.store(0, value); }
    operator T() const noexcept { return value(); }
    /// Sets the shared object. (A handle assigned to a handle makes it refer to the other's
    /// object.)
    const RawValue& operator=(const T& value) const noexcept {
        set_value(value);
        return *this;
    }

    /// Returns the object itself; access through it is not atomic.
    T& get_obj() const noexcept { return *cells_.data(); }

  private:
    friend class detail::ValueOperators<RawValue<T>, T>;
    friend class Value<T>;
    friend struct detail::HandleAccess;

    explicit RawValue(detail::Reader& in) : cells_(in) {
        if (cells_.size() != 1) { detail::refuse_bytes("an array is no single value"); }
    }

    void save_handle(detail::Writer& out) const { cells_.save(out); }
    static RawValue load_handle(detail::Reader& in) { return RawValue(in); }

    template <class Op>
    std::pair<T, T> modify(Op op) const {
        return cells_.modify(0, op);
    }

    detail::Cells<T> cells_;
};

/// A handle to a `T` in shared memory with an RLock: every operation here is one step under that
/// lock.
///
/// A process that dies in one leaves the old or the new value. One that dies while its program
/// holds the lock leaves what it had written; `get_lock().previous_owner_died()` tells. Made with
/// `lock == false` it is a RawValue, and `get_lock()` is AssertionError.
/// \safety all members but `get_obj`: threads and processes. Copies refer to the same object and
///         lock.
/// \cost a pair of RLock operations.
template <class T>
class Value : public detail::ValueOperators<Value<T>, T> {
  public:
    explicit Value(T value = {}) : Value(value, true) {}
    /// (What is no lock is not taken for true.)
    template <std::same_as<bool> Bool>
    Value(T value, Bool lock)
        : raw_(value), lock_(lock ? std::optional<RLock>(std::in_place) : std::nullopt) {}
    /// Shares a lock that there is already.
    Value(T value, RLock lock) : raw_(value), lock_(std::move(lock)) {}
    /// Puts a lock around an object that there is already; see sharedctypes::synchronized.
    Value(RawValue<T> raw, RLock lock) : raw_(std::move(raw)), lock_(std::move(lock)) {}

    T value() const;
    void set_value(const T& value) const;
    operator T() const { return value(); }
    /// Sets the shared object. (A handle assigned to a handle makes it refer to the other's
    /// object.)
    const Value& operator=(const T& value) const {
        set_value(value);
        return *this;
    }

    /// Calls `f(T&)` under the lock and returns what it returns. `f` gets a copy that takes the
    /// object's place when it has returned, and not when it throws; it must not use this Value
    /// itself.
    template <class F>
    decltype(auto) update(F&& f) const;

    /// Returns the lock, for what consists of several steps.
    /// \throws AssertionError when it was made without one.
    RLock& get_lock() const;
    /// Returns the object itself; access through it is not synchronised.
    T& get_obj() const noexcept { return raw_.get_obj(); }

  private:
    friend class detail::ValueOperators<Value<T>, T>;
    friend struct detail::HandleAccess;

    explicit Value(detail::Reader& in) : raw_(in), lock_(detail::load<std::optional<RLock>>(in)) {}

    void save_handle(detail::Writer& out) const {
        raw_.save_handle(out);
        detail::save(out, lock_);
    }
    static Value load_handle(detail::Reader& in) { return Value(in); }

    template <class Op>
    std::pair<T, T> modify(Op op) const;

    RawValue<T> raw_;
    mutable std::optional<RLock> lock_;
};

// -------------------------------------------------------------------------------------------------

template <class T>
T Value<T>::value() const {
    if (!lock_) { return raw_.value(); }
    const std::scoped_lock guard(*lock_);
    raw_.cells_.finish_store();
    return raw_.value();
}

template <class T>
void Value<T>::set_value(const T& value) const {
    if (!lock_) { return raw_.set_value(value); }
    const std::scoped_lock guard(*lock_);
    raw_.cells_.finish_store();
    raw_.cells_.store_locked(0, value);
}

template <class T>
template <class Op>
std::pair<T, T> Value<T>::modify(Op op) const {
    if (!lock_) { return raw_.modify(op); }
    const std::scoped_lock guard(*lock_);
    raw_.cells_.finish_store();
    const T old = raw_.value();
    const T now = op(old);
    raw_.cells_.store_locked(0, now);
    return {old, now};
}

template <class T>
template <class F>
decltype(auto) Value<T>::update(F&& f) const {
    std::unique_lock<RLock> guard;
    if (lock_) { guard = std::unique_lock(*lock_); }
    raw_.cells_.finish_store();
    return raw_.cells_.update_locked(0, std::forward<F>(f));
}

template <class T>
RLock& Value<T>::get_lock() const {
    if (!lock_) { throw AssertionError("this Value was made without a lock"); }
    return *lock_;
}

template <class T>
struct serializer<RawValue<T>> : detail::handle_serializer<RawValue<T>> {};
template <class T>
struct serializer<Value<T>> : detail::handle_serializer<Value<T>> {};

}  // namespace multiprocessing

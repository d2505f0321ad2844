// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// `Array` and `RawArray`: a fixed number of elements in shared memory.
///
///     mp::Array<double> row(1000);
///     mp::Process p([](mp::Array<double> r) { std::ranges::sort(r); }, row);
///
/// Mirrors `multiprocessing.Array` and `RawArray`. Elements are plain memory: iterators are
/// pointers.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/serialize/archive.hpp>
#include <multiprocessing/serialize/handle.hpp>
#include <multiprocessing/serialize/sendable.hpp>
#include <multiprocessing/serialize/std_types.hpp>
#include <multiprocessing/sharedctypes/cells.hpp>
#include <multiprocessing/sharedctypes/shareable.hpp>
#include <multiprocessing/synchronize/rlock.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <mutex>
#include <optional>
#include <ranges>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

namespace multiprocessing {

namespace detail {

/// A range of what can stand in an `Array` of `T`, other than such an array itself.
template <class R, class T, class Array>
concept copied_range =
    std::ranges::input_range<R> && std::convertible_to<std::ranges::range_reference_t<R>, T> &&
    !std::same_as<std::remove_cvref_t<R>, Array>;

}  // namespace detail

/// A handle to elements in shared memory, without a lock.
/// \safety elements are plain memory: two threads or processes may use different ones at a time.
///         Copies refer to the same elements.
template <class T>
class RawArray {
  public:
    using value_type = T;

    /// Makes `size` elements of zeroed bytes.
    /// \throws ValueError when no memory could hold them (a negative size, say); OSError when there
    ///         is not enough.
    explicit RawArray(std::size_t size) : cells_(size) { detail::check_shareable<T>(); }
    RawArray(std::initializer_list<T> values)
        : RawArray(std::span(values.begin(), values.size())) {}
    /// Makes as many elements as the range has, and copies them.
    template <detail::copied_range<T, RawArray> R>
    explicit RawArray(R&& values) : cells_(cells_of(values)) {}

    std::size_t size() const noexcept { return cells_.size(); }
    bool empty() const noexcept { return size() == 0; }
    T* data() const noexcept { return cells_.data(); }
    T* begin() const noexcept { return data(); }
    T* end() const noexcept { return data() + size(); }
    T& front() const noexcept { return *begin(); }
    T& back() const noexcept { return *(end() - 1); }
    std::span<T> span() const noexcept { return {data(), size()}; }

    T& operator[](std::size_t index) const noexcept { return data()[index]; }
    /// \throws std::out_of_range
    T& at(std::size_t index) const { return data()[checked(index)]; }

    /// Reads, writes one element: whole if it has 1, 2, 4 or 8 bytes.
    /// \throws std::out_of_range
    T get(std::size_t index) const { return cells_.load(checked(index)); }
    void set(std::size_t index, const T& value) const { cells_.store(checked(index), value); }
    /// Returns a copy of `[first, last)`, or of what there is of it.
    std::vector<T> slice(std::size_t first, std::size_t last) const;

  private:
    template <class>
    friend class Array;
    friend struct detail::HandleAccess;

    explicit RawArray(detail::Reader& in) : cells_(in) {}

    void save_handle(detail::Writer& out) const { cells_.save(out); }
    static RawArray load_handle(detail::Reader& in) { return RawArray(in); }

    template <class R>
    static detail::Cells<T> cells_of(R& values);
    std::size_t checked(std::size_t index) const;

    detail::Cells<T> cells_;
};

/// A handle to elements in shared memory with an RLock.
///
/// `get`, `set` and `slice` are one step under the lock; a process that dies in a `set` leaves the
/// old or the new element. References and pointers to elements are what they are, without
/// synchronisation: use `get_lock()`, or let each process work on its own part.
/// \safety `get`, `set`, `slice`, `get_lock`: threads and processes. Copies refer to the same
///         elements.
template <class T>
class Array {
  public:
    using value_type = T;

    /// Makes `size` elements of zeroed bytes.
    /// \throws ValueError when no memory could hold them (a negative size, say); OSError when there
    ///         is not enough.
    explicit Array(std::size_t size) : Array(size, true) {}
    template <std::same_as<bool> Bool>
    Array(std::size_t size, Bool lock) : Array(RawArray<T>(size), make_lock(lock)) {}
    /// Shares a lock that there is already.
    Array(std::size_t size, RLock lock) : Array(RawArray<T>(size), std::move(lock)) {}
    Array(std::initializer_list<T> values, bool lock = true)
        : Array(RawArray<T>(values), make_lock(lock)) {}
    /// Makes as many elements as the range has, and copies them.
    template <detail::copied_range<T, Array> R>
    explicit Array(R&& values, bool lock = true)
        : Array(RawArray<T>(std::forward<R>(values)), make_lock(lock)) {}
    /// Puts a lock around elements that there are already; see sharedctypes::synchronized.
    Array(RawArray<T> raw, std::optional<RLock> lock)
        : raw_(std::move(raw)), lock_(std::move(lock)) {}

    std::size_t size() const noexcept { return raw_.size(); }
    bool empty() const noexcept { return raw_.empty(); }
    T* data() const noexcept { return raw_.data(); }
    T* begin() const noexcept { return raw_.begin(); }
    T* end() const noexcept { return raw_.end(); }
    T& front() const noexcept { return raw_.front(); }
    T& back() const noexcept { return raw_.back(); }
    std::span<T> span() const noexcept { return raw_.span(); }

    T& operator[](std::size_t index) const noexcept { return raw_[index]; }
    /// \throws std::out_of_range
    T& at(std::size_t index) const { return raw_.at(index); }

    /// Reads, writes one element under the lock.
    /// \throws std::out_of_range
    T get(std::size_t index) const;
    void set(std::size_t index, const T& value) const;
    /// Returns a copy, made under the lock, of `[first, last)`, or of what there is of it.
    std::vector<T> slice(std::size_t first, std::size_t last) const;

    /// Returns the lock, for what consists of several steps.
    /// \throws AssertionError when it was made without one.
    RLock& get_lock() const;
    /// Returns the elements without the lock.
    const RawArray<T>& get_obj() const noexcept { return raw_; }

  private:
    friend struct detail::HandleAccess;

    explicit Array(detail::Reader& in) : raw_(in), lock_(detail::load<std::optional<RLock>>(in)) {}

    void save_handle(detail::Writer& out) const {
        raw_.save_handle(out);
        detail::save(out, lock_);
    }
    static Array load_handle(detail::Reader& in) { return Array(in); }

    static std::optional<RLock> make_lock(bool lock) {
        return lock ? std::optional<RLock>(std::in_place) : std::nullopt;
    }
    std::unique_lock<RLock> enter() const;

    RawArray<T> raw_;
    mutable std::optional<RLock> lock_;
};

template <std::ranges::input_range R>
Array(R&&, bool = true) -> Array<std::ranges::range_value_t<R>>;
template <std::ranges::input_range R>
RawArray(R&&) -> RawArray<std::ranges::range_value_t<R>>;

// -------------------------------------------------------------------------------------------------

template <class T>
template <class R>
detail::Cells<T> RawArray<T>::cells_of(R& values) {
    detail::check_shareable<T>();
    if constexpr (std::ranges::forward_range<R>) {
        const detail::Cells<T> cells(static_cast<std::size_t>(std::ranges::distance(values)));
        std::ranges::copy(values, cells.data());
        return cells;
    } else {
        std::vector<T> found;
        for (auto&& value : values) { found.push_back(static_cast<T>(value)); }
        return cells_of(found);
    }
}

template <class T>
std::size_t RawArray<T>::checked(std::size_t index) const {
    if (index >= size()) {
        throw std::out_of_range(
            detail::text_of("index {} of a shared array of {} elements", {index, size()}));
    }
    return index;
}

template <class T>
std::vector<T> RawArray<T>::slice(std::size_t first, std::size_t last) const {
    last = std::min(last, size());
    first = std::min(first, last);
    return std::vector<T>(begin() + first, begin() + last);
}

template <class T>
std::unique_lock<RLock> Array<T>::enter() const {
    std::unique_lock<RLock> guard;
    if (lock_) {
        guard = std::unique_lock(*lock_);
        raw_.cells_.finish_store();
    }
    return guard;
}

template <class T>
T Array<T>::get(std::size_t index) const {
    const auto guard = enter();
    return raw_.get(index);
}

template <class T>
void Array<T>::set(std::size_t index, const T& value) const {
    if (const auto guard = enter()) {
        raw_.cells_.store_locked(raw_.checked(index), value);
    } else {
        raw_.set(index, value);
    }
}

template <class T>
std::vector<T> Array<T>::slice(std::size_t first, std::size_t last) const {
    const auto guard = enter();
    return raw_.slice(first, last);
}

template <class T>
RLock& Array<T>::get_lock() const {
    if (!lock_) { throw AssertionError("this Array was made without a lock"); }
    return *lock_;
}

template <class T>
struct serializer<RawArray<T>> : detail::handle_serializer<RawArray<T>> {};
template <class T>
struct serializer<Array<T>> : detail::handle_serializer<Array<T>> {};

}  // namespace multiprocessing

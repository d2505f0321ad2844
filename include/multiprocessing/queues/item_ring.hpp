// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A ring of values: what the queues have in common.
///
/// A value whose type runs no user code is serialised straight into the ring and deserialised
/// straight out of it, under the guard. Any other goes by way of a buffer, outside the guard: user
/// code may take its time, use queues itself, and throw.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/serialize.hpp>
#include <multiprocessing/shm/ring.hpp>
#include <multiprocessing/timeout.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// A process's side of a queue of `T`.
/// \safety all members: threads, processes, forked children.
template <class T>
class ItemRing {
    static_assert(std::is_same_v<T, std::remove_cvref_t<T>>, "a queue holds values");

  public:
    /// `name` is the class in texts.
    ItemRing(const char* name, std::size_t limit)
        : name_(name), ring_({.name = name, .limit = limit, .type_hash = type_hash_v<T>}) {}
    /// Reads the one that another process has saved.
    /// \throws SerializationError when there is none, or it is one of another type
    ItemRing(const char* name, Reader& in) : name_(name), ring_(in, type_hash_v<T>) {}
    ItemRing(const ItemRing&) = delete;
    ItemRing& operator=(const ItemRing&) = delete;
    ~ItemRing() { delete postponed_.load(); }

    Ring& ring() noexcept { return ring_; }

    /// Writes which one it is, for a process that is being started.
    /// \throws ValueError when this process has closed it
    void save_ring(Writer& out) const {
        check_open();
        ring_.save(out);
    }

    /// Puts one; false when the time was over.
    /// \throws ValueError, ShutDown, OSError; whatever `T` throws when it is saved
    bool put(const T& item, Timeout timeout);
    /// Puts all, however long it takes.
    template <std::ranges::input_range Range>
    void put_many(Range&& items);

    /// Takes one; nothing when the time was over.
    /// \throws ValueError, ShutDown; SerializationError, or what `T` throws when it is loaded
    std::optional<T> get(Timeout timeout);
    std::vector<T> get_many(std::size_t most, Timeout timeout);

    [[noreturn]] void refuse_closed() const {
        throw ValueError(text_of("the {} is closed", {name_}));
    }
    void check_open() const {
        if (ring_.is_closed()) { refuse_closed(); }
    }

  private:
    // Bytes of one value, outside the ring.
    struct Copy {
        std::unique_ptr<std::byte[]> bytes;
        std::size_t size = 0;

        void assign(std::span<const std::byte> from) {
            bytes = std::make_unique_for_overwrite<std::byte[]>(from.size());
            size = from.size();
            if (size != 0) { std::memcpy(bytes.get(), from.data(), size); }
        }
    };

    // True when it was done, false when the time was over.
    bool succeeded(RingStatus status) const;
    template <class Items>
    void put_all(const Items& items, std::size_t count);
    template <class Iterator, class Sentinel>
    void put_serialised(Iterator at, Sentinel end);
    static T load_item(std::span<const std::byte> bytes);
    std::optional<T> get_plain(Timeout timeout);
    std::optional<T> get_by_copy(Timeout timeout);
    void rethrow_postponed();

    const char* name_;
    Ring ring_;
    // What loading an item threw after `get_many` had taken others: the next call's to throw.
    std::atomic<std::exception_ptr*> postponed_{nullptr};
};

// -------------------------------------------------------------------------------------------------

template <class T>
bool ItemRing<T>::succeeded(RingStatus status) const {
    switch (status) {
        case RingStatus::ok:
            return true;
        case RingStatus::timed_out:
            return false;
        case RingStatus::shut_down:
            throw ShutDown();
        case RingStatus::closed:
            break;
    }
    refuse_closed();
}

template <class T>
bool ItemRing<T>::put(const T& item, Timeout timeout) {
    check_open();
    if constexpr (is_plain_v<T>) {
        const auto write = [&item](std::span<std::byte> to) {
            Writer out(to);
            save(out, item);
        };
        return succeeded(ring_.put(saved_size(item), write, timeout));
    } else {
        Writer buffer;
        save(buffer, item);
        const std::span<const std::byte> bytes = buffer.view();
        const auto write = [bytes](std::span<std::byte> to) {
            if (!bytes.empty()) { std::memcpy(to.data(), bytes.data(), bytes.size()); }
        };
        return succeeded(ring_.put(bytes.size(), write, timeout));
    }
}

template <class T>
template <std::ranges::input_range Range>
void ItemRing<T>::put_many(Range&& items) {
    check_open();
    using Item = std::remove_cvref_t<std::ranges::range_reference_t<Range>>;
    // Only where reaching the next item runs no user code either.
    if constexpr (is_plain_v<T> && std::is_same_v<Item, T> &&
                  std::ranges::contiguous_range<Range> && std::ranges::sized_range<Range>) {
        const T* const first = std::ranges::data(items);
        const auto size_of = [first](std::size_t i) { return saved_size(first[i]); };
        const auto write = [first](std::size_t i, std::span<std::byte> to) {
            Writer out(to);
            save(out, first[i]);
        };
        succeeded(ring_.put_many(std::ranges::size(items), size_of, write).status);
    } else {
        put_serialised(std::ranges::begin(items), std::ranges::end(items));
    }
}

template <class T>
template <class Iterator, class Sentinel>
void ItemRing<T>::put_serialised(Iterator at, Sentinel end) {
    // So much at a time, however long the range is.
    constexpr std::size_t enough = 64 * 1024;
    Writer buffer;
    std::vector<std::size_t> begins;  // where in the buffer each item begins, and its end
    while (at != end) {
        buffer.clear();
        begins.assign(1, 0);
        for (; at != end && buffer.size() < enough; ++at) {
            const auto& item = *at;
            if constexpr (std::is_same_v<std::remove_cvref_t<decltype(item)>, T>) {
                save(buffer, item);
            } else {
                save(buffer, static_cast<T>(item));
            }
            begins.push_back(buffer.size());
        }
        const std::byte* const bytes = buffer.view().data();
        const auto size_of = [&](std::size_t i) { return begins[i + 1] - begins[i]; };
        const auto write = [&](std::size_t i, std::span<std::byte> to) {
            if (!to.empty()) { std::memcpy(to.data(), bytes + begins[i], to.size()); }
        };
        succeeded(ring_.put_many(begins.size() - 1, size_of, write).status);
    }
}

template <class T>
T ItemRing<T>::load_item(std::span<const std::byte> bytes) {
    Reader in(bytes);
    T item = load<T>(in);
    if (in.remaining() != 0) { refuse_bytes("bytes are left over"); }
    return item;
}

template <class T>
std::optional<T> ItemRing<T>::get(Timeout timeout) {
    check_open();
    if constexpr (is_plain_v<T>) {
        return get_plain(timeout);
    } else {
        rethrow_postponed();
        return get_by_copy(timeout);
    }
}

template <class T>
std::optional<T> ItemRing<T>::get_plain(Timeout timeout) {
    std::optional<T> item;
    std::exception_ptr error;
    const auto read = [&](std::span<const std::byte> from) {
        try {
            item.emplace(load_item(from));
        } catch (const SerializationError&) {
            // Bytes that are no T are taken out all the same: they would be in everybody's way.
            // After any other error, for want of memory say, the item stays.
            error = std::current_exception();
        }
    };
    if (!succeeded(ring_.get(read, timeout))) { return std::nullopt; }
    if (error) { std::rethrow_exception(error); }
    return item;
}

template <class T>
std::optional<T> ItemRing<T>::get_by_copy(Timeout timeout) {
    Copy copy;
    const auto read = [&copy](std::span<const std::byte> from) { copy.assign(from); };
    if (!succeeded(ring_.get(read, timeout))) { return std::nullopt; }
    return load_item({copy.bytes.get(), copy.size});
}

template <class T>
std::vector<T> ItemRing<T>::get_many(std::size_t most, Timeout timeout) {
    check_open();
    std::vector<T> items;
    if (most == 0) { return items; }
    if constexpr (is_plain_v<T>) {
        std::exception_ptr error;
        const auto read = [&](std::size_t i, std::span<const std::byte> from) {
            // An error is reported alone: what comes after it stays for the next call.
            if (error) { std::rethrow_exception(error); }
            try {
                items.push_back(load_item(from));
            } catch (const SerializationError&) {
                if (i != 0) { throw; }  // it is the first of the next call
                error = std::current_exception();
            }
        };
        succeeded(ring_.get_many(most, read, timeout).status);
        if (error) { std::rethrow_exception(error); }
        return items;
    } else {
        rethrow_postponed();
        std::optional<T> item = get_by_copy(timeout);
        while (item) {
            items.push_back(std::move(*item));
            if (items.size() == most) { break; }
            // What fails from here on must not cost those that have been taken.
            try {
                item = get_by_copy(std::chrono::seconds(0));
            } catch (const ShutDown&) { break; } catch (...) {
                delete postponed_.exchange(new std::exception_ptr(std::current_exception()));
                break;
            }
        }
        return items;
    }
}

template <class T>
void ItemRing<T>::rethrow_postponed() {
    if (postponed_.load(std::memory_order_relaxed) == nullptr) [[likely]] { return; }
    std::exception_ptr* const postponed = postponed_.exchange(nullptr);
    if (postponed == nullptr) { return; }
    const std::exception_ptr error = std::exchange(*postponed, nullptr);
    delete postponed;
    std::rethrow_exception(error);
}

}  // namespace multiprocessing::detail

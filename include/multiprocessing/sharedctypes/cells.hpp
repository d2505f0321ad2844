// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The memory of a shared value or array, and how it is written so that a death leaves nothing half
/// done.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/kill_point.hpp>
#include <multiprocessing/serialize/archive.hpp>
#include <multiprocessing/serialize/codec.hpp>
#include <multiprocessing/serialize/reflect.hpp>
#include <multiprocessing/sharedctypes/shareable.hpp>
#include <multiprocessing/shm/segment.hpp>
#include <multiprocessing/shm/shared_object.hpp>
#include <multiprocessing/shm/slab.hpp>

#include <algorithm>
#include <atomic>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <type_traits>
#include <utility>

namespace multiprocessing::detail {

/// What precedes the elements in shared memory.
struct CellsState {
    LayoutTag tag;
    std::uint64_t count;  // of elements; written once at creation
    // Index + 1 of the element whose new value stands in the spare and is being copied into place;
    // 0 for none. Written by the holder of the value's lock. What it says is done by whoever finds
    // it.
    std::atomic<std::uint64_t> pending{0};

    explicit CellsState(std::uint64_t n) : tag{magic("CELL"), 1}, count(n) {}

    bool is_intact(std::size_t /*size*/) const noexcept { return tag.names(magic("CELL")); }
};
static_assert(shared_layout<CellsState> && sizeof(CellsState) == 24);

/// A word that may stand for any type of its size.
template <std::size_t Size>
struct word_of;
template <>
struct word_of<1> {
    using type [[gnu::may_alias]] = std::uint8_t;
};
template <>
struct word_of<2> {
    using type [[gnu::may_alias]] = std::uint16_t;
};
template <>
struct word_of<4> {
    using type [[gnu::may_alias]] = std::uint32_t;
};
template <>
struct word_of<8> {
    using type [[gnu::may_alias]] = std::uint64_t;
};

/// Tells whether a `T` is written by one instruction.
template <class T>
inline constexpr bool is_one_word = sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4 ||
                                    sizeof(T) == 8;

/// What `+=` and `-=` do to a value.
template <class T>
struct Plus {
    T by;
    T operator()(T value) const { return static_cast<T>(value + by); }
};
template <class T>
struct Minus {
    T by;
    T operator()(T value) const { return static_cast<T>(value - by); }
};

/// A reference to elements in shared memory; what `Value` and `Array` are without their lock.
/// \safety copies refer to the same elements.
template <class T>
class Cells {
  public:
    /// Makes `count` elements of zeroed bytes.
    /// \throws ValueError when so many do not fit into an address space; OSError when there is no
    ///         space.
    explicit Cells(std::size_t count);
    /// Reads which elements another process has saved.
    /// \throws SerializationError when they are no such elements.
    explicit Cells(Reader& in);
    /// Writes which elements these are, for a process that is being started.
    void save(Writer& out) const {
        out.raw(type);
        save_shared_object(out, state_);
    }

    T* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return count_; }

    /// Reads, writes an element that others may write at the same time: whole if it is one word.
    T load(std::size_t index) const noexcept;
    void store(std::size_t index, const T& value) const noexcept;
    /// Replaces an element by `op` of it, in one step if it is a number of one word; old and new
    /// value.
    template <class Op>
    std::pair<T, T> modify(std::size_t index, Op op) const;

    /// The same for the holder of the lock: whatever the size, a death leaves the old or the new
    /// value.
    void store_locked(std::size_t index, const T& value) const noexcept;
    /// Calls `f(T&)` on a copy that then takes the element's place.
    template <class F>
    decltype(auto) update_locked(std::size_t index, F&& f) const;
    /// Does what a holder that died had begun. To be called by the holder before it looks.
    void finish_store() const noexcept {
        if constexpr (!is_one_word<T>) {
            if (state_->pending.load(std::memory_order_relaxed) != 0) [[unlikely]] { copy_spare(); }
        }
    }

  private:
    static constexpr std::size_t alignment = std::max(alignof(T), alignof(std::uint64_t));
    static constexpr std::size_t round_up(std::size_t size) {
        return (size + alignment - 1) / alignment * alignment;
    }
    // State, spare (of what is more than one word), elements.
    static constexpr std::size_t spare_offset = round_up(sizeof(CellsState));
    static constexpr std::size_t data_offset =
        spare_offset + (is_one_word<T> ? 0 : round_up(sizeof(T)));

    // What its elements are, for a process that runs the same program.
    static constexpr std::uint64_t type = hash_mix(hash_text(type_name<T>()), sizeof(T));

    static std::size_t extra_bytes(std::size_t count);
    static std::shared_ptr<CellsState> load_state(Reader& in);
    std::byte* memory() const noexcept { return reinterpret_cast<std::byte*>(state_.get()); }
    T* spare() const noexcept { return reinterpret_cast<T*>(memory() + spare_offset); }
    void copy_spare() const noexcept;
    void commit_spare(std::size_t index) const noexcept;

    std::shared_ptr<CellsState> state_;
    T* data_;
    std::size_t count_;
};

// -------------------------------------------------------------------------------------------------

template <class T>
std::size_t Cells<T>::extra_bytes(std::size_t count) {
    constexpr std::size_t most =
        (std::numeric_limits<std::ptrdiff_t>::max() - data_offset) / sizeof(T);
    if (count > most) {
        throw ValueError(text_of("a shared array of {} elements of {} bytes", {count, sizeof(T)}));
    }
    return data_offset - sizeof(CellsState) + count * sizeof(T);
}

template <class T>
Cells<T>::Cells(std::size_t count)
    : state_(make_shared_object<CellsState>(extra_bytes(count), count)),
      data_(reinterpret_cast<T*>(memory() + data_offset)),
      count_(count) {
    static_assert(alignof(T) <= slot_size,
                  "multiprocessing: a shared value is aligned to 64 at most");
}

template <class T>
Cells<T>::Cells(Reader& in)
    : state_(load_state(in)),
      data_(reinterpret_cast<T*>(memory() + data_offset)),
      count_(static_cast<std::size_t>(state_->count)) {}

template <class T>
std::shared_ptr<CellsState> Cells<T>::load_state(Reader& in) {
    if (in.raw<std::uint64_t>() != type) { refuse_bytes("shared elements are of another type"); }
    std::shared_ptr<CellsState> state = load_shared_object<CellsState>(in);
    const std::size_t size = stretch_of(state).size;
    if (size < data_offset || state->count > (size - data_offset) / sizeof(T)) {
        refuse_bytes("there are more shared elements than their memory holds");
    }
    return state;
}

template <class T>
T Cells<T>::load(std::size_t index) const noexcept {
    if constexpr (is_one_word<T>) {
        using Word = typename word_of<sizeof(T)>::type;
        const Word word =
            __atomic_load_n(reinterpret_cast<const Word*>(data_ + index), __ATOMIC_SEQ_CST);
        return std::bit_cast<T>(word);
    } else {
        return data_[index];
    }
}

template <class T>
void Cells<T>::store(std::size_t index, const T& value) const noexcept {
    if constexpr (is_one_word<T>) {
        using Word = typename word_of<sizeof(T)>::type;
        Word word;
        std::memcpy(&word, &value, sizeof word);
        // Release: pairs with load(), of whoever reads without the lock.
        __atomic_store_n(reinterpret_cast<Word*>(data_ + index), word, __ATOMIC_RELEASE);
        MULTIPROCESSING_KILL_POINT("value.store.word");
    } else {
        std::memcpy(data_ + index, &value, sizeof value);
    }
}

template <class T>
template <class Op>
std::pair<T, T> Cells<T>::modify(std::size_t index, Op op) const {
    if constexpr (is_one_word<T> && std::is_arithmetic_v<T>) {
        using Word = typename word_of<sizeof(T)>::type;
        auto* const place = reinterpret_cast<Word*>(data_ + index);
        if constexpr (std::integral<T> &&
                      (std::same_as<Op, Plus<T>> || std::same_as<Op, Minus<T>>)) {
            // Unsigned, as the processor does it: what overflows goes round.
            const auto by = static_cast<Word>(op.by);
            constexpr bool adds = std::same_as<Op, Plus<T>>;
            const Word old = adds ? __atomic_fetch_add(place, by, __ATOMIC_SEQ_CST)
                                  : __atomic_fetch_sub(place, by, __ATOMIC_SEQ_CST);
            const auto now = static_cast<Word>(adds ? old + by : old - by);
            return {static_cast<T>(old), static_cast<T>(now)};
        } else {
            Word seen = __atomic_load_n(place, __ATOMIC_SEQ_CST);
            for (;;) {
                const T old = std::bit_cast<T>(seen);
                const T now = op(old);
                if (__atomic_compare_exchange_n(place, &seen, std::bit_cast<Word>(now),
                                                /*weak=*/true, __ATOMIC_SEQ_CST,
                                                __ATOMIC_SEQ_CST)) {
                    return {old, now};
                }
            }
        }
    } else {
        const T old = load(index);
        const T now = op(old);
        store(index, now);
        return {old, now};
    }
}

template <class T>
void Cells<T>::copy_spare() const noexcept {
    const auto index =
        static_cast<std::size_t>(state_->pending.load(std::memory_order_relaxed)) - 1;
    std::memcpy(data_ + index, spare(), sizeof(T));
    MULTIPROCESSING_KILL_POINT("value.store.copied");
    // Release: the copy stays before it, and is whole when the lock's next holder finds 0.
    state_->pending.store(0, std::memory_order_release);
    MULTIPROCESSING_KILL_POINT("value.store.done");
}

template <class T>
void Cells<T>::commit_spare(std::size_t index) const noexcept {
    // Release: the spare is whole when the lock's next holder finds this.
    state_->pending.store(index + 1, std::memory_order_release);
    MULTIPROCESSING_KILL_POINT("value.store.committed");
    // Nothing of the copy may come before the commit.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    copy_spare();
}

template <class T>
void Cells<T>::store_locked(std::size_t index, const T& value) const noexcept {
    if constexpr (is_one_word<T>) {
        store(index, value);
    } else {
        std::memcpy(spare(), &value, sizeof(T));
        MULTIPROCESSING_KILL_POINT("value.store.spare");
        commit_spare(index);
    }
}

template <class T>
template <class F>
decltype(auto) Cells<T>::update_locked(std::size_t index, F&& f) const {
    // When f throws, the element is as it was.
    const auto run = [&](T& copy, auto commit) -> decltype(auto) {
        if constexpr (std::is_void_v<std::invoke_result_t<F, T&>>) {
            std::invoke(std::forward<F>(f), copy);
            commit();
        } else {
            auto result = std::invoke(std::forward<F>(f), copy);
            commit();
            return result;
        }
    };
    if constexpr (is_one_word<T>) {
        T copy = load(index);
        return run(copy, [&] { store(index, copy); });
    } else {
        std::memcpy(spare(), data_ + index, sizeof(T));
        return run(*spare(), [&] { commit_spare(index); });
    }
}

}  // namespace multiprocessing::detail

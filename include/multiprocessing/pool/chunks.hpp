// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// From a range to items that can be addressed, and how many of them are handed over at a time.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/pool/task_scope.hpp>
#include <multiprocessing/serialize/codec.hpp>

#include <concepts>
#include <cstddef>
#include <functional>
#include <iterator>
#include <memory>
#include <ranges>
#include <stop_token>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// Returns the chunk length of a `map`: what was asked for, or so much that each worker gets four
/// chunks.
inline std::size_t map_chunk_length(int asked, std::size_t items, int processes) {
    if (asked < 0) { throw ValueError(text_of("chunksize is {}", {asked})); }
    if (asked > 0) { return static_cast<std::size_t>(asked); }
    const std::size_t chunks = 4 * static_cast<std::size_t>(processes);
    return items == 0 ? 1 : (items + chunks - 1) / chunks;
}

/// What an element of a range is kept as; a C string, which says nothing elsewhere, as
/// `std::string`.
template <class Value>
using item_t = std::conditional_t<std::is_same_v<Value, const char*>, std::string, Value>;

template <class Range>
using range_item_t = item_t<std::ranges::range_value_t<Range>>;

/// Tells whether the elements of the range stand side by side and can be used where they are.
template <class Range>
concept addressable_range =
    std::ranges::contiguous_range<Range> && std::ranges::sized_range<Range> &&
    std::is_same_v<range_item_t<Range>, std::ranges::range_value_t<Range>>;

/// Items that stand side by side.
template <class T>
class ItemList {
  public:
    ItemList() = default;
    explicit ItemList(std::vector<T> items) : items_(std::move(items)) {}

    void reserve(std::size_t count) { items_.reserve(count); }
    template <class... Args>
    void add(Args&&... args) {
        items_.emplace_back(std::forward<Args>(args)...);
    }
    T* data() noexcept { return items_.data(); }
    std::size_t size() const noexcept { return items_.size(); }
    void clear() noexcept { std::vector<T>().swap(items_); }

  private:
    std::vector<T> items_;
};

/// The same of `bool`, of which a `std::vector` has no addressable ones.
template <std::same_as<bool> T>
class ItemList<T> {
  public:
    ItemList() = default;
    explicit ItemList(const std::vector<T>& items) {
        for (const T item : items) { add(item); }
    }

    void reserve(std::size_t) {}
    void add(T item) { items_.push_back({item}); }
    T* data() noexcept { return items_.empty() ? nullptr : &items_.front().value; }
    std::size_t size() const noexcept { return items_.size(); }
    void clear() noexcept { std::vector<Boxed>().swap(items_); }

  private:
    struct Boxed {
        T value;
    };
    static_assert(sizeof(Boxed) == sizeof(T));

    std::vector<Boxed> items_;
};

/// Adds what `it` points to: copied, or moved when it cannot be copied and its range is given away.
template <bool Borrowed, class Item, class Iterator>
void add_item(ItemList<Item>& items, Iterator& it) {
    if constexpr (std::is_constructible_v<Item, std::iter_reference_t<Iterator>>) {
        items.add(*it);
    } else {
        static_assert(
            !Borrowed,
            "multiprocessing: the items of this range cannot be copied; give the range away "
            "with std::move");
        items.add(std::ranges::iter_move(it));
    }
}

template <class View>
inline constexpr bool is_ref_view = false;
template <class Range>
inline constexpr bool is_ref_view<std::ranges::ref_view<Range>> = true;

/// Lists the elements of a range, as Python does before it cuts the list into chunks; a vector that
/// is given away is taken as it is. What the range throws leaves this function.
template <class Range>
ItemList<range_item_t<Range>> list_items(Range&& range) {
    using Item = range_item_t<Range>;
    if constexpr (std::is_same_v<Range, std::vector<Item>>) {
        return ItemList<Item>(std::forward<Range>(range));
    } else {
        ItemList<Item> items;
        if constexpr (std::ranges::sized_range<Range>) {
            items.reserve(static_cast<std::size_t>(std::ranges::size(range)));
        }
        auto end = std::ranges::end(range);
        for (auto it = std::ranges::begin(range); it != end; ++it) {
            add_item<std::is_lvalue_reference_v<Range>>(items, it);
        }
        return items;
    }
}

/// How `starmap` calls: with the parts of its item.
template <class F, class Item, class Indices>
inline constexpr bool takes_parts = false;
template <class F, class Item, std::size_t... Index>
inline constexpr bool takes_parts<F, Item, std::index_sequence<Index...>> =
    std::is_invocable_v<F&, decltype(std::get<Index>(std::declval<Item>()))...>;

template <class T>
using part_indices = std::make_index_sequence<std::tuple_size_v<std::remove_cvref_t<T>>>;

/// Returns what tells the running task to stop.
inline std::stop_token task_stop_token() {
    TaskScope* const scope = TaskScope::current();
    return scope != nullptr ? scope->stop_token() : std::stop_token();
}

/// `f`, with the running task's `std::stop_token` behind the other arguments.
template <class F>
struct WithStopToken {
    F& function;

    template <class... Args>
    requires std::is_invocable_v<F&, Args..., std::stop_token>
    decltype(auto) operator()(Args&&... args) const {
        return std::invoke(function, std::forward<Args>(args)..., task_stop_token());
    }
};

template <bool Star, class F, class Item>
consteval bool takes_item() {
    if constexpr (Star) {
        return takes_parts<F, Item&&, part_indices<Item>> ||
               takes_parts<F, Item&, part_indices<Item>>;
    } else {
        return std::is_invocable_v<F&, Item&&> || std::is_invocable_v<F&, Item&>;
    }
}
/// `F` cannot be called with an item alone, but with a `std::stop_token` besides.
template <bool Star, class F, class T>
inline constexpr bool takes_item_and_token =
    !takes_item<Star, F, std::remove_const_t<T>>() &&
    takes_item<Star, const WithStopToken<F>, std::remove_const_t<T>>();

/// Calls `f` with `item`, or with its parts (`Star`): handed over as rvalues if `f` takes them so,
/// since nobody needs the item afterwards; as lvalues when it is `Borrowed` or `f` has a parameter
/// `T&`.
template <bool Star, bool Borrowed, class F, class T>
decltype(auto) call_with_item(F& f, T& item) {
    using Item = std::remove_const_t<T>;
    if constexpr (takes_item_and_token<Star, F, T>) {
        const WithStopToken<F> with_token{f};
        return call_with_item<Star, Borrowed>(with_token, item);
    } else if constexpr (Star) {
        const auto call = [&f]<class I, std::size_t... Index>(
                              I&& parts, std::index_sequence<Index...>) -> decltype(auto) {
            return std::invoke(f, std::get<Index>(std::forward<I>(parts))...);
        };
        constexpr bool as_rvalues = takes_parts<F, Item&&, part_indices<T>>;
        static_assert(as_rvalues || takes_parts<F, Item&, part_indices<T>>,
                      "multiprocessing: the function cannot be called with the parts of the items");
        if constexpr (Borrowed && takes_parts<F, T&, part_indices<T>>) {
            return call(item, part_indices<T>());
        } else if constexpr (Borrowed) {
            return std::decay_t<decltype(call(std::declval<Item>(), part_indices<T>()))>(
                call(Item(item), part_indices<T>()));
        } else if constexpr (as_rvalues) {
            return call(std::move(item), part_indices<T>());
        } else {
            return call(item, part_indices<T>());
        }
    } else {
        static_assert(std::is_invocable_v<F&, Item&&> || std::is_invocable_v<F&, Item&>,
                      "multiprocessing: the function cannot be called with an item of the range");
        if constexpr (Borrowed && std::is_invocable_v<F&, T&>) {
            return std::invoke(f, item);
        } else if constexpr (Borrowed) {
            return std::decay_t<std::invoke_result_t<F&, Item&&>>(std::invoke(f, Item(item)));
        } else if constexpr (std::is_invocable_v<F&, Item&&>) {
            return std::invoke(f, std::move(item));
        } else {
            return std::invoke(f, item);
        }
    }
}

template <bool Star, bool Borrowed, class F, class T>
using item_result_t =
    std::decay_t<decltype(call_with_item<Star, Borrowed>(std::declval<F&>(), std::declval<T&>()))>;

}  // namespace multiprocessing::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Calling a function with the child's own copies of its arguments.

#include <cstddef>
#include <functional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

namespace multiprocessing::detail {

/// What an argument of type `T` is kept as: decayed, a string literal as `std::string`.
template <class T>
struct kept_argument {
    using type = std::decay_t<T>;
};
template <class T>
requires(std::is_array_v<std::remove_reference_t<T>>&&
             std::is_same_v<std::remove_cv_t<std::remove_extent_t<std::remove_reference_t<T>>>,
                            char>) struct kept_argument<T> {
    using type = std::string;
};
template <class T>
using kept_argument_t = typename kept_argument<T>::type;

/// Tells for the argument of number `Index` whether `Mask` hands it over as an rvalue.
template <std::size_t Mask, std::size_t Index, class Argument>
using pass_t = std::conditional_t<(Mask >> Index & 1) != 0, Argument&&, Argument&>;

template <std::size_t Mask, class F, class Indices, class... Arguments>
inline constexpr bool takes_mask = false;
template <std::size_t Mask, class F, std::size_t... Index, class... Arguments>
inline constexpr bool takes_mask<Mask, F, std::index_sequence<Index...>, Arguments...> =
    std::is_invocable_v<F&, pass_t<Mask, Index, Arguments>...>;

/// Returns which of the arguments `F` wants as rvalues: as few as will do, the first in doubt.
/// All bits set when it takes the arguments in no way.
template <class F, class... Arguments>
consteval std::size_t passing_mask() {
    constexpr std::size_t count = sizeof...(Arguments);
    using Indices = std::make_index_sequence<count>;
    if constexpr (takes_mask<0, F, Indices, Arguments...>) {
        return 0;
    } else if constexpr (count == 0 || count > 6) {
        constexpr std::size_t all = (std::size_t{1} << count) - 1;
        return takes_mask<all, F, Indices, Arguments...> ? all : ~std::size_t{0};
    } else {
        std::size_t found = ~std::size_t{0};
        [&]<std::size_t... Mask>(std::index_sequence<Mask...>) {
            (void)((takes_mask<Mask + 1, F, Indices, Arguments...> ? (found = Mask + 1, true)
                                                                   : false) ||
                   ...);
        }
        (std::make_index_sequence<(std::size_t{1} << count) - 1>());
        return found;
    }
}

/// `F` can be called with copies of these arguments: as lvalues, as rvalues where it wants them.
template <class F, class... Arguments>
concept callable_with_copies = passing_mask<F, Arguments...>()
!= ~std::size_t{0};

/// Calls `function` with the copies in `arguments`: as lvalues, so that a parameter may be a
/// `Queue<T>&`, and as rvalues where the parameter needs one (a `std::unique_ptr` by value, say).
template <class F, class... Arguments>
requires callable_with_copies<F, Arguments...>
decltype(auto) invoke_with_copies(F& function, std::tuple<Arguments...>& arguments) {
    constexpr std::size_t mask = passing_mask<F, Arguments...>();
    return [&]<std::size_t... Index>(std::index_sequence<Index...>)->decltype(auto) {
        return std::invoke(
            function, static_cast<pass_t<mask, Index, Arguments>>(std::get<Index>(arguments))...);
    }
    (std::index_sequence_for<Arguments...>());
}

}  // namespace multiprocessing::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Functions that can be sent: `mp::partial`, `mp::by_value`, and what a pool makes of its `f`.
///
///     pool.map(mp::partial(scale, 2.5), values);                       // scale(2.5, value)
///     pool.map(mp::by_value([factor](double x) { return factor * x; }), values);
///
/// Mirrors `functools.partial`. Code itself is never sent, only which code is meant: a function
/// pointer by its place in the program's file, a captureless lambda by its type. So both sides must
/// be the same program.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/modules.hpp>
#include <multiprocessing/serialize/archive.hpp>
#include <multiprocessing/serialize/codec.hpp>
#include <multiprocessing/serialize/reflect.hpp>
#include <multiprocessing/serialize/sendable.hpp>
#include <multiprocessing/serialize/std_types.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

namespace multiprocessing {

/// A function object that is sent as the bytes that it is.
template <class F>
class ByValue {
  public:
    explicit ByValue(F function) : function_(std::move(function)) {}

    template <class... Args>
    requires std::invocable<F&, Args...>
    decltype(auto) operator()(Args&&... args) {
        return std::invoke(function_, std::forward<Args>(args)...);
    }
    template <class... Args>
    requires std::invocable<const F&, Args...>
    decltype(auto) operator()(Args&&... args) const {
        return std::invoke(function_, std::forward<Args>(args)...);
    }

    const F& function() const noexcept { return function_; }

  private:
    F function_;
};

/// Makes `function` sendable, whose captures must be trivially copyable. The caller vouches for
/// them: a pointer or reference among them is sent as an address, which means something else
/// elsewhere.
template <class F>
requires std::is_trivially_copyable_v<std::decay_t<F>>
auto by_value(F&& function) -> ByValue<std::decay_t<F>> {
    return ByValue<std::decay_t<F>>(std::forward<F>(function));
}

/// A function with its first arguments.
template <class F, class... Bound>
class Partial {
  public:
    template <class G, class... Args>
    explicit Partial(std::in_place_t, G&& function, Args&&... args)
        : function_(std::forward<G>(function)), bound_(std::forward<Args>(args)...) {}

    template <class... Args>
    requires std::invocable<F&, Bound&..., Args...>
    decltype(auto) operator()(Args&&... args) & { return call(*this, std::forward<Args>(args)...); }
    template <class... Args>
    requires std::invocable<const F&, const Bound&..., Args...>
    decltype(auto) operator()(Args&&... args) const& {
        return call(*this, std::forward<Args>(args)...);
    }
    template <class... Args>
    requires std::invocable<F, Bound..., Args...>
    decltype(auto) operator()(Args&&... args) && {
        return call(std::move(*this), std::forward<Args>(args)...);
    }

    const F& function() const noexcept { return function_; }
    const std::tuple<Bound...>& bound() const noexcept { return bound_; }

  private:
    template <class Self, class... Args>
    static decltype(auto) call(Self&& self, Args&&... args) {
        return std::apply(
            [&](auto&&... bound) -> decltype(auto) {
                return std::invoke(std::forward<Self>(self).function_,
                                   std::forward<decltype(bound)>(bound)...,
                                   std::forward<Args>(args)...);
            },
            std::forward<Self>(self).bound_);
    }

    F function_;
    std::tuple<Bound...> bound_;
};

/// Binds the first arguments of `function`, as `std::bind_front`; the result can be sent if they
/// and the function can. A string literal is bound as `std::string`.
template <class F, class... Args>
Partial<std::decay_t<F>, detail::sent_t<Args>...> partial(F&& function, Args&&... args) {
    return Partial<std::decay_t<F>, detail::sent_t<Args>...>(
        std::in_place, std::forward<F>(function), std::forward<Args>(args)...);
}

namespace detail {

template <class F>
inline constexpr bool is_function_pointer = std::is_function_v<std::remove_pointer_t<F>>;

/// An object that its type says everything of: a captureless lambda, `std::plus<>`.
template <class F>
concept stateless_callable =
    std::is_class_v<F> && std::is_empty_v<F> && std::default_initializable<F>;

template <class F>
concept sendable_callable = is_function_pointer<F> || stateless_callable<F> || sendable<F>;

/// Refuses to compile, with an explanation, unless the callable `F` can be sent.
template <class F>
constexpr void check_sendable_callable() {
    if constexpr (!sendable_callable<F>) { check_sendable<F>(); }
}

/// Tells whether sending the callable `F` runs no user code.
template <class F>
inline constexpr bool is_plain_callable = is_function_pointer<F> ||
                                          (stateless_callable<F> &&
                                           std::is_trivially_default_constructible_v<F>) ||
                                          (!stateless_callable<F> && is_plain_v<F>);

/// Which code is meant. The one place that knows how that is told: by where in which file it
/// stands, so that every process of the program finds it, wherever it is loaded there.
struct CodeAddress {
    os::ModulePlace place;

    /// Writes which function `address` is. \throws SerializationError when it is none of a file's.
    static void save(Writer& out, std::uintptr_t address) {
        const os::ModulePlace place = os::place_of(address);
        if (place == os::ModulePlace{}) {
            throw SerializationError(
                address == 0 ? "a null pointer to a function cannot be sent"
                             : "a function that was made while the program ran cannot be sent");
        }
        out.raw(place);
    }
    /// Returns the address here. \throws SerializationError when this process has no such code.
    static std::uintptr_t load(Reader& in) {
        const auto place = in.raw<os::ModulePlace>();
        const std::uintptr_t address = os::address_of(place, os::PlaceKind::code);
        if (address == 0) {
            throw SerializationError(
                "a function was sent that this process does not have: the sender is another "
                "program, or has loaded a library that this one has not");
        }
        return address;
    }
};

/// Writes which code `function` is, and its state.
template <class F>
void save_callable(Writer& out, const F& function);
/// Reads what `save_callable` wrote of the same `F`.
template <class F>
F load_callable(Reader& in);

// -------------------------------------------------------------------------------------------------

template <class F>
void save_callable(Writer& out, const F& function) {
    check_sendable_callable<F>();
    if constexpr (is_function_pointer<F>) {
        CodeAddress::save(out, reinterpret_cast<std::uintptr_t>(function));
    } else if constexpr (!stateless_callable<F>) {
        detail::save(out, function);
    }
}

template <class F>
F load_callable(Reader& in) {
    check_sendable_callable<F>();
    if constexpr (is_function_pointer<F>) {
        return reinterpret_cast<F>(CodeAddress::load(in));
    } else if constexpr (stateless_callable<F>) {
        return F{};
    } else {
        return detail::load<F>(in);
    }
}

template <class F>
struct std_codec<ByValue<F>> : Codec {
    static constexpr std::uint64_t tag =
        hash_mix(make_tag("by_value", sizeof(F)), hash_text(type_name<F>()));
    static consteval bool fixed() { return true; }
    static consteval std::size_t min_size() { return sizeof(F); }
    static void save(Writer& out, const ByValue<F>& value) { out.raw(value.function()); }
    static ByValue<F> load(Reader& in) {
        // Not std::bit_cast: g++ 12 forgets that a closure is trivially copyable as soon as
        // somebody has asked whether it can be assigned.
        union Place {
            Place() {}
            F function;
        } place;
        in.bytes(static_cast<void*>(&place.function), sizeof(F));
        return ByValue<F>(place.function);
    }
};

/// The callable in a `Partial`, which is no value.
template <class F>
struct CallablePart {};

template <sendable_callable F>
struct std_codec<CallablePart<F>> : Codec {
    static constexpr std::uint64_t tag = hash_mix(make_tag("callable"), hash_text(type_name<F>()));
    static consteval bool user_code() { return !is_plain_callable<F>; }
    static consteval std::size_t min_size() { return 1; }
};

template <class F, class... Bound>
struct std_codec<Partial<F, Bound...>> : Codec {
    using Function = Partial<F, Bound...>;
    static constexpr std::uint64_t tag = make_tag("partial");
    using parts = types<std::conditional_t<sendable_callable<F>, CallablePart<F>, F>, Bound...>;
    // What an empty callable and no arguments take; the byte makes it countable.
    static consteval std::size_t min_size() { return 1; }
    static std::size_t size(const Function& function) {
        std::size_t sum = 1;
        if constexpr (is_function_pointer<F>) {
            sum += sizeof(os::ModulePlace);
        } else if constexpr (!stateless_callable<F>) {
            sum += saved_size(function.function());
        }
        return sum +
               std::apply(
                   [](const auto&... bound) { return (saved_size(bound) + ... + std::size_t{0}); },
                   function.bound());
    }
    static void save(Writer& out, const Function& function) {
        out.raw(std::uint8_t{0});
        save_callable(out, function.function());
        std::apply([&out](const auto&... bound) { (detail::save(out, bound), ...); },
                   function.bound());
    }
    static Function load(Reader& in) {
        if (in.raw<std::uint8_t>() != 0) {
            refuse_bytes("a partial does not begin where it should");
        }
        return Function{std::in_place, load_callable<F>(in), detail::load<Bound>(in)...};
    }
};

}  // namespace detail
}  // namespace multiprocessing

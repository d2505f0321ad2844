// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Arithmetic on shared values: each operation is one step that no other process comes between.

#include <multiprocessing/sharedctypes/cells.hpp>

#include <concepts>
#include <type_traits>

namespace multiprocessing::detail {

template <class T>
concept countable = std::is_arithmetic_v<T> && !std::same_as<T, bool>;

/// Gives `Handle` the operators of a number. They return values, not references: what is read again
/// may be another process's.
template <class Handle, class T>
class ValueOperators {
  public:
    T operator+=(T by) const requires requires { static_cast<T>(by + by); }
    { return change(Plus<T>{by}).second; }
    T operator-=(T by) const requires requires { static_cast<T>(by - by); }
    { return change(Minus<T>{by}).second; }
    T operator*=(T by) const requires requires { static_cast<T>(by * by); }
    {
        return change([by](T value) { return static_cast<T>(value * by); }).second;
    }
    T operator/=(T by) const requires requires { static_cast<T>(by / by); }
    {
        return change([by](T value) { return static_cast<T>(value / by); }).second;
    }
    T operator|=(T by) const requires requires { static_cast<T>(by | by); }
    {
        return change([by](T value) { return static_cast<T>(value | by); }).second;
    }
    T operator&=(T by) const requires requires { static_cast<T>(by & by); }
    {
        return change([by](T value) { return static_cast<T>(value & by); }).second;
    }
    T operator^=(T by) const requires requires { static_cast<T>(by ^ by); }
    {
        return change([by](T value) { return static_cast<T>(value ^ by); }).second;
    }

    /// Returns the new value.
    T operator++() const requires countable<T> { return change(Plus<T>{T(1)}).second; }
    T operator--() const requires countable<T> { return change(Minus<T>{T(1)}).second; }
    /// Returns the old value.
    T operator++(int) const requires countable<T> { return change(Plus<T>{T(1)}).first; }
    T operator--(int) const requires countable<T> { return change(Minus<T>{T(1)}).first; }

  private:
    friend Handle;
    ValueOperators() = default;

    template <class Op>
    auto change(Op op) const {
        return static_cast<const Handle&>(*this).modify(op);
    }
};

}  // namespace multiprocessing::detail

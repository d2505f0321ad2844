// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What came of one item: a value or an error.
///
///     for (const auto& outcome : pool.map_outcome(parse, files)) {
///         if (outcome) { use(*outcome); } else { report(outcome.error()); }
///     }

#include <exception>
#include <memory>
#include <type_traits>
#include <utility>
#include <variant>

namespace multiprocessing {

/// A value or the exception that came instead; as `std::expected<R, std::exception_ptr>`.
/// \safety a value.
template <class R>
class Outcome {
  public:
    Outcome(R value) : held_(std::in_place_index<0>, std::move(value)) {}  // implicit on purpose
    /// Holds `error`, which is not null.
    explicit Outcome(std::exception_ptr error) : held_(std::in_place_index<1>, std::move(error)) {}

    bool has_value() const noexcept { return held_.index() == 0; }
    explicit operator bool() const noexcept { return has_value(); }

    /// Returns the value, or throws the error.
    R& value() & { return check(), std::get<0>(held_); }
    const R& value() const& { return check(), std::get<0>(held_); }
    R&& value() && { return check(), std::get<0>(std::move(held_)); }
    R& operator*() & { return value(); }
    const R& operator*() const& { return value(); }
    R&& operator*() && { return std::move(*this).value(); }
    R* operator->() { return std::addressof(value()); }
    const R* operator->() const { return std::addressof(value()); }
    template <class U>
    R value_or(U&& otherwise) const& {
        return has_value() ? std::get<0>(held_) : static_cast<R>(std::forward<U>(otherwise));
    }
    template <class U>
    R value_or(U&& otherwise) && {
        return has_value() ? std::get<0>(std::move(held_))
                           : static_cast<R>(std::forward<U>(otherwise));
    }

    /// Returns the error, null when there is a value.
    std::exception_ptr error() const noexcept {
        return has_value() ? nullptr : *std::get_if<1>(&held_);
    }

  private:
    void check() const {
        if (!has_value()) { std::rethrow_exception(error()); }
    }

    std::variant<R, std::exception_ptr> held_;
};

/// What came of an item for which the function returns nothing.
template <>
class Outcome<void> {
  public:
    Outcome() = default;
    explicit Outcome(std::exception_ptr error) : error_(std::move(error)) {}

    bool has_value() const noexcept { return error_ == nullptr; }
    explicit operator bool() const noexcept { return has_value(); }
    void value() const {
        if (!has_value()) { std::rethrow_exception(error_); }
    }
    std::exception_ptr error() const noexcept { return error_; }

  private:
    std::exception_ptr error_;
};

}  // namespace multiprocessing

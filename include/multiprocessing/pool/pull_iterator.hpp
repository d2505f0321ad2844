// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The iterator of an input range that is asked for one element after the other.

#include <cstddef>
#include <iterator>
#include <type_traits>

namespace multiprocessing::detail {

/// `Range` befriends this class, and has `fetch()`, which gets the next element, and `current_`, a
/// `std::optional` that is empty behind the last. An element is seen as a `Value`.
/// \safety one thread.
template <class Range, class Value>
class PullIterator {
  public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = std::remove_const_t<Value>;
    using difference_type = std::ptrdiff_t;

    explicit PullIterator(Range* range) : range_(range) {}
    Value& operator*() const { return *range_->current_; }
    Value* operator->() const { return &*range_->current_; }
    PullIterator& operator++() {
        range_->fetch();
        return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const PullIterator& it, std::default_sentinel_t) { return it.at_end(); }

  private:
    bool at_end() const { return !range_->current_.has_value(); }

    Range* range_;
};

}  // namespace multiprocessing::detail

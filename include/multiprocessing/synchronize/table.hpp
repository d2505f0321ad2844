// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A table in shared memory, to be gone through.

#include <cstddef>

namespace multiprocessing::detail {

/// Words that stand side by side. (What `std::span` is, whose conditions every program would pay
/// for with each kind of words.)
template <class Word>
struct Table {
    Word* first;
    std::size_t count;

    Word* begin() const noexcept { return first; }
    Word* end() const noexcept { return first + count; }
};

}  // namespace multiprocessing::detail

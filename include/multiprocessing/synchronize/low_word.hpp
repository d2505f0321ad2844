// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Sleeping on one half of a 64-bit word: the kernel's futexes have 32 bits.

#include <multiprocessing/os/futex.hpp>

#include <atomic>
#include <bit>
#include <cstdint>

namespace multiprocessing::detail {

/// Returns the half of `word` that holds its lower 32 bits, for sleeping and waking only: it is
/// read and written as a whole.
inline os::FutexWord& low_word(std::atomic<std::uint64_t>& word) noexcept {
    static_assert(std::endian::native == std::endian::little);
    return reinterpret_cast<os::FutexWord&>(word);
}

}  // namespace multiprocessing::detail

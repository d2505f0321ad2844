// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Where a message on a stream begins and ends: the length in front of it, as CPython writes it.
///
///     length <= 0x7fffffff:  int32 length
///     longer:                int32 -1, uint64 length           (all of it big-endian)

#include <multiprocessing/errors.hpp>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace multiprocessing::detail {

inline constexpr std::size_t short_header = 4;
inline constexpr std::size_t long_header = 8;  ///< what follows the -1
inline constexpr std::uint64_t longest_short_message = 0x7fffffff;

/// What stands in front of a message.
class FrameHeader {
  public:
    explicit FrameHeader(std::uint64_t length) noexcept;
    std::span<const std::byte> bytes() const noexcept { return {bytes_.data(), size_}; }

  private:
    std::array<std::byte, short_header + long_header> bytes_{};
    std::size_t size_ = 0;
};

/// Reads the first four bytes: the length, or nothing when the long form follows.
/// \throws OSError (EBADMSG) on what no sender writes.
std::optional<std::uint64_t> decode_short_length(const std::array<std::byte, short_header>& bytes);

/// Reads the eight bytes that follow a -1.
/// \throws OSError (EBADMSG) on a length for which the short form exists.
std::uint64_t decode_long_length(const std::array<std::byte, long_header>& bytes);

// -------------------------------------------------------------------------------------------------

inline FrameHeader::FrameHeader(std::uint64_t length) noexcept {
    const auto append = [this](std::uint64_t value, unsigned bytes) {
        while (bytes-- > 0) { bytes_[size_++] = static_cast<std::byte>(value >> (8 * bytes)); }
    };
    if (length <= longest_short_message) {
        append(length, short_header);
    } else {
        append(0xffffffff, short_header);
        append(length, long_header);
    }
}

template <std::size_t Size>
std::uint64_t big_endian(const std::array<std::byte, Size>& bytes) noexcept {
    std::uint64_t value = 0;
    for (const std::byte byte : bytes) { value = value << 8 | static_cast<std::uint64_t>(byte); }
    return value;
}

[[noreturn]] inline void throw_bad_length(std::int64_t length) {
    throw OSError(EBADMSG, std::system_category(), text_of("bad message length {}", {length}));
}

inline std::optional<std::uint64_t> decode_short_length(
    const std::array<std::byte, short_header>& bytes) {
    const auto length = static_cast<std::int32_t>(big_endian(bytes));
    if (length == -1) { return std::nullopt; }
    if (length < 0) { throw_bad_length(length); }
    return static_cast<std::uint64_t>(length);
}

inline std::uint64_t decode_long_length(const std::array<std::byte, long_header>& bytes) {
    const std::uint64_t length = big_endian(bytes);
    // A second way to write a short length would be a way past whoever checks only the first.
    if (length <= longest_short_message) { throw_bad_length(static_cast<std::int64_t>(length)); }
    return length;
}

}  // namespace multiprocessing::detail

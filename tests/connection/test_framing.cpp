// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <multiprocessing/connection/framing.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace mp = multiprocessing;
using mp::detail::decode_long_length;
using mp::detail::decode_short_length;
using mp::detail::FrameHeader;

namespace {

std::vector<int> header(std::uint64_t length) {
    std::vector<int> bytes;
    const FrameHeader header(length);
    for (const std::byte byte : header.bytes()) { bytes.push_back(std::to_integer<int>(byte)); }
    return bytes;
}

template <class... Values>
std::array<std::byte, sizeof...(Values)> raw(Values... values) {
    return {static_cast<std::byte>(values)...};
}

}  // namespace

TEST_CASE("a message's length stands in front of it as CPython writes it") {
    CHECK(header(0) == std::vector{0, 0, 0, 0});
    CHECK(header(1) == std::vector{0, 0, 0, 1});
    CHECK(header(0x12345678) == std::vector{0x12, 0x34, 0x56, 0x78});
    CHECK(header(0x7fffffff) == std::vector{0x7f, 0xff, 0xff, 0xff});
    CHECK(header(0x80000000) == std::vector{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x80, 0, 0, 0});
    CHECK(header(0x0123456789abcdef) ==
          std::vector{0xff, 0xff, 0xff, 0xff, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef});
}

TEST_CASE("a length is read as it was written") {
    CHECK(decode_short_length(raw(0, 0, 0, 0)) == 0U);
    CHECK(decode_short_length(raw(0x12, 0x34, 0x56, 0x78)) == 0x12345678U);
    CHECK(decode_short_length(raw(0x7f, 0xff, 0xff, 0xff)) == 0x7fffffffU);
    CHECK_FALSE(decode_short_length(raw(0xff, 0xff, 0xff, 0xff)).has_value());
    CHECK(decode_long_length(raw(0, 0, 0, 0, 0x80, 0, 0, 0)) == 0x80000000U);
    CHECK(decode_long_length(raw(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)) ==
          ~std::uint64_t{0});
}

TEST_CASE("a length that no sender writes is refused") {
    CHECK_THROWS_AS(decode_short_length(raw(0xff, 0xff, 0xff, 0xfe)), mp::OSError);
    CHECK_THROWS_AS(decode_short_length(raw(0x80, 0, 0, 0)), mp::OSError);
    CHECK_THROWS_AS(decode_long_length(raw(0, 0, 0, 0, 0, 0, 0, 3)), mp::OSError);
    CHECK_THROWS_AS(decode_long_length(raw(0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff)), mp::OSError);
}

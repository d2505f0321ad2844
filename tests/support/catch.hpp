// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Catch2, whichever of its two interfaces is installed: 2 (Debian 12) or 3 (newer systems).

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

#include <string>

namespace support {

/// Matches a text that contains `part`: `CHECK_THAT(text, support::contains("part"))`.
inline auto contains(const std::string& part) {
#if __has_include(<catch2/catch_all.hpp>)
    return Catch::Matchers::ContainsSubstring(part);
#else
    return Catch::Matchers::Contains(part);
#endif
}

}  // namespace support

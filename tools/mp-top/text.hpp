// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// How numbers and foreign texts are written for somebody who looks at them.

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mp_top {

/// Returns a text that came from elsewhere with `?` for what is neither ASCII nor to be seen: it
/// might command the terminal otherwise.
inline std::string printable(std::string_view text) {
    std::string safe(text);
    std::replace_if(
        safe.begin(), safe.end(), [](char letter) { return letter < ' ' || letter > '~'; }, '?');
    return safe;
}

/// Returns what a line that is `width` columns wide shows of the text.
inline std::string clipped(std::string text, std::size_t width) {
    if (text.size() <= width) { return text; }
    text.resize(width);
    for (std::size_t i = width - std::min<std::size_t>(width, 3); i < width; ++i) { text[i] = '.'; }
    return text;
}

/// "0.50", "43.1", "12.3k", "4.5M"; "-" for what is not known.
inline std::string speed(std::optional<double> per_second) {
    if (!per_second) { return "-"; }
    if (*per_second >= 1e6) { return fmt::format("{:.1f}M", *per_second / 1e6); }
    if (*per_second >= 1e4) { return fmt::format("{:.1f}k", *per_second / 1e3); }
    return fmt::format("{:.{}f}", *per_second, *per_second < 10 ? 2 : 1);
}

inline std::string bytes(std::uint64_t count) {
    constexpr std::array units = {"B", "KiB", "MiB", "GiB", "TiB"};
    auto number = static_cast<double>(count);
    std::size_t unit = 0;
    for (; number >= 1000 && unit + 1 < units.size(); ++unit) { number /= 1024; }
    return fmt::format("{:.{}f} {}", number, unit > 0 && number < 10 ? 1 : 0, units[unit]);
}

inline std::string percent(std::optional<double> part) {
    return part ? fmt::format("{:.0f}%", *part * 100) : "-";
}

/// "3.2 s", "12m34s", "3h12m".
inline std::string duration(double seconds) {
    if (seconds < 100) { return fmt::format("{:.1f} s", seconds); }
    const auto whole = static_cast<long>(seconds);
    if (whole < 6000) { return fmt::format("{}m{:02}s", whole / 60, whole % 60); }
    return fmt::format("{}h{:02}m", whole / 3600, whole / 60 % 60);
}

/// "[###---]  50%".
inline std::string bar(std::uint64_t done, std::uint64_t total) {
    constexpr std::size_t length = 6;
    const double part = std::min(
        1.0, static_cast<double>(done) / static_cast<double>(std::max<std::uint64_t>(total, 1)));
    std::string filled(static_cast<std::size_t>(part * length), '#');
    filled.resize(length, '-');
    return fmt::format("[{}] {:>4}", filled, percent(part));
}

}  // namespace mp_top

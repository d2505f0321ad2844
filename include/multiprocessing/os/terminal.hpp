// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Whether somebody looks at what is written, and how much he sees.

#include <sys/ioctl.h>
#include <unistd.h>

#include <optional>

namespace multiprocessing::detail::os {

/// Returns how many columns the terminal has that the descriptor is; nothing when it is none.
inline std::optional<int> terminal_width(int fd) noexcept {
    if (::isatty(fd) == 0) { return std::nullopt; }
    struct winsize size {};
    return ::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace multiprocessing::detail::os

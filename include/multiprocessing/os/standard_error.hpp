// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Standard error, for lines that must stay whole although several processes write.

#include <unistd.h>

#include <cerrno>
#include <string_view>

namespace multiprocessing::detail::os {

/// Writes `text` to descriptor 2 in one call, so that the lines of two processes do not mix.
/// \safety async-signal-safe; keeps `errno`.
inline void write_to_stderr(std::string_view text) noexcept {
    const int saved = errno;
    while (!text.empty()) {
        const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
        if (written < 0 && errno == EINTR) { continue; }
        if (written <= 0) { break; }  // closed or full: there is nobody else to tell
        text.remove_prefix(static_cast<std::size_t>(written));
    }
    errno = saved;
}

}  // namespace multiprocessing::detail::os

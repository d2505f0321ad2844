// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Small files of /proc and /sys, read whole.

#include <multiprocessing/os/unique_fd.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace multiprocessing::detail::os {

/// Returns the file's text; empty when it cannot be read.
inline std::string read_text(const std::string& path) {
    std::string text;
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    char part[4096];
    while (file) {
        const ssize_t size = ::read(file.get(), part, sizeof part);
        if (size < 0 && errno == EINTR) { continue; }
        if (size <= 0) { break; }
        text.append(part, static_cast<std::size_t>(size));
    }
    return text;
}

}  // namespace multiprocessing::detail::os

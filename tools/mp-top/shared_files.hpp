// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Finding the library's shared memory in processes that know nothing of it.
///
/// What the library shares stands in files without a name that begin with `multiprocessing:`, and
/// whoever may debug a process may open its descriptors through /proc. They are opened for reading
/// only, so nothing here can disturb who uses them.

#include "processes.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mp_top {

/// One file, of whichever content: anybody can give a file that name.
struct SharedFile {
    std::string name;  // what stands behind the colon
    os::UniqueFd fd;
    std::uint64_t occupied = 0;  // bytes that it takes; on paper it may be much larger
    std::vector<pid_t> holders = {};

    /// Copies bytes out of it; false when it has not got so many (any more). They are read and not
    /// mapped: touching a mapping of a file that has shrunk is a SIGBUS, and of a hole in a file
    /// takes memory of whoever owns it.
    bool read(std::uint64_t offset, void* to, std::size_t length) const {
        while (length > 0) {
            const ssize_t got = ::pread(fd.get(), to, length, static_cast<off_t>(offset));
            if (got < 0 && errno == EINTR) { continue; }
            if (got <= 0) { return false; }
            to = static_cast<std::byte*>(to) + got;
            offset += static_cast<std::uint64_t>(got);
            length -= static_cast<std::size_t>(got);
        }
        return true;
    }
};
using SharedFiles = std::map<std::uint64_t, SharedFile>;  // by inode: each is there once

/// Returns the name of the file that a link in /proc/PID/fd stands for, if it is one of ours.
inline std::optional<std::string> name_behind(const std::string& link) {
    char buffer[NAME_MAX + 64];
    const ssize_t length = ::readlink(link.c_str(), buffer, sizeof buffer);
    if (length <= 0) { return std::nullopt; }
    std::string_view text(buffer, static_cast<std::size_t>(length));
    constexpr std::string_view before = "/memfd:multiprocessing:";
    constexpr std::string_view behind = " (deleted)";
    if (!text.starts_with(before) || !text.ends_with(behind)) { return std::nullopt; }
    text.remove_prefix(before.size());
    text.remove_suffix(behind.size());
    return std::string(text);
}

/// Tells whether the descriptor behind the link may write: one that may not only looks, as we do.
inline bool may_write(const std::string& link) {
    struct stat itself {};
    return ::lstat(link.c_str(), &itself) == 0 && (itself.st_mode & S_IWUSR) != 0;
}

/// Opens what the link stands for; nothing when it has come to be another file meanwhile.
inline std::optional<SharedFile> open_shared(const std::string& link, std::uint64_t inode,
                                             std::string name) {
    // O_NONBLOCK: it may have come to be a pipe.
    os::UniqueFd fd(::open(link.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    struct stat file {};
    if (!fd || ::fstat(fd.get(), &file) != 0) { return std::nullopt; }
    if (!S_ISREG(file.st_mode) || file.st_ino != inode) { return std::nullopt; }
    return SharedFile{.name = std::move(name),
                      .fd = std::move(fd),
                      .occupied = static_cast<std::uint64_t>(file.st_blocks) * 512};
}

/// Adds what one process has open.
inline void find_shared_files(pid_t pid, SharedFiles& files) {
    const std::string folder = fmt::format("/proc/{}/fd", pid);
    for (const int fd : numbers_in(folder).value_or(std::vector<int>{})) {
        const std::string link = fmt::format("{}/{}", folder, fd);
        const auto name = name_behind(link);
        struct stat target {};
        if (!name || !may_write(link) || ::stat(link.c_str(), &target) != 0) { continue; }
        auto at = files.find(target.st_ino);
        if (at == files.end()) {
            auto file = open_shared(link, target.st_ino, *name);
            if (!file) { continue; }
            at = files.emplace(target.st_ino, std::move(*file)).first;
        }
        std::vector<pid_t>& holders = at->second.holders;
        if (holders.empty() || holders.back() != pid) { holders.push_back(pid); }
    }
}

/// Returns all files of the library's that these processes have open.
inline SharedFiles find_shared_files(std::span<const pid_t> pids) {
    SharedFiles files;
    for (const pid_t pid : pids) { find_shared_files(pid, files); }
    return files;
}

}  // namespace mp_top

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// How much memory can be had before the kernel ends somebody for want of it.

#include <multiprocessing/os/text_file.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <string_view>

namespace multiprocessing::detail::os {

/// Returns the bytes that the system, and the control group of this process, have left; an estimate
/// from above, the largest number where nothing is known.
/// \cost a handful of small files: for what is large anyway.
std::uint64_t available_memory();

// -------------------------------------------------------------------------------------------------

/// Returns the number behind `key` in a text, in bytes; `otherwise` when it is not there.
inline std::uint64_t kilobytes_after(const std::string& text, std::string_view key,
                                     std::uint64_t otherwise) {
    const std::size_t at = text.find(key);
    if (at == text.npos) { return otherwise; }
    return std::strtoull(text.c_str() + at + key.size(), nullptr, 10) * 1024;
}

/// Returns what is left between the two numbers in the two files; all of it when there is no limit.
inline std::uint64_t left_between(const std::string& limit_file, const std::string& usage_file) {
    constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();
    const std::string limit = read_text(limit_file);
    const std::string usage = read_text(usage_file);
    if (limit.empty() || usage.empty() || limit.starts_with("max")) { return unlimited; }
    const std::uint64_t most = std::strtoull(limit.c_str(), nullptr, 10);
    return most - std::min(most, std::uint64_t{std::strtoull(usage.c_str(), nullptr, 10)});
}

inline std::uint64_t available_memory() {
    constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();
    const std::string system = read_text("/proc/meminfo");
    std::uint64_t left = kilobytes_after(system, "MemAvailable:", unlimited);
    if (left != unlimited) { left += kilobytes_after(system, "SwapFree:", 0); }
    // A line a hierarchy: "0::/path" for the unified one, "4:memory:/path" for the older kind.
    const std::string groups = read_text("/proc/self/cgroup");
    for (std::string_view rest = groups; !rest.empty();) {
        const std::string_view line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(rest.size(), line.size() + 1));
        const std::size_t path_at = line.find('/');
        if (path_at == line.npos) { continue; }
        const std::string path(line.substr(path_at));
        if (line.starts_with("0::")) {
            const std::string group = "/sys/fs/cgroup" + path;
            left = std::min(left, left_between(group + "/memory.max", group + "/memory.current"));
        } else if (line.find(":memory:") != line.npos) {
            const std::string group = "/sys/fs/cgroup/memory" + path;
            left = std::min(left, left_between(group + "/memory.limit_in_bytes",
                                               group + "/memory.usage_in_bytes"));
        }
    }
    return left;
}

}  // namespace multiprocessing::detail::os

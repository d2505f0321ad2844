// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Whether the kernel has killed for want of memory.

#include <multiprocessing/os/text_file.hpp>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

namespace multiprocessing::detail::os {

/// Returns the number behind `key ` at the beginning of a line; 0 when there is none.
inline std::uint64_t number_after(std::string_view text, std::string_view key) {
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        const std::string_view line = text.substr(begin, end - begin);
        if (line.starts_with(key) && line.size() > key.size() && line[key.size()] == ' ') {
            std::uint64_t number = 0;
            std::from_chars(line.data() + key.size() + 1, line.data() + line.size(), number);
            return number;
        }
        begin = end + 1;
    }
    return 0;
}

/// Counts the processes that the kernel has killed for want of memory: in this process's control
/// group where it says so, else on the whole machine. What matters is whether it has grown.
class OomCount {
  public:
    /// Finds out where to look.
    OomCount() {
        const std::string groups = read_text("/proc/self/cgroup");
        // "0::/path" is of version 2, "7:memory:/path" of version 1.
        for (std::size_t begin = 0; begin < groups.size();) {
            const std::size_t end = std::min(groups.find('\n', begin), groups.size());
            const std::string line = groups.substr(begin, end - begin);
            const std::size_t first = line.find(':');
            const std::size_t second = line.find(':', first + 1);
            if (second != line.npos) {
                const std::string controllers = line.substr(first + 1, second - first - 1);
                const std::string path = line.substr(second + 1);
                if (controllers == "memory") {
                    try_file("/sys/fs/cgroup/memory" + path + "/memory.oom_control");
                } else if (controllers.empty()) {
                    try_file("/sys/fs/cgroup" + path + "/memory.events");
                }
            }
            begin = end + 1;
        }
        try_file("/proc/vmstat");
    }

    std::uint64_t now() const {
        return file_.empty() ? 0 : number_after(read_text(file_), "oom_kill");
    }

  private:
    void try_file(const std::string& path) {
        if (file_.empty() && read_text(path).find("oom_kill ") != std::string::npos) {
            file_ = path;
        }
    }

    std::string file_;
};

}  // namespace multiprocessing::detail::os

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The processes of the machine, as /proc tells of them.

#include <multiprocessing/os/text_file.hpp>

#include <fmt/core.h>

#include <dirent.h>
#include <sys/types.h>
#include <unistd.h>

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mp_top {

namespace os = multiprocessing::detail::os;

/// One process at the time of asking.
struct Process {
    pid_t parent = 0;
    char state = '?';
    std::uint64_t start_time = 0;  // tells two processes apart that had the same number
    std::uint64_t cpu_ticks = 0;   // all that it has used
    std::uint64_t memory = 0;      // bytes that are resident

    bool has_ended() const noexcept { return state == 'Z' || state == 'X'; }
};
using Processes = std::map<pid_t, Process>;

/// Returns the entries of a folder that are numbers; nothing, and `errno`, if it cannot be read.
inline std::optional<std::vector<int>> numbers_in(const std::string& folder) {
    const std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir(folder.c_str()), &::closedir);
    if (open == nullptr) { return std::nullopt; }
    std::vector<int> numbers;
    while (const dirent* const entry = ::readdir(open.get())) {
        const std::string_view name = entry->d_name;
        int number = 0;
        const auto [end, error] = std::from_chars(name.begin(), name.end(), number);
        if (error == std::errc() && end == name.end()) { numbers.push_back(number); }
    }
    return numbers;
}

/// Returns nothing when there is no such process (any more).
inline std::optional<Process> find_process(pid_t pid) {
    const std::string text = os::read_text(fmt::format("/proc/{}/stat", pid));
    // The second field is the program's name in brackets and may hold anything, brackets included.
    const std::size_t name_end = text.rfind(')');
    if (name_end == text.npos) { return std::nullopt; }
    Process process;
    unsigned long long user = 0;
    unsigned long long system = 0;
    unsigned long long start = 0;
    unsigned long long pages = 0;
    const int fields = std::sscanf(text.c_str() + name_end + 1,
                                   " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu"
                                   " %*d %*d %*d %*d %*d %*d %llu %*u %llu",
                                   &process.state, &process.parent, &user, &system, &start, &pages);
    if (fields != 6) { return std::nullopt; }
    process.start_time = start;
    process.cpu_ticks = user + system;
    process.memory = pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    return process;
}

/// Returns all there are.
inline Processes all_processes() {
    Processes all;
    for (const pid_t pid : numbers_in("/proc").value_or(std::vector<int>{})) {
        if (const auto process = find_process(pid)) { all.emplace(pid, *process); }
    }
    return all;
}

/// Returns the process, who started it, who started that one, and so on.
inline std::vector<pid_t> lineage(const Processes& all, pid_t pid) {
    std::vector<pid_t> line;
    // Numbers may have been given away again while they were read: then there could be a circle.
    for (auto at = all.find(pid); at != all.end() && line.size() < all.size();) {
        line.push_back(at->first);
        at = all.find(at->second.parent);
    }
    return line;
}

/// Returns what the process was started with; "" when it cannot be read.
inline std::string command_line(pid_t pid) {
    std::string text = os::read_text(fmt::format("/proc/{}/cmdline", pid));
    while (!text.empty() && text.back() == '\0') { text.pop_back(); }
    for (char& letter : text) { letter = letter == '\0' ? ' ' : letter; }
    return text;
}

}  // namespace mp_top

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What a process has open, so that a test case can be held to leaving nothing behind.
///
///     const auto before = support::Holdings::now();
///     run();
///     CHECK(support::left_behind(before) == "");
///
/// The listener in `main.cpp` does this around every test case.

#include "bounds.hpp"

#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace support {

namespace detail {

inline bool is_number(std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

/// Returns a file's text; what could be read of it if it goes away meanwhile, as in /proc.
inline std::string contents(const std::filesystem::path& path) {
    std::ifstream file(path);
    std::string text;
    std::getline(file, text, '\0');
    return text;
}

/// Calls `f` for the path of each entry; what vanishes meanwhile is passed over.
template <class F>
void for_each_entry(const char* directory, F f) {
    std::error_code error;
    for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end;
         it.increment(error)) {
        f(it->path());
    }
}

}  // namespace detail

/// Returns this process's open descriptors and what they refer to.
///
/// Leaves out what the library keeps for the life of the process: the family's registry, and one
/// slab, the one that small objects are being made in. `mp_test_warm_up` makes it open them before
/// the first test case. Of further slabs only their number counts, as entry -1.
inline std::map<int, std::string> open_descriptors() {
    std::map<int, std::string> found;
    int slabs = 0;
    detail::for_each_entry("/proc/self/fd", [&](const std::filesystem::path& entry) {
        std::error_code error;
        const auto target = std::filesystem::read_symlink(entry, error).string();
        // The descriptor of this very listing points to .../fd.
        if (error || (target.starts_with("/proc/") && target.ends_with("/fd"))) { return; }
        if (target.starts_with("/memfd:multiprocessing:family")) { return; }
        if (target.starts_with("/memfd:multiprocessing:slab")) {
            ++slabs;
        } else {
            found.emplace(std::atoi(entry.filename().c_str()), target);
        }
    });
    if (slabs > 1) { found.emplace(-1, std::to_string(slabs) + " slabs"); }
    return found;
}

/// Returns this process's children, zombies included: pid to "state name".
inline std::map<pid_t, std::string> children() {
    std::map<pid_t, std::string> found;
    const auto self = ::getpid();
    detail::for_each_entry("/proc", [&](const std::filesystem::path& entry) {
        const auto name = entry.filename().string();
        if (!detail::is_number(name)) { return; }
        const auto stat = detail::contents(entry / "stat");  // pid (name) state ppid ...
        const auto open = stat.find('(');
        const auto close = stat.rfind(')');
        if (open == std::string::npos || close == std::string::npos || close + 4 > stat.size()) {
            return;
        }
        pid_t parent = 0;
        std::from_chars(stat.data() + close + 4, stat.data() + stat.size(), parent);
        if (parent != self) { return; }
        const char state = stat[close + 2];
        found.emplace(std::atoi(name.c_str()), std::string(state == 'Z' ? "zombie" : "process") +
                                                   " " + stat.substr(open, close - open + 1));
    });
    return found;
}

/// Tells whether this process has neither a child nor a zombie (any more, within `bound`).
inline bool no_children_left(std::chrono::nanoseconds bound = std::chrono::seconds(5)) {
    return eventually([] { return children().empty(); }, bound);
}

/// Returns the number of this process's threads.
inline int thread_count() {
    int count = 0;
    detail::for_each_entry("/proc/self/task", [&](const std::filesystem::path&) { ++count; });
    return count;
}

/// Returns the name of an entry of /dev/shm that the process `pid` leaves behind on purpose, to see
/// it reported. Other programs that look at the same time pass over it.
inline std::string planted_shm_name(pid_t pid = ::getpid()) {
    return "multiprocessing-planted-by-" + std::to_string(pid);
}

/// What one can leave behind.
struct Holdings {
    std::map<int, std::string> descriptors;
    std::set<std::string> shm;  ///< entries of /dev/shm
    std::map<pid_t, std::string> children;
    int threads = 0;

    static Holdings now() {
        Holdings holdings{open_descriptors(), {}, support::children(), thread_count()};
        detail::for_each_entry("/dev/shm", [&](const std::filesystem::path& entry) {
            const std::string name = entry.filename().string();
            const bool is_planted = name.starts_with("multiprocessing-planted-by-");
            if (!is_planted || name == planted_shm_name()) { holdings.shm.insert(name); }
        });
        return holdings;
    }
};

/// Returns the differences as lines of text; empty when there are none.
/// An entry of /dev/shm that has gone is none: it was another program's.
inline std::string difference(const Holdings& before, const Holdings& after) {
    std::string text;
    const auto compare = [&](const auto& old_ones, const auto& new_ones, const char* what) {
        for (const auto& [key, value] : new_ones) {
            const auto old_one = old_ones.find(key);
            if (old_one == old_ones.end() || old_one->second != value) {
                text += std::string("  left behind: ") + what + " " + std::to_string(key) + " " +
                        value + "\n";
            }
        }
        for (const auto& [key, value] : old_ones) {
            if (!new_ones.contains(key)) {
                text +=
                    std::string("  gone: ") + what + " " + std::to_string(key) + " " + value + "\n";
            }
        }
    };
    compare(before.descriptors, after.descriptors, "descriptor");
    compare(before.children, after.children, "child");
    for (const auto& name : after.shm) {
        if (!before.shm.contains(name)) { text += "  left behind: /dev/shm/" + name + "\n"; }
    }
    if (before.threads != after.threads) {
        text += "  threads: " + std::to_string(before.threads) + " before, " +
                std::to_string(after.threads) + " after\n";
    }
    return text;
}

/// Returns how what is held now differs from `before`, once it has had a moment to go away:
/// the kernel takes a joined thread off the list a little after `join` has returned.
inline std::string left_behind(const Holdings& before) {
    std::string text;
    static_cast<void>(eventually(
        [&] {
            text = difference(before, Holdings::now());
            return text.empty();
        },
        std::chrono::seconds(2)));
    return text;
}

}  // namespace support

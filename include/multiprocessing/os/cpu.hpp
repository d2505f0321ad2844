// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// How many processors there are, and how many of them this process may use.

#include <multiprocessing/os/text_file.hpp>

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

namespace multiprocessing::detail::os {

/// Returns the processors of the system that are online, at least 1.
int online_cpus() noexcept;

/// Returns the processors that the scheduler may put this process on, at least 1.
int affinity_cpus() noexcept;

/// Returns the processors' worth of time that the control group allows, rounded up; nothing when it
/// sets no limit or cannot be read. Limits of the groups above count too.
std::optional<int> cgroup_cpus();

/// Keeps this process on one of the processors that it may use: the one of that number, counted
/// round and round. Does nothing where the system does not let it.
void pin_to_cpu(int number) noexcept;

// -------------------------------------------------------------------------------------------------

inline int online_cpus() noexcept {
    return std::max(1, static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)));
}

inline int affinity_cpus() noexcept {
    cpu_set_t set;
    CPU_ZERO(&set);
    // Fails on machines with more processors than the set has room for: there the system's number.
    if (::sched_getaffinity(0, sizeof set, &set) != 0) { return online_cpus(); }
    return std::max(1, CPU_COUNT(&set));
}

inline void pin_to_cpu(int number) noexcept {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (::sched_getaffinity(0, sizeof set, &set) != 0) { return; }
    int left = number % std::max(1, CPU_COUNT(&set));
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(static_cast<std::size_t>(cpu), &set) || left-- > 0) { continue; }
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(static_cast<std::size_t>(cpu), &one);
        ::sched_setaffinity(0, sizeof one, &one);
        return;
    }
}

inline std::optional<int> cpus_from_quota(double quota, double period) {
    if (quota <= 0 || period <= 0) { return std::nullopt; }
    constexpr double most = 1 << 20;  // more than any machine has, and within an int
    return std::max(1, static_cast<int>(std::min((quota + period - 1) / period, most)));
}

inline std::optional<int> cgroup_cpus() {
    std::optional<int> least;
    const auto consider = [&](double quota, double period) {
        const std::optional<int> cpus = cpus_from_quota(quota, period);
        if (cpus && (!least || *cpus < *least)) { least = cpus; }
    };
    const auto consider_group = [&](bool unified, const std::string& path) {
        double quota = 0;  // "max" does not read as a number and leaves 0
        double period = 0;
        if (unified) {
            const std::string limit = read_text("/sys/fs/cgroup" + path + "/cpu.max");
            std::sscanf(limit.c_str(), "%lf %lf", &quota, &period);
        } else {
            const std::string group = "/sys/fs/cgroup/cpu" + path;
            std::sscanf(read_text(group + "/cpu.cfs_quota_us").c_str(), "%lf", &quota);
            std::sscanf(read_text(group + "/cpu.cfs_period_us").c_str(), "%lf", &period);
        }
        consider(quota, period);
    };
    // A line a hierarchy: "0::/path" for the unified one, "4:cpu,cpuacct:/path" for an older one.
    const std::string groups = read_text("/proc/self/cgroup");
    for (std::string_view rest = groups; !rest.empty();) {
        const std::string_view line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(rest.size(), line.size() + 1));
        const std::size_t first = line.find(':');
        const std::size_t second = first == line.npos ? first : line.find(':', first + 1);
        if (second == line.npos) { continue; }
        const std::string controllers =
            "," + std::string(line.substr(first + 1, second - first - 1)) + ",";
        const bool unified = controllers == ",,";
        if (!unified && controllers.find(",cpu,") == controllers.npos) { continue; }
        std::string path(line.substr(second + 1));
        if (path == "/") { path.clear(); }
        consider_group(unified, path);
        while (!path.empty()) {
            path.resize(path.rfind('/') == path.npos ? 0 : path.rfind('/'));
            consider_group(unified, path);
        }
    }
    return least;
}

}  // namespace multiprocessing::detail::os

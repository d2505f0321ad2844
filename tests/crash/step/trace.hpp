// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The way of a victim through an operation, instruction by instruction.

#include "tracee.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace step {

/// What this process has mapped and shares with its children by the library's doing, but the
/// family's registry, which is large.
class SharedMemory {
  public:
    SharedMemory() {
        std::ifstream maps("/proc/self/maps");
        std::set<std::pair<std::string, std::string>> seen;  // an area of a ring is mapped twice
        for (std::string line; std::getline(maps, line);) {
            if (line.find("/memfd:multiprocessing:") == std::string::npos ||
                line.find(":family") != std::string::npos) {
                continue;
            }
            std::istringstream fields(line);
            std::string range, access, offset, device, inode;
            fields >> range >> access >> offset >> device >> inode;
            if (!seen.emplace(inode, offset).second) { continue; }
            unsigned long begin = 0, end = 0;
            std::sscanf(range.c_str(), "%lx-%lx", &begin, &end);
            parts_.emplace_back(reinterpret_cast<const std::uint64_t*>(begin),
                                std::min<std::size_t>(end - begin, most) / 8);
        }
    }

    /// Returns a number that is another when anything has changed.
    std::uint64_t fingerprint() const {
        std::uint64_t sum = 0;
        for (const auto& [words, count] : parts_) {
            for (std::size_t i = 0; i < count; ++i) {
                sum += static_cast<const volatile std::uint64_t*>(words)[i] *
                       (2 * i + 0x9e3779b97f4a7c15);
            }
        }
        return sum;
    }

  private:
    static constexpr std::size_t most = 128 * 1024;
    std::vector<std::pair<const std::uint64_t*, std::size_t>> parts_;
};

/// Recorded in one run. Other runs go nearly the same way.
class Trace {
  public:
    /// Steps a victim to the end of the operation.
    explicit Trace(Tracee& victim) {
        const SharedMemory memory;
        std::uint64_t before = memory.fingerprint();
        std::map<Tracee::Address, std::size_t> times;
        bool more = true;
        while (more) {
            const Tracee::Address address = victim.at();
            const bool is_call = is_system_call(address);
            places_.push_back({.address = address, .time = ++times[address]});
            const auto begin = std::chrono::steady_clock::now();
            more = victim.step();
            if (!more) { break; }
            const std::uint64_t now = memory.fingerprint();
            if (is_call || now != before) {
                places_.back().matters = true;
                after_matters_.insert(places_.size());
            }
            if (is_call && std::chrono::steady_clock::now() - begin > a_sleep) {
                places_.back().sleeps = true;
            }
            before = now;
            if (places_.size() > 200'000) { throw BadPoint("the operation does not end"); }
        }
        // The last place is the mark's: killed there, the victim has come through.
    }

    /// Returns the number of points: before the first instruction, after it, ..., at the end.
    std::size_t size() const { return places_.size(); }
    Tracee::Address address(std::size_t k) const { return places_[k].address; }

    /// Tells whether the instruction at `k` changes shared memory or enters the kernel, or the one
    /// before did: between such points nobody else sees a difference.
    bool is_distinct(std::size_t k) const {
        return k == 0 || k + 1 == size() || places_[k].matters || after_matters_.contains(k);
    }
    /// Tells whether the instruction at `k` seems to have slept in the kernel.
    bool sleeps(std::size_t k) const { return places_[k].sleeps; }

    /// Brings a victim at the beginning to point `k`; false when it went another way and came to
    /// its end before. By a breakpoint near `k`, since a step costs as much as a thousand
    /// instructions.
    bool bring(Tracee& victim, std::size_t k) const {
        std::size_t from = 0;
        std::size_t least = k;
        const std::size_t first = k > far ? k - far : 1;
        for (std::size_t i = first; i <= k; ++i) {
            const std::size_t cost = 3 * places_[i].time + (k - i);
            if (cost < least) {
                least = cost;
                from = i;
            }
        }
        if (from != 0 && !victim.run_to(places_[from].address, places_[from].time)) {
            return false;
        }
        for (std::size_t i = from; i < k; ++i) {
            if (!victim.step()) { return false; }
        }
        return true;
    }

  private:
    struct Place {
        Tracee::Address address;
        std::size_t time;  // the victim is there for the first time: 1
        bool matters = false;
        bool sleeps = false;
    };

    static constexpr std::size_t far = 200;
    static constexpr std::chrono::microseconds a_sleep{500};

    // The victim is a fork of this process: its code is at the same addresses here.
    static bool is_system_call(Tracee::Address address) {
        const unsigned char code[2] = {0x0f, 0x05};
        return std::memcmp(reinterpret_cast<const void*>(address), code, sizeof code) == 0;
    }

    std::vector<Place> places_;
    std::set<std::size_t> after_matters_;
};

}  // namespace step

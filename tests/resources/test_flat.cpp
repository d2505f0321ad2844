// SPDX-License-Identifier: BSL-1.0

// However many objects come and go, a process holds no more than before; and many live at once.

#include "kinds.hpp"
#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/leak_check.hpp"

#include <multiprocessing.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace mp = multiprocessing;
using namespace resources;
using namespace std::chrono_literals;

namespace {

/// What a process has of the things that leak.
struct Footprint {
    std::size_t descriptors = 0;
    std::size_t maps = 0;
    std::size_t resident = 0;  // bytes, without what is of files

    static Footprint now() {
        Footprint footprint;
        footprint.descriptors = static_cast<std::size_t>(
            std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
        std::ifstream maps("/proc/self/maps");
        footprint.maps =
            static_cast<std::size_t>(std::count(std::istreambuf_iterator<char>(maps), {}, '\n'));
        std::ifstream status("/proc/self/status");
        for (std::string line; std::getline(status, line);) {
            if (line.starts_with("RssAnon:") || line.starts_with("RssShmem:")) {
                footprint.resident += std::stoul(line.substr(line.find(':') + 1)) * 1024;
            }
        }
        return footprint;
    }
};

constexpr std::size_t KiB = 1024;

// AddressSanitizer keeps freed memory for a while, and maps more of it in pieces.
#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kept = 300 * KiB * KiB;
constexpr std::size_t kept_maps = 64;
#else
constexpr std::size_t kept = 0;
constexpr std::size_t kept_maps = 4;
#endif

// Returns by what `after` is more than `before`, empty for nothing. A map may be split, and the
// allocator may take a little more; a leak of 16 bytes an object is more than that.
std::string growth(const Footprint& before, const Footprint& after, std::size_t slack) {
    std::string text;
    const auto compare = [&](const char* what, std::size_t was, std::size_t is, std::size_t most) {
        if (is > was + most) {
            text += std::string(what) + ": " + std::to_string(was) + " before, " +
                    std::to_string(is) + " after\n";
        }
    };
    compare("descriptors", before.descriptors, after.descriptors, 0);
    compare("maps", before.maps, after.maps, kept_maps);
    compare("resident bytes", before.resident, after.resident, slack);
    return text;
}

// Makes and destroys `count` objects, after as many as it takes to have what is kept for good.
std::string growth_over(const Kind& kind, int count, std::size_t slack) {
    for (int i = 0; i < std::max(count / 10, 5); ++i) { kind.make(); }
    const Footprint before = Footprint::now();
    for (int i = 0; i < count; ++i) {
        kind.make();
        if (i % 64 == 0) { support::allow(120s * support::slowness); }
    }
    return growth(before, Footprint::now(), slack + kept);
}

void check_flat(const std::vector<Kind>& kinds, int count, std::size_t slack) {
    for (const Kind& kind : kinds) {
        CAPTURE(kind.name, count);
        // A process of its own, in which nothing else has left room for the leak.
        CHECK(in_child([&] { return growth_over(kind, count, slack); }) == "");
    }
}

// A child uses what this process made, so that its memory cannot be handed out again.
std::string growth_over_shared(int rounds) {
    const auto round = [] {
        const std::vector<Kind> kinds = objects();
        std::vector<std::shared_ptr<void>> kept_objects;
        for (const Kind& kind : kinds) { kept_objects.push_back(kind.make()); }
        const mp::Lock lock;
        const mp::Queue<int> queue;
        const mp::Event event;
        mp::Process child([&] {
            const std::scoped_lock hold(lock);
            queue.put(1);
            event.set();
        });
        child.start();
        expect(queue.get(bound) == 1 && event.wait(bound) && child.join(bound), "a child's use");
    };
    // A slab that is cut on until it is full belongs to what is kept.
    for (int i = 0; i < rounds / 2; ++i) { round(); }
    const Footprint before = Footprint::now();
    for (int i = 0; i < rounds; ++i) {
        round();
        if (i % 16 == 0) { support::allow(120s * support::slowness); }
    }
    return growth(before, Footprint::now(), 4 * KiB * KiB + kept);
}

void live_at_once(std::size_t count) {
    const auto before = support::Holdings::now();
    const Footprint footprint = Footprint::now();
    {
        std::vector<mp::Lock> locks(count / 2);
        std::vector<mp::Event> events(count / 2);
        for (std::size_t i = 0; i < locks.size(); ++i) {
            if (i % 2 == 0) { locks[i].acquire(); }
            if (i % 3 == 0) { events[i].set(); }
        }
        // Each is its own.
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < locks.size(); ++i) {
            wrong += locks[i].locked() != (i % 2 == 0) ? 1U : 0U;
            wrong += events[i].is_set() != (i % 3 == 0) ? 1U : 0U;
        }
        CHECK(wrong == 0);
        const Footprint full = Footprint::now();
        CHECK(full.descriptors < footprint.descriptors + 32);
        CHECK(full.maps < footprint.maps + 64);
        // 64 bytes of shared memory and what a handle and its count take.
        CHECK(full.resident < footprint.resident + count * 512 + 8 * KiB * KiB + kept);

        // A child has them all, and what it does is seen here.
        mp::Process child([&] {
            for (std::size_t i = 0; i < locks.size(); ++i) {
                if (i % 2 == 0) { locks[i].release(); }
                events[i].set();
            }
        });
        child.start();
        CHECK(child.join(bound));
        CHECK(child.exitcode() == 0);
        CHECK(std::none_of(locks.begin(), locks.end(), [](auto& lock) { return lock.locked(); }));
        CHECK(
            std::all_of(events.begin(), events.end(), [](auto& event) { return event.is_set(); }));
    }
    CHECK(support::left_behind(before) == "");
}

}  // namespace

TEST_CASE("objects that come and go leave nothing", "[resources]") {
    check_flat(objects(), 2'000, 32 * KiB);
}

TEST_CASE("10,000 objects of each class come and go, and leave nothing", "[resources][long]") {
    check_flat(objects(), 10'000, 64 * KiB);
}

TEST_CASE("processes and pools that come and go leave nothing", "[resources]") {
    check_flat({process(), daemon()}, 60, 64 * KiB);
    check_flat({pool(), thread_pool()}, 8, 128 * KiB);
}

TEST_CASE("300 processes and 30 pools of each kind come and go, and leave nothing",
          "[resources][long]") {
    check_flat({process(), daemon()}, 300, 64 * KiB);
    check_flat({pool(), thread_pool()}, 30, 128 * KiB);
}

TEST_CASE("objects that children have used come and go, and leave nothing", "[resources]") {
    CHECK(in_child([] { return growth_over_shared(40); }) == "");
}

TEST_CASE("objects that 3,000 children have used come and go, and leave nothing",
          "[resources][long]") {
    CHECK(in_child([] { return growth_over_shared(3'000); }) == "");
}

TEST_CASE("100,000 locks and events are alive at once, here and in a child", "[resources]") {
    live_at_once(100'000);
}

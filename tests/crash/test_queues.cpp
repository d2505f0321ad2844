// SPDX-License-Identifier: BSL-1.0

// A user of a ring or a queue is ended at every named place, and at random ones: the others go on,
// and nothing is gone but what he had in hand.

// Before the library, which this file must therefore see first: no precompiled header.
namespace {
void reach(const char* place);
}  // namespace
#define MULTIPROCESSING_KILL_POINT(name) ::reach(name)

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/forked.hpp"

#include <multiprocessing/queues.hpp>

#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace mp = multiprocessing;
using mp::detail::Ring;
using mp::detail::RingStatus;
using support::Forked;
using namespace std::chrono_literals;

namespace {

// In a victim: how many places it passes before it is ended.
int places_to_pass = -1;
// In a survivor: whether to pass them all.
void reach(const char*) {
    if (places_to_pass >= 0 && places_to_pass-- == 0) { ::raise(SIGKILL); }
}

constexpr std::size_t MiB = 1024 * 1024;

struct Place {
    Ring ring;
    std::uint64_t before = 0;  // records that are in it before the victim begins: 0, 1, ...
};

RingStatus put(Ring& ring, std::uint64_t number, std::size_t size = 8, mp::Timeout timeout = 2s) {
    const auto write = [&](std::span<std::byte> to) {
        std::memset(to.data(), static_cast<int>(number), to.size());
        std::memcpy(to.data(), &number, sizeof number);
    };
    return ring.put(size, write, timeout);
}

/// Returns the number of the record, or 1000 and more for what is wrong.
std::uint64_t get(Ring& ring, mp::Timeout timeout = 2s) {
    std::uint64_t number = 1000;
    const RingStatus status = ring.get(
        [&](std::span<const std::byte> from) {
            if (from.size() < sizeof number) { return; }
            std::memcpy(&number, from.data(), sizeof number);
            const auto rest = from.subspan(sizeof number);
            const auto filler = static_cast<std::byte>(number);
            if (std::any_of(rest.begin(), rest.end(), [&](auto byte) { return byte != filler; })) {
                number = 1001;
            }
        },
        timeout);
    return status == RingStatus::ok ? number : 1002;
}

/// Runs `operation` in victims that are ended at the first place, the second, ..., until one comes
/// through; after each a survivor must find `before` or `after` true, and the ring usable.
/// Returns how many places there were.
template <class Setup, class Operation, class Check>
int kill_everywhere(Setup setup, Operation operation, Check check) {
    for (int place = 0; place < 1000; ++place) {
        auto ring = std::make_unique<Ring>();
        setup(*ring);
        Forked victim([&] {
            places_to_pass = place;
            operation(*ring);
            return 0;
        });
        const int ended = victim.join();
        INFO("killed at place " << place);
        // The survivor is a process of its own too: a hang is then its alarm, and said here.
        Forked survivor([&] {
            const auto time = support::timed([&] {
                if (!check(*ring)) { ::_exit(1); }
                // And it can be used as ever.
                for (std::uint64_t i = 100; i < 110; ++i) {
                    if (put(*ring, i, i == 105 ? 5 * MiB : 8) != RingStatus::ok) { ::_exit(2); }
                }
                for (std::uint64_t i = 100; i < 110; ++i) {
                    if (get(*ring) != i) { ::_exit(3); }
                }
            });
            return time < 2s * support::slowness ? 0 : 4;
        });
        CHECK(survivor.join() == 0);
        struct stat file {};
        CHECK(::fstat(ring->file(), &file) == 0);
        CHECK(static_cast<std::size_t>(file.st_blocks) * 512 <= 17 * MiB);
        if (ended == 0) { return place; }
        REQUIRE(ended == -SIGKILL);
    }
    FAIL("an operation that never ends");
    return 0;
}

}  // namespace

TEST_CASE("a producer that is killed at any named place has put or has not", "[crash]") {
    const std::size_t size = GENERATE(as<std::size_t>(), 8, 70'000, 6 * MiB);
    const bool watched = GENERATE(false, true);
    const int places = kill_everywhere(
        [&](Ring& ring) {
            if (watched) { ring.fileno(); }
            put(ring, 0);
            put(ring, 1);
        },
        [&](Ring& ring) { put(ring, 2, size); },
        [&](Ring& ring) {
            const std::size_t there = ring.size();
            if (there != 2 && there != 3) { return false; }
            for (std::uint64_t i = 0; i < there; ++i) {
                if (get(ring, 0s) != i) { return false; }
            }
            return ring.empty();
        });
    CHECK(places >= (size == 8 ? 2 : 5));
}

TEST_CASE("a consumer that is killed at any named place has got or has not", "[crash]") {
    const std::size_t size = GENERATE(as<std::size_t>(), 8, 70'000, 6 * MiB);
    const bool watched = GENERATE(false, true);
    const int places = kill_everywhere(
        [&](Ring& ring) {
            if (watched) { ring.fileno(); }
            put(ring, 0, size);
            put(ring, 1, 100'000);
            put(ring, 2, 300'000);
        },
        [&](Ring& ring) {
            for (int i = 0; i < 3; ++i) { get(ring, 0s); }
        },
        [&](Ring& ring) {
            const std::size_t there = ring.size();
            if (there > 3) { return false; }
            for (std::uint64_t i = 3 - there; i < 3; ++i) {
                if (get(ring, 0s) != i) { return false; }
            }
            return ring.empty();
        });
    CHECK(places >= 6);
}

TEST_CASE("who is killed while he sleeps or wakes is missed by nobody", "[crash]") {
    for (int place = 0; place < 6; ++place) {
        Ring ring({.limit = 1});
        Forked sleeper([&] { return get(ring, 20s) == 7 ? 0 : 1; });
        Forked victim([&] {
            places_to_pass = place;
            put(ring, 7);
            put(ring, 7);  // waits for a place until the sleeper has got the first
            return 0;
        });
        victim.join();
        if (ring.puts() == 0) { put(ring, 7); }
        CHECK(sleeper.join() == 0);
    }
}

TEST_CASE("who is killed in shutting down a ring leaves it open or at its end", "[crash]") {
    const bool immediate = GENERATE(false, true);
    for (int place = 0; place < 20; ++place) {
        Ring ring;
        put(ring, 1);
        Forked waiting([&] {
            while (put(ring, 1) == RingStatus::ok && get(ring) != 1002) {}
            return ring.is_shut_down() ? 0 : 1;
        });
        Forked victim([&] {
            places_to_pass = place;
            ring.shut_down(immediate);
            return 0;
        });
        const int ended = victim.join();
        ring.shut_down(immediate);
        CHECK(waiting.join() == 0);
        if (ended == 0) { break; }
    }
}

TEST_CASE("the descriptor tells the truth after a death at any named place", "[crash]") {
    for (int place = 0; place < 40; ++place) {
        Ring ring;
        Forked victim([&] {
            places_to_pass = place;
            ring.fileno();
            put(ring, 1);
            put(ring, 2);
            get(ring, 0s);
            get(ring, 0s);
            get(ring, 0s);
            return 0;
        });
        const int ended = victim.join();
        INFO("killed at place " << place);
        pollfd entry{.fd = ring.fileno(), .events = POLLIN, .revents = 0};
        // Whoever takes what there is as long as it is readable has everything in the end.
        while (::poll(&entry, 1, 0) == 1) { get(ring, 0s); }
        CHECK(ring.empty());
        CHECK(put(ring, 3) == RingStatus::ok);
        CHECK(::poll(&entry, 1, 0) == 1);
        CHECK(get(ring, 0s) == 3);
        CHECK(::poll(&entry, 1, 0) == 0);
        if (ended == 0) {
            CHECK(place >= 10);
            break;
        }
    }
}

namespace {

constexpr std::uint64_t most_items = 4'000'000;

/// What the storm's processes report, in memory that they share.
struct Account {
    // Item i: 1 when its put has returned, by its producer.
    std::unique_ptr<mp::detail::Segment> memory =
        std::make_unique<mp::detail::Segment>("account", 2 * most_items + 4096);
    std::atomic<std::uint8_t>* put() const {
        return reinterpret_cast<std::atomic<std::uint8_t>*>(memory->data() + 4096);
    }
    // Item i: how often it has been got.
    std::atomic<std::uint8_t>* got() const { return put() + most_items; }
    std::atomic<std::uint64_t>& next() const {
        return *reinterpret_cast<std::atomic<std::uint64_t>*>(memory->data());
    }
    std::atomic<std::uint64_t>& corrupt() const { return (&next())[8]; }
};

struct Item {
    std::uint64_t number = 0;
    std::vector<std::uint8_t> filler;
};

std::uint8_t filler_of(std::uint64_t number) { return static_cast<std::uint8_t>(number * 31); }

int produce(const mp::Queue<Item>& queue, const Account& account, unsigned seed) {
    std::mt19937 random(seed);
    for (;;) {
        const std::uint64_t number = account.next().fetch_add(1);
        if (number >= most_items) { return 0; }
        const std::size_t size = random() % 300 == 0 ? random() % 5'000'000 : random() % 300;
        try {
            queue.put({number, std::vector<std::uint8_t>(size, filler_of(number))});
        } catch (const mp::ShutDown&) { return 0; }
        account.put()[number].store(1);
    }
}

int consume(const mp::Queue<Item>& queue, const Account& account) {
    for (;;) {
        try {
            const Item item = queue.get();
            const bool right = item.number < most_items &&
                               std::all_of(item.filler.begin(), item.filler.end(), [&](auto byte) {
                                   return byte == filler_of(item.number);
                               });
            if (right) {
                account.got()[item.number].fetch_add(1);
            } else {
                account.corrupt().fetch_add(1);
            }
        } catch (const mp::ShutDown&) { return 0; }
    }
}

}  // namespace

TEST_CASE("a storm of kills costs at most one item each", "[crash]") {
    const std::size_t maxsize = GENERATE(as<std::size_t>(), 0, 20);
    const auto seed =
        static_cast<unsigned>(std::chrono::steady_clock::now().time_since_epoch().count());
    INFO("seed " << seed << ", maxsize " << maxsize);
    std::mt19937 random(seed);
    const mp::Queue<Item> queue(maxsize);
    const Account account;
    std::vector<Forked> producers;
    std::vector<Forked> consumers;
    const auto start_producer = [&] {
        const unsigned s = static_cast<unsigned>(random());
        return Forked([&, s] { return produce(queue, account, s); });
    };
    const auto start_consumer = [&] { return Forked([&] { return consume(queue, account); }); };
    for (int i = 0; i < 3; ++i) {
        producers.push_back(start_producer());
        consumers.push_back(start_consumer());
    }
    std::uint64_t killed_consumers = 0;
    const auto begin = std::chrono::steady_clock::now();
    int kills = 0;
    for (; kills < 300 && std::chrono::steady_clock::now() - begin < 8s; ++kills) {
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 8000));
        const bool producer = random() % 2 == 0;
        auto& victims = producer ? producers : consumers;
        Forked& victim = victims[random() % victims.size()];
        victim.kill();
        REQUIRE(victim.join() == -SIGKILL);
        killed_consumers += producer ? 0 : 1;
        victim = producer ? start_producer() : start_consumer();
        // A side that made no progress within a second stands still.
        if (kills % 20 == 19) {
            const std::uint64_t before = account.next().load();
            REQUIRE(support::eventually([&] { return account.next().load() > before + 6; }, 5s));
        }
    }
    queue.shutdown();
    for (Forked& producer : producers) { CHECK(producer.join() == 0); }
    for (Forked& consumer : consumers) { CHECK(consumer.join() == 0); }
    CHECK(kills > 50);
    CHECK(account.corrupt().load() == 0);
    CHECK(queue.qsize() == 0);
    std::uint64_t lost = 0;
    std::uint64_t twice = 0;
    for (std::uint64_t i = 0; i < most_items; ++i) {
        const int got = account.got()[i].load();
        if (got > 1) { ++twice; }
        if (got == 0 && account.put()[i].load() != 0) { ++lost; }
    }
    CHECK(twice == 0);
    CHECK(lost <= killed_consumers);
}

// SPDX-License-Identifier: BSL-1.0

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/forked.hpp"

#include <multiprocessing/shm/ring.hpp>

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
#include <deque>
#include <map>
#include <new>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
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

constexpr std::size_t KiB = 1024;
constexpr std::size_t MiB = 1024 * KiB;

/// A byte that depends on the record and on the place in it.
std::byte pattern(std::uint64_t seed, std::size_t i) {
    return static_cast<std::byte>((seed * 0x9e3779b97f4a7c15 + i * 0x2545f491) >> 24);
}

void fill(std::span<std::byte> to, std::uint64_t seed) {
    for (std::size_t i = 0; i < to.size(); ++i) { to[i] = pattern(seed, i); }
}

bool is_filled(std::span<const std::byte> from, std::uint64_t seed, std::size_t size) {
    if (from.size() != size) { return false; }
    for (std::size_t i = 0; i < size; ++i) {
        if (from[i] != pattern(seed, i)) { return false; }
    }
    return true;
}

RingStatus put(Ring& ring, std::uint64_t seed, std::size_t size, mp::Timeout timeout = 20s) {
    return ring.put(
        size, [seed](std::span<std::byte> to) { fill(to, seed); }, timeout);
}

/// Takes one and tells whether it is the one that was expected.
bool get(Ring& ring, std::uint64_t seed, std::size_t size, mp::Timeout timeout = 20s) {
    bool right = false;
    const auto read = [&](std::span<const std::byte> from) { right = is_filled(from, seed, size); };
    return ring.get(read, timeout) == RingStatus::ok && right;
}

RingStatus put_number(Ring& ring, std::uint64_t number, mp::Timeout timeout = 20s) {
    const auto write = [number](std::span<std::byte> to) {
        std::memcpy(to.data(), &number, sizeof number);
    };
    return ring.put(sizeof number, write, timeout);
}

std::optional<std::uint64_t> get_number(Ring& ring, mp::Timeout timeout = 20s) {
    std::uint64_t number = 0;
    const auto read = [&number](std::span<const std::byte> from) {
        std::memcpy(&number, from.data(), std::min(from.size(), sizeof number));
    };
    if (ring.get(read, timeout) != RingStatus::ok) { return std::nullopt; }
    return number;
}

/// What the ring's file holds of memory, in bytes.
std::size_t memory_of(const Ring& ring) {
    struct stat file {};
    return ::fstat(ring.file(), &file) == 0 ? static_cast<std::size_t>(file.st_blocks) * 512 : 0;
}

bool is_readable(int fd, int milliseconds = 0) {
    pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
    return ::poll(&entry, 1, milliseconds) == 1;
}

}  // namespace

TEST_CASE("a record of any size arrives as it was put") {
    Ring ring;
    const std::vector<std::size_t> sizes = {0,
                                            1,
                                            7,
                                            8,
                                            9,
                                            63,
                                            64,
                                            4095,
                                            64 * KiB - 9,
                                            64 * KiB - 8,
                                            64 * KiB - 7,
                                            64 * KiB,
                                            200 * KiB,
                                            MiB - 8,
                                            MiB,
                                            4 * MiB,
                                            4 * MiB + 1,
                                            64 * MiB,
                                            3,
                                            0};
    for (int round = 0; round < 2; ++round) {
        for (std::size_t i = 0; i < sizes.size(); ++i) {
            REQUIRE(put(ring, i, sizes[i]) == RingStatus::ok);
            REQUIRE(ring.size() == i + 1);
        }
        for (std::size_t i = 0; i < sizes.size(); ++i) {
            INFO("size " << sizes[i]);
            REQUIRE(get(ring, i, sizes[i]));
        }
        REQUIRE(ring.empty());
        for (std::size_t i = 0; i < sizes.size(); ++i) {
            INFO("alone, size " << sizes[i]);
            REQUIRE(put(ring, i, sizes[i]) == RingStatus::ok);
            REQUIRE(get(ring, i, sizes[i]));
        }
    }
}

TEST_CASE("records come out as they went in, however the ring wraps, grows and shrinks") {
    Ring ring;
    std::mt19937_64 random(20240607);
    std::deque<std::pair<std::uint64_t, std::size_t>> expected;
    std::size_t bytes = 0;
    const auto size = [&]() -> std::size_t {
        switch (random() % 100) {
            case 0:
                return random() % (6 * MiB);
            case 1:
            case 2:
                return random() % (300 * KiB);
            case 3:
            case 4:
            case 5:
            case 6:
                return random() % (20 * KiB);
            default:
                return random() % 600;
        }
    };
    for (std::uint64_t step = 0; step < 6000; ++step) {
        // Phases that fill up and phases that drain.
        const bool putting = random() % 10 < (step / 500 % 2 == 0 ? 7U : 3U) && bytes < 64 * MiB;
        if (putting) {
            const std::size_t n = size();
            REQUIRE(put(ring, step, n) == RingStatus::ok);
            expected.emplace_back(step, n);
            bytes += n;
        } else if (!expected.empty()) {
            const auto [seed, n] = expected.front();
            REQUIRE(get(ring, seed, n, 0s));
            expected.pop_front();
            bytes -= n;
        }
        REQUIRE(ring.size() == expected.size());
    }
    for (; !expected.empty(); expected.pop_front()) {
        REQUIRE(get(ring, expected.front().first, expected.front().second, 0s));
    }
    CHECK(!get_number(ring, 0s));
    CHECK(memory_of(ring) <= 5 * MiB);
}

TEST_CASE("what was needed for a flood is given back when it has passed") {
    Ring ring;
    SECTION("of small records") {
        for (std::uint64_t i = 0; i < 400'000; ++i) {
            REQUIRE(put_number(ring, i) == RingStatus::ok);
        }
        CHECK(memory_of(ring) >= 400'000 * 16);
        for (std::uint64_t i = 0; i < 400'000; ++i) { REQUIRE(get_number(ring) == i); }
    }
    SECTION("of large ones") {
        for (std::uint64_t i = 0; i < 10; ++i) { REQUIRE(put(ring, i, 8 * MiB) == RingStatus::ok); }
        CHECK(memory_of(ring) >= 80 * MiB);
        for (std::uint64_t i = 0; i < 10; ++i) { REQUIRE(get(ring, i, 8 * MiB)); }
    }
    SECTION("though the ring never was empty since") {
        for (std::uint64_t i = 0; i < 40; ++i) { REQUIRE(put(ring, i, MiB) == RingStatus::ok); }
        for (std::uint64_t i = 0; i < 39; ++i) { REQUIRE(get(ring, i, MiB)); }
        REQUIRE(put(ring, 40, 8) == RingStatus::ok);
        REQUIRE(get(ring, 39, MiB));
        for (std::uint64_t i = 0; i < 20'000; ++i) {
            REQUIRE(put(ring, 41 + i, 8 * KiB) == RingStatus::ok);
            REQUIRE(get(ring, 40 + i, i == 0 ? 8 : 8 * KiB));
        }
    }
    CHECK(memory_of(ring) <= 5 * MiB);
}

TEST_CASE("an error in a reader or writer leaves the ring as it was") {
    Ring ring;
    const std::size_t size = GENERATE(as<std::size_t>(), 8, 2 * MiB, 9 * MiB);
    const auto fail = [](auto) { throw std::runtime_error("no"); };
    REQUIRE(put(ring, 1, 8) == RingStatus::ok);
    CHECK_THROWS_AS(ring.put(size, fail), std::runtime_error);
    CHECK(ring.size() == 1);
    REQUIRE(put(ring, 2, size) == RingStatus::ok);
    CHECK(get(ring, 1, 8));
    CHECK_THROWS_AS(ring.get(fail), std::runtime_error);
    CHECK(ring.size() == 1);
    CHECK(get(ring, 2, size));
    CHECK(memory_of(ring) <= 9 * MiB);  // one area for records of 2 MiB
}

TEST_CASE("without memory a put says so and changes nothing") {
    Ring ring;
    REQUIRE(put_number(ring, 1) == RingStatus::ok);
    const std::size_t before = memory_of(ring);
    // More than any machine has, and more than a file can be long.
    for (const std::size_t size : {std::size_t{1} << 54, std::size_t{1} << 50}) {
        try {
            ring.put(size, [](auto) {});
            FAIL("had memory for a petabyte");
        } catch (const mp::OSError& error) {
            CHECK_THAT(error.what(), support::contains(std::to_string(size)));
        }
    }
    CHECK(memory_of(ring) == before);
    CHECK(ring.size() == 1);
    CHECK(get_number(ring) == 1U);
}

TEST_CASE("a ring with a limit holds exactly that many records") {
    constexpr std::size_t limit = 6;
    Ring ring({.limit = limit});
    for (int round = 0; round < 20; ++round) {
        // Four processes put as much as goes, then four take as much as there is.
        const auto in_four = [](auto f) {
            std::vector<Forked> children;
            for (int i = 0; i < 4; ++i) { children.emplace_back(f); }
            int sum = 0;
            for (Forked& child : children) { sum += child.join(); }
            return sum;
        };
        const int put_in = in_four([&] {
            int count = 0;
            while (put_number(ring, 1, 0s) == RingStatus::ok) { ++count; }
            return count;
        });
        REQUIRE(put_in == limit);
        REQUIRE(ring.full());
        const int taken = in_four([&] {
            int count = 0;
            while (get_number(ring, 0s)) { ++count; }
            return count;
        });
        REQUIRE(taken == limit);
        REQUIRE(ring.empty());
    }
}

TEST_CASE("waiting keeps its bound") {
    Ring ring({.limit = 1});
    CHECK(support::timed([&] { CHECK(!get_number(ring, 150ms)); }) >= 150ms);
    CHECK(support::timed([&] { CHECK(!get_number(ring, 0s)); }) < 5s);
    REQUIRE(put_number(ring, 1) == RingStatus::ok);
    CHECK(support::timed([&] { CHECK(put_number(ring, 2, 150ms) == RingStatus::timed_out); }) >=
          150ms);
    CHECK(put_number(ring, 2, -1s) == RingStatus::timed_out);
}

TEST_CASE("a sleeper is woken, not found by the next look") {
    Ring ring({.limit = 1});
    Ring answers({.limit = 1});
    Forked child([&] {
        for (std::uint64_t i = 0; i < 100; ++i) {
            if (get_number(ring) != i) { return 1; }
            // Longer than anybody spins, so that the other side has to be woken.
            std::this_thread::sleep_for(1ms);
            if (put_number(answers, i) != RingStatus::ok) { return 2; }
        }
        return 0;
    });
    const auto time = support::timed([&] {
        for (std::uint64_t i = 0; i < 100; ++i) {
            REQUIRE(put_number(ring, i) == RingStatus::ok);
            REQUIRE(get_number(answers) == i);
        }
    });
    CHECK(child.join() == 0);
    // Without wakes it would be 50 ms each, of two hundred.
    CHECK(time < 5s);
}

TEST_CASE("a process that is stopped inside costs the others time, not their bounds") {
    Ring ring;
    REQUIRE(put_number(ring, 1) == RingStatus::ok);
    Forked producer([&] {
        ring.put(8, [](std::span<std::byte> to) {
            ::raise(SIGSTOP);
            fill(to, 7);
        });
        return 0;
    });
    REQUIRE(producer.wait_stopped());
    const auto bounded = [&](auto f, std::chrono::milliseconds least) {
        const auto time = support::timed(f);
        CHECK(time >= least);
        CHECK(time < least + 5s);
    };
    bounded([&] { CHECK(put_number(ring, 2, 200ms) == RingStatus::timed_out); }, 200ms);
    bounded([&] { CHECK(put_number(ring, 2, 0s) == RingStatus::timed_out); }, 0ms);
    // The readers have their own guard.
    CHECK(get_number(ring) == 1U);
    bounded([&] { CHECK(!get_number(ring, 200ms)); }, 200ms);
    producer.kill(SIGCONT);
    CHECK(producer.join() == 0);
    CHECK(get(ring, 7, 8));

    REQUIRE(put_number(ring, 3) == RingStatus::ok);
    Forked consumer([&] {
        ring.get([](std::span<const std::byte>) { ::raise(SIGSTOP); });
        return 0;
    });
    REQUIRE(consumer.wait_stopped());
    bounded([&] { CHECK(!get_number(ring, 200ms)); }, 200ms);
    CHECK(put_number(ring, 4) == RingStatus::ok);
    consumer.kill();
    CHECK(consumer.join() == -SIGKILL);
    CHECK(get_number(ring) == 3U);
    CHECK(get_number(ring) == 4U);
}

TEST_CASE("a ring that is shut down is not at its end while somebody is about to commit") {
    Ring ring;
    Forked producer([&] {
        return ring.put(8,
                        [](std::span<std::byte> to) {
                            ::raise(SIGSTOP);
                            fill(to, 7);
                        }) == RingStatus::ok
                   ? 0
                   : 1;
    });
    REQUIRE(producer.wait_stopped());
    ring.shut_down(false);
    const auto nothing = [](std::span<const std::byte>) {};
    CHECK(ring.get(nothing, 200ms) == RingStatus::timed_out);
    ::kill(producer.pid(), SIGCONT);
    CHECK(producer.join() == 0);
    CHECK(ring.get(nothing, 20s) == RingStatus::ok);
    CHECK(ring.get(nothing, 20s) == RingStatus::shut_down);
}

TEST_CASE("who is killed while writing or reading has not begun") {
    Ring ring;
    const std::size_t size = GENERATE(as<std::size_t>(), 8, 3 * MiB, 32 * MiB);
    REQUIRE(put(ring, 1, 8) == RingStatus::ok);
    for (int round = 0; round < 3; ++round) {
        Forked producer([&] {
            ring.put(size, [](std::span<std::byte> to) {
                to[0] = std::byte{1};
                ::raise(SIGKILL);
            });
            return 0;
        });
        CHECK(producer.join() == -SIGKILL);
    }
    CHECK(ring.size() == 1);
    REQUIRE(put(ring, 2, size) == RingStatus::ok);
    // One record of an extent, or an area that grew; nothing of those who died.
    CHECK(memory_of(ring) <= 33 * MiB);
    for (int round = 0; round < 3; ++round) {
        Forked consumer([&] {
            ring.get([](std::span<const std::byte>) { ::raise(SIGKILL); });
            return 0;
        });
        CHECK(consumer.join() == -SIGKILL);
    }
    CHECK(get(ring, 1, 8));
    CHECK(get(ring, 2, size));
    CHECK(ring.empty());
}

TEST_CASE("a process that has put and ended waits for no reader") {
    Ring ring;
    Forked producer([&] {
        for (std::uint64_t i = 0; i < 100; ++i) { put(ring, i, MiB); }
        return 0;
    });
    CHECK(producer.join() == 0);
    for (std::uint64_t i = 0; i < 100; ++i) { REQUIRE(get(ring, i, MiB)); }
    CHECK(memory_of(ring) <= 5 * MiB);
}

TEST_CASE("several to several: everything arrives once, in each producer's order") {
    Ring ring({.limit = GENERATE(as<std::size_t>(), 0, 5)});
    Ring results;
    constexpr std::uint64_t producers = 3;
    constexpr std::uint64_t consumers = 3;
    constexpr std::uint64_t each = 5000;
    std::vector<Forked> children;
    for (std::uint64_t p = 0; p < producers; ++p) {
        children.emplace_back([&, p] {
            std::mt19937_64 random(p);
            for (std::uint64_t i = 0; i < each; ++i) {
                const std::size_t size =
                    16 + (random() % 500 == 0 ? random() % (5 * MiB) : random() % 200);
                const auto write = [&](std::span<std::byte> to) {
                    std::memcpy(to.data(), &p, 8);
                    std::memcpy(to.data() + 8, &i, 8);
                    fill(to.subspan(16), p * each + i);
                };
                if (ring.put(size, write) != RingStatus::ok) { return 1; }
            }
            return 0;
        });
    }
    std::vector<Forked> readers;
    for (std::uint64_t c = 0; c < consumers; ++c) {
        readers.emplace_back([&] {
            std::array<std::uint64_t, producers> next{};
            for (;;) {
                std::uint64_t id[2];
                bool right = true;
                const RingStatus status = ring.get([&](std::span<const std::byte> from) {
                    std::memcpy(id, from.data(), sizeof id);
                    right = id[0] < producers &&
                            is_filled(from.subspan(16), id[0] * each + id[1], from.size() - 16);
                });
                if (status == RingStatus::shut_down) { return 0; }
                if (status != RingStatus::ok || !right) { return 1; }
                if (id[1] < next[id[0]]) { return 2; }
                next[id[0]] = id[1] + 1;
                put_number(results, id[0] * each + id[1]);
            }
        });
    }
    for (Forked& child : children) { CHECK(child.join() == 0); }
    ring.shut_down(false);
    for (Forked& reader : readers) { CHECK(reader.join() == 0); }
    std::vector<int> seen(producers * each);
    while (const auto number = get_number(results, 0s)) { ++seen.at(*number); }
    CHECK(std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; }));
}

TEST_CASE("positions and counts wrap around") {
    Ring ring({.limit = 100});
    // As after 128 GiB and 2^30 records, nearly.
    const mp::detail::os::Mapping mapping(ring.file(), 0, sizeof(mp::detail::RingHeader));
    auto& header = *reinterpret_cast<mp::detail::RingHeader*>(mapping.data());
    constexpr std::uint64_t position = (std::uint64_t{1} << 34) - 500;
    constexpr std::uint64_t end = position << 30 | ((std::uint64_t{1} << 30) - 50);
    for (auto* word : {&header.tail, &header.head, &header.head_seen, &header.tail_seen}) {
        word->store(end);
    }
    header.finished.store(static_cast<std::uint32_t>(end));
    const std::size_t size = GENERATE(as<std::size_t>(), 8, 1000, 100'000);
    for (std::uint64_t i = 0; i < 300; i += 3) {
        REQUIRE(put(ring, i, size) == RingStatus::ok);
        REQUIRE(put(ring, i + 1, size) == RingStatus::ok);
        REQUIRE(put(ring, i + 2, size / 2) == RingStatus::ok);
        REQUIRE(ring.size() == 3);
        REQUIRE(ring.unfinished() == 3);
        REQUIRE(get(ring, i, size));
        REQUIRE(get(ring, i + 1, size));
        REQUIRE(get(ring, i + 2, size / 2));
        for (int k = 0; k < 3; ++k) { REQUIRE(ring.finish_one()); }
        REQUIRE(!ring.finish_one());
    }
    CHECK(ring.puts() == 250);
    CHECK(header.tail.load() >> 30 < position);
}

TEST_CASE("many records cross with few synchronisations") {
    Ring ring;
    const auto size_of = [](std::size_t i) { return i % 7 == 0 ? 40 * KiB : i % 50; };
    const auto write = [](std::size_t i, std::span<std::byte> to) { fill(to, i); };
    constexpr std::size_t count = 3000;
    CHECK(ring.put_many(count, size_of, write).done == count);
    CHECK(ring.size() == count);
    std::size_t taken = 0;
    while (taken < count) {
        bool right = true;
        const auto progress =
            ring.get_many(100, [&](std::size_t i, std::span<const std::byte> from) {
                right = right && is_filled(from, taken + i, size_of(taken + i));
            });
        REQUIRE(progress.done == 100);
        REQUIRE(right);
        taken += progress.done;
    }
    CHECK(ring.empty());

    SECTION("as many as there are are enough") {
        put_number(ring, 5);
        put_number(ring, 6);
        CHECK(ring.get_many(100, [](auto...) {}).done == 2);
        CHECK(ring.get_many(
                      100, [](auto...) {}, 10ms)
                  .status == RingStatus::timed_out);
        CHECK(ring.get_many(
                      0, [](auto...) {}, 10ms)
                  .done == 0);
    }
    SECTION("what cannot be read is the first of the next call") {
        put_number(ring, 5);
        put_number(ring, 6);
        const auto read = [](std::size_t i, auto) {
            if (i == 1) { throw std::runtime_error("no"); }
        };
        CHECK(ring.get_many(100, read).done == 1);
        CHECK(ring.size() == 1);
        CHECK(get_number(ring) == 6U);
    }
    SECTION("a limit is kept") {
        Ring small({.limit = 10});
        CHECK(small.put_many(25, size_of, write, 20ms).done == 10);
        CHECK(small.size() == 10);
        Forked reader([&] {
            std::size_t got = 0;
            while (got < 35) {
                got += small.get_many(4, [](auto...) {}).done;
            }
            return got == 35 ? 0 : 1;
        });
        CHECK(small.put_many(25, size_of, write).done == 25);
        CHECK(reader.join() == 0);
    }
}

TEST_CASE("what is noted before the commit names the record that is taken") {
    Ring ring;
    for (std::uint64_t i = 0; i < 10; ++i) { put_number(ring, i); }
    for (std::uint64_t i = 0; i < 10; ++i) {
        std::uint32_t noted = 99;
        std::size_t still_there = 0;
        ring.get([](auto) {}, 0s,
                 [&](std::uint32_t sequence) {
                     noted = sequence;
                     still_there = ring.size();
                 });
        CHECK(noted == i);
        CHECK(still_there == 10 - i);
    }
    CHECK(ring.puts() == 10);
    CHECK(ring.gets() == 10);
}

TEST_CASE("a ring that is shut down is drained and then at its end") {
    Ring ring({.limit = 2});
    SECTION("whoever waits for a record is told") {
        std::vector<Forked> waiting;
        for (int i = 0; i < 3; ++i) {
            waiting.emplace_back(
                [&] { return ring.get([](auto) {}) == RingStatus::shut_down ? 0 : 1; });
        }
        ring.shut_down(false);
        for (Forked& child : waiting) { CHECK(child.join() == 0); }
    }
    SECTION("whoever waits for a place is told") {
        put_number(ring, 1);
        put_number(ring, 2);
        Forked waiting([&] { return put_number(ring, 3) == RingStatus::shut_down ? 0 : 1; });
        ring.shut_down(false);
        CHECK(waiting.join() == 0);
        CHECK(get_number(ring) == 1U);
        CHECK(get_number(ring) == 2U);
    }
    SECTION("at once, if it is to be: what is in it is void, and its memory free") {
        put(ring, 1, 10 * MiB);
        put_number(ring, 2);
        ring.shut_down(true);
        CHECK(ring.empty());
        CHECK(memory_of(ring) < MiB);
    }
    CHECK(ring.get([](auto) {}, 0s) == RingStatus::shut_down);
    CHECK(put_number(ring, 1, 0s) == RingStatus::shut_down);
    CHECK(is_readable(ring.fileno()));
    CHECK(ring.is_shut_down());
}

TEST_CASE("the descriptor is readable while a record can be had") {
    Ring ring;
    const bool before = GENERATE(true, false);
    if (before) { put_number(ring, 1); }
    const int fd = ring.fileno();
    CHECK(is_readable(fd) == before);
    if (!before) { put_number(ring, 1); }
    CHECK(is_readable(fd));
    put_number(ring, 2);
    CHECK(get_number(ring) == 1U);
    CHECK(is_readable(fd));
    CHECK(get_number(ring) == 2U);
    CHECK(!is_readable(fd));

    SECTION("for a process that has never asked for it") {
        Forked child([&] { return put_number(ring, 3) == RingStatus::ok ? 0 : 1; });
        CHECK(is_readable(fd, 20'000));
        CHECK(child.join() == 0);
        CHECK(get_number(ring, 0s) == 3U);
        CHECK(!is_readable(fd));
    }
    SECTION("for two that share what there is") {
        constexpr std::uint64_t count = 2000;
        const auto take = [&] {
            int taken = 0;
            while (is_readable(fd, 20'000)) {
                // Behind a producer that the system has put aside inside it may also be too early.
                const RingStatus status = ring.get([](std::span<const std::byte>) {}, 0s);
                if (status == RingStatus::ok) { ++taken; }
                if (status == RingStatus::shut_down) { break; }
            }
            return taken;
        };
        Forked child([&] {
            for (std::uint64_t i = 0; i < count; ++i) { put_number(ring, i); }
            ring.shut_down(false);
            return 0;
        });
        std::atomic<int> sum{0};
        std::thread other([&] { sum += take(); });
        sum += take();
        other.join();
        CHECK(child.join() == 0);
        CHECK(sum == static_cast<int>(count));
    }
    SECTION("though a producer was killed") {
        for (int i = 0; i < 5; ++i) {
            Forked child([&] {
                ring.put(8, [](auto) { ::raise(SIGKILL); });
                return 0;
            });
            CHECK(child.join() == -SIGKILL);
            // It may be readable for nothing, until somebody looks.
            CHECK(!get_number(ring, 0s));
            CHECK(!is_readable(fd));
            put_number(ring, 3);
            CHECK(is_readable(fd));
            CHECK(get_number(ring, 0s) == 3U);
        }
    }
}

TEST_CASE("records are counted until they are done with") {
    Ring ring;
    CHECK(!ring.finish_one());
    CHECK(ring.wait_finished(0s));
    put_number(ring, 1);
    put_number(ring, 2);
    CHECK(ring.unfinished() == 2);
    CHECK(!ring.wait_finished(20ms));
    CHECK(get_number(ring) == 1U);
    CHECK(ring.finish_one());
    SECTION("by another process") {
        Forked child([&] { return ring.finish_one() ? 0 : 1; });
        CHECK(ring.wait_finished());
        CHECK(child.join() == 0);
        CHECK(!ring.finish_one());
    }
    SECTION("or void") {
        ring.shut_down(true);
        CHECK(ring.unfinished() == 0);
        CHECK(ring.wait_finished(0s));
        CHECK(!ring.finish_one());
    }
    SECTION("more than have been taken") {
        CHECK(ring.finish_one());
        CHECK(!ring.finish_one());
        ring.shut_down(true);
        CHECK(ring.unfinished() == 0);
        CHECK(!ring.finish_one());
    }
}

TEST_CASE("a closed ring gives its descriptors back, and tells who waits") {
    Ring ring;
    put_number(ring, 1);
    CHECK(get_number(ring) == 1U);
    const int fd = ring.file();
    std::atomic<bool> closed{false};
    std::thread waiting([&] { closed = ring.get([](auto) {}, 20s) == RingStatus::closed; });
    Forked child([&] { return ring.get([](auto) {}, 20s) == RingStatus::ok ? 0 : 1; });
    ring.close();
    waiting.join();
    CHECK(closed);
    struct stat file {};
    CHECK(::fstat(fd, &file) < 0);
    CHECK(put_number(ring, 2) == RingStatus::closed);
    CHECK(ring.size() == 0);
    ring.close();
    child.kill();
    CHECK(child.join() == -SIGKILL);
}

TEST_CASE("a child of a fork that other threads did not expect can use the ring") {
    Ring ring;
    Ring results;
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
        threads.emplace_back([&, i] {
            std::mt19937_64 random(static_cast<unsigned>(i));
            while (!stop) {
                // Large ones too, so that areas come and go while the process is forked.
                const std::size_t size = random() % 50 == 0 ? random() % (300 * KiB) : 100;
                ring.put(size + 1, [](std::span<std::byte> to) { to[0] = std::byte{1}; });
                ring.get([](auto) {}, 0s);
            }
        });
    }
    for (int i = 0; i < 100; ++i) {
        Forked child([&] {
            for (int k = 0; k < 20; ++k) {
                if (ring.put(1000, [](auto) {}) != RingStatus::ok) { return 1; }
                if (ring.get([](auto) {}) != RingStatus::ok) { return 2; }
            }
            return 0;
        });
        REQUIRE(child.join() == 0);
    }
    stop = true;
    for (std::thread& thread : threads) { thread.join(); }
    while (ring.get([](auto) {}, 0s) == RingStatus::ok) {}
    CHECK(ring.empty());
}

TEST_CASE("a record of 5 GiB arrives as it was put", "[stress][long]") {
    const auto pages = static_cast<std::size_t>(::sysconf(_SC_AVPHYS_PAGES));
    constexpr std::size_t size = 5 * 1024 * MiB + 3;
    if (pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) < size + size / 4) {
        WARN("not enough memory for a record of 5 GiB");
        return;
    }
    support::allow(600s);
    Ring ring;
    const auto word = [](std::size_t i) { return i * 0x9e3779b97f4a7c15; };
    Forked producer([&] {
        const auto write = [&](std::span<std::byte> to) {
            for (std::size_t i = 0; i + 8 <= to.size(); i += 8) {
                const std::uint64_t value = word(i);
                std::memcpy(&to[i], &value, 8);
            }
            to[size - 1] = std::byte{42};
        };
        return ring.put(size, write) == RingStatus::ok ? 0 : 1;
    });
    bool right = true;
    const auto read = [&](std::span<const std::byte> from) {
        right = from.size() == size && from[size - 1] == std::byte{42};
        for (std::size_t i = 0; right && i + 8 <= from.size(); i += 8) {
            std::uint64_t value;
            std::memcpy(&value, &from[i], 8);
            right = value == word(i);
        }
    };
    CHECK(ring.get(read) == RingStatus::ok);
    CHECK(right);
    CHECK(producer.join() == 0);
    CHECK(memory_of(ring) <= 5 * MiB);
}

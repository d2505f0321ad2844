// SPDX-License-Identifier: BSL-1.0

// Arguments and results that are too large for a ring: they cross with one copy a side, and their
// memory comes back whatever becomes of the task.

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/leak_check.hpp"
#include "support/pools.hpp"

#include <multiprocessing/pool.hpp>
#include <multiprocessing/process.hpp>

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <random>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;
using support::Cell;
using support::cell;

namespace {

constexpr std::size_t MiB = 1024 * 1024;
const auto bound = 60s * support::slowness;

using Numbers = std::vector<std::uint64_t>;

Numbers numbers(std::size_t bytes) {
    Numbers all(bytes / sizeof(std::uint64_t));
    std::iota(all.begin(), all.end(), 1);
    return all;
}
Numbers negated(Numbers all) {
    for (auto& each : all) { each = ~each; }
    return all;
}
std::uint64_t sum_of(const Numbers& all) {
    return std::accumulate(all.begin(), all.end(), std::uint64_t{0});
}
std::map<int, std::vector<std::string>> many_texts(int count) {
    std::map<int, std::vector<std::string>> texts;
    for (int i = 0; i < count; ++i) { texts[i].assign(5, "text " + std::to_string(i)); }
    return texts;
}
// Is killed the first times that it is run, with its argument in its hands.
std::uint64_t die_at_first(int times, const Numbers& all) {
    if (++cell(Cell::count) <= times) { ::raise(SIGKILL); }
    return sum_of(all);
}

// Is asked to stop, and has to be killed.
int stay_deaf(const Numbers& all, std::stop_token) {
    ++cell(Cell::started);
    std::this_thread::sleep_for(60s);
    return all.empty() ? 1 : 0;
}

// Does something when some of it has been written.
template <int What>
struct Awkward {
    Numbers before = numbers(3 * MiB);
    Numbers after = numbers(3 * MiB);

    template <class Archive>
    void save(Archive& archive) const {
        archive(before);
        if (What == 1) { throw std::runtime_error("not any further"); }
        if (What == 2) { ::raise(SIGKILL); }
        archive(after);
    }
    template <class Archive>
    void load(Archive& archive) {
        archive(before, after);
    }
};
using Throws = Awkward<1>;
using Dies = Awkward<2>;

template <class T>
T make(int) {
    return {};
}
template <class T>
int take(const T&) {
    return 0;
}

/// Returns the bytes that the large messages of this process's pools take at the moment.
std::uint64_t bulk_memory() {
    std::uint64_t blocks = 0;
    for (const auto& [fd, what] : support::open_descriptors()) {
        struct stat file {};
        if (what.find("multiprocessing:pool") != what.npos && ::fstat(fd, &file) == 0) {
            blocks += static_cast<std::uint64_t>(file.st_blocks);
        }
    }
    return blocks * 512;
}
bool bulk_memory_is_back() {
    return support::eventually([] { return bulk_memory() <= 64 * 1024; });
}

/// Returns the most that this process has held since it began or the last `forget_peak`, in bytes.
std::uint64_t peak_memory() {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
        if (word == "VmHWM:") {
            std::uint64_t kib = 0;
            status >> kib;
            return kib * 1024;
        }
    }
    return 0;
}
void forget_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

// How much the worker has held at most, more than at the beginning of the task.
std::uint64_t peak_with(const Numbers& all) {
    const std::uint64_t peak = peak_memory();
    return all.empty() ? 0 : peak;
}
std::uint64_t peak_without(int) { return peak_memory(); }

}  // namespace

TEST_CASE("large arguments and results arrive as they were", "[pool]") {
    mp::Pool pool(2);
    for (const std::size_t bytes : {MiB - 64, MiB, MiB + 8, 64 * MiB}) {
        const Numbers all = numbers(bytes);
        CHECK(pool.apply_async(negated, all).get(bound) == negated(all));
    }
    CHECK(pool.apply_async(many_texts, 100'000).get(bound) == many_texts(100'000));
    CHECK(bulk_memory_is_back());
    // Several at a time, and small ones among them.
    const std::vector<Numbers> each{numbers(5 * MiB), numbers(8), numbers(9 * MiB), numbers(MiB)};
    const auto results = pool.map_async(negated, each, 1).get(bound);
    REQUIRE(results.size() == each.size());
    for (std::size_t i = 0; i < each.size(); ++i) { CHECK(results[i] == negated(each[i])); }
    CHECK(bulk_memory_is_back());
}

TEST_CASE("a large message that cannot be written costs its task alone", "[pool]") {
    mp::Pool pool(1);
    CHECK_THROWS_AS(pool.apply_async(take<Throws>, Throws()).get(bound), std::runtime_error);
    CHECK_THROWS_AS(pool.apply_async(make<Throws>, 1).get(bound), std::runtime_error);
    const auto outcomes = pool.map_outcome(make<Throws>, std::vector<int>{1, 2});
    CHECK(std::none_of(outcomes.begin(), outcomes.end(), [](const auto& each) { return each; }));
    CHECK(bulk_memory_is_back());
    CHECK(pool.apply_async(sum_of, numbers(2 * MiB)).get(bound) == sum_of(numbers(2 * MiB)));
}

TEST_CASE("who is killed while he writes a large result leaves no memory behind", "[pool][crash]") {
    mp::Pool pool(1);
    for (int i = 0; i < 5; ++i) {
        CHECK_THROWS_AS(pool.apply_async(make<Dies>, 1).get(bound), mp::WorkerDiedError);
    }
    CHECK(bulk_memory_is_back());
    CHECK(pool.apply_async(negated, numbers(2 * MiB)).get(bound) == negated(numbers(2 * MiB)));
}

TEST_CASE("workers are killed at random while large data crosses", "[pool][crash]") {
    mp::Pool pool(2);
    const std::vector<Numbers> items(6, numbers(2 * MiB));
    const Numbers expected = negated(items.front());
    std::mt19937 random(20261121);
    std::size_t lost = 0;
    for (int round = 0; round < 30; ++round) {
        auto results = pool.map_async(negated, items, 1);
        for (int kill = 0; kill < 2; ++kill) {
            std::this_thread::sleep_for(std::chrono::microseconds(random() % 20'000));
            const auto workers = pool.workers();
            if (!workers.empty()) { ::kill(workers[random() % workers.size()].pid, SIGKILL); }
        }
        try {
            for (const Numbers& each : results.get(bound)) { CHECK(each == expected); }
        } catch (const mp::WorkerDiedError&) { ++lost; }
    }
    INFO(lost << " of 30 maps lost an item");
    CHECK(pool.map_async(negated, items, 1).get(bound).back() == expected);
    CHECK(bulk_memory_is_back());
}

TEST_CASE("a task with a large argument is run again with the same", "[pool][crash]") {
    support::reset_cells();
    mp::Pool pool(1);
    const Numbers all = numbers(4 * MiB);
    CHECK(pool.apply_async({.retries = 2}, die_at_first, 2, all).get(bound) == sum_of(all));
    CHECK(bulk_memory_is_back());
    cell(Cell::count) = 0;
    CHECK_THROWS_AS(pool.apply_async({.retries = 1}, die_at_first, 2, all).get(bound),
                    mp::WorkerDiedError);
    CHECK(bulk_memory_is_back());
}

TEST_CASE("a cancelled task's large argument is given back", "[pool]") {
    support::reset_cells();
    mp::Pool pool(1);
    support::Release release;
    auto first = pool.apply_async(support::held, 1);
    REQUIRE(support::have_started(1));
    auto waiting = pool.apply_async(sum_of, numbers(8 * MiB));
    CHECK(bulk_memory() >= 8 * MiB);
    CHECK(waiting.cancel());
    CHECK(bulk_memory_is_back());
    release.now();
    CHECK(first.get(bound) == 1);
}

TEST_CASE("a running task that is cancelled has its large argument until its worker is gone",
          "[pool]") {
    support::reset_cells();
    mp::Pool pool(1);
    auto running = pool.apply_async(stay_deaf, numbers(8 * MiB));
    REQUIRE(support::have_started(1));
    CHECK(running.cancel());
    CHECK_THROWS_AS(running.get(bound), mp::CancelledError);
    CHECK(bulk_memory() >= 8 * MiB);
    CHECK(bulk_memory_is_back());
}

#ifndef __SANITIZE_ADDRESS__  // which keeps what was freed
TEST_CASE("large data is copied once a side", "[pool]") {
    constexpr std::uint64_t size = 64 * MiB;
    const Numbers all = numbers(size);
    const auto slack = size / 4;
    SECTION("an argument, by the parent: into the message") {
        mp::Pool pool(1);
        forget_peak();
        const std::uint64_t before = peak_memory();
        CHECK(pool.apply_async(sum_of, all).get(bound) == sum_of(all));
        // The message itself is nobody's but the file's.
        CHECK(peak_memory() - before < slack);
    }
    SECTION("an argument, by the worker: out of the message") {
        mp::Pool pool({.processes = 1, .maxtasksperchild = 1});
        const std::uint64_t without = pool.apply_async(peak_without, 1).get(bound);
        CHECK(pool.apply_async(peak_with, all).get(bound) - without < 2 * size + slack);
    }
    SECTION("a result, by the parent: out of the message") {
        mp::Pool pool(1);
        forget_peak();
        const std::uint64_t before = peak_memory();
        const auto result = pool.apply_async(numbers, std::size_t{size}).get(bound);
        CHECK(result.size() == all.size());
        CHECK(peak_memory() - before < 2 * size + slack);
    }
}
#endif

TEST_CASE("where the size of files is limited large data crosses all the same", "[pool]") {
    mp::Process limited([] {
        const rlimit limit{.rlim_cur = 1u << 30, .rlim_max = 1u << 30};
        if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) { throw mp::SystemExit(2); }
        mp::Pool pool(1);
        const bool same = pool.apply(negated, numbers(4 * MiB)) == negated(numbers(4 * MiB));
        throw mp::SystemExit(same ? 0 : 1);
    });
    limited.start();
    REQUIRE(limited.join(bound));
    CHECK(limited.exitcode() == 0);
}

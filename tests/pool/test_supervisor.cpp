// SPDX-License-Identifier: BSL-1.0

// The thread that supervises a pool gets on whatever a callback does in it, and leaves no task
// without a verdict.

#include "process/observe.hpp"
#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/pools.hpp"

#include <multiprocessing/futures.hpp>
#include <multiprocessing/pool.hpp>

#include <signal.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <stop_token>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;
using support::Cell;
using support::cell;
using support::held;

namespace {

const auto bound = 20s * support::slowness;

int square(int number) { return number * number; }
int sleep_for(int milliseconds) {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    return milliseconds;
}
void count_start() { ++cell(Cell::count); }
int until_stopped(int value, std::stop_token stop) {
    ++cell(Cell::started);
    static_cast<void>(support::eventually([&] { return stop.stop_requested(); }, 60s));
    return value;
}
std::size_t hold(std::size_t size) {
    std::vector<std::vector<char>> held_memory;
    for (std::size_t i = 0; i < size; ++i) {
        held_memory.emplace_back(1024 * 1024, 'x');
        if (i % 16 == 0) { std::this_thread::sleep_for(1ms); }
    }
    std::this_thread::sleep_for(200ms);
    return held_memory.size();
}

// Writes more than it reads.
struct Lopsided : std::runtime_error {
    Lopsided() : std::runtime_error("lopsided") {}

    void save(auto& archive) const { archive(1, 2); }
    void load(auto& archive) {
        int one = 0;
        archive(one);
    }
};
int throw_lopsided(int) { throw Lopsided(); }

}  // namespace

MULTIPROCESSING_EXCEPTION(Lopsided);

TEST_CASE("a closed pool starts no more workers for what the others run", "[pool]") {
    support::reset_cells();
    mp::Pool pool({.processes = 3, .initializer = count_start});
    support::Release release;
    auto last = pool.apply_async(held, 1);
    REQUIRE(support::have_started(1));
    REQUIRE(support::eventually([] { return cell(Cell::count) == 3; }));
    pool.close();
    // The other two end, and a replacement would have begun before they are gone from the list.
    CHECK(support::eventually([&] { return pool.workers().size() == 1; }));
    CHECK_FALSE(support::eventually([] { return cell(Cell::count) > 3; }, 200ms));
    release.now();
    pool.join();
    CHECK(last.get(bound) == 1);
    CHECK(cell(Cell::count) == 3);
}

TEST_CASE("a callback may wait for several futures, also for some that are done", "[pool]") {
    mp::ProcessPoolExecutor executor(2);
    std::atomic<std::size_t> done{0};
    auto quick = executor.submit(square, 3);
    auto slow = executor.submit(sleep_for, 200);
    auto slower = executor.submit(sleep_for, 400);
    quick.add_done_callback([&](const mp::Future<int>& self) {
        done = mp::futures::wait(std::vector{self, slow, slower}, 60s).done.size();
    });
    CHECK(support::eventually([&] { return done == 3; }, bound));
}

TEST_CASE("a callback may join the pool while a cancelled task is about to stop", "[pool]") {
    support::reset_cells();
    mp::Pool pool(2);
    auto stopping = pool.apply_async(until_stopped, 1);
    REQUIRE(support::have_started(1));
    std::atomic<bool> joined{false};
    pool.apply_async(square, mp::args(1), [&](int) {
        stopping.cancel();
        pool.close();
        pool.join();
        joined = true;
    });
    CHECK(support::eventually([&] { return joined.load(); }, bound));
    CHECK(stopping.cancelled());
}

TEST_CASE("the nursery is killed while a callback waits for another task", "[pool][crash]") {
    support::reset_cells();
    mp::Pool pool(2);
    const pid_t nursery = observe::nursery_of(pool);
    REQUIRE(nursery != 0);
    support::Release release;
    auto other = pool.apply_async(held, 1);
    REQUIRE(support::have_started(1));
    std::atomic<bool> waiting{false};
    std::atomic<int> verdict{0};
    pool.apply_async(square, mp::args(1), [&](int) {
        waiting = true;
        try {
            other.get(60s);
        } catch (const mp::WorkerDiedError&) { verdict = 1; } catch (...) {
            verdict = 2;
        }
    });
    REQUIRE(support::eventually([&] { return waiting.load(); }));
    ::kill(nursery, SIGKILL);
    CHECK(support::eventually([&] { return verdict != 0; }, bound));
    CHECK(verdict == 1);
    CHECK(pool.apply_async(square, 5).get(bound) == 25);
}

TEST_CASE("an error that cannot be read is its task's alone", "[pool]") {
    mp::Pool pool(1);
    CHECK_THROWS(pool.apply_async(throw_lopsided, 1).get(bound));
    CHECK(pool.apply_async(square, 5).get(bound) == 25);
}

TEST_CASE("a task's memory stays bounded when the nursery has been replaced", "[pool][crash]") {
    mp::Pool pool(1);
    const mp::TaskOptions options{.max_memory = 100 * 1024 * 1024};
    CHECK_THROWS_AS(pool.apply_async(options, hold, std::size_t{200}).get(bound),
                    mp::WorkerDiedError);
    const pid_t nursery = observe::nursery_of(pool);
    REQUIRE(nursery != 0);
    ::kill(nursery, SIGKILL);
    REQUIRE(support::eventually([&] {
        const pid_t now = observe::nursery_of(pool);
        return now != 0 && now != nursery;
    }));
    CHECK_THROWS_AS(pool.apply_async(options, hold, std::size_t{200}).get(bound),
                    mp::WorkerDiedError);
}

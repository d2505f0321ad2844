// SPDX-License-Identifier: BSL-1.0

// A pool, idle and busy, of which workers are killed, or the nursery, or the parent.

#include "storm.hpp"

#include "process/observe.hpp"
#include "process/subreaper.hpp"

#include <multiprocessing/pool.hpp>

namespace storm {

namespace {

constexpr int processes = 4;
constexpr std::size_t batch = 48;

// How often each task of the batch was begun.
using Begun = std::array<std::atomic<int>, batch>;
Begun* begun = nullptr;  // where the workers find it

std::uint64_t result_of(std::size_t number) { return number * 2'654'435'761U; }

std::uint64_t task(std::size_t number, std::uint64_t microseconds) {
    ++(*begun)[number];
    const auto end = Clock::now() + std::chrono::microseconds(microseconds);
    while (Clock::now() < end) {}
    return result_of(number);
}

// Hands the pool a batch of tasks, or none, calls `strike` at some moment, and sees every task get
// its one verdict. Returns how many were lost.
template <class Strike>
std::uint64_t round(mp::Pool& pool, Random& random, Figures& figures, Strike strike) {
    for (auto& count : *begun) { count = 0; }
    const bool busy = random() % 4 != 0;
    std::vector<mp::AsyncResult<std::uint64_t>> results;
    for (std::size_t i = 0; busy && i < batch; ++i) {
        results.push_back(pool.apply_async(task, i, random() % 60));
    }
    std::this_thread::sleep_for(random_time(random, 600));
    strike();
    // Of an idle pool only this shows that it goes on.
    results.push_back(pool.apply_async(task, std::size_t{0}, std::uint64_t{0}));
    std::uint64_t lost = 0;
    for (std::size_t i = 0; i < results.size(); ++i) {
        const auto since = Clock::now();
        const std::size_t number = i + 1 == results.size() ? 0 : i;
        try {
            expect_equal(results[i].get(hang), result_of(number), "a task's result");
            ++figures.items;
        } catch (const mp::WorkerDiedError&) { ++lost; } catch (const mp::TimeoutError&) {
            throw Failure("task " + std::to_string(i) + " of " + std::to_string(results.size()) +
                          " has no verdict");
        }
        figures.note_stall(Clock::now() - since);
        if (number != 0) { expect_at_most(static_cast<unsigned>((*begun)[number]), 1, "runs"); }
    }
    support::allow(120s * support::slowness);
    return lost;
}

void expect_whole(mp::Pool& pool) {
    expect(support::eventually([&] { return pool.workers().size() == processes; }),
           "a pool is short of workers");
    pool.close();
    pool.join();
}

}  // namespace

void pool_workers_storm(std::uint64_t kills, Random& random, Figures& figures) {
    const Shared<Begun> counts;
    begun = &*counts;
    mp::Pool pool(processes);
    const std::uint64_t until = figures.kills + kills;
    while (figures.kills < until) {
        std::uint64_t killed = 0;
        const std::uint64_t lost = round(pool, random, figures, [&] {
            for (const mp::WorkerInfo& worker : pool.workers()) {
                if (random() % processes != 0) { continue; }
                ::kill(worker.pid, SIGKILL);
                ++killed;
            }
        });
        figures.kills += killed;
        expect_at_most(lost, killed, "lost tasks");
    }
    expect_whole(pool);
}

void pool_nursery_storm(std::uint64_t kills, Random& random, Figures& figures) {
    const Shared<Begun> counts;
    begun = &*counts;
    mp::Pool pool(processes);
    for (std::uint64_t i = 0; i < kills; ++i) {
        const std::uint64_t lost = round(pool, random, figures, [&] {
            const pid_t nursery = observe::nursery_of(pool);
            expect(nursery != 0, "a pool has no nursery");
            ::kill(nursery, SIGKILL);
        });
        ++figures.kills;
        expect_at_most(lost, processes, "lost tasks");
    }
    expect_whole(pool);
}

void pool_parent_storm(std::uint64_t kills, Random& random, Figures& figures) {
    const observe::Subreaper reaper;
    const Shared<Begun> counts;
    begun = &*counts;
    for (std::uint64_t i = 0; i < kills; ++i) {
        const bool busy = random() % 2 == 0;
        const auto moment = random_time(random, random() % 4 == 0 ? 20'000 : 4'000);
        observe::Report report;  // ends when everybody is gone who could say something
        mp::Process owner([&] {
            mp::Pool pool(2);
            report.say("ready");
            while (busy) {
                pool.map([](int number) { return number + 1; }, {1, 2, 3, 4, 5, 6}, 1);
            }
            for (;;) { ::pause(); }
        });
        owner.start();
        // In half of the rounds it is killed while it makes the pool.
        if (random() % 2 == 0) { expect(report.hear() == "ready", "a pool is not made"); }
        std::this_thread::sleep_for(moment);
        owner.kill();
        expect(owner.join(hang), "a killed process does not end");
        const auto since = Clock::now();
        expect(report.ends_within(1s), "a pool's nursery or worker outlives its parent");
        figures.note_stall(Clock::now() - since);
        ++figures.kills;
        ++figures.items;
        support::allow(120s * support::slowness);
    }
}

}  // namespace storm

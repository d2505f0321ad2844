// SPDX-License-Identifier: BSL-1.0

#include "support/bounds.hpp"
#include "support/catch.hpp"

#include <multiprocessing/process.hpp>
#include <multiprocessing/queues.hpp>

#include <chrono>
#include <memory>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

TEST_CASE("join returns when everything that was put is done") {
    const mp::JoinableQueue<int> queue;
    queue.join();
    CHECK(queue.join(0s));
    queue.put_many({1, 2, 3});
    CHECK(!queue.join(20ms));
    mp::Process worker({.daemon = true}, [=] {
        for (;;) {
            queue.get();
            queue.task_done();
        }
    });
    worker.start();
    queue.join();
    CHECK(queue.empty());
    CHECK_THROWS_AS(queue.task_done(), mp::ValueError);
    // And again.
    for (int i = 0; i < 1000; ++i) {
        queue.put(i);
        REQUIRE(queue.join(20s));
    }
    worker.kill();
    CHECK(worker.join(20s));
}

TEST_CASE("task_done may not be called more often than items were put") {
    const mp::JoinableQueue<int> queue(5);
    CHECK_THROWS_AS(queue.task_done(), mp::ValueError);
    queue.put(1);
    queue.task_done();
    CHECK_THROWS_AS(queue.task_done(), mp::ValueError);
    CHECK(queue.join(0s));
}

TEST_CASE("what is discarded counts as done") {
    const mp::JoinableQueue<int> queue;
    queue.put_many({1, 2, 3});
    queue.get();
    mp::Process waiting([=] { queue.join(); });
    waiting.start();
    queue.shutdown(true);
    CHECK(!queue.join(20ms));
    queue.task_done();
    CHECK(queue.join(20s));
    CHECK_THROWS_AS(queue.task_done(), mp::ValueError);
    CHECK(waiting.join(20s));
    CHECK(waiting.exitcode() == 0);
}

TEST_CASE("a joinable queue is a queue") {
    const mp::JoinableQueue<int> joinable(1);
    const mp::Queue<int> queue = joinable;
    queue.put(1);
    CHECK(joinable.full());
    CHECK(!joinable.join(0s));
    joinable.close();
    CHECK_THROWS_AS(queue.get(), mp::ValueError);
    CHECK_THROWS_AS(joinable.put(1), mp::ValueError);
}

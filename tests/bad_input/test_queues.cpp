// SPDX-License-Identifier: BSL-1.0

// What misuse of queues is answered with.

#include "support/catch.hpp"

#include <multiprocessing/errors.hpp>
#include <multiprocessing/queues.hpp>

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

// Cannot be sent when it is negative.
struct Picky {
    int number = 0;

    template <class Archive>
    void save(Archive& archive) const {
        if (number < 0) { throw std::range_error("negative"); }
        archive(number);
    }
    template <class Archive>
    void load(Archive& archive) {
        archive(number);
    }
};

}  // namespace

TEST_CASE("a full queue is Full, at once or in time") {
    const mp::Queue<int> queue(1);
    queue.put(1);
    CHECK(queue.full());
    CHECK_THROWS_AS(queue.put(2, false), mp::Full);
    CHECK_THROWS_AS(queue.put(2, false, 1h), mp::Full);  // the timeout is that of a wait
    CHECK_THROWS_AS(queue.put(2, true, -1s), mp::Full);
    CHECK_THROWS_AS(queue.put(2, true, 1ms), mp::Full);
    CHECK_THROWS_AS(queue.put_nowait(2), mp::Full);
    CHECK_FALSE(queue.try_put(2));
    CHECK(queue.get() == 1);
    CHECK(queue.empty());
}

TEST_CASE("an empty queue is Empty, at once or in time") {
    const mp::Queue<int> queue;
    CHECK_THROWS_AS(queue.get(false), mp::Empty);
    CHECK_THROWS_AS(queue.get(false, 1h), mp::Empty);
    CHECK_THROWS_AS(queue.get(true, -1s), mp::Empty);
    CHECK_THROWS_AS(queue.get(1ms), mp::Empty);
    CHECK_THROWS_AS(queue.get_nowait(), mp::Empty);
    CHECK_FALSE(queue.try_get());
    CHECK(queue.get_many(3, 0s).empty());
}

TEST_CASE("a closed queue is ValueError; how much is in it can still be asked") {
    const mp::Queue<int> queue;
    queue.put(1);
    queue.close();
    queue.close();
    CHECK_THROWS_AS(queue.put(2), mp::ValueError);
    CHECK_THROWS_AS(queue.put_nowait(2), mp::ValueError);
    CHECK_THROWS_AS(queue.try_put(2), mp::ValueError);
    CHECK_THROWS_AS(queue.put_many(std::vector{2, 3}), mp::ValueError);
    CHECK_THROWS_AS(queue.get(), mp::ValueError);
    CHECK_THROWS_AS(queue.get_nowait(), mp::ValueError);
    CHECK_THROWS_AS(queue.try_get(), mp::ValueError);
    CHECK_THROWS_AS(queue.get_many(1), mp::ValueError);
    CHECK(queue.qsize() == 1);
    CHECK_FALSE(queue.full());
}

TEST_CASE("a queue's thread is joined once the queue is closed") {
    const mp::Queue<int> queue;
    CHECK_THROWS_AS(queue.join_thread(), mp::AssertionError);
    queue.close();
    CHECK_NOTHROW(queue.join_thread());
}

TEST_CASE("an item that cannot be serialised is the caller's error, and takes no place") {
    const mp::Queue<Picky> queue(1);
    CHECK_THROWS_WITH(queue.put(Picky{-1}), support::contains("negative"));
    CHECK(queue.empty());
    CHECK_NOTHROW(queue.put(Picky{1}, false));
    CHECK(queue.get().number == 1);
}

TEST_CASE("a queue that was shut down is ShutDown") {
    const mp::Queue<int> queue;
    queue.put(1);
    queue.shutdown();
    CHECK_THROWS_AS(queue.put(2), mp::ShutDown);
    CHECK(queue.get() == 1);
    CHECK_THROWS_AS(queue.get(), mp::ShutDown);
}

TEST_CASE("task_done called too often is ValueError") {
    const mp::JoinableQueue<int> queue;
    CHECK_THROWS_AS(queue.task_done(), mp::ValueError);
    queue.put(1);
    CHECK_FALSE(queue.join(0s));
    CHECK(queue.get() == 1);
    queue.task_done();
    CHECK_THROWS_AS(queue.task_done(), mp::ValueError);
    CHECK(queue.join(0s));
}

TEST_CASE("a closed SimpleQueue is ValueError") {
    const mp::SimpleQueue<int> queue;
    queue.close();
    CHECK_THROWS_AS(queue.put(1), mp::ValueError);
    CHECK_THROWS_AS(queue.get(), mp::ValueError);
    CHECK_THROWS_AS(queue.empty(), mp::ValueError);
}

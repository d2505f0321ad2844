// SPDX-License-Identifier: BSL-1.0

// What misuse of locks and their family, and of shared values, is answered with.

#include "support/catch.hpp"

#include <multiprocessing/errors.hpp>
#include <multiprocessing/sharedctypes.hpp>
#include <multiprocessing/synchronize.hpp>

#include <chrono>
#include <climits>
#include <stdexcept>
#include <thread>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

// Tells whether `call` throws AssertionError in another thread than this.
template <class F>
bool is_refused_elsewhere(F call) {
    bool refused = false;
    std::thread([&] {
        try {
            call();
        } catch (const mp::AssertionError&) { refused = true; }
    }).join();
    return refused;
}

}  // namespace

TEST_CASE("a lock that is free cannot be released; any thread may release one that is held") {
    const mp::Lock lock;
    CHECK_THROWS_AS(lock.release(), mp::ValueError);
    lock.acquire();
    std::thread([&] { lock.release(); }).join();
    CHECK_FALSE(lock.locked());
}

TEST_CASE("a reentrant lock is its owner's") {
    const mp::RLock lock;
    CHECK_THROWS_AS(lock.release(), mp::AssertionError);
    lock.acquire();
    CHECK(is_refused_elsewhere([&] { lock.release(); }));
    lock.release();
    CHECK_THROWS_AS(lock.release(), mp::AssertionError);
}

TEST_CASE("a semaphore has bounds") {
    CHECK_THROWS_AS(mp::Semaphore(-1), mp::OSError);
    CHECK_THROWS_AS(mp::BoundedSemaphore(-1), mp::OSError);
    const mp::Semaphore highest(INT_MAX);
    CHECK_THROWS_AS(highest.release(), mp::ValueError);
    CHECK(highest.get_value() == INT_MAX);
    const mp::Semaphore semaphore(1);
    CHECK_THROWS_AS(semaphore.release(0), mp::ValueError);
    CHECK_THROWS_AS(semaphore.release(-1), mp::ValueError);
    const mp::BoundedSemaphore bounded(1);
    CHECK_THROWS_AS(bounded.release(), mp::ValueError);
    bounded.acquire();
    CHECK_THROWS_AS(bounded.release(2), mp::ValueError);
    bounded.release();
    CHECK(bounded.get_value() == 1);
}

TEST_CASE("a condition is waited for and notified by who holds its lock") {
    const mp::Condition condition;
    CHECK_THROWS_AS(condition.wait(0s), mp::AssertionError);
    CHECK_THROWS_AS(condition.wait_for([] { return true; }, 0s), mp::AssertionError);
    CHECK_THROWS_AS(condition.notify(), mp::AssertionError);
    CHECK_THROWS_AS(condition.notify_all(), mp::AssertionError);
    condition.acquire();
    CHECK(is_refused_elsewhere([&] { condition.notify(); }));
    CHECK(is_refused_elsewhere([&] { condition.wait(0s); }));
    condition.release();
}

TEST_CASE("a barrier has parties, and is broken for all by one that fails") {
    CHECK_THROWS_AS(mp::Barrier(0), mp::ValueError);
    CHECK_THROWS_AS(mp::Barrier(-1), mp::ValueError);
    const mp::Barrier barrier(2);
    CHECK_THROWS_AS(barrier.wait(1ms), mp::BrokenBarrierError);
    CHECK(barrier.broken());
    CHECK_THROWS_AS(barrier.wait(), mp::BrokenBarrierError);
    barrier.reset();
    CHECK_FALSE(barrier.broken());
    barrier.abort();
    CHECK_THROWS_AS(barrier.wait(), mp::BrokenBarrierError);
    const mp::Barrier failing(1, [] { throw std::domain_error("the action"); });
    CHECK_THROWS_AS(failing.wait(), std::domain_error);
    CHECK(failing.broken());
}

TEST_CASE("an index outside of an array is std::out_of_range") {
    mp::Array<int> array(3);
    CHECK_THROWS_AS(array.at(3), std::out_of_range);
    CHECK_THROWS_AS(array.get(3), std::out_of_range);
    CHECK_THROWS_AS(array.set(3, 1), std::out_of_range);
    CHECK(array.slice(1, 4).size() == 2);  // as Python's slices: what there is
    CHECK(array.slice(2, 1).empty());
    mp::RawArray<int> raw(3);
    CHECK_THROWS_AS(raw.at(3), std::out_of_range);
}

TEST_CASE("a size that is negative, or beyond all memory, is an error at once") {
    CHECK_THROWS(mp::Array<int>(static_cast<std::size_t>(-1)));
    CHECK_THROWS(mp::RawArray<double>(static_cast<std::size_t>(-1) / 4));
}

TEST_CASE("a value without a lock has none to give") {
    mp::Value<int> value(1, false);
    CHECK_THROWS_AS(value.get_lock(), mp::AssertionError);
    mp::Array<int> array(2, false);
    CHECK_THROWS_AS(array.get_lock(), mp::AssertionError);
}

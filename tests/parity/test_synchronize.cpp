// SPDX-License-Identifier: BSL-1.0

// CPython's tests of locks, semaphores, conditions, events and barriers, one test case a test.

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "synchronize/child.hpp"

#include <multiprocessing/connection.hpp>
#include <multiprocessing/errors.hpp>
#include <multiprocessing/sharedctypes.hpp>
#include <multiprocessing/synchronize.hpp>

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using support::Child;
using support::timed;
using namespace std::chrono_literals;

namespace {

constexpr auto delta = 100ms;

// ------------------------------------------------------------------------------------- conditions

/// `count` processes and as many threads that wait on a condition, and what they say of it.
class Sleepers {
  public:
    Sleepers(const mp::Condition& condition, int count, mp::Timeout timeout)
        : condition_(condition) {
        const auto sleep = [this, timeout] {
            const std::scoped_lock guard(condition_);
            sleeping_ += 1;
            const bool notified = condition_.wait(timeout);
            (notified ? notified_ : timed_out_) += 1;
            return 0;
        };
        for (int i = 0; i < count; ++i) { processes_.emplace_back(sleep); }
        for (int i = 0; i < count; ++i) { threads_.emplace_back(sleep); }
        CHECK(support::eventually([&] { return sleeping_ == 2 * count; }));
        // They count under the lock that they let go by waiting: who has it now finds them asleep.
        const std::scoped_lock guard(condition_);
    }
    ~Sleepers() {
        for (std::thread& thread : threads_) { thread.join(); }
        for (Child& process : processes_) { CHECK(process.join() == 0); }
    }
    Sleepers(const Sleepers&) = delete;

    int notified() const { return notified_; }
    int timed_out() const { return timed_out_; }
    /// Checks that so many have been woken, and that it stays at that.
    void check_notified(int expected) const {
        CHECK(support::eventually([&] { return notified_ >= expected; }));
        CHECK_FALSE(support::eventually([&] { return notified_ != expected; }, 30ms));
    }

  private:
    mp::Condition condition_;
    mp::RawValue<int> sleeping_;
    mp::RawValue<int> notified_;
    mp::RawValue<int> timed_out_;
    std::vector<Child> processes_;
    std::vector<std::thread> threads_;
};

void notify(const mp::Condition& condition, int n) {
    const std::scoped_lock guard(condition);
    condition.notify(n);
}

/// Checks that nobody is on a condition's books: a notification is kept for nobody, a wait runs
/// out.
void check_nobody_waits(const mp::Condition& condition) {
    const std::scoped_lock guard(condition);
    condition.notify_all();
    CHECK_FALSE(condition.wait(0s));
}

// --------------------------------------------------------------------------------------- barriers

constexpr int parties = 5;

/// Runs `f` in `parties - 1` processes and here.
void run_parties(const std::function<int()>& f) {
    std::vector<Child> children;
    for (int i = 1; i < parties; ++i) { children.emplace_back(f); }
    CHECK(f() == 0);
    for (Child& child : children) { CHECK(child.join() == 0); }
}

/// Passes `rounds` times in lockstep; who arrives sees that nobody has gone on before all were
/// there.
int multipass(const mp::Barrier& barrier, const std::vector<mp::RawValue<int>>& counts,
              int rounds) {
    const int n = barrier.parties();
    for (int round = 0; round < rounds; ++round) {
        counts[0] += 1;
        if (counts[1] != round * n) { return 1; }
        barrier.wait(60s);
        counts[1] += 1;
        if (counts[0] != (round + 1) * n) { return 2; }
        barrier.wait(60s);
    }
    return barrier.broken() ? 3 : 0;
}

bool waits_in_vain(const mp::Barrier& barrier, std::optional<mp::Timeout> timeout = std::nullopt) {
    try {
        timeout ? barrier.wait(*timeout) : barrier.wait();
        return false;
    } catch (const mp::BrokenBarrierError&) { return true; }
}

}  // namespace

TEST_CASE("_TestLock.test_lock: a Lock is acquired once, and released once", "[parity]") {
    const mp::Lock lock;
    CHECK(lock.acquire() == true);
    CHECK(lock.acquire(false) == false);
    CHECK_NOTHROW(lock.release());
    CHECK_THROWS_AS(lock.release(), mp::ValueError);
}

TEST_CASE("_TestLock.test_rlock: an RLock is released as often as it was acquired", "[parity]") {
    const mp::RLock lock;
    for (int i = 0; i < 3; ++i) { CHECK(lock.acquire() == true); }
    for (int i = 0; i < 3; ++i) { CHECK_NOTHROW(lock.release()); }
    CHECK_THROWS_AS(lock.release(), mp::AssertionError);
}

TEST_CASE("_TestLock.test_lock_context: a guard acquires and releases", "[parity]") {
    mp::Lock lock;
    {
        const std::scoped_lock guard(lock);
        CHECK(lock.locked());
    }
    CHECK_FALSE(lock.locked());
}

TEMPLATE_TEST_CASE("_TestLock.test_locked: locked tells whether somebody has it", "[parity]",
                   mp::Lock, mp::RLock) {
    const TestType lock;
    CHECK_FALSE(lock.locked());
    lock.acquire();
    CHECK(lock.locked());
    Child child([&] { return lock.locked() ? 0 : 1; });
    CHECK(child.join() == 0);
    lock.release();
    CHECK_FALSE(lock.locked());
}

TEST_CASE("_TestSemaphore.test_semaphore: a Semaphore counts, beyond its first value too",
          "[parity]") {
    const mp::Semaphore semaphore(2);
    CHECK(semaphore.get_value() == 2);
    CHECK(semaphore.acquire() == true);
    CHECK(semaphore.get_value() == 1);
    CHECK(semaphore.acquire() == true);
    CHECK(semaphore.get_value() == 0);
    CHECK(semaphore.acquire(false) == false);
    CHECK(semaphore.get_value() == 0);
    for (int value = 1; value <= 4; ++value) {
        semaphore.release();
        CHECK(semaphore.get_value() == value);
    }
}

TEST_CASE("_TestSemaphore.test_bounded_semaphore: a BoundedSemaphore keeps its bound", "[parity]") {
    const mp::BoundedSemaphore semaphore(2);
    CHECK(semaphore.acquire() == true);
    CHECK(semaphore.acquire() == true);
    CHECK(semaphore.acquire(false) == false);
    semaphore.release();
    semaphore.release();
    CHECK(semaphore.get_value() == 2);
    CHECK_THROWS_AS(semaphore.release(), mp::ValueError);
    CHECK(semaphore.get_value() == 2);
}

TEST_CASE("_TestSemaphore.test_timeout: an acquire waits as long as it may", "[parity]") {
    const mp::Semaphore semaphore(0);
    const auto attempt = [&](auto... arguments) {
        return timed([&] { CHECK(semaphore.acquire(arguments...) == false); });
    };
    CHECK(attempt(false) < 20s);
    CHECK(attempt(false, mp::Timeout(std::nullopt)) < 20s);
    CHECK(attempt(false, 60s) < 20s);
    CHECK(attempt(true, 100ms) >= 100ms);
    CHECK(attempt(mp::Timeout(200ms)) >= 200ms);
}

TEST_CASE("_TestSemaphore.test_locked: locked tells whether the value is 0", "[parity]") {
    const mp::Semaphore semaphore(1);
    CHECK_FALSE(semaphore.locked());
    semaphore.acquire();
    CHECK(semaphore.locked());
    semaphore.release();
    CHECK_FALSE(semaphore.locked());
    const mp::BoundedSemaphore none(0);
    CHECK(none.locked());
}

TEST_CASE("_TestCondition.test_notify: each notification wakes one", "[parity]") {
    const mp::Condition condition;
    {
        const Sleepers sleepers(condition, 1, 60s);
        sleepers.check_notified(0);
        notify(condition, 1);
        sleepers.check_notified(1);
        notify(condition, 1);
        sleepers.check_notified(2);
    }
    check_nobody_waits(condition);
}

TEST_CASE("_TestCondition.test_notify_all: all wake, and those whose time is up are off the books",
          "[parity]") {
    const mp::Condition condition;
    {
        const Sleepers sleepers(condition, 3, 100ms);
        CHECK(support::eventually([&] { return sleepers.timed_out() == 6; }));
        CHECK(sleepers.notified() == 0);
    }
    check_nobody_waits(condition);
    {
        const Sleepers sleepers(condition, 3, 60s);
        sleepers.check_notified(0);
        {
            const std::scoped_lock guard(condition);
            condition.notify_all();
        }
        sleepers.check_notified(6);
    }
    check_nobody_waits(condition);
}

TEST_CASE("_TestCondition.test_notify_n: exactly n wake", "[parity]") {
    const mp::Condition condition;
    {
        const Sleepers sleepers(condition, 3, 60s);
        sleepers.check_notified(0);
        notify(condition, 2);
        sleepers.check_notified(2);
        notify(condition, 4);
        sleepers.check_notified(6);
        notify(condition, 3);
        sleepers.check_notified(6);
    }
    check_nobody_waits(condition);
}

TEST_CASE("_TestCondition.test_timeout: a wait without a notification is false, with the lock",
          "[parity]") {
    const mp::Lock lock;
    const mp::Condition condition(lock);
    const std::scoped_lock guard(condition);
    CHECK(timed([&] { CHECK(condition.wait(delta) == false); }) >= delta);
    CHECK(lock.locked());
}

TEST_CASE("_TestCondition.test_waitfor: wait_for waits for the predicate", "[parity]") {
    const mp::Condition condition;
    const mp::Value<int> state(-1);
    Child child([&] {
        const std::scoped_lock guard(condition);
        state = 0;
        condition.notify();
        const bool result = condition.wait_for([&] { return state == 4; }, 60s);
        return result && state == 4 ? 0 : 1;
    });
    {
        const std::scoped_lock guard(condition);
        CHECK(condition.wait_for([&] { return state == 0; }, 60s));
    }
    for (int i = 0; i < 4; ++i) {
        const std::scoped_lock guard(condition);
        state += 1;
        condition.notify();
    }
    CHECK(child.join() == 0);
}

TEST_CASE("_TestCondition.test_waitfor_timeout: the timeout is for the whole wait_for",
          "[parity]") {
    const mp::Condition condition;
    const mp::Value<int> state(0);
    const mp::Event began;
    Child child([&] {
        const std::scoped_lock guard(condition);
        began.set();
        bool result = true;
        const auto took =
            timed([&] { result = condition.wait_for([&] { return state == 4; }, delta); });
        return !result && took >= delta && took < 60s ? 0 : 1;
    });
    REQUIRE(began.wait(60s));
    for (int i = 0; i < 3; ++i) {
        const std::scoped_lock guard(condition);
        state += 1;
        condition.notify();
    }
    CHECK(child.join() == 0);
}

TEST_CASE("_TestCondition.test_wait_result: wait tells whether there was a notification",
          "[parity]") {
    const mp::Condition condition;
    static volatile std::sig_atomic_t interrupts = 0;
    const auto old = std::signal(SIGUSR1, [](int) { interrupts = interrupts + 1; });
    {
        const std::scoped_lock guard(condition);
        CHECK_FALSE(condition.wait(0s));
        CHECK_FALSE(condition.wait(delta));
        Child child([&, parent = ::getpid()] {
            const std::scoped_lock inner(condition);
            // A signal whose handler returns does not end the wait.
            ::kill(parent, SIGUSR1);
            condition.notify();
            return 0;
        });
        CHECK(condition.wait(60s));
        CHECK(child.join() == 0);
    }
    CHECK(interrupts == 1);
    std::signal(SIGUSR1, old);
}

TEST_CASE("_TestEvent.test_event: an Event is what its flag says", "[parity]") {
    const mp::Event event;
    CHECK(event.is_set() == false);
    CHECK(event.wait(0s) == false);
    CHECK(timed([&] { CHECK(event.wait(delta) == false); }) >= delta);
    event.set();
    CHECK(event.is_set() == true);
    CHECK(timed([&] {
              CHECK(event.wait() == true);
              CHECK(event.wait(60s) == true);
          }) < 20s);
    event.clear();
    Child child([&] {
        event.set();
        return 0;
    });
    CHECK(event.wait(60s) == true);
    CHECK(child.join() == 0);
}

TEST_CASE("_TestEvent.test_repr: what an Event is can be told", "[parity]") {
    const mp::Event event;
    const auto text = [&] { return std::string(event.is_set() ? "set" : "unset"); };
    CHECK(text() == "unset");
    event.set();
    CHECK(text() == "set");
    event.clear();
    CHECK(text() == "unset");
}

TEST_CASE("_TestBarrier.test_barrier: all pass in lockstep", "[parity]") {
    const mp::Barrier barrier(parties, {}, 60s);
    const std::vector counts{mp::RawValue<int>(0), mp::RawValue<int>(0)};
    run_parties([&] { return multipass(barrier, counts, 1); });
    CHECK(barrier.n_waiting() == 0);
    CHECK_FALSE(barrier.broken());
}

TEST_CASE("_TestBarrier.test_barrier_10: ten times in a row", "[parity]") {
    const mp::Barrier barrier(parties, {}, 60s);
    const std::vector counts{mp::RawValue<int>(0), mp::RawValue<int>(0)};
    run_parties([&] { return multipass(barrier, counts, 10); });
    CHECK(barrier.n_waiting() == 0);
    CHECK_FALSE(barrier.broken());
}

TEST_CASE("_TestBarrier.test_wait_return: each party gets another number", "[parity]") {
    const mp::Barrier barrier(parties, {}, 60s);
    const mp::RawArray<int> seen(parties);
    run_parties([&] {
        seen[static_cast<std::size_t>(barrier.wait())] += 1;
        return 0;
    });
    CHECK(std::ranges::count(seen, 1) == parties);
}

TEST_CASE("_TestBarrier.test_action: the action runs once, before anybody goes on", "[parity]") {
    const mp::RawValue<int> runs(0);
    const mp::Barrier barrier(
        parties, [&] { runs += 1; }, 60s);
    run_parties([&] {
        barrier.wait();
        return runs == 1 ? 0 : 1;
    });
    CHECK(runs == 1);
}

TEST_CASE("_TestBarrier.test_abort: an abort is felt by all who wait", "[parity]") {
    const mp::Barrier barrier(parties, {}, 60s);
    const mp::RawValue<int> passed(0);
    const mp::RawValue<int> failed(0);
    run_parties([&] {
        try {
            if (barrier.wait() == parties / 2) { throw mp::ProcessError("on purpose"); }
            barrier.wait();
            passed += 1;
        } catch (const mp::BrokenBarrierError&) { failed += 1; } catch (const mp::ProcessError&) {
            barrier.abort();
        }
        return 0;
    });
    CHECK(passed == 0);
    CHECK(failed == parties - 1);
    CHECK(barrier.broken());
}

TEST_CASE("_TestBarrier.test_reset: a reset is felt by who waits, and not by who comes",
          "[parity]") {
    const mp::Barrier barrier(parties, {}, 60s);
    const mp::RawValue<int> first(0);
    const mp::RawValue<int> failed(0);
    const mp::RawValue<int> second(0);
    run_parties([&] {
        if (barrier.wait() == parties / 2) {
            if (!support::eventually([&] { return barrier.n_waiting() == parties - 1; })) {
                return 1;
            }
            barrier.reset();
        } else if (waits_in_vain(barrier)) {
            failed += 1;
        } else {
            first += 1;
        }
        barrier.wait();
        second += 1;
        return 0;
    });
    CHECK(first == 0);
    CHECK(failed == parties - 1);
    CHECK(second == parties);
}

TEST_CASE("_TestBarrier.test_abort_and_reset: after an abort a reset makes it usable", "[parity]") {
    const mp::Barrier barrier(parties, {}, 60s);
    const mp::Barrier synchronised(parties, {}, 60s);
    const mp::RawValue<int> first(0);
    const mp::RawValue<int> failed(0);
    const mp::RawValue<int> second(0);
    run_parties([&] {
        try {
            if (barrier.wait() == parties / 2) { throw mp::ProcessError("on purpose"); }
            barrier.wait();
            first += 1;
        } catch (const mp::BrokenBarrierError&) { failed += 1; } catch (const mp::ProcessError&) {
            barrier.abort();
        }
        if (synchronised.wait() == parties / 2) { barrier.reset(); }
        synchronised.wait();
        barrier.wait();
        second += 1;
        return 0;
    });
    CHECK(first == 0);
    CHECK(failed == parties - 1);
    CHECK(second == parties);
}

TEST_CASE("_TestBarrier.test_timeout: who is late finds the barrier broken, like all", "[parity]") {
    const mp::Barrier barrier(parties, {}, 60s);
    run_parties([&] {
        if (barrier.wait() == parties / 2) {
            // Late: only once it is broken by the others' timeout.
            if (!support::eventually([&] { return barrier.broken(); })) { return 1; }
        }
        return waits_in_vain(barrier, 200ms) ? 0 : 2;
    });
    CHECK(barrier.broken());
}

TEST_CASE("_TestBarrier.test_default_timeout: the barrier's own timeout does the same",
          "[parity]") {
    const mp::Barrier barrier(parties, {}, 2s);
    run_parties([&] {
        if (barrier.wait(60s) == parties / 2) {
            if (!support::eventually([&] { return barrier.broken(); })) { return 1; }
        }
        return waits_in_vain(barrier) ? 0 : 2;
    });
    CHECK(barrier.broken());
}

TEST_CASE("_TestBarrier.test_single_thread: one party never waits", "[parity]") {
    const mp::Barrier barrier(1);
    CHECK(barrier.wait() == 0);
    CHECK(barrier.wait() == 0);
}

TEST_CASE("_TestBarrier.test_thousand: a thousand rounds stay in step", "[parity]") {
    constexpr int rounds = 1'000;
    const mp::Barrier barrier(parties, {}, 60s);
    const mp::Lock lock;
    auto [receiver, sender] = mp::Pipe(false);
    std::vector<Child> children;
    for (int i = 0; i < parties; ++i) {
        children.emplace_back([&barrier, &lock, &sender = sender] {
            for (int round = 0; round < rounds; ++round) {
                barrier.wait();
                const std::scoped_lock guard(lock);
                sender.send(round);
            }
            return 0;
        });
    }
    int wrong = 0;
    for (int i = 0; i < rounds * parties; ++i) {
        wrong += receiver.recv<int>() == i / parties ? 0 : 1;
    }
    CHECK(wrong == 0);
    for (Child& child : children) { CHECK(child.join() == 0); }
}

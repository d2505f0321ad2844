// SPDX-License-Identifier: BSL-1.0
#include "child.hpp"
#include "support/bounds.hpp"
#include "support/catch.hpp"

#include <multiprocessing/errors.hpp>
#include <multiprocessing/sharedctypes.hpp>
#include <multiprocessing/synchronize.hpp>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using support::Child;
using support::timed;
using namespace std::chrono_literals;

namespace {

/// A child in `wait`: once it has let the lock go it is registered, so what follows under the lock
/// finds it.
template <class F>
Child waiting(const mp::Condition& condition, F f) {
    const mp::Event has_lock;
    Child child([&condition, has_lock, f] {
        const std::scoped_lock guard(condition);
        has_lock.set();
        return f();
    });
    REQUIRE(has_lock.wait(60s));
    const std::scoped_lock until_it_waits(condition);
    return child;
}

}  // namespace

TEST_CASE("wait and notify need the lock") {
    const mp::Condition of_rlock;
    const mp::Condition of_lock{mp::Lock()};
    for (const mp::Condition& condition : {of_rlock, of_lock}) {
        CHECK_THROWS_AS(condition.wait(0s), mp::AssertionError);
        CHECK_THROWS_AS(condition.wait_for([] { return false; }, 0s), mp::AssertionError);
        CHECK_THROWS_AS(condition.notify(), mp::AssertionError);
        CHECK_THROWS_AS(condition.notify_all(), mp::AssertionError);
        const std::scoped_lock guard(condition);
        CHECK_FALSE(condition.wait(0s));
        CHECK_NOTHROW(condition.notify());
        Child other([&] {
            try {
                condition.notify();
            } catch (const mp::AssertionError&) { return 0; }
            return 1;
        });
        CHECK(other.join() == 0);
    }
}

TEST_CASE("a Condition has its lock's members") {
    mp::Lock lock;
    mp::Condition condition(lock);
    CHECK(condition.acquire());
    CHECK(lock.locked());
    CHECK_FALSE(condition.acquire(false));
    CHECK_FALSE(condition.acquire(1ms));
    CHECK_FALSE(condition.try_lock_for(1ms));
    condition.release();
    CHECK_THROWS_AS(condition.release(), mp::ValueError);
    const mp::Condition reentrant;
    CHECK((reentrant.acquire() && reentrant.acquire()));
    reentrant.release();
    reentrant.release();
    CHECK_THROWS_AS(reentrant.release(), mp::AssertionError);
}

TEST_CASE("a wait that nobody ends takes as long as was said, and has the lock again") {
    const mp::RLock lock;
    const mp::Condition condition(lock);
    const std::scoped_lock guard(condition);
    CHECK(timed([&] { CHECK_FALSE(condition.wait(100ms)); }) >= 100ms);
    CHECK(lock.owner() == ::getpid());
}

TEST_CASE("a wait lets all levels of an RLock go, and gets them back") {
    const mp::RLock lock;
    const mp::Condition condition(lock);
    for (int i = 0; i < 3; ++i) { condition.acquire(); }
    Child other([&] {
        const std::scoped_lock guard(condition);
        condition.notify();
        return 0;
    });
    CHECK(condition.wait(60s));
    CHECK(other.join() == 0);
    for (int i = 0; i < 3; ++i) {
        CHECK(lock.locked());
        condition.release();
    }
    CHECK_FALSE(lock.locked());
}

TEST_CASE("notify wakes exactly as many, the longest waiting first") {
    const mp::Condition condition;
    const mp::RawArray<int> order(6);
    const mp::RawValue<int> woken(0);
    std::vector<Child> children;
    for (int i = 0; i < 6; ++i) {
        children.push_back(waiting(condition, [&, i] {
            if (!condition.wait(60s)) { return 1; }
            order[static_cast<std::size_t>(woken++)] = i;
            return 0;
        }));
    }
    const auto notify_and_await = [&](int n, int expected) {
        {
            const std::scoped_lock guard(condition);
            condition.notify(n);
        }
        CHECK(support::eventually([&] { return woken >= expected; }));
        CHECK_FALSE(support::eventually([&] { return woken > expected; }, 20ms));
    };
    notify_and_await(1, 1);
    CHECK(order[0] == 0);
    notify_and_await(0, 1);
    notify_and_await(2, 3);
    CHECK(order[1] + order[2] == 1 + 2);
    {
        const std::scoped_lock guard(condition);
        condition.notify_all();
    }
    for (Child& child : children) { CHECK(child.join() == 0); }
    CHECK(woken == 6);
}

TEST_CASE("a notification that nobody waits for is gone") {
    const mp::Condition condition;
    const std::scoped_lock guard(condition);
    condition.notify_all();
    condition.notify(3);
    CHECK_FALSE(condition.wait(50ms));
}

TEST_CASE("wait_for returns what the predicate said last, within the bound for the whole") {
    const mp::Condition condition;
    const mp::Value<int> state(0);
    const mp::Event ends;
    Child disturber([&] {
        while (!ends.is_set()) {
            const std::scoped_lock guard(condition);
            condition.notify_all();
        }
        return 0;
    });
    {
        const std::scoped_lock guard(condition);
        CHECK(condition.wait_for([&] { return state == 0; }, 0s));
        CHECK(timed([&] { CHECK_FALSE(condition.wait_for([&] { return state == 4; }, 100ms)); }) >=
              100ms);
    }
    ends.set();
    CHECK(disturber.join() == 0);
    Child waiter([&] {
        const std::scoped_lock guard(condition);
        return condition.wait_for([&] { return state == 4; }, 60s) ? 0 : 1;
    });
    for (int i = 0; i < 4; ++i) {
        const std::scoped_lock guard(condition);
        state += 1;
        condition.notify();
    }
    CHECK(waiter.join() == 0);
}

TEST_CASE("a waiter whose time is up takes no notification away") {
    const mp::Condition condition;
    constexpr int rounds = 300;
    const mp::RawValue<int> gone_without(0);
    const mp::RawValue<int> notified(0);
    std::vector<Child> waiters;
    for (int i = 0; i < 2; ++i) {
        waiters.emplace_back([&] {
            for (int k = 0; k < rounds; ++k) {
                const std::scoped_lock guard(condition);
                (condition.wait(std::chrono::microseconds(50 * (k % 7))) ? notified
                                                                         : gone_without) += 1;
            }
            return 0;
        });
    }
    // One who waits long: whatever the others do, what is meant for it reaches it.
    Child patient = waiting(condition, [&] { return condition.wait(60s) ? 0 : 1; });
    while (patient.is_alive()) {
        const std::scoped_lock guard(condition);
        condition.notify();
    }
    CHECK(patient.join() == 0);
    for (Child& child : waiters) { CHECK(child.join() == 0); }
    CHECK(notified + gone_without == 2 * rounds);
}

TEST_CASE("threads hand work over under a Condition", "[threads]") {
    for (const bool reentrant : {false, true}) {
        const mp::Condition condition = reentrant ? mp::Condition() : mp::Condition(mp::Lock());
        int turn = 0;
        long sum = 0;
        std::vector<std::thread> threads;
        for (int me = 0; me < 3; ++me) {
            threads.emplace_back([&, me] {
                for (int k = 0; k < 200; ++k) {
                    const std::scoped_lock guard(condition);
                    condition.wait_for([&] { return turn % 3 == me; });
                    sum += me;
                    ++turn;
                    condition.notify_all();
                }
            });
        }
        for (std::thread& thread : threads) { thread.join(); }
        CHECK(turn == 600);
        CHECK(sum == 600);
    }
}

TEST_CASE("a waiter that died takes no notification with it") {
    const mp::Condition condition;
    Child first = waiting(condition, [&] { return condition.wait(60s) ? 0 : 1; });
    Child second = waiting(condition, [&] { return condition.wait(60s) ? 0 : 1; });
    first.kill();
    {
        const std::scoped_lock guard(condition);
        condition.notify(1);
    }
    CHECK(second.join(20s) == 0);
}

TEST_CASE("a waiter that died after it was notified leaves that to another") {
    const mp::Condition condition;
    Child first = waiting(condition, [&] { return condition.wait(60s) ? 0 : 1; });
    Child second = waiting(condition, [&] { return condition.wait(60s) ? 0 : 1; });
    {
        const std::scoped_lock guard(condition);
        first.stop();
        condition.notify(1);
        first.kill();  // it could not get the lock, so it has not used it
    }
    CHECK(second.join(20s) == 0);
}

TEST_CASE("what a dead waiter had been given does not go to one who came later") {
    const mp::Condition condition;
    Child first = waiting(condition, [&] { return condition.wait(60s) ? 0 : 1; });
    {
        const std::scoped_lock guard(condition);
        condition.notify(1);
        first.kill();
    }
    const std::scoped_lock guard(condition);
    CHECK_FALSE(condition.wait(200ms));
}

TEST_CASE("who waits looks again when somebody dies holding the lock") {
    const mp::Condition condition;
    const mp::RawValue<int> done(0);
    const auto look = [&] { return condition.wait_for([&] { return done == 1; }, 60s) ? 0 : 1; };
    Child first = waiting(condition, look);
    Child second = waiting(condition, look);
    const mp::Event changed;
    Child notifier([&] {
        const std::scoped_lock guard(condition);
        done = 1;
        changed.set();
        mp::Event().wait();  // killed between the change and the notification
        return 0;
    });
    REQUIRE(changed.wait(60s));
    notifier.kill();
    CHECK(first.join(20s) == 0);
    CHECK(second.join(20s) == 0);
}

TEST_CASE("who waits looks again also when another takes the dead one's lock first") {
    const mp::Condition condition;
    const mp::RawValue<int> done(0);
    Child waiter = waiting(
        condition, [&] { return condition.wait_for([&] { return done == 1; }, 60s) ? 0 : 1; });
    const mp::Event changed;
    Child notifier([&] {
        const std::scoped_lock guard(condition);
        done = 1;
        changed.set();
        mp::Event().wait();
        return 0;
    });
    REQUIRE(changed.wait(60s));
    waiter.stop();
    notifier.kill();
    condition.acquire();
    condition.release();
    waiter.resume();
    CHECK(waiter.join(20s) == 0);
}

TEST_CASE("a wait gets the lock back as lock does: a poisoned one not at all") {
    const mp::Lock lock({.on_owner_death = mp::OwnerDeath::poison});
    const mp::Condition condition(lock);
    Child waiter = waiting(condition, [&] {
        try {
            condition.wait(60s);
        } catch (const mp::OwnerDiedError&) {
            ::_exit(lock.owner() == ::getpid() ? 2 : 0);  // scoped_lock does not hold it any more
        }
        return 1;
    });
    Child dying([&] {
        lock.acquire();
        return 0;
    });
    CHECK(dying.join() == 0);
    CHECK(waiter.join(20s) == 0);
    lock.recover();
    CHECK(lock.acquire(false));
    CHECK_FALSE(condition.wait(0s));
}

TEST_CASE("too many waiters are an error that says how many there may be") {
    const mp::Condition condition{mp::Lock()};
    constexpr int places = 504;
    std::vector<std::thread> threads;
    std::atomic<int> waiting_threads{0};
    for (int i = 0; i < places; ++i) {
        threads.emplace_back([&] {
            const std::scoped_lock guard(condition);
            ++waiting_threads;
            condition.wait();
        });
    }
    CHECK(support::eventually([&] { return waiting_threads == places; }));
    {
        const std::scoped_lock guard(condition);
        CHECK_THROWS_WITH(condition.wait(0s), support::contains("504"));
        condition.notify_all();
    }
    for (std::thread& thread : threads) { thread.join(); }
    const std::scoped_lock guard(condition);
    CHECK_FALSE(condition.wait(0s));
}

// SPDX-License-Identifier: BSL-1.0
#include "child.hpp"
#include "support/bounds.hpp"
#include "support/catch.hpp"

#include <multiprocessing/errors.hpp>
#include <multiprocessing/serialize.hpp>
#include <multiprocessing/sharedctypes.hpp>
#include <multiprocessing/synchronize.hpp>

#include <unistd.h>

#include <chrono>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <vector>

namespace mp = multiprocessing;
using support::Child;
using support::timed;
using namespace std::chrono_literals;

namespace {

/// Makes a child take the lock and be killed with it.
template <class LockType>
pid_t die_holding(const LockType& lock) {
    const mp::Event held;
    Child child([&] {
        lock.acquire();
        held.set();
        mp::Event().wait();
        return 0;
    });
    const pid_t pid = child.pid();
    REQUIRE(held.wait(60s));
    child.kill();
    return pid;
}

template <class T>
concept acquires_bare_number = requires(const T& lock) {
    lock.acquire(5);
};

}  // namespace

TEMPLATE_TEST_CASE("a lock is what the standard library calls a timed mutex", "", mp::Lock,
                   mp::RLock) {
    TestType a;
    TestType b;
    {
        const std::scoped_lock both(a, b);
        CHECK((a.locked() && b.locked()));
    }
    CHECK((!a.locked() && !b.locked()));
    std::unique_lock held(a, std::defer_lock);
    CHECK(held.try_lock());
    held.unlock();
    CHECK(held.try_lock_for(1ms));
    held.unlock();
    CHECK(held.try_lock_until(std::chrono::steady_clock::now()));
    held.unlock();
    CHECK(held.try_lock_until(std::chrono::system_clock::now() + 1s));
}

TEMPLATE_TEST_CASE("acquire says whether the lock is held", "", mp::Lock, mp::RLock) {
    const TestType lock;
    CHECK(lock.acquire());
    Child child([&] {
        if (lock.acquire(false)) { return 1; }
        if (lock.acquire(false, 60s)) { return 2; }  // not to wait ignores the timeout
        if (lock.acquire(-1s) || lock.acquire(true, 0s)) { return 3; }
        if (support::timed([&] { return bool(lock.acquire(100ms)); }) < 100ms) { return 4; }
        if (lock.acquire(true, 10ms) || lock.try_lock() || lock.try_lock_for(1ms)) { return 5; }
        return 0;
    });
    CHECK(child.join(30s) == 0);
    lock.release();
    Child other([&] {
        const bool held = lock.acquire(30s);
        lock.release();
        return held ? 0 : 1;
    });
    CHECK(other.join() == 0);
}

TEMPLATE_TEST_CASE("a number that does not say its unit is no timeout", "", mp::Lock, mp::RLock,
                   mp::Semaphore, mp::Condition) {
    STATIC_REQUIRE(!acquires_bare_number<TestType>);
}

TEMPLATE_TEST_CASE("copies of a handle are one lock", "", mp::Lock, mp::RLock) {
    const TestType lock;
    TestType copy = lock;
    copy.acquire();
    CHECK(lock.locked());
    TestType other;
    other = copy;
    other.release();
    CHECK_FALSE(lock.locked());
    CHECK_NOTHROW([lock] { lock.acquire(), lock.release(); }());
}

TEMPLATE_TEST_CASE("owner is the process that holds the lock", "", mp::Lock, mp::RLock) {
    const TestType lock;
    CHECK(lock.owner() == std::nullopt);
    lock.acquire();
    CHECK(lock.owner() == ::getpid());
    Child child([&, parent = ::getpid()] { return lock.owner() == parent ? 0 : 1; });
    CHECK(child.join() == 0);
    lock.release();
    CHECK(lock.owner() == std::nullopt);
}

TEMPLATE_TEST_CASE("processes exclude one another", "", mp::Lock, mp::RLock) {
    const TestType lock;
    const mp::RawArray<long> count(1);
    constexpr int steps = 20'000;
    std::vector<Child> children;
    for (int i = 0; i < 3; ++i) {
        children.emplace_back([&] {
            for (int k = 0; k < steps; ++k) {
                const std::scoped_lock guard(lock);
                auto& shared = static_cast<volatile long&>(count[0]);
                shared = shared + 1;
            }
            return 0;
        });
    }
    for (Child& child : children) { CHECK(child.join() == 0); }
    CHECK(count[0] == 3 * steps);
}

TEMPLATE_TEST_CASE("threads exclude one another", "[threads]", mp::Lock, mp::RLock) {
    const TestType lock;
    long count = 0;
    constexpr int steps = 5'000;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            for (int k = 0; k < steps; ++k) {
                const std::scoped_lock guard(lock);
                ++count;
            }
        });
    }
    for (std::thread& thread : threads) { thread.join(); }
    CHECK(count == 4 * steps);
}

TEST_CASE("any process or thread may release a Lock") {
    const mp::Lock lock;
    lock.acquire();
    Child child([&] {
        lock.release();
        return 0;
    });
    CHECK(child.join() == 0);
    CHECK_FALSE(lock.locked());
    lock.acquire();
    std::thread([&] { lock.release(); }).join();
    CHECK_FALSE(lock.locked());
}

TEST_CASE("a release wakes who waits, whoever releases") {
    const mp::Lock lock;
    const mp::Event begins;
    lock.acquire();
    Child waiter([&] {
        begins.set();
        return lock.acquire(60s) ? 0 : 1;
    });
    REQUIRE(begins.wait(60s));
    Child releaser([&] {
        lock.release();
        return 0;
    });
    CHECK(releaser.join() == 0);
    CHECK(waiter.join() == 0);
}

TEST_CASE("releasing a Lock that nobody holds is ValueError") {
    const mp::Lock lock;
    CHECK_THROWS_AS(lock.release(), mp::ValueError);
    lock.acquire();
    lock.release();
    CHECK_THROWS_AS(lock.unlock(), mp::ValueError);
    CHECK(lock.acquire(false));
}

TEST_CASE("a repair function and the policy that runs it go together") {
    CHECK_THROWS_AS(mp::Lock({.on_owner_death = mp::OwnerDeath::repair}), mp::ValueError);
    CHECK_THROWS_AS(mp::Lock({.repair = [] {}}), mp::ValueError);
    CHECK_THROWS_AS(mp::RLock({.on_owner_death = mp::OwnerDeath::repair}), mp::ValueError);
}

TEMPLATE_TEST_CASE("a lock whose holder died goes to the next one, which is told", "", mp::Lock,
                   mp::RLock) {
    const TestType lock;
    const pid_t dead = die_holding(lock);
    CHECK(lock.owner() == dead);
    CHECK(lock.locked());
    const mp::LockResult result = lock.acquire(false);
    CHECK(result);
    CHECK(result.owner_died());
    CHECK(lock.previous_owner_died());
    CHECK(lock.owner() == ::getpid());
    lock.release();
    CHECK_FALSE(lock.locked());
    CHECK_FALSE(lock.previous_owner_died());
    const mp::LockResult again = lock.acquire();
    CHECK((again && !again.owner_died()));
    lock.release();
}

TEMPLATE_TEST_CASE("who waits when the holder dies gets the lock soon", "", mp::Lock, mp::RLock) {
    const TestType lock;
    const mp::Event held;
    Child holder([&] {
        lock.acquire();
        held.set();
        mp::Event().wait();
        return 0;
    });
    REQUIRE(held.wait(60s));
    Child waiter([&] {
        const mp::LockResult result = lock.acquire(60s);
        lock.release();
        return result && result.owner_died() ? 0 : 1;
    });
    holder.kill();
    CHECK(waiter.join(20s) == 0);
}

TEMPLATE_TEST_CASE("a holder that ended of its own accord is a dead holder", "", mp::Lock,
                   mp::RLock) {
    const TestType lock;
    Child child([&] {
        lock.acquire();
        return 0;
    });
    CHECK(child.join() == 0);
    const mp::LockResult result = lock.acquire(10s);
    CHECK((result && result.owner_died()));
}

TEST_CASE("a Lock whose holder is dead may still be released by another process") {
    const mp::Lock lock;
    die_holding(lock);
    CHECK_NOTHROW(lock.release());
    const mp::LockResult result = lock.acquire(false);
    CHECK((result && !result.owner_died()));
}

TEMPLATE_TEST_CASE("a holder that is stopped is not taken for dead", "", mp::Lock, mp::RLock) {
    const TestType lock;
    const mp::Event held;
    const mp::Event go_on;
    Child child([&] {
        lock.acquire();
        held.set();
        go_on.wait();
        const bool died = lock.previous_owner_died();
        lock.release();
        return died ? 1 : 0;
    });
    REQUIRE(held.wait(60s));
    child.stop();
    CHECK_FALSE(lock.acquire(300ms));
    child.resume();
    go_on.set();
    CHECK(child.join() == 0);
    const mp::LockResult result = lock.acquire();
    CHECK_FALSE(result.owner_died());
}

TEMPLATE_TEST_CASE("a poisoned lock is held by nobody until it is recovered", "", mp::Lock,
                   mp::RLock) {
    const TestType lock({.on_owner_death = mp::OwnerDeath::poison});
    { const std::scoped_lock guard(lock); }
    const pid_t dead = die_holding(lock);
    for (int round = 0; round < 2; ++round) {
        try {
            lock.acquire();
            FAIL("a poisoned lock was acquired");
        } catch (const mp::OwnerDiedError& error) {
            CHECK(error.pid() == dead);
            CHECK_THAT(error.what(), support::contains(std::to_string(dead)));
        }
    }
    CHECK_THROWS_AS(lock.lock(), mp::OwnerDiedError);
    CHECK_THROWS_AS(lock.try_lock(), mp::OwnerDiedError);
    CHECK_THROWS_AS(lock.acquire(10ms), mp::OwnerDiedError);
    Child other([&] {
        try {
            lock.acquire();
        } catch (const mp::OwnerDiedError&) { return 0; }
        return 1;
    });
    CHECK(other.join() == 0);
    Child healer([&] {
        lock.recover();
        return 0;
    });
    CHECK(healer.join() == 0);
    const mp::LockResult result = lock.acquire(false);
    CHECK((result && !result.owner_died() && !lock.previous_owner_died()));
    lock.release();
}

TEMPLATE_TEST_CASE("recover leaves a lock whose holder lives", "", mp::Lock, mp::RLock) {
    const TestType lock({.on_owner_death = mp::OwnerDeath::poison});
    lock.recover();
    lock.acquire();
    lock.recover();
    CHECK(lock.owner() == ::getpid());
    Child other([&] {
        lock.recover();
        return lock.acquire(false) ? 1 : 0;
    });
    CHECK(other.join() == 0);
}

TEMPLATE_TEST_CASE("a repair runs with the lock held, before acquire returns", "", mp::Lock,
                   mp::RLock) {
    const mp::RawValue<int> repairs(0);
    const mp::RawValue<pid_t> repairer(0);
    std::optional<TestType> self;
    const TestType lock({.on_owner_death = mp::OwnerDeath::repair, .repair = [&] {
                             repairs += 1;
                             if (self->previous_owner_died()) { repairer = *self->owner(); }
                         }});
    self = lock;
    lock.acquire();
    lock.release();
    CHECK(repairs == 0);
    die_holding(lock);
    lock.lock();
    CHECK(repairs == 1);
    CHECK(repairer == ::getpid());
    CHECK(lock.previous_owner_died());
    lock.unlock();
    lock.acquire();
    CHECK(repairs == 1);
    lock.release();
}

TEMPLATE_TEST_CASE("a repair that throws leaves the lock free, and the next one repairs", "",
                   mp::Lock, mp::RLock) {
    const mp::RawValue<int> attempts(0);
    const TestType lock({.on_owner_death = mp::OwnerDeath::repair, .repair = [&] {
                             if (++attempts < 3) { throw std::runtime_error("not yet"); }
                         }});
    die_holding(lock);
    CHECK_THROWS_WITH(lock.acquire(), "not yet");
    CHECK_FALSE(lock.locked());
    Child other([&] {
        try {
            lock.acquire();
        } catch (const std::runtime_error&) { return 0; }
        return 1;
    });
    CHECK(other.join() == 0);
    const mp::LockResult result = lock.acquire(false);
    CHECK((result && result.owner_died()));
    CHECK(attempts == 3);
    lock.release();
    CHECK_FALSE(lock.acquire().owner_died());
}

TEMPLATE_TEST_CASE("who is killed in a repair is a dead holder", "", mp::Lock, mp::RLock) {
    const mp::RawValue<int> repairs(0);
    const mp::Event begun;
    const TestType lock({.on_owner_death = mp::OwnerDeath::repair, .repair = [&] {
                             if (++repairs == 1) {
                                 begun.set();
                                 mp::Event().wait();
                             }
                         }});
    die_holding(lock);
    Child repairer([&] {
        lock.acquire();
        return 0;
    });
    REQUIRE(begun.wait(60s));
    repairer.kill();
    const mp::LockResult result = lock.acquire(20s);
    CHECK((result && result.owner_died()));
    CHECK(repairs == 2);
}

TEMPLATE_TEST_CASE("a handle is sendable, but not through a queue", "", mp::Lock, mp::RLock,
                   mp::Semaphore, mp::BoundedSemaphore, mp::Condition, mp::Event, mp::Value<int>,
                   mp::RawValue<int>, mp::Array<int>, mp::RawArray<int>) {
    STATIC_REQUIRE(mp::detail::sendable<TestType>);
    const TestType handle = [] {
        if constexpr (std::is_default_constructible_v<TestType>) {
            return TestType();
        } else {
            return TestType(1);
        }
    }();
    CHECK_THROWS_AS(mp::dumps(handle), mp::SerializationError);
    try {
        mp::dumps(handle);
    } catch (const mp::SerializationError& error) {
        CHECK_THAT(error.what(), support::contains("only to a process that is being started"));
    }
}

// SPDX-License-Identifier: BSL-1.0
#include "child.hpp"
#include "support/catch.hpp"

#include <multiprocessing/errors.hpp>
#include <multiprocessing/synchronize.hpp>

#include <chrono>
#include <mutex>
#include <thread>

namespace mp = multiprocessing;
using support::Child;
using namespace std::chrono_literals;

TEST_CASE("the owner of an RLock acquires it again, and releases it as often") {
    const mp::RLock lock;
    for (int i = 0; i < 3; ++i) { CHECK(lock.acquire(false)); }
    for (int i = 0; i < 3; ++i) {
        CHECK(lock.locked());
        Child other([&] { return lock.acquire(false) ? 1 : 0; });
        CHECK(other.join() == 0);
        lock.release();
    }
    CHECK_FALSE(lock.locked());
}

TEST_CASE("the owner of an RLock is one thread") {
    const mp::RLock lock;
    lock.acquire();
    std::thread([&] {
        CHECK_FALSE(lock.acquire(false));
        CHECK_THROWS_AS(lock.release(), mp::AssertionError);
    }).join();
    lock.release();
    std::thread([&] {
        CHECK(lock.acquire(false));
        lock.release();
    }).join();
}

TEST_CASE("only its owner releases an RLock") {
    const mp::RLock lock;
    CHECK_THROWS_AS(lock.release(), mp::AssertionError);
    lock.acquire();
    Child other([&] {
        try {
            lock.release();
        } catch (const mp::AssertionError&) { return lock.locked() ? 0 : 1; }
        return 2;
    });
    CHECK(other.join() == 0);
    lock.release();
    CHECK_THROWS_AS(lock.release(), mp::AssertionError);
}

TEST_CASE("a child does not own what its parent owns") {
    const mp::RLock lock;
    const std::scoped_lock guard(lock);
    Child child([&] { return lock.acquire(false) ? 1 : 0; });
    CHECK(child.join() == 0);
}

TEST_CASE("who takes an RLock over from a dead owner owns it once") {
    const mp::RLock lock;
    Child child([&] {
        for (int i = 0; i < 3; ++i) { lock.acquire(); }
        return 0;
    });
    CHECK(child.join() == 0);
    const mp::LockResult first = lock.acquire(10s);
    CHECK((first && first.owner_died()));
    const mp::LockResult nested = lock.acquire();
    CHECK((nested && !nested.owner_died()));
    CHECK(lock.previous_owner_died());
    lock.release();
    CHECK(lock.locked());
    lock.release();
    CHECK_FALSE(lock.locked());
}

TEST_CASE("a repair may acquire the RLock that it repairs") {
    std::optional<mp::RLock> self;
    const mp::RLock lock({.on_owner_death = mp::OwnerDeath::repair,
                          .repair = [&] { const std::scoped_lock guard(*self); }});
    self = lock;
    Child child([&] {
        lock.acquire();
        return 0;
    });
    CHECK(child.join() == 0);
    CHECK(lock.acquire(10s));
    lock.release();
    CHECK_FALSE(lock.locked());
}

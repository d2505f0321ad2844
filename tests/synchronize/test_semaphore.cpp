// SPDX-License-Identifier: BSL-1.0
#include "child.hpp"
#include "support/bounds.hpp"
#include "support/catch.hpp"

#include <multiprocessing/errors.hpp>
#include <multiprocessing/sharedctypes.hpp>
#include <multiprocessing/synchronize.hpp>

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using support::Child;
using support::timed;
using namespace std::chrono_literals;

namespace {

/// A child that takes `n` units, and waits to be killed.
Child holder(const mp::Semaphore& semaphore, int n) {
    const mp::Event held;
    Child child([&] {
        for (int i = 0; i < n; ++i) { semaphore.acquire(); }
        held.set();
        mp::Event().wait();
        return 0;
    });
    REQUIRE(held.wait(60s));
    return child;
}

/// Runs `f` in a child that ends of its own accord.
template <class F>
void in_child(F f) {
    Child child([&] {
        f();
        return 0;
    });
    REQUIRE(child.join() == 0);
}

}  // namespace

TEST_CASE("a Semaphore counts what is left") {
    const mp::Semaphore semaphore(2);
    CHECK(semaphore.get_value() == 2);
    CHECK(semaphore.acquire());
    CHECK(semaphore.acquire(false));
    CHECK(semaphore.get_value() == 0);
    CHECK(semaphore.locked());
    CHECK_FALSE(semaphore.acquire(false));
    CHECK_FALSE(semaphore.acquire(false, 60s));
    CHECK_FALSE(semaphore.acquire(-5s));
    CHECK(timed([&] { return bool(semaphore.acquire(50ms)); }) >= 50ms);
    semaphore.release();
    CHECK_FALSE(semaphore.locked());
    semaphore.release(3);
    CHECK(semaphore.get_value() == 4);
    CHECK(mp::Semaphore().get_value() == 1);
}

TEST_CASE("a Semaphore is what the standard library calls a timed mutex") {
    mp::Semaphore semaphore(2);
    {
        const std::scoped_lock guard(semaphore);
        CHECK(semaphore.get_value() == 1);
        std::unique_lock second(semaphore, std::try_to_lock);
        CHECK(second.owns_lock());
        CHECK_FALSE(semaphore.try_lock_for(1ms));
        CHECK_FALSE(semaphore.try_lock_until(std::chrono::system_clock::now()));
    }
    CHECK(semaphore.get_value() == 2);
}

TEST_CASE("values that a Semaphore cannot have are refused") {
    constexpr long long most = 2'147'483'647;
    try {
        mp::Semaphore(-1);
        FAIL("a negative value was taken");
    } catch (const mp::OSError& error) { CHECK(error.code().value() == EINVAL); }
    CHECK_THROWS_AS(mp::BoundedSemaphore(-1), mp::OSError);
    CHECK_THROWS_AS(mp::Semaphore(most + 1), mp::ValueError);
    const mp::Semaphore full(most);
    CHECK(full.get_value() == most);
    CHECK_THROWS_AS(full.release(), mp::ValueError);
    CHECK(full.acquire());
    CHECK_NOTHROW(full.release());
    const mp::Semaphore one;
    CHECK_THROWS_AS(one.release(0), mp::ValueError);
    CHECK_THROWS_AS(one.release(-1), mp::ValueError);
    CHECK(one.get_value() == 1);
}

TEST_CASE("a BoundedSemaphore refuses a release too many, and does nothing then") {
    const mp::BoundedSemaphore semaphore(2);
    CHECK_THROWS_AS(semaphore.release(), mp::ValueError);
    CHECK((semaphore.acquire() && semaphore.acquire() && !semaphore.acquire(false)));
    CHECK_THROWS_AS(semaphore.release(3), mp::ValueError);
    CHECK(semaphore.get_value() == 0);
    semaphore.release(2);
    CHECK_THROWS_AS(semaphore.release(), mp::ValueError);
    CHECK(semaphore.get_value() == 2);
}

TEST_CASE("a handle to a BoundedSemaphore that is called Semaphore is bounded still") {
    const mp::BoundedSemaphore bounded(1);
    const mp::Semaphore semaphore = bounded;
    CHECK_THROWS_AS(semaphore.release(), mp::ValueError);
    semaphore.acquire();
    CHECK(bounded.locked());
}

TEST_CASE("no more processes are inside than a Semaphore has units") {
    const mp::BoundedSemaphore semaphore(2);
    const mp::RawValue<int> inside(0);
    std::vector<Child> children;
    for (int i = 0; i < 4; ++i) {
        children.emplace_back([&] {
            for (int k = 0; k < 2'000; ++k) {
                const std::scoped_lock guard(semaphore);
                if (++inside > 2) { return 1; }
                --inside;
            }
            return 0;
        });
    }
    for (Child& child : children) { CHECK(child.join() == 0); }
    CHECK(semaphore.get_value() == 2);
}

TEST_CASE("no more threads are inside than a Semaphore has units", "[threads]") {
    const mp::Semaphore semaphore(2);
    std::atomic<int> inside{0};
    std::atomic<bool> too_many{false};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            for (int k = 0; k < 1'000; ++k) {
                const std::scoped_lock guard(semaphore);
                if (++inside > 2) { too_many = true; }
                --inside;
            }
        });
    }
    for (std::thread& thread : threads) { thread.join(); }
    CHECK_FALSE(too_many);
    CHECK(semaphore.get_value() == 2);
}

TEST_CASE("what a thread wrote before release is seen after acquire", "[threads]") {
    const mp::Semaphore items(0);
    int written = 0;
    std::thread reader([&] {
        for (int i = 1; i <= 1'000; ++i) {
            items.acquire();
            if (i == 1'000) { CHECK(written == 1'000); }
        }
    });
    for (int i = 1; i <= 1'000; ++i) {
        if (i == 1'000) { written = i; }
        items.release();
    }
    reader.join();
}

TEST_CASE("a release of n wakes n who wait") {
    const mp::Semaphore semaphore(0);
    std::vector<Child> children;
    for (int i = 0; i < 5; ++i) {
        children.emplace_back([&] { return semaphore.acquire(60s) ? 0 : 1; });
    }
    for (const Child& child : children) {
        REQUIRE(support::eventually([&] { return child.sleeps(); }));
    }
    semaphore.release(5);
    for (Child& child : children) { CHECK(child.join() == 0); }
    CHECK(semaphore.get_value() == 0);
}

TEST_CASE("any process may release a Semaphore") {
    const mp::BoundedSemaphore semaphore(2);
    semaphore.acquire();
    semaphore.acquire();
    in_child([&] { semaphore.release(); });
    CHECK(semaphore.get_value() == 1);
    semaphore.release();
    CHECK(semaphore.get_value() == 2);
    CHECK_THROWS_AS(semaphore.release(), mp::ValueError);
}

TEST_CASE("units of a process that died come back") {
    const mp::BoundedSemaphore semaphore(3);
    semaphore.acquire();
    Child child = holder(semaphore, 2);
    CHECK(semaphore.get_value() == 0);
    CHECK_FALSE(semaphore.acquire(false));
    child.kill();
    CHECK(semaphore.get_value() == 2);
    CHECK((semaphore.acquire(false) && semaphore.acquire(false) && !semaphore.acquire(false)));
    semaphore.release(3);
    CHECK(semaphore.get_value() == 3);
    CHECK_THROWS_AS(semaphore.release(), mp::ValueError);
}

TEST_CASE("a process that leaves by _exit has died") {
    const mp::Semaphore semaphore(1);
    Child child([&] {
        semaphore.acquire();
        ::_exit(0);
        return 0;
    });
    child.join();
    CHECK(semaphore.acquire(10s));
}

TEST_CASE("who waits when a holder dies gets its unit soon") {
    const mp::Semaphore semaphore(1);
    Child child = holder(semaphore, 1);
    Child waiter([&] { return semaphore.acquire(60s) ? 0 : 1; });
    REQUIRE(support::eventually([&] { return waiter.sleeps(); }));
    child.kill();
    CHECK(waiter.join(20s) == 0);
}

TEST_CASE("units of a process that ended of its own accord stay taken") {
    const mp::Semaphore semaphore(2);
    in_child([&] { semaphore.acquire(); });
    CHECK(semaphore.get_value() == 1);
    CHECK(semaphore.acquire(false));
    CHECK_FALSE(semaphore.acquire(100ms));
}

TEST_CASE("units stay taken when it was said that a death loses them") {
    const mp::BoundedSemaphore semaphore(2, {.on_death = mp::UnitDeath::lose});
    Child child = holder(semaphore, 1);
    child.kill();
    CHECK(semaphore.get_value() == 1);
    CHECK(semaphore.acquire(false));
    CHECK_FALSE(semaphore.acquire(100ms));
    semaphore.release();
    semaphore.release();  // for the dead one
    CHECK(semaphore.get_value() == 2);
    CHECK_THROWS_AS(semaphore.release(), mp::ValueError);
}

TEST_CASE("tokens that were used up do not come back with the death of who took them") {
    const mp::Semaphore tokens(0);
    tokens.release(5);
    Child child = holder(tokens, 3);
    child.kill();
    CHECK(tokens.get_value() == 2);
    CHECK((tokens.acquire(false) && tokens.acquire(false) && !tokens.acquire(false)));
}

TEST_CASE("no death brings the value above the initial one") {
    const mp::Semaphore semaphore(2);
    Child child = holder(semaphore, 2);
    semaphore.release(2);  // for the child, whose units these are
    CHECK(semaphore.get_value() == 2);
    child.kill();
    CHECK(semaphore.get_value() == 2);
    Child other = holder(semaphore, 2);
    semaphore.release(1);
    CHECK(semaphore.get_value() == 1);
    other.kill();
    CHECK(semaphore.get_value() == 2);
}

TEST_CASE("a unit that was released for somebody does not come back again with its death") {
    const mp::BoundedSemaphore semaphore(4);
    Child child = holder(semaphore, 2);
    in_child([&] { semaphore.release(); });  // holds none, so it settles one of the child's
    CHECK(semaphore.get_value() == 3);
    child.kill();
    CHECK(semaphore.get_value() == 4);
    CHECK_THROWS_AS(semaphore.release(), mp::ValueError);
}

TEST_CASE("a release for another is for one who has ended, where there is the choice") {
    const mp::BoundedSemaphore semaphore(2, {.on_death = mp::UnitDeath::lose});
    Child dead = holder(semaphore, 1);
    Child living = holder(semaphore, 1);
    dead.kill();
    in_child([&] { semaphore.release(); });
    CHECK(semaphore.get_value() == 1);
    // It holds its unit still: that it is released by us is right, once.
    semaphore.release();
    CHECK_THROWS_AS(semaphore.release(), mp::ValueError);
}

TEST_CASE("a release of more than one holds settles the rest") {
    const mp::BoundedSemaphore semaphore(6);
    Child one = holder(semaphore, 2);
    Child two = holder(semaphore, 2);
    semaphore.acquire();
    semaphore.acquire();
    semaphore.release(5);  // two of our own, three of theirs
    CHECK(semaphore.get_value() == 5);
    one.kill();
    two.kill();
    CHECK(semaphore.get_value() == 6);
    CHECK_THROWS_AS(semaphore.release(), mp::ValueError);
}

TEST_CASE("the ledger has room for more processes than ever held units") {
    const mp::Semaphore tokens(0);
    constexpr int users = 100;  // more than the ledger has entries
    tokens.release(users);
    for (int i = 0; i < users; ++i) {
        in_child([&] { tokens.acquire(); });
        REQUIRE(tokens.get_value() == users - i - 1);
    }
    CHECK_FALSE(tokens.acquire(false));
}

TEST_CASE("more living processes than the ledger has places share a Semaphore") {
    const mp::Semaphore semaphore(1);
    constexpr int users = 60;
    semaphore.release(users - 1);
    {
        std::vector<Child> children;
        for (int i = 0; i < users; ++i) { children.push_back(holder(semaphore, 1)); }
        CHECK(semaphore.get_value() == 0);
        semaphore.release(users);
        CHECK(semaphore.get_value() == users);
    }
    // Never more than there were, whatever they held.
    CHECK(semaphore.get_value() == users);
}

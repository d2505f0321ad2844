// SPDX-License-Identifier: BSL-1.0

// A user of a lock, semaphore, condition, event, barrier or value is ended at every named place,
// and at random ones: the others go on, and find what was before the operation or what is after it.

// Before the library, which this file must therefore see first: no precompiled header.
namespace {
void reach(const char* place);
}  // namespace
#define MULTIPROCESSING_KILL_POINT(name) ::reach(name)

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/forked.hpp"

#include <multiprocessing/errors.hpp>
#include <multiprocessing/sharedctypes.hpp>
#include <multiprocessing/shm/family.hpp>
#include <multiprocessing/synchronize.hpp>

#include <signal.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

namespace mp = multiprocessing;
using support::Forked;
using namespace std::chrono_literals;

namespace {

// In a victim: how many places it passes before it is ended.
int places_to_pass = -1;
void reach(const char*) {
    if (places_to_pass >= 0 && places_to_pass-- == 0) { ::raise(SIGKILL); }
}

/// Runs `operation` in a child that is ended at its place number `place`; false when it has not so
/// many. Either way the child has died then: it does not end of its own accord.
template <class Operation>
bool die_at(int place, Operation operation) {
    Forked victim([&] {
        mp::detail::Family::self();  // not one of the places that this is about
        places_to_pass = place;
        operation();
        places_to_pass = -1;
        return 0;
    });
    const int code = victim.join();
    CHECK((code == 0 || code == -SIGKILL));
    return code == -SIGKILL;
}

/// For each place of `operation`: makes an object, ends a child there, checks the object.
/// Once more at the end with a child that completes the operation and dies then.
template <class Make, class Operation, class Check>
void at_every_place(int at_least, Make make, Operation operation, Check check) {
    int place = 0;
    for (bool died = true; died; ++place) {
        INFO("place " << place);
        auto object = make();
        died = die_at(place, [&] { operation(object); });
        check(object);
    }
    CHECK(place > at_least);
}

/// Makes a child take the lock and die with it.
template <class LockType>
void die_holding(const LockType& lock) {
    Forked child([&] { return lock.acquire(20s) ? 0 : 1; });
    CHECK(child.join() == 0);
}

/// A child that does `begin`, and then waits to be killed. Returns once it has begun.
template <class Begin>
Forked lasting(Begin begin) {
    const mp::Event begun;
    Forked child([&] {
        begin();
        begun.set();
        mp::Event().wait();
        return 0;
    });
    REQUIRE(begun.wait(20s));
    return child;
}

/// Runs `f` in a child that ends of its own accord, and returns its exit code.
template <class F>
int in_child(F f) {
    Forked child([&] {
        const int code = f();
        mp::detail::Family::record_exit(code);
        return code;
    });
    return child.join();
}

/// The lock can be had, by one at a time.
template <class LockType>
void check_works(const LockType& lock) {
    for (int i = 0; i < 2; ++i) {
        REQUIRE(lock.acquire(20s));
        CHECK(in_child([&] { return lock.acquire(false) ? 1 : 0; }) == 0);
        lock.release();
        CHECK_FALSE(lock.locked());
    }
}

/// There are exactly `n` units.
void check_units(const mp::Semaphore& semaphore, int n) {
    CHECK(semaphore.get_value() == n);
    for (int i = 0; i < n; ++i) { REQUIRE(semaphore.acquire(false)); }
    CHECK_FALSE(semaphore.acquire(false));
    semaphore.release(n);
    CHECK(semaphore.get_value() == n);
}

struct Large {
    std::array<long, 40> numbers;
    static Large all(long number) {
        Large large{};
        large.numbers.fill(number);
        return large;
    }
    /// Returns the number that all are, -1 if they are not.
    long one() const {
        for (const long number : numbers) {
            if (number != numbers[0]) { return -1; }
        }
        return numbers[0];
    }
};

}  // namespace

TEMPLATE_TEST_CASE("whoever dies acquiring or releasing a lock leaves it to the others", "[crash]",
                   mp::Lock, mp::RLock) {
    at_every_place(
        0, [] { return TestType(); },
        [](const TestType& lock) {
            lock.acquire();
            lock.release();
        },
        [](const TestType& lock) { check_works(lock); });
}

TEMPLATE_TEST_CASE("whoever dies taking over from the dead leaves it to the others", "[crash]",
                   mp::Lock, mp::RLock) {
    at_every_place(
        3,
        [] {
            TestType lock;
            die_holding(lock);
            return lock;
        },
        [](const TestType& lock) { lock.acquire(); },
        [](const TestType& lock) { check_works(lock); });
}

TEMPLATE_TEST_CASE("whoever dies releasing does not leave who waits asleep", "[crash]", mp::Lock,
                   mp::RLock) {
    at_every_place(
        0, [] { return TestType(); },
        [](const TestType& lock) {
            lock.acquire();
            // Waits until this process dies or has released, whichever comes first.
            Forked waiter([&] {
                places_to_pass = -1;
                const bool held = lock.acquire(20s);
                lock.release();
                return held ? 0 : 1;
            });
            lock.release();
            places_to_pass = -1;
            if (waiter.join() != 0) { ::_exit(1); }
        },
        [](const TestType& lock) { check_works(lock); });
}

TEMPLATE_TEST_CASE("whoever dies finding, or clearing, a poisoned lock leaves it poisoned or clear",
                   "[crash]", mp::Lock, mp::RLock) {
    at_every_place(
        1,
        [] {
            TestType lock({.on_owner_death = mp::OwnerDeath::poison});
            die_holding(lock);
            return lock;
        },
        [](const TestType& lock) {
            CHECK_THROWS_AS(lock.acquire(), mp::OwnerDiedError);
            lock.recover();
        },
        [](const TestType& lock) {
            if (lock.locked()) { CHECK_THROWS_AS(lock.acquire(20s), mp::OwnerDiedError); }
            lock.recover();
            check_works(lock);
        });
}

TEMPLATE_TEST_CASE("a holder is killed, for each policy, time after time", "[crash]", mp::Lock,
                   mp::RLock) {
    const mp::RawValue<int> repairs(0);
    const TestType transfer;
    const TestType poison({.on_owner_death = mp::OwnerDeath::poison});
    const TestType repair(
        {.on_owner_death = mp::OwnerDeath::repair, .repair = [&] { repairs += 1; }});
    const auto die_with = [](const TestType& lock, int expected) {
        Forked holder = lasting([&] { lock.acquire(); });
        Forked waiter([&, dying = holder.pid()] {
            try {
                const mp::LockResult result = lock.acquire(20s);
                lock.release();
                return result && result.owner_died() ? 0 : 1;
            } catch (const mp::OwnerDiedError& error) { return error.pid() == dying ? 2 : 3; }
        });
        holder.kill();
        holder.join();
        CHECK(waiter.join() == expected);
        lock.recover();
        check_works(lock);
    };
    for (int round = 1; round <= 10; ++round) {
        die_with(transfer, 0);
        die_with(poison, 2);
        die_with(repair, 0);
        CHECK(repairs == round);
    }
}

TEST_CASE("whoever dies taking or giving a unit leaves as many as there were", "[crash]") {
    at_every_place(
        4, [] { return mp::BoundedSemaphore(2); },
        [](const mp::Semaphore& semaphore) {
            semaphore.acquire();
            semaphore.acquire();
            semaphore.release();
            semaphore.acquire();
        },
        [](const mp::Semaphore& semaphore) {
            check_units(semaphore, 2);
            CHECK_THROWS_AS(semaphore.release(), mp::ValueError);
        });
}

TEST_CASE("whoever dies bringing back the units of the dead brings back all or leaves it to others",
          "[crash]") {
    at_every_place(
        4,
        [] {
            mp::BoundedSemaphore semaphore(3);
            CHECK(Forked([&] {
                      return semaphore.acquire() && semaphore.acquire() ? 0 : 1;
                  }).join() == 0);
            return semaphore;
        },
        [](const mp::Semaphore& semaphore) {
            semaphore.acquire();
            semaphore.acquire();  // none left but the dead one's
        },
        [](const mp::Semaphore& semaphore) {
            check_units(semaphore, 3);
            CHECK_THROWS_AS(semaphore.release(), mp::ValueError);
        });
}

TEST_CASE("whoever dies giving what is partly others' gives all or none", "[crash]") {
    using Case = std::pair<mp::BoundedSemaphore, Forked>;
    at_every_place(
        10,
        [] {
            const mp::BoundedSemaphore semaphore(6);
            return Case(semaphore, lasting([&] { semaphore.acquire(), semaphore.acquire(); }));
        },
        [](const Case& object) {
            const auto& semaphore = object.first;
            semaphore.acquire();
            semaphore.acquire();
            semaphore.release(3);
        },
        [](Case& object) {
            const auto& [semaphore, other] = object;
            // Without what the victim holds: the other's two are out, or one of them.
            const int value = semaphore.get_value();
            CHECK((value == 4 || value == 5));
            check_units(semaphore, value);
            other.kill();
            object.second.join();
            check_units(semaphore, 6);
        });
}

TEST_CASE("whoever dies releasing for another has done it or not", "[crash]") {
    using Case = std::pair<mp::BoundedSemaphore, Forked>;
    at_every_place(
        2,
        [] {
            const mp::BoundedSemaphore semaphore(1);
            return Case(semaphore, lasting([&] { semaphore.acquire(); }));
        },
        [](const Case& object) { object.first.release(); },
        [](Case& object) {
            const int value = object.first.get_value();
            CHECK((value == 0 || value == 1));
            object.second.kill();
            object.second.join();
            check_units(object.first, 1);
        });
}

TEST_CASE("who waits for a unit is not left asleep by whoever dies giving one", "[crash]") {
    at_every_place(
        2,
        [] {
            const mp::Semaphore semaphore(1);
            return semaphore;
        },
        [](const mp::Semaphore& semaphore) {
            semaphore.acquire();
            Forked waiter([&] {
                places_to_pass = -1;
                return semaphore.acquire(20s) ? 0 : 1;
            });
            semaphore.release();
            places_to_pass = -1;
            if (waiter.join() != 0) { ::_exit(1); }
        },
        [](const mp::Semaphore& semaphore) { CHECK(semaphore.acquire(20s)); });
}

namespace {

/// Somebody waits on a condition until `done`; what became of that is a child's exit code.
struct Meeting {
    mp::Condition condition;
    mp::RawValue<int> done;
    std::optional<Forked> waiter;

    static Meeting with_waiter() {
        Meeting meeting;
        meeting.waiter = meeting.wait();
        return meeting;
    }
    Forked wait() const {
        const mp::Event has_lock;
        Forked child([&] {
            const std::scoped_lock guard(condition);
            has_lock.set();
            return condition.wait_for([&] { return done == 1; }, 20s) ? 0 : 1;
        });
        REQUIRE(has_lock.wait(20s));
        REQUIRE(condition.acquire(20s));
        condition.release();
        return child;
    }
};

}  // namespace

TEST_CASE("whoever dies notifying does not leave who waits asleep", "[crash]") {
    at_every_place(
        3, [] { return Meeting::with_waiter(); },
        [](const Meeting& meeting) {
            const std::scoped_lock guard(meeting.condition);
            meeting.done = 1;
            meeting.condition.notify();
        },
        [](Meeting& meeting) {
            if (meeting.done == 0) {
                // It died before it did anything.
                const std::scoped_lock guard(meeting.condition);
                meeting.done = 1;
                meeting.condition.notify();
            }
            CHECK(meeting.waiter->join() == 0);
        });
}

TEST_CASE("whoever dies waiting takes nobody's notification with it", "[crash]") {
    struct Case : Meeting {
        mp::Event notify_now;
        std::optional<Forked> notifier;
    };
    at_every_place(
        5,
        [] {
            Case object{Meeting::with_waiter(), {}, {}};
            object.notifier.emplace([condition = object.condition, go = object.notify_now] {
                go.wait(20s);
                const std::scoped_lock guard(condition);
                condition.notify(2);
                return 0;
            });
            return object;
        },
        [](const Case& object) {
            const std::scoped_lock guard(object.condition);
            object.notify_now.set();
            object.condition.wait(20s);
        },
        [](Case& object) {
            object.notify_now.set();
            CHECK(object.notifier->join() == 0);
            REQUIRE(object.condition.acquire(20s));
            object.done = 1;
            object.condition.notify(1);
            object.condition.release();
            CHECK(object.waiter->join() == 0);
            REQUIRE(object.condition.acquire(20s));
            CHECK_FALSE(object.condition.wait(10ms));
            object.condition.release();
        });
}

TEST_CASE("a waiter that dies having been notified leaves that to another, time after time",
          "[crash]") {
    const mp::Condition condition;
    for (int round = 0; round < 10; ++round) {
        const auto waiting = [&] {
            const mp::Event has_lock;
            Forked child([&] {
                const std::scoped_lock guard(condition);
                has_lock.set();
                return condition.wait(20s) ? 0 : 1;
            });
            REQUIRE(has_lock.wait(20s));
            const std::scoped_lock until_it_waits(condition);
            return child;
        };
        Forked first = waiting();
        Forked second = waiting();
        {
            const std::scoped_lock guard(condition);
            condition.notify();  // the first, which cannot go on without the lock
            first.kill();
            CHECK(first.join() == -SIGKILL);
        }
        CHECK(second.join() == 0);
    }
}

TEST_CASE("whoever dies setting an Event has set it for all, or for none", "[crash]") {
    using Case = std::pair<mp::Event, Forked>;
    at_every_place(
        1,
        [] {
            const mp::Event event;
            return Case(event, Forked([&] { return event.wait(20s) ? 0 : 1; }));
        },
        [](const Case& object) {
            object.first.set();
            object.first.clear();
        },
        [](Case& object) {
            // A pulse reaches who waits already; whether it did is not known here.
            object.first.set();
            CHECK(object.second.join() == 0);
            object.first.clear();
            CHECK_FALSE(object.first.wait(0s));
        });
}

TEST_CASE("whoever dies waiting for an Event hinders nobody", "[crash]") {
    at_every_place(
        0, [] { return mp::Event(); }, [](const mp::Event& event) { event.wait(20ms); },
        [](const mp::Event& event) {
            event.set();
            CHECK(event.wait(0s));
        });
}

namespace {

/// The children of a barrier meet at it; nobody is left waiting.
void check_meets(const mp::Barrier& barrier) {
    CHECK_FALSE(barrier.broken());
    CHECK(barrier.n_waiting() == 0);
    Forked other([&] {
        const int code = barrier.wait(20s);
        mp::detail::Family::record_exit(code);
        return code;
    });
    CHECK(barrier.wait(20s) + other.join() == 1);
}

constexpr int broken = 7;

Forked party(const mp::Barrier& barrier) {
    Forked child([&] {
        int code = broken;
        try {
            code = barrier.wait(20s);
        } catch (const mp::BrokenBarrierError&) {}
        mp::detail::Family::record_exit(code);
        return code;
    });
    REQUIRE(support::eventually([&] { return barrier.n_waiting() == 1; }));
    return child;
}

}  // namespace

TEST_CASE("whoever dies at a barrier breaks it, or has released the others", "[crash]") {
    for (const bool acting : {false, true}) {
        using Case = std::pair<mp::Barrier, Forked>;
        at_every_place(
            2,
            [&] {
                const mp::Barrier barrier = acting ? mp::Barrier(2, [] {}) : mp::Barrier(2);
                return Case(barrier, party(barrier));
            },
            [](const Case& object) { object.first.wait(20s); },
            [](Case& object) {
                // Who dies before it is a party is unknown to the barrier.
                if (object.first.n_waiting() == 1 && !object.first.broken()) {
                    object.first.abort();
                }
                const int code = object.second.join();
                CHECK((code == 0 || code == broken));
                object.first.reset();
                check_meets(object.first);
            });
    }
}

TEST_CASE("whoever dies waiting at a barrier breaks it", "[crash]") {
    at_every_place(
        1, [] { return mp::Barrier(2); },
        [](const mp::Barrier& barrier) {
            try {
                barrier.wait(50ms);
            } catch (const mp::BrokenBarrierError&) {}
        },
        [](const mp::Barrier& barrier) {
            // Also when it had come to no more than being known.
            if (!barrier.broken()) { barrier.abort(); }
            barrier.reset();
            check_meets(barrier);
        });
}

TEST_CASE("whoever dies resetting or breaking a barrier leaves nobody waiting", "[crash]") {
    for (const bool resets : {true, false}) {
        using Case = std::pair<mp::Barrier, Forked>;
        at_every_place(
            0,
            [] {
                const mp::Barrier barrier(2);
                return Case(barrier, party(barrier));
            },
            [&](const Case& object) { resets ? object.first.reset() : object.first.abort(); },
            [](Case& object) {
                object.first.reset();
                CHECK(object.second.join() == broken);
                check_meets(object.first);
            });
    }
}

TEST_CASE("whoever dies changing a Value leaves the old or the new one", "[crash]") {
    SECTION("of one word") {
        at_every_place(
            0, [] { return mp::Value<long>(1); }, [](const mp::Value<long>& value) { value += 1; },
            [](const mp::Value<long>& value) {
                CHECK((value == 1 || value == 2));
                CHECK_NOTHROW(value += 1);
            });
    }
    SECTION("larger") {
        at_every_place(
            3, [] { return mp::Value<Large>(Large::all(1)); },
            [](const mp::Value<Large>& value) {
                value.set_value(Large::all(2));
                value.update([](Large& large) { large = Large::all(3); });
            },
            [](const mp::Value<Large>& value) {
                const long one = value.value().one();
                CHECK((one == 1 || one == 2 || one == 3));
                value.set_value(Large::all(4));
                CHECK(value.value().one() == 4);
            });
    }
    SECTION("in an Array") {
        at_every_place(
            3, [] { return mp::Array<Large>(3); },
            [](const mp::Array<Large>& array) { array.set(1, Large::all(2)); },
            [](const mp::Array<Large>& array) {
                const long one = array.get(1).one();
                CHECK((one == 0 || one == 2));
                CHECK(array.slice(0, 1)[0].one() == 0);
            });
    }
}

TEST_CASE("random deaths among users of everything stop nobody", "[crash]") {
    const unsigned seed = std::random_device()();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    const mp::Lock lock;
    const mp::BoundedSemaphore semaphore(2);
    const mp::Condition condition;
    const mp::Value<Large> value;
    const mp::RawArray<long> sections(4);
    const auto work = [&](std::size_t me) {
        for (;;) {
            {
                const std::scoped_lock guard(lock);
                sections[me] += 1;
            }
            {
                const std::scoped_lock guard(semaphore);
                sections[me] += 1;
            }
            {
                const std::scoped_lock guard(condition);
                condition.wait(std::chrono::microseconds(100));
                condition.notify();
            }
            value.update([](Large& large) { large = Large::all(large.one() + 1); });
            if (value.value().one() < 0) { ::_exit(3); }
        }
        return 0;
    };
    std::vector<Forked> workers;
    for (std::size_t i = 0; i < 4; ++i) {
        workers.emplace_back([&, i] { return work(i); });
    }
    std::uniform_int_distribution<std::size_t> which(0, workers.size() - 1);
    std::uniform_int_distribution<int> microseconds(0, 3'000);
    for (int kill = 0; kill < 100; ++kill) {
        std::this_thread::sleep_for(std::chrono::microseconds(microseconds(random)));
        const std::size_t victim = which(random);
        workers[victim].kill();
        REQUIRE(workers[victim].join() == -SIGKILL);
        workers[victim] = Forked([&] { return work(victim); });
        // All others get on.
        for (std::size_t i = 0; i < workers.size(); ++i) {
            const long before = sections[i];
            const auto gets_on = [&] { return static_cast<volatile long&>(sections[i]) > before; };
            REQUIRE(support::eventually(gets_on));
        }
    }
    for (Forked& worker : workers) {
        worker.kill();
        worker.join();
    }
    check_works(lock);
    check_units(semaphore, 2);
    CHECK(value.value().one() >= 0);
}

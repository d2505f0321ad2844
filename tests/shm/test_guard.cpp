// SPDX-License-Identifier: BSL-1.0
#include "process/observe.hpp"
#include "shm/shared.hpp"
#include "support/catch.hpp"

#include <multiprocessing/os/process.hpp>
#include <multiprocessing/shm/guard.hpp>

#include <linux/futex.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <new>
#include <thread>
#include <utility>
#include <vector>

using multiprocessing::detail::Deadline;
using multiprocessing::detail::Guard;
using observe::Fork;
using observe::Shared;
namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

const auto no_recovery = [] {};

// A pair that is equal whenever nobody is inside, and the word that says which value it has.
struct Pair {
    Guard guard;
    std::atomic<unsigned long> committed{0};
    std::atomic<unsigned long> first{0};
    std::atomic<unsigned long> second{0};

    void recover() {
        first = committed.load();
        second = committed.load();
    }
};

void die_inside(Guard& guard) {
    Fork holder([&] {
        const auto section = guard.enter(no_recovery);
        ::raise(SIGKILL);
    });
    holder.end();
}

}  // namespace

TEST_CASE("one is inside a guard at a time", "[shm]") {
    Shared<Guard> guard;
    auto section = guard->enter(no_recovery);
    CHECK(section);
    Fork other([&] {
        if (guard->try_enter(no_recovery)) { ::_exit(1); }
        if (guard->enter(Deadline(0s), no_recovery)) { ::_exit(1); }
        if (guard->enter(Deadline(30ms), no_recovery)) { ::_exit(1); }
    });
    bool entered = true;
    CHECK(support::timed([&] {
              std::jthread([&] {
                  entered = static_cast<bool>(guard->enter(Deadline(50ms), no_recovery));
              }).join();
              return 0;
          }) >= 50ms);
    CHECK_FALSE(entered);
    CHECK(other.end() == 0);
    section.leave();
    CHECK_FALSE(section);
    section.leave();
    CHECK(guard->try_enter(no_recovery));
    CHECK(guard->enter(Deadline(mp::forever), no_recovery));
    CHECK(guard->enter(Deadline(0s), no_recovery));
}

TEST_CASE("a section can be moved, and leaves once", "[shm]") {
    Shared<Guard> guard;
    {
        auto first = guard->enter(no_recovery);
        auto second = std::move(first);
        CHECK(second);
        Guard::Section third;
        third = std::move(second);
        CHECK(third);
        std::jthread([&] { CHECK_FALSE(guard->try_enter(no_recovery)); }).join();
        third = Guard::Section();
        CHECK(guard->try_enter(no_recovery));
    }
    CHECK(guard->try_enter(no_recovery));
}

TEST_CASE("whoever enters after a death inside recovers first, once", "[shm]") {
    Shared<Guard> guard;
    int recoveries = 0;
    const auto count = [&] { ++recoveries; };
    die_inside(*guard);
    CHECK(guard->enter(count));
    CHECK(recoveries == 1);
    die_inside(*guard);
    CHECK(guard->try_enter(count));
    CHECK(recoveries == 2);
    die_inside(*guard);
    CHECK(guard->enter(Deadline(1s), count));
    CHECK(recoveries == 3);
    CHECK(guard->enter(count));
    CHECK(recoveries == 3);
}

TEST_CASE("a death while it is recovered is recovered by the next", "[shm]") {
    Shared<Guard> guard;
    die_inside(*guard);
    for (int i = 0; i < 3; ++i) {
        Fork recoverer([&] {
            const auto section = guard->enter([] { ::raise(SIGKILL); });
            ::_exit(1);
        });
        REQUIRE(WIFSIGNALED(recoverer.end()));
    }
    bool recovered = false;
    CHECK(guard->enter([&] { recovered = true; }));
    CHECK(recovered);
}

TEST_CASE("a thread that ends inside counts as a holder that died", "[shm]") {
    Shared<Guard> guard;
    alignas(Guard::Section) std::byte never_left[sizeof(Guard::Section)];
    std::jthread([&] { ::new (never_left) Guard::Section(guard->enter(no_recovery)); }).join();
    bool recovered = false;
    CHECK(guard->enter([&] { recovered = true; }));
    CHECK(recovered);
}

TEST_CASE("the death of a holder lets a waiter in at once", "[shm]") {
    Shared<Guard> guard;
    observe::Report report;
    Fork holder([&] {
        const auto section = guard->enter(no_recovery);
        report.say("inside");
        for (;;) { ::pause(); }
    });
    REQUIRE(report.hear() == "inside");
    Fork waiter([&] {
        report.say("waits");
        const auto section = guard->enter([&] { report.say("recovers"); });
        report.say("inside");
    });
    REQUIRE(report.hear() == "waits");
    holder.kill();
    CHECK(report.hear() == "recovers");
    CHECK(report.hear() == "inside");
    CHECK(waiter.end() == 0);
}

TEST_CASE("a waiter whose wake was lost with another one enters all the same", "[shm]") {
    // Who is woken at a leaving, and killed before it has entered, leaves the sleeping ones unknown
    // if a third has come and gone meanwhile. Here they are made unknown by hand.
    Shared<Guard> guard;
    auto section = guard->enter(no_recovery);
    const bool bounded = GENERATE(false, true);
    Fork waiter([&] {
        if (!(bounded ? guard->enter(Deadline(1h), no_recovery) : guard->enter(no_recovery))) {
            ::_exit(1);
        }
    });
    // What glibc and the kernel agree on; it is the mutex's first field.
    auto& word = *reinterpret_cast<std::atomic<std::uint32_t>*>(&*guard);
    REQUIRE(support::eventually([&] {
        const auto stat = mp::detail::os::proc_stat(waiter.pid());
        return (word & FUTEX_WAITERS) != 0 && stat && stat->state == 'S';
    }));
    word &= ~FUTEX_WAITERS;
    section.leave();
    CHECK(waiter.end() == 0);
}

TEST_CASE("what a guard protects is whole for the survivors of random kills", "[shm]") {
    Shared<Pair> pair;
    const auto work = [&] {
        for (;;) {
            const auto section = pair->guard.enter([&] { pair->recover(); });
            if (pair->first != pair->second || pair->first != pair->committed) { ::_exit(1); }
            const unsigned long next = pair->committed + 1;
            pair->first = next;
            pair->second = next;
            pair->committed = next;
        }
    };
    Fork survivor(work);
    for (int round = 0; round < 200; ++round) {
        const unsigned long before = pair->committed;
        Fork victim(work);
        REQUIRE(support::eventually(
            [&] { return pair->committed > before + static_cast<unsigned>(round); }));
        REQUIRE(WIFSIGNALED(victim.kill()));
    }
    CHECK(WIFSIGNALED(survivor.kill()));  // and has not found a broken pair before
    const auto section = pair->guard.enter([&] { pair->recover(); });
    CHECK(pair->first == pair->committed);
    CHECK(pair->second == pair->committed);
}

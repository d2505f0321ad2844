// SPDX-License-Identifier: BSL-1.0
#include "child.hpp"
#include "support/bounds.hpp"
#include "support/catch.hpp"

#include <multiprocessing/synchronize.hpp>

#include <signal.h>
#include <sys/time.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using support::Child;
using support::timed;
using namespace std::chrono_literals;

TEST_CASE("an Event is set until it is cleared") {
    const mp::Event event;
    CHECK_FALSE(event.is_set());
    CHECK_FALSE(event.wait(0s));
    CHECK_FALSE(event.wait(-1s));
    CHECK(timed([&] { return event.wait(50ms); }) >= 50ms);
    event.set();
    event.set();
    CHECK((event.is_set() && event.wait() && event.wait(0s)));
    event.clear();
    event.clear();
    CHECK_FALSE(event.is_set());
    CHECK_FALSE(event.wait(0s));
}

TEST_CASE("an Event releases everybody who waits") {
    const mp::Event event;
    std::vector<Child> children;
    for (int i = 0; i < 4; ++i) {
        children.emplace_back([&] { return event.wait(60s) ? 0 : 1; });
    }
    event.set();
    for (Child& child : children) { CHECK(child.join() == 0); }
}

TEST_CASE("who is released by set is, also when clear follows at once") {
    const std::vector<mp::Event> events = [] {
        std::vector<mp::Event> made;
        for (int i = 0; i < 50; ++i) { made.emplace_back(); }
        return made;
    }();
    const mp::Event begins;
    Child waiter([&] {
        for (const mp::Event& event : events) {
            begins.set();
            if (!event.wait(20s)) { return 1; }
        }
        return 0;
    });
    for (const mp::Event& event : events) {
        REQUIRE(begins.wait(60s));
        begins.clear();
        REQUIRE(support::eventually([&] { return waiter.sleeps(); }));
        event.set();
        event.clear();
    }
    CHECK(waiter.join() == 0);
}

TEST_CASE("threads are ordered by an Event", "[threads]") {
    for (int round = 0; round < 200; ++round) {
        const mp::Event event;
        int written = 0;
        std::thread reader([&] {
            event.wait();
            CHECK(written == 1);
        });
        written = 1;
        event.set();
        reader.join();
    }
}

namespace {
std::atomic<const mp::Event*> of_handler{nullptr};
}

TEST_CASE("set may be called by a signal handler that interrupts the Event itself") {
    const mp::Event event;
    of_handler = &event;
    struct sigaction action {};
    struct sigaction old {};
    action.sa_handler = [](int) { of_handler.load()->set(); };
    REQUIRE(::sigaction(SIGUSR1, &action, &old) == 0);
    std::atomic<bool> ends{false};
    const pthread_t target = ::pthread_self();
    std::thread sender([&] {
        while (!ends) {
            ::pthread_kill(target, SIGUSR1);
            std::this_thread::yield();
        }
    });
    int woken = 0;
    for (int i = 0; i < 10'000; ++i) {
        woken += event.wait(60s) ? 1 : 0;
        event.clear();
        static_cast<void>(event.is_set());
        event.set();
        event.clear();
    }
    ends = true;
    sender.join();
    ::sigaction(SIGUSR1, &old, nullptr);
    CHECK(woken == 10'000);
}

TEST_CASE("a signal does not shorten a wait") {
    const mp::Event event;
    struct sigaction action {};
    struct sigaction old {};
    action.sa_handler = [](int) {};
    REQUIRE(::sigaction(SIGUSR1, &action, &old) == 0);
    const pthread_t target = ::pthread_self();
    std::thread sender([&] { ::pthread_kill(target, SIGUSR1); });
    CHECK(timed([&] { return event.wait(100ms); }) >= 100ms);
    sender.join();
    ::sigaction(SIGUSR1, &old, nullptr);
}

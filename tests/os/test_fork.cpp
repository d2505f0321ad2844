// SPDX-License-Identifier: BSL-1.0
#include "process/observe.hpp"
#include "shm/shared.hpp"
#include "support/catch.hpp"

#include <multiprocessing/os/fork.hpp>

#include <sched.h>
#include <sys/syscall.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <new>
#include <set>
#include <string>
#include <thread>

namespace os = multiprocessing::detail::os;

TEST_CASE("every process has a token of its own, which stays", "[os]") {
    const std::uint64_t own = os::process_token();
    CHECK(own != 0);
    CHECK(os::process_token() == own);
    observe::Shared<std::array<std::uint64_t, 3>> seen;
    observe::Fork child([&] {
        (*seen)[0] = os::process_token();
        observe::Fork grandchild([&] { (*seen)[1] = os::process_token(); });
        grandchild.end();
        ::_exit((*seen)[0] == os::process_token() ? 0 : 1);
    });
    CHECK(child.end() == 0);
    observe::Fork sibling([&] { (*seen)[2] = os::process_token(); });
    CHECK(sibling.end() == 0);
    CHECK(std::set<std::uint64_t>{own, (*seen)[0], (*seen)[1], (*seen)[2], 0}.size() == 5);
    CHECK(os::process_token() == own);
}

TEST_CASE("a child that no handler has seen has a token of its own all the same", "[os]") {
    const std::uint64_t own = os::process_token();
    const long pid = ::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr);
    if (pid == 0) {
        const bool wiped = os::process_page().token == 0 && os::process_page().family_id == 0;
        ::_exit(wiped && os::process_token() != own ? 0 : 1);
    }
    int status = -1;
    ::waitpid(static_cast<pid_t>(pid), &status, 0);
    CHECK(status == 0);
}

TEST_CASE("the epoch counts the forks of this process and its ancestors", "[os]") {
    const std::uint64_t before = os::fork_epoch();
    CHECK(os::fork_epoch() == before);
    observe::Fork child([&] { ::_exit(os::fork_epoch() == before + 1 ? 0 : 1); });
    CHECK(os::fork_epoch() == before + 1);
    CHECK(child.end() == 0);
}

TEST_CASE("what is sent to another process counts as a fork, and changes nothing else", "[os]") {
    const std::uint64_t before = os::fork_epoch();
    const std::uint64_t own = os::process_token();
    os::count_share();
    CHECK(os::fork_epoch() == before + 1);
    CHECK(os::process_token() == own);
}

TEST_CASE("fork handlers prepare newest first, and are done with oldest first", "[os]") {
    static std::string order;
    static bool on = true;
    order.clear();
    os::at_fork(
        [] {
            if (on) { order += "a"; }
        },
        [] {
            if (on) { order += "b"; }
        },
        [] {
            if (on) { order += "c"; }
        });
    os::at_fork(
        [] {
            if (on) { order += "d"; }
        },
        nullptr,
        [] {
            if (on) { order += "e"; }
        });
    os::at_fork(
        nullptr,
        [] {
            if (on) { order += "f"; }
        },
        nullptr);
    observe::Fork child([] { ::_exit(order == "dace" ? 0 : 1); });
    CHECK(order == "dabf");
    on = false;
    CHECK(child.end() == 0);
}

TEST_CASE("no fork comes while something is made; its child finds it whole", "[os]") {
    struct Thing {
        int made_by = 0;
    };
    static constinit std::atomic<Thing*> place{nullptr};
    static constinit std::atomic<Thing*> other{nullptr};
    observe::Report report;
    std::atomic<bool> go_on{false};
    const auto make = [&] {
        report.say("making");
        while (!go_on) { std::this_thread::yield(); }
        // One may make another.
        os::made_once(other, [] { return new Thing{1}; });
        return new Thing{::getpid()};
    };
    std::jthread maker([&] { os::made_once(place, make); });
    REQUIRE(report.hear() == "making");
    std::jthread hurry([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the fork waits by then
        go_on = true;
    });
    observe::Fork child([&] {
        ::alarm(20);
        const bool whole = place.load() != nullptr && other.load() != nullptr;
        ::_exit(whole && os::made_once(place, make).made_by == ::getppid() ? 0 : 1);
    });
    CHECK(go_on);
    CHECK(child.end() == 0);
    maker.join();
    hurry.join();
    delete place.load();
    delete other.load();
}

TEST_CASE("what could not be made is made by the next", "[os]") {
    static constinit std::atomic<int*> place{nullptr};
    CHECK_THROWS_AS(os::made_once(place, []() -> int* { throw std::bad_alloc(); }), std::bad_alloc);
    static int seven = 7;
    CHECK(os::made_once(place, [] { return &seven; }) == 7);
    CHECK(os::made_once(place, []() -> int* { throw std::bad_alloc(); }) == 7);
    observe::Fork child([] { ::_exit(os::made_once(place, []() -> int* { return nullptr; })); });
    CHECK(child.end() == 7 << 8);
}

// SPDX-License-Identifier: BSL-1.0
#include "observe.hpp"
#include "subreaper.hpp"
#include "support/catch.hpp"
#include "support/leak_check.hpp"

#include <multiprocessing/process.hpp>

#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>
#include <utility>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

const auto bound = 20s * support::slowness;

[[noreturn]] void sleep_for_ever() {
    for (;;) { ::pause(); }
}

}  // namespace

TEST_CASE("the main process is MainProcess, alive, and has no parent process", "[process]") {
    const mp::CurrentProcess self = mp::current_process();
    CHECK(self.name() == "MainProcess");
    CHECK(self.pid() == ::getpid());
    CHECK(self.ident() == ::getpid());
    CHECK(self.is_alive());
    CHECK_FALSE(self.daemon());
    CHECK_FALSE(self.exitcode().has_value());
    CHECK(self.authkey().size() == 32);
    CHECK(self.authkey() != std::string(32, '\0'));
    CHECK_FALSE(mp::parent_process().has_value());
}

TEST_CASE("a child is who it was made to be", "[process]") {
    observe::Report report;
    mp::Process process({.name = "tester", .daemon = true}, [&] {
        const mp::CurrentProcess self = mp::current_process();
        report.say(self.name());
        report.say(self.pid());
        report.say(self.daemon() ? "daemon" : "no daemon");
        mp::current_process().set_name("renamed");
        report.say(self.name());
    });
    process.start();
    CHECK(report.hear() == "tester");
    CHECK(report.hear_number() == process.pid());
    CHECK(report.hear() == "daemon");
    CHECK(report.hear() == "renamed");
    REQUIRE(process.join(bound));
    CHECK(process.exitcode() == 0);
    CHECK(process.name() == "tester");
    CHECK(mp::current_process().name() == "MainProcess");
}

TEST_CASE("a name set before start is the child's; one set after it is for this process",
          "[process]") {
    observe::Report report;
    observe::Door door;
    mp::Process process([&] {
        door.pass();
        report.say(mp::current_process().name());
    });
    process.set_name("before");
    process.start();
    process.set_name("after");
    CHECK(process.name() == "after");
    REQUIRE(mp::active_children().size() == 1);
    CHECK(mp::active_children()[0].name() == "after");
    door.open();
    CHECK(report.hear_all() == "before\n");
    process.join();
}

TEST_CASE("daemon is inherited where it is not said", "[process]") {
    observe::Report report;
    CHECK_FALSE(mp::Process([] {}).daemon());
    CHECK(mp::Process({.daemon = true}, [] {}).daemon());
    mp::Process daemonic({.daemon = true}, [&] {
        const auto say = [&](const mp::Process& process) {
            report.say(process.daemon() ? "yes" : "no");
        };
        say(mp::Process([] {}));
        say(mp::Process({.daemon = false}, [] {}));
        mp::Process inner([&] { report.say(mp::current_process().daemon() ? "yes" : "no"); });
        inner.start();  // a daemonic process may have children
        inner.join();
    });
    daemonic.start();
    CHECK(report.hear_all() == "yes\nno\nyes\n");
    REQUIRE(daemonic.join(bound));
    CHECK(daemonic.exitcode() == 0);
}

TEST_CASE("the daemon flag can be set until start", "[process]") {
    mp::Process process([] { throw mp::SystemExit(mp::current_process().daemon() ? 0 : 1); });
    process.set_daemon(true);
    CHECK(process.daemon());
    process.start();
    CHECK_THROWS_AS(process.set_daemon(false), mp::AssertionError);
    REQUIRE(process.join(bound));
    CHECK(process.exitcode() == 0);
    CHECK_THROWS_AS(process.set_daemon(false), mp::AssertionError);
}

TEST_CASE("the key is the creator's unless one is set", "[process]") {
    observe::Report report;
    const std::string own = mp::current_process().authkey();
    const auto says_key = [&] {
        report.say(mp::current_process().authkey() == own ? "own" : "other");
    };
    mp::Process heir(says_key);
    CHECK(heir.authkey() == own);
    mp::Process outsider([&] {
        report.say(mp::current_process().authkey());
        mp::Process inner([&] { report.say(mp::current_process().authkey()); });
        inner.start();
        inner.join();
        mp::current_process().set_authkey("changed");
        report.say(mp::Process([] {}).authkey());
    });
    outsider.set_authkey("secret");
    CHECK(outsider.authkey() == "secret");
    for (mp::Process* const process : {&heir, &outsider}) {
        process->start();
        REQUIRE(process->join(bound));
        CHECK(process->exitcode() == 0);
    }
    CHECK(report.hear_all() == "own\nsecret\nsecret\nchanged\n");
    CHECK(mp::current_process().authkey() == own);
}

TEST_CASE("active children are those that live; asking reaps the others", "[process]") {
    CHECK(mp::active_children().empty());
    observe::Door first_door;
    observe::Door second_door;
    mp::Process first({.name = "first"}, [&] {
        second_door.open();
        first_door.pass();
    });
    mp::Process second({.name = "second", .daemon = true}, [&] {
        first_door.open();
        second_door.pass();
        std::exit(3);
    });
    CHECK(mp::active_children().empty());
    first.start();
    second.start();
    auto children = mp::active_children();
    REQUIRE(children.size() == 2);
    if (children[0].pid() != first.pid()) { std::swap(children[0], children[1]); }
    CHECK(children[0].name() == "first");
    CHECK(children[0].ident() == first.pid());
    CHECK(children[0].is_alive());
    CHECK_FALSE(children[0].daemon());
    CHECK_FALSE(children[0].exitcode().has_value());
    CHECK_FALSE(children[0].join(0s));
    CHECK(children[1].name() == "second");
    CHECK(children[1].daemon());

    const pid_t pid = children[1].pid();
    pollfd ended{.fd = children[1].sentinel(), .events = POLLIN, .revents = 0};
    second_door.open();
    REQUIRE(::poll(&ended, 1, 20'000 * support::slowness) == 1);
    CHECK(support::children().at(pid).starts_with("zombie"));
    CHECK(mp::active_children().size() == 1);
    CHECK_FALSE(support::children().contains(pid));
    CHECK(children[1].exitcode() == 3);
    CHECK(second.exitcode() == 3);

    children[0].terminate();
    REQUIRE(children[0].join(bound));
    CHECK(first.exitcode() == -SIGTERM);
    CHECK(mp::active_children().empty());
}

TEST_CASE("start reaps children that have ended", "[process]") {
    mp::Process first([] {});
    first.start();
    pollfd ended{.fd = first.sentinel(), .events = POLLIN, .revents = 0};
    REQUIRE(::poll(&ended, 1, 20'000 * support::slowness) == 1);
    mp::Process second([] {});
    second.start();
    CHECK_FALSE(support::children().contains(*first.pid()));
    CHECK(first.exitcode() == 0);
    second.join();
}

TEST_CASE("a child's handle can kill and interrupt", "[process]") {
    mp::Process killed(sleep_for_ever);
    killed.start();
    mp::active_children().at(0).kill();
    REQUIRE(killed.join(bound));
    CHECK(killed.exitcode() == -SIGKILL);
    mp::Process interrupted(sleep_for_ever);
    interrupted.start();
    mp::active_children().at(0).interrupt();
    REQUIRE(interrupted.join(bound));
    CHECK(interrupted.exitcode() == -SIGINT);
}

TEST_CASE("a child begins without children", "[process]") {
    observe::Door door;
    observe::Report report;
    mp::Process sibling([&] { door.pass(); });
    sibling.start();
    mp::Process process([&] {
        report.say(static_cast<long long>(mp::active_children().size()));
        mp::Process inner([] {});
        inner.start();
        inner.join();
    });
    process.start();
    CHECK(report.hear() == "0");
    CHECK(process.join(bound));
    CHECK(process.exitcode() == 0);
    CHECK(sibling.is_alive());
    door.open();
    sibling.join();
}

TEST_CASE("a child and its child know their parents, and see them alive", "[process]") {
    observe::Report report;
    const auto says_parent = [&] {
        const auto parent = mp::parent_process();
        if (!parent) { return report.say("none"); }
        report.say(parent->name());
        report.say(parent->pid());
        report.say(parent->ident() == parent->pid() && parent->is_alive() && !parent->join(1ms)
                       ? "alive"
                       : "wrong");
        pollfd entry{.fd = parent->sentinel(), .events = POLLIN, .revents = 0};
        report.say(::poll(&entry, 1, 0) == 0 ? "not ready" : "ready");
    };
    mp::Process process({.name = "middle"}, [&] {
        says_parent();
        mp::Process inner(says_parent);
        inner.start();
        inner.join();
    });
    process.start();
    CHECK(report.hear() == "MainProcess");
    CHECK(report.hear_number() == ::getpid());
    CHECK(report.hear() == "alive");
    CHECK(report.hear() == "not ready");
    CHECK(report.hear() == "middle");
    CHECK(report.hear_number() == process.pid());
    CHECK(report.hear() == "alive");
    CHECK(report.hear() == "not ready");
    CHECK(process.join(bound));
}

TEST_CASE("the parent process is who called start, whatever thread did", "[process]") {
    observe::Report report;
    mp::Process process([&] { report.say(mp::parent_process()->pid()); });
    std::thread([&] { process.start(); }).join();
    CHECK(report.hear_number() == ::getpid());
    CHECK(process.join(bound));
    CHECK(process.exitcode() == 0);
}

TEST_CASE("the death of the parent is seen by its child, before and after it", "[process]") {
    observe::Subreaper reaper;
    observe::Report report;
    mp::Process middle([&] {
        mp::Process([&] {
            const auto parent = mp::parent_process();
            report.say(::getpid());
            report.say(parent->join(20s) ? "joined" : "too late");
            const auto again = mp::parent_process();  // asked for the first time after its death
            pollfd entry{.fd = again->sentinel(), .events = POLLIN, .revents = 0};
            report.say(!parent->is_alive() && !again->is_alive() && again->join() &&
                               again->pid() == parent->pid() && ::poll(&entry, 1, 0) == 1
                           ? "gone"
                           : "wrong");
        }).start();
        sleep_for_ever();
    });
    middle.start();
    const auto grandchild = static_cast<pid_t>(report.hear_number());
    middle.kill();
    // Not reaped yet: a zombie has ended all the same.
    CHECK(report.hear() == "joined");
    CHECK(report.hear() == "gone");
    CHECK(middle.join(bound));
    CHECK(reaper.reap(grandchild));
}

TEST_CASE("what is counted are processors", "[process]") {
    CHECK(mp::cpu_count() >= 1);
    CHECK(mp::cpu_count() == static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)));
    CHECK(mp::process_cpu_count() >= 1);
    CHECK(mp::process_cpu_count() <= mp::cpu_count());
}

TEST_CASE("the count for this process respects its affinity and the environment", "[process]") {
    const auto count_in_child = [](auto prepare) {
        mp::Process process([prepare] {
            prepare();
            std::exit(mp::process_cpu_count());
        });
        process.start();
        process.join();
        return process.exitcode();
    };
    CHECK(count_in_child([] {
              cpu_set_t set;
              CPU_ZERO(&set);
              ::sched_getaffinity(0, sizeof set, &set);
              int first = 0;
              while (!CPU_ISSET(first, &set)) { ++first; }
              CPU_ZERO(&set);
              CPU_SET(first, &set);
              ::sched_setaffinity(0, sizeof set, &set);
          }) == 1);
    const auto with_variable = [&](const char* value) {
        return count_in_child([value] { ::setenv("MULTIPROCESSING_CPU_COUNT", value, 1); });
    };
    CHECK(with_variable("37") == 37);
    // What is no number is no override.
    CHECK(with_variable("") == mp::process_cpu_count());
    CHECK(with_variable("0") == mp::process_cpu_count());
    CHECK(with_variable("-3") == mp::process_cpu_count());
    CHECK(with_variable("many") == mp::process_cpu_count());
}

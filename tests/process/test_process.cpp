// SPDX-License-Identifier: BSL-1.0
#include "observe.hpp"
#include "support/catch.hpp"
#include "support/leak_check.hpp"

#include <multiprocessing/process.hpp>

#include <poll.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

const auto bound = 20s * support::slowness;

[[noreturn]] void sleep_for_ever() {
    for (;;) { ::pause(); }
}

template <class F>
std::optional<int> exitcode_of(F f) {
    mp::Process process(std::move(f));
    process.start();
    if (!process.join(bound)) {
        process.kill();
        process.join();
        return std::nullopt;
    }
    return process.exitcode();
}

struct NotAnException {};

}  // namespace

static_assert(std::is_move_constructible_v<mp::Process> && std::is_move_assignable_v<mp::Process>);
static_assert(!std::is_copy_constructible_v<mp::Process> &&
              !std::is_copy_assignable_v<mp::Process>);
static_assert(std::has_virtual_destructor_v<mp::Process>);

TEST_CASE("the exit code is what the child ended with", "[process]") {
    CHECK(exitcode_of([] {}) == 0);
    CHECK(exitcode_of([] { return 17; }) == 0);  // what the target returns is ignored
    CHECK(exitcode_of([] { std::exit(5); }) == 5);
    CHECK(exitcode_of([] { std::exit(256); }) == 0);
    CHECK(exitcode_of([] { std::exit(-1); }) == 255);
    CHECK(exitcode_of([] { ::_exit(6); }) == 6);
    CHECK(exitcode_of([] { std::quick_exit(8); }) == 8);
    CHECK(exitcode_of([] { throw mp::SystemExit(); }) == 0);
    CHECK(exitcode_of([] { throw mp::SystemExit(3); }) == 3);
    CHECK(exitcode_of([] { throw mp::SystemExit(256); }) == 0);
    CHECK(exitcode_of([] { throw mp::SystemExit(-1); }) == 255);
    CHECK(exitcode_of([] { std::thread([] { std::exit(9); }).join(); }) == 9);
}

TEST_CASE("a process without a target ends with 0", "[process]") {
    mp::Process process;
    process.start();
    REQUIRE(process.join(bound));
    CHECK(process.exitcode() == 0);
    mp::Process named({.name = "idle"});
    CHECK(named.name() == "idle");
    named.start();
    REQUIRE(named.join(bound));
    CHECK(named.exitcode() == 0);
}

TEST_CASE("the exit code of a signal's death is the negative signal", "[process]") {
    CHECK(exitcode_of([] { std::abort(); }) == -SIGABRT);
    for (const int signal : {SIGKILL, SIGTERM, SIGINT, SIGUSR1, SIGHUP, SIGPIPE}) {
        CAPTURE(signal);
        CHECK(exitcode_of([signal] {
                  std::signal(signal, SIG_DFL);
                  std::raise(signal);
              }) == -signal);
    }
    CHECK(exitcode_of([] {
              const rlimit none{.rlim_cur = 0, .rlim_max = 0};
              ::setrlimit(RLIMIT_CORE, &none);
              std::signal(SIGSEGV, SIG_DFL);
              std::raise(SIGSEGV);
          }) == -SIGSEGV);
}

TEST_CASE("SystemExit with a text writes it to stderr and ends with 1", "[process]") {
    std::optional<int> code;
    const std::string text = observe::written_to(STDERR_FILENO, [&] {
        code = exitcode_of([] { throw mp::SystemExit("the disk is full"); });
    });
    CHECK(code == 1);
    CHECK(text == "the disk is full\n");
    const std::string string = observe::written_to(STDERR_FILENO, [&] {
        code = exitcode_of([] { throw mp::SystemExit(std::string("full")); });
    });
    CHECK(code == 1);
    CHECK(string == "full\n");
    // No text is still a reason.
    CHECK(observe::written_to(STDERR_FILENO,
                              [&] { code = exitcode_of([] { throw mp::SystemExit(""); }); }) == "");
    CHECK(code == 1);
}

TEST_CASE("an exception that escapes is written to stderr and ends the child with 1", "[process]") {
    std::optional<int> code;
    const auto stderr_of = [&](auto target) {
        return observe::written_to(STDERR_FILENO, [&] {
            mp::Process process({.name = "loader"}, target);
            process.start();
            process.join();
            code = process.exitcode();
        });
    };
    CHECK(stderr_of([] { throw std::out_of_range("row 7"); }) ==
          "Process loader:\n  std::out_of_range: row 7\n");
    CHECK(code == 1);
    CHECK(stderr_of([] { throw 42; }) == "Process loader:\n  int\n");
    CHECK(code == 1);
    CHECK_THAT(stderr_of([] { throw NotAnException(); }), support::contains("NotAnException"));
    CHECK(code == 1);
    CHECK_THAT(stderr_of([] { throw mp::ValueError("bad"); }),
               support::contains("multiprocessing::ValueError: bad"));
    CHECK(code == 1);
    // What the child had in its buffers comes first.
    CHECK(stderr_of([] {
              std::clog << "before, ";
              throw std::runtime_error("after");
          }) == "before, Process loader:\n  std::runtime_error: after\n");
    // The name that the child gave itself.
    CHECK_THAT(stderr_of([] {
                   mp::current_process().set_name("renamed");
                   throw std::runtime_error("");
               }),
               support::contains("Process renamed:\n"));
}

TEST_CASE("start works once", "[process]") {
    mp::Process process([] {});
    process.start();
    CHECK_THROWS_AS(process.start(), mp::AssertionError);
    REQUIRE(process.join(bound));
    CHECK_THROWS_AS(process.start(), mp::AssertionError);
    process.close();
    CHECK_THROWS_AS(process.start(), mp::ValueError);
}

TEST_CASE("before start there is nothing to join, to signal or to watch", "[process]") {
    mp::Process process([] {});
    CHECK_FALSE(process.is_alive());
    CHECK_FALSE(process.pid().has_value());
    CHECK_FALSE(process.ident().has_value());
    CHECK_FALSE(process.exitcode().has_value());
    CHECK_THROWS_AS(process.join(), mp::AssertionError);
    CHECK_THROWS_AS(process.join(0s), mp::AssertionError);
    CHECK_THROWS_AS(process.terminate(), mp::AssertionError);
    CHECK_THROWS_AS(process.kill(), mp::AssertionError);
    CHECK_THROWS_AS(process.interrupt(), mp::AssertionError);
    CHECK_THROWS_AS(process.terminate_tree(), mp::AssertionError);
    CHECK_THROWS_AS(process.sentinel(), mp::ValueError);
    CHECK_THROWS_WITH(process.terminate(), support::contains(process.name()));
}

TEST_CASE("join tells whether the child has ended, and may be asked again", "[process]") {
    observe::Door door;
    mp::Process process([&] { door.pass(); });
    process.start();
    CHECK_FALSE(process.join(0s));
    CHECK_FALSE(process.join(-1s));
    CHECK_FALSE(process.join(1ms));
    CHECK(support::timed([&] { process.join(50ms); }) >= 50ms);
    CHECK(process.is_alive());
    CHECK_FALSE(process.exitcode().has_value());
    CHECK(process.ident() == process.pid());
    door.open();
    CHECK(process.join(bound));
    CHECK(process.join(0s));
    process.join();
    CHECK_FALSE(process.is_alive());
    CHECK(process.exitcode() == 0);
}

TEST_CASE("signals end a child as they are named", "[process]") {
    mp::Process terminated(sleep_for_ever);
    mp::Process killed(sleep_for_ever);
    mp::Process interrupted([] {
        std::signal(SIGINT, SIG_DFL);
        sleep_for_ever();
    });
    terminated.start();
    killed.start();
    interrupted.start();
    terminated.terminate();
    killed.kill();
    interrupted.interrupt();
    REQUIRE(terminated.join(bound));
    REQUIRE(killed.join(bound));
    REQUIRE(interrupted.join(bound));
    CHECK(terminated.exitcode() == -SIGTERM);
    CHECK(killed.exitcode() == -SIGKILL);
    CHECK(interrupted.exitcode() == -SIGINT);
    // After its end a signal is nobody's.
    terminated.terminate();
    terminated.kill();
    terminated.interrupt();
    terminated.terminate_tree();
    CHECK(terminated.exitcode() == -SIGTERM);
}

TEST_CASE("a signal right after start is not lost", "[process]") {
    for (int i = 0; i < 50; ++i) {
        mp::Process process(sleep_for_ever);
        process.start();
        i % 2 == 0 ? process.terminate() : process.kill();
        REQUIRE(process.join(bound));
        REQUIRE(process.exitcode() == (i % 2 == 0 ? -SIGTERM : -SIGKILL));
    }
}

TEST_CASE("close refuses while the child runs, and leaves only name and daemon flag", "[process]") {
    observe::Door door;
    mp::Process process({.name = "worker", .daemon = true}, [&] { door.pass(); });
    process.start();
    CHECK_THROWS_AS(process.close(), mp::ValueError);
    CHECK(process.is_alive());
    door.open();
    REQUIRE(process.join(bound));
    process.close();
    process.close();
    CHECK(process.name() == "worker");
    CHECK(process.daemon());
    CHECK_THROWS_AS(process.is_alive(), mp::ValueError);
    CHECK_THROWS_AS(process.join(), mp::ValueError);
    CHECK_THROWS_AS(process.join(0s), mp::ValueError);
    CHECK_THROWS_AS(process.terminate(), mp::ValueError);
    CHECK_THROWS_AS(process.kill(), mp::ValueError);
    CHECK_THROWS_AS(process.interrupt(), mp::ValueError);
    CHECK_THROWS_AS(process.terminate_tree(), mp::ValueError);
    CHECK_THROWS_AS(process.pid(), mp::ValueError);
    CHECK_THROWS_AS(process.ident(), mp::ValueError);
    CHECK_THROWS_AS(process.exitcode(), mp::ValueError);
    CHECK_THROWS_AS(process.sentinel(), mp::ValueError);
    CHECK_THROWS_AS(process.authkey(), mp::ValueError);
    CHECK_THROWS_AS(process.set_authkey("k"), mp::ValueError);
    CHECK_THROWS_AS(process.set_daemon(false), mp::ValueError);

    mp::Process never([] {});
    never.close();
    CHECK_THROWS_AS(never.start(), mp::ValueError);
    CHECK_THROWS_AS(never.is_alive(), mp::ValueError);
}

TEST_CASE("close of a child that has ended but was not joined reaps it", "[process]") {
    mp::Process process([] {});
    process.start();
    pollfd ended{.fd = process.sentinel(), .events = POLLIN, .revents = 0};
    REQUIRE(::poll(&ended, 1, 20'000 * support::slowness) == 1);
    process.close();
    CHECK(support::children().empty());
}

TEST_CASE("the sentinel is readable when the child has ended, however long its children live",
          "[process]") {
    observe::Door child_door;
    observe::Door grandchild_door;
    observe::Report report;
    mp::Process process([&] {
        const pid_t grandchild = ::fork();
        if (grandchild == 0) {
            child_door.open();
            grandchild_door.pass();
            report.say("grandchild ends");
            ::_exit(0);
        }
        child_door.pass();
        ::_exit(4);
    });
    process.start();
    pollfd entry{.fd = process.sentinel(), .events = POLLIN, .revents = 0};
    CHECK(::poll(&entry, 1, 0) == 0);
    child_door.open();
    CHECK(::poll(&entry, 1, 20'000 * support::slowness) == 1);
    CHECK(process.join(0s));
    CHECK(process.exitcode() == 4);
    CHECK(process.sentinel() == entry.fd);
    CHECK(::poll(&entry, 1, 0) == 1);
    grandchild_door.open();
    CHECK(report.hear_all() == "grandchild ends\n");
}

TEST_CASE("another process can neither join nor start nor end what is not its own", "[process]") {
    observe::Door door;
    observe::Report report;
    mp::Process sibling([&] { door.pass(); });
    mp::Process never([] {});
    sibling.start();
    mp::Process process([&] {
        const auto refuses = [&](const char* what, auto call) {
            try {
                call();
                report.say(std::string(what) + " works");
            } catch (const mp::AssertionError&) {}
        };
        refuses("join", [&] { sibling.join(0s); });
        refuses("is_alive", [&] { static_cast<void>(sibling.is_alive()); });
        refuses("is_alive of one not started", [&] { static_cast<void>(never.is_alive()); });
        refuses("terminate", [&] { sibling.terminate(); });
        refuses("kill", [&] { sibling.kill(); });
        refuses("terminate_tree", [&] { sibling.terminate_tree(); });
        refuses("start", [&] { never.start(); });
        refuses("join of itself", [&] { process.join(0s); });
        refuses("terminate of itself", [&] { process.terminate(); });
        refuses("start of itself", [&] { process.start(); });
        if (!process.is_alive()) { report.say("not alive"); }
        if (process.pid() != ::getpid()) { report.say("another pid"); }
        if (sibling.pid() == ::getpid()) { report.say("the sibling's pid"); }
        report.say("done");
    });
    process.start();
    CHECK(report.hear() == "done");
    CHECK(process.join(bound));
    CHECK(process.exitcode() == 0);
    CHECK(sibling.is_alive());
    door.open();
    CHECK(sibling.join(bound));
    CHECK(sibling.exitcode() == 0);
}

TEST_CASE("several threads join one process and see one exit code", "[process]") {
    for (int round = 0; round < 20; ++round) {
        observe::Door door;
        mp::Process process([&] {
            door.pass();
            std::exit(11);
        });
        process.start();
        std::atomic<int> right{0};
        {
            std::vector<std::jthread> team;
            for (int i = 0; i < 4; ++i) {
                team.emplace_back([&, i] {
                    const bool ended = i % 2 == 0 ? process.join(bound) : (process.join(), true);
                    if (ended && process.exitcode() == 11 && !process.is_alive()) { ++right; }
                });
            }
            door.open();
        }
        REQUIRE(right == 4);
    }
}

TEST_CASE("a process can be moved before and after start", "[process]") {
    mp::Process first({.name = "moved"}, [] { throw mp::SystemExit(6); });
    mp::Process second(std::move(first));
    second.start();
    mp::Process third;
    third = std::move(second);
    CHECK(third.name() == "moved");
    REQUIRE(third.join(bound));
    CHECK(third.exitcode() == 6);

    std::vector<mp::Process> team;
    for (int i = 0; i < 10; ++i) {
        team.emplace_back([i] { std::exit(i); });
        team.back().start();
    }
    for (int i = 0; i < 10; ++i) {
        REQUIRE(team[static_cast<std::size_t>(i)].join(bound));
        CHECK(team[static_cast<std::size_t>(i)].exitcode() == i);
    }
}

TEST_CASE("dropping a process neither waits nor ends it", "[process]") {
    observe::Door door;
    observe::Report report;
    const auto begin = std::chrono::steady_clock::now();
    mp::Process([&] {
        report.say(::getpid());
        door.pass();
        report.say("ends");
    }).start();
    CHECK(std::chrono::steady_clock::now() - begin < bound);
    const auto pid = static_cast<pid_t>(report.hear_number());
    CHECK_FALSE(observe::is_gone(pid));
    const auto children = mp::active_children();
    REQUIRE(children.size() == 1);
    CHECK(children[0].pid() == pid);
    door.open();
    CHECK(report.hear_all() == "ends\n");
    CHECK(children[0].join(bound));
    CHECK(children[0].exitcode() == 0);
}

TEST_CASE("a subclass overrides run and hands its options to the base", "[process]") {
    class Adder : public mp::Process {
      public:
        Adder(observe::Report& report, int a, int b)
            : Process({.name = "adder", .daemon = true}), report_(report), a_(a), b_(b) {}
        void run() override { report_.say(name() + " " + std::to_string(a_ + b_)); }

      private:
        observe::Report& report_;
        int a_;
        int b_;
    };
    observe::Report report;
    Adder adder(report, 2, 3);
    CHECK(adder.daemon());
    adder.start();
    REQUIRE(adder.join(bound));
    CHECK(adder.exitcode() == 0);
    CHECK(report.hear_all() == "adder 5\n");
    // Called directly it runs here.
    observe::Report here;
    Adder(here, 4, 5).run();
    CHECK(here.hear_all() == "adder 9\n");
}

TEST_CASE("run calls the target in the caller; after start the target is gone", "[process]") {
    int calls = 0;
    mp::Process process([&] { ++calls; });
    process.run();
    process.run();
    CHECK(calls == 2);
    process.start();
    REQUIRE(process.join(bound));
    process.run();
    CHECK(calls == 2);
}

TEST_CASE("a hundred processes run at once", "[process]") {
    observe::Door door;
    observe::Report report;
    std::vector<mp::Process> team;
    for (int i = 0; i < 100; ++i) {
        team.emplace_back([&, i] {
            report.say("here");
            door.pass();
            std::exit(i);
        });
    }
    for (auto& process : team) { process.start(); }
    for (int i = 0; i < 100; ++i) { REQUIRE(report.hear() == "here"); }
    CHECK(mp::active_children().size() == 100);
    door.open();
    for (int i = 0; i < 100; ++i) {
        auto& process = team[static_cast<std::size_t>(i)];
        REQUIRE(process.join(bound));
        CHECK(process.exitcode() == i);
    }
    CHECK(mp::active_children().empty());
}

TEST_CASE("a joined process leaves no descriptor behind once it is dropped", "[process]") {
    const auto before = support::open_descriptors();
    for (const bool daemon : {false, true}) {
        mp::Process process({.daemon = daemon}, [] {});
        process.start();
        REQUIRE(process.join(bound));
    }
    CHECK(support::open_descriptors() == before);
}

TEST_CASE("a signal handler that runs does not end a join", "[process]") {
    struct sigaction ignore {};
    struct sigaction saved {};
    ignore.sa_handler = [](int) {};  // without SA_RESTART
    ::sigaction(SIGUSR1, &ignore, &saved);
    observe::Door door;
    mp::Process process([&, parent = ::getpid()] {
        for (int i = 0; i < 20; ++i) {
            ::kill(parent, SIGUSR1);
            std::this_thread::yield();
        }
        door.pass();
    });
    process.start();
    CHECK_FALSE(process.join(100ms));
    door.open();
    CHECK(process.join(bound));
    CHECK(process.exitcode() == 0);
    ::sigaction(SIGUSR1, &saved, nullptr);
}

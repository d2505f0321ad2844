// SPDX-License-Identifier: BSL-1.0

// The end of processes at moments that nobody chose: parents, threads, children that others reap.

#include "process/observe.hpp"
#include "process/subreaper.hpp"
#include "support/catch.hpp"

#include <multiprocessing/process.hpp>

#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

const auto bound = 20s * support::slowness;

[[noreturn]] void sleep_for_ever() {
    for (;;) { ::pause(); }
}

[[noreturn]] void compute_for_ever() {
    for (std::atomic<unsigned long> i = 0;; ++i) {}
}

// A program of its own, as far as the library is concerned: a plain fork of the test.
template <class F>
pid_t program(F f) {
    const pid_t pid = ::fork();
    if (pid == 0) {
        f();
        sleep_for_ever();
    }
    return pid;
}

void kill_and_reap(pid_t pid, int signal = SIGKILL) {
    ::kill(pid, signal);
    ::waitpid(pid, nullptr, 0);
}

// Sets a signal's disposition for the scope.
class Disposition {
  public:
    Disposition(int signal, void (*handler)(int))
        : signal_(signal), saved_(std::signal(signal, handler)) {}
    Disposition(const Disposition&) = delete;
    Disposition& operator=(const Disposition&) = delete;
    ~Disposition() { std::signal(signal_, saved_); }

  private:
    int signal_;
    void (*saved_)(int);
};

// Each process ends in one of three ways, and four threads join it together.
void join_by_four(int rounds) {
    for (int round = 0; round < rounds; ++round) {
        mp::Process process([round] {
            if (round % 3 == 0) { ::_exit(round % 256); }
            if (round % 3 == 1) { ::raise(SIGKILL); }
            throw mp::SystemExit(round);
        });
        const int expected = round % 3 == 1 ? -SIGKILL : round % 256;
        process.start();
        std::atomic<int> right{0};
        {
            std::vector<std::jthread> team;
            for (int t = 0; t < 4; ++t) {
                team.emplace_back([&, t] {
                    if (t == 3) { static_cast<void>(mp::active_children()); }  // reaps as well
                    if (process.join(bound) && process.exitcode() == expected) { ++right; }
                });
            }
        }
        CAPTURE(round, expected);
        REQUIRE(right == 4);
    }
}

}  // namespace

TEST_CASE(
    "daemonic children and their children are gone 1 s after their parent's death at any moment",
    "[crash]") {
    observe::Subreaper reaper;
    for (int round = 0; round < 100; ++round) {
        observe::Report report;  // ends when everybody who could say something is gone
        const pid_t parent = program([&] {
            // Busy, asleep, and with children of its own that are not daemonic by themselves.
            mp::Process busy({.daemon = true}, compute_for_ever);
            mp::Process outer({.daemon = true}, [&] {
                mp::Process inner({.daemon = false}, [&] {
                    report.say("inner");
                    sleep_for_ever();
                });
                inner.start();
                inner.join();
            });
            busy.start();
            outer.start();
            report.say("started");
            report.say(*busy.pid());
            report.say(*outer.pid());
        });
        // "inner" comes before, between or after these, or not at all.
        std::vector<pid_t> pids;
        while (pids.size() < 2) {
            const auto line = report.hear();
            REQUIRE(line.has_value());
            if (*line != "started" && *line != "inner") { pids.push_back(std::stoi(*line)); }
        }
        std::this_thread::sleep_for(std::chrono::microseconds(500 * round));  // the moment of death
        kill_and_reap(parent, round % 3 == 0 ? SIGTERM : SIGKILL);
        CAPTURE(round);
        REQUIRE(report.ends_within(1s));
        for (const pid_t pid : pids) {
            REQUIRE(support::eventually([&] { return observe::is_gone(pid); }, 1s));
        }
    }
}

TEST_CASE("a parent that dies while it starts daemonic children leaves none", "[crash]") {
    observe::Subreaper reaper;
    for (int round = 0; round < 100; ++round) {
        observe::Report report;
        observe::Report ready;
        const pid_t parent = program([&] {
            std::vector<mp::Process> team;
            ready.say("ready");
            for (int i = 0; i < 1000; ++i) {
                team.emplace_back(mp::ProcessOptions{.daemon = true}, sleep_for_ever);
                team.back().start();
            }
        });
        REQUIRE(ready.hear() == "ready");
        std::this_thread::sleep_for(std::chrono::microseconds(37 * round));  // the moment of death
        kill_and_reap(parent);
        CAPTURE(round);
        REQUIRE(report.ends_within(1s));
    }
}

TEST_CASE("a daemonic child survives the thread that started it, and not the process", "[crash]") {
    observe::Subreaper reaper;
    for (int round = 0; round < 20; ++round) {
        observe::Report report;
        observe::Door thread_is_over;
        const pid_t parent = program([&] {
            std::thread([&] {
                mp::Process({.daemon = true}, [&] {
                    report.say(::getpid());
                    thread_is_over.pass();
                    report.say("alive after the thread");
                    sleep_for_ever();
                }).start();
            }).join();
            thread_is_over.open();
        });
        const auto pid = static_cast<pid_t>(report.hear_number());
        REQUIRE(pid > 0);
        // This process's own end of the door and the program's have to be closed.
        thread_is_over.open();
        REQUIRE(report.hear() == "alive after the thread");
        REQUIRE_FALSE(observe::is_gone(pid));
        kill_and_reap(parent);
        REQUIRE(report.ends_within(1s));
    }
}

TEST_CASE("daemonic children that were started side by side do not keep each other's parent alive",
          "[crash]") {
    observe::Subreaper reaper;
    observe::Report report;
    const pid_t parent = program([&] {
        std::vector<std::jthread> team;
        for (int t = 0; t < 4; ++t) {
            team.emplace_back([&] {
                for (int i = 0; i < 5; ++i) {
                    mp::Process({.daemon = i % 2 == 0}, [&, i] {
                        report.say("here");
                        // Who is not daemonic outlives the parent for as long as the report is
                        // heard.
                        if (i % 2 == 0) { sleep_for_ever(); }
                        mp::parent_process()->join();
                    }).start();
                }
            });
        }
        team.clear();
    });
    for (int i = 0; i < 20; ++i) { REQUIRE(report.hear() == "here"); }
    kill_and_reap(parent);
    CHECK(report.ends_within(1s));
}

TEST_CASE("a child that is not daemonic outlives its parent", "[crash]") {
    observe::Subreaper reaper;
    observe::Report report;
    const pid_t parent = program([&] {
        mp::Process([&] {
            report.say(::getpid());
            mp::parent_process()->join();
            report.say("still here");
        }).start();
    });
    const auto pid = static_cast<pid_t>(report.hear_number());
    kill_and_reap(parent);
    CHECK(report.hear() == "still here");
    CHECK(report.ends_within(20s));
    CHECK(reaper.reap(pid));
}

TEST_CASE("with SIGCHLD ignored a child's end and its exit code are known all the same",
          "[crash]") {
    const Disposition ignored(SIGCHLD, SIG_IGN);
    for (int round = 0; round < 50; ++round) {
        mp::Process process([] { std::exit(6); });
        process.start();
        REQUIRE(process.join(bound));
        REQUIRE_FALSE(process.is_alive());
        REQUIRE(process.exitcode() == 6);
        process.terminate();  // at nobody
    }
    mp::Process killed(sleep_for_ever);
    killed.start();
    CHECK(killed.is_alive());
    killed.kill();
    REQUIRE(killed.join(bound));
    CHECK_FALSE(killed.is_alive());
    CHECK_FALSE(killed.exitcode().has_value());
    CHECK(mp::active_children().empty());
}

TEST_CASE("a foreign waitpid(-1) loop takes neither a child's end nor its exit code", "[crash]") {
    std::atomic<bool> stop{false};
    std::jthread reaper([&] {
        while (!stop) {
            if (::waitpid(-1, nullptr, WNOHANG) <= 0) { std::this_thread::yield(); }
        }
    });
    for (int round = 0; round < 100; ++round) {
        mp::Process process({.daemon = round % 2 == 0}, [] { std::exit(6); });
        process.start();
        REQUIRE(process.join(bound));
        REQUIRE_FALSE(process.is_alive());
        REQUIRE(process.exitcode() == 6);
    }
    for (int round = 0; round < 50; ++round) {
        mp::Process process(sleep_for_ever);
        process.start();
        process.kill();
        REQUIRE(process.join(bound));
        REQUIRE_FALSE(process.is_alive());
        const auto code = process.exitcode();  // unknown, or the truth
        REQUIRE((!code || *code == -SIGKILL));
    }
    stop = true;
}

TEST_CASE("four threads join one process, five hundred times", "[crash]") { join_by_four(500); }

TEST_CASE("four threads join one process, 10,000 times: the right exit code every time",
          "[crash][long]") {
    support::allow(600s);
    join_by_four(10'000);
}

TEST_CASE("children that end as soon as they begin are all accounted for", "[crash]") {
    for (int round = 0; round < 20; ++round) {
        std::vector<mp::Process> team;
        for (int i = 0; i < 20; ++i) {
            team.emplace_back([i] { ::_exit(i); });
            team.back().start();
        }
        for (int i = 0; i < 20; ++i) {
            REQUIRE(team[static_cast<std::size_t>(i)].join(bound));
            REQUIRE(team[static_cast<std::size_t>(i)].exitcode() == i);
        }
    }
}

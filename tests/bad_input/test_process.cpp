// SPDX-License-Identifier: BSL-1.0

// What misuse of processes and contexts is answered with.

#include "support/catch.hpp"

#include <multiprocessing/context.hpp>
#include <multiprocessing/errors.hpp>
#include <multiprocessing/process.hpp>

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <stdexcept>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

void nothing() {}
void sleep_for_ever() {
    for (;;) { ::pause(); }
}

// Exit code 0 when every one of the calls on the parent's object is refused.
int use_of(mp::Process& foreign) {
    const auto is_refused = [](auto call) {
        try {
            call();
        } catch (const mp::AssertionError&) { return true; }
        return false;
    };
    const bool all = is_refused([&] { foreign.start(); }) && is_refused([&] { foreign.join(); }) &&
                     is_refused([&] { foreign.is_alive(); });
    return all ? 0 : 1;
}

}  // namespace

TEST_CASE("an unknown start method is ValueError, a second choice ProcessError") {
    CHECK_THROWS_AS(mp::get_context("thread"), mp::ValueError);
    CHECK_THROWS_AS(mp::set_start_method("thread"), mp::ValueError);
    CHECK_THROWS_AS(mp::set_start_method("", true), mp::ValueError);
    mp::set_start_method("fork", true);
    CHECK_THROWS_AS(mp::set_start_method("fork"), mp::ProcessError);
    CHECK(mp::get_start_method() == "fork");
}

TEST_CASE("a process is started once") {
    mp::Process process(nothing);
    process.start();
    CHECK_THROWS_AS(process.start(), mp::AssertionError);
    process.join();
    CHECK_THROWS_AS(process.start(), mp::AssertionError);
    CHECK_THROWS_AS(process.set_daemon(true), mp::AssertionError);
    process.close();
    CHECK_THROWS_AS(process.start(), mp::ValueError);
}

TEST_CASE("what needs a started process is refused before start") {
    mp::Process process(nothing);
    CHECK_THROWS_AS(process.join(), mp::AssertionError);
    CHECK_THROWS_AS(process.join(1s), mp::AssertionError);
    CHECK_THROWS_AS(process.sentinel(), mp::ValueError);
    CHECK_THROWS_AS(process.terminate(), mp::AssertionError);
    CHECK_THROWS_AS(process.kill(), mp::AssertionError);
    CHECK_THROWS_AS(process.interrupt(), mp::AssertionError);
    CHECK_THROWS_AS(process.terminate_tree(), mp::AssertionError);
    CHECK_FALSE(process.is_alive());
    CHECK_FALSE(process.exitcode());
    process.start();
    process.join();
    // Once it has ended there is nobody to signal, which is no error.
    process.terminate();
    process.kill();
    CHECK(process.exitcode() == 0);
}

TEST_CASE("a living process cannot be closed; a closed one is ValueError but for its name") {
    mp::Process process({.name = "closed"}, sleep_for_ever);
    process.start();
    CHECK_THROWS_AS(process.close(), mp::ValueError);
    process.kill();
    process.join();
    process.close();
    process.close();
    CHECK(process.name() == "closed");
    CHECK_FALSE(process.daemon());
    CHECK_THROWS_AS(process.join(), mp::ValueError);
    CHECK_THROWS_AS(process.is_alive(), mp::ValueError);
    CHECK_THROWS_AS(process.pid(), mp::ValueError);
    CHECK_THROWS_AS(process.exitcode(), mp::ValueError);
    CHECK_THROWS_AS(process.sentinel(), mp::ValueError);
    CHECK_THROWS_AS(process.terminate(), mp::ValueError);
    CHECK_THROWS_AS(process.kill(), mp::ValueError);
    CHECK_THROWS_AS(process.authkey(), mp::ValueError);
}

TEST_CASE("a process is its creator's") {
    mp::Process foreign(nothing);
    mp::Process other([&] { throw mp::SystemExit(use_of(foreign)); });
    other.start();
    other.join();
    CHECK(other.exitcode() == 0);
}

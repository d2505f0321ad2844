// SPDX-License-Identifier: BSL-1.0
#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/leak_check.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <string>
#include <thread>

using namespace std::chrono_literals;

namespace {

// A child that ends when this process does, or is killed.
pid_t sleeping_child() {
    int ends[2];
    if (::pipe(ends) != 0) { return -1; }
    const pid_t pid = ::fork();
    if (pid == 0) {
        char byte;
        ::close(ends[1]);
        static_cast<void>(!::read(ends[0], &byte, 1));
        ::_exit(0);
    }
    ::close(ends[0]);
    // The write end stays open in this process, so that the child waits.
    return pid;
}

}  // namespace

TEST_CASE("a process that holds the same as before has left nothing behind") {
    const auto before = support::Holdings::now();
    const int fd = ::open("/dev/null", O_RDONLY);
    const std::string other_number = "/dev/null";
    CHECK_THAT(support::difference(before, support::Holdings::now()),
               support::contains(other_number));
    ::close(fd);
    CHECK(support::left_behind(before) == "");
}

TEST_CASE("a descriptor that now refers to something else is a difference") {
    const int fd = ::open("/dev/null", O_RDONLY);
    const auto before = support::Holdings::now();
    const int other = ::open("/dev/zero", O_RDONLY);
    ::dup2(other, fd);
    ::close(other);
    CHECK_THAT(support::difference(before, support::Holdings::now()),
               support::contains("/dev/zero"));
    ::close(fd);
}

TEST_CASE("children are seen alive, as zombies, and not once they are reaped") {
    CHECK(support::children().empty());
    const pid_t pid = ::fork();
    if (pid == 0) { ::_exit(0); }
    REQUIRE(
        support::eventually([&] { return support::children()[pid].starts_with("zombie"); }, 5s));
    CHECK_FALSE(support::no_children_left(1ms));
    ::waitpid(pid, nullptr, 0);
    CHECK(support::no_children_left());
}

TEST_CASE("eventually gives up at its bound, and timed says how long that was") {
    bool held = true;
    CHECK(support::timed([&] { held = support::eventually([] { return false; }, 50ms); }) >= 50ms);
    CHECK_FALSE(held);
    CHECK(support::eventually([n = 0]() mutable { return ++n == 3; }));
}

TEST_CASE("what another program leaves in /dev/shm on purpose is passed over") {
    const auto before = support::Holdings::now();
    const std::string others = support::planted_shm_name(::getpid() + 1);
    const int fd = ::shm_open(others.c_str(), O_RDWR | O_CREAT, 0600);
    REQUIRE(fd >= 0);
    ::close(fd);
    CHECK(support::difference(before, support::Holdings::now()) == "");
    ::shm_unlink(others.c_str());
}

// Hidden; ctest runs each and looks for the report.

TEST_CASE("leaves a descriptor", "[.]") { CHECK(::open("/dev/null", O_RDONLY) >= 0); }

TEST_CASE("leaves a child", "[.]") { CHECK(sleeping_child() > 0); }

TEST_CASE("leaves a zombie", "[.]") {
    const pid_t pid = ::fork();
    if (pid == 0) { ::_exit(0); }
    CHECK(pid > 0);
}

TEST_CASE("leaves a thread", "[.]") {
    std::thread([] { std::this_thread::sleep_for(30s); }).detach();
    CHECK(support::thread_count() >= 2);
}

TEST_CASE("leaves a shm", "[.]") {
    const int fd = ::shm_open(support::planted_shm_name().c_str(), O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0);
    ::close(fd);
    // The report comes after this case; the name goes when the program ends.
    std::atexit([] { ::shm_unlink(support::planted_shm_name().c_str()); });
}

TEST_CASE("hangs", "[.]") {
    support::allow(1s);
    for (;;) { ::pause(); }
}

// SPDX-License-Identifier: BSL-1.0
#include "process/observe.hpp"
#include "shm/shared.hpp"
#include "support/catch.hpp"

#include <multiprocessing/os/process.hpp>

#include <sys/prctl.h>
#include <sys/resource.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <future>
#include <string>
#include <thread>

namespace mp = multiprocessing;
namespace os = multiprocessing::detail::os;
using multiprocessing::detail::Deadline;
using observe::Fork;
using namespace std::chrono_literals;

namespace {

[[noreturn]] void sleep_for_ever() {
    for (;;) { ::pause(); }
}

}  // namespace

TEST_CASE("a pidfd is one process: alive, ended, reaped", "[os]") {
    Fork child(sleep_for_ever);
    const os::UniqueFd pidfd = os::pidfd_open(child.pid());
    REQUIRE(pidfd);
    CHECK_FALSE(os::has_ended(pidfd));
    CHECK_FALSE(os::is_reaped(pidfd));
    CHECK(support::timed([&] { return os::wait_ended(pidfd.get(), Deadline(30ms)); }) >= 30ms);
    CHECK(os::send_signal(pidfd.get(), SIGKILL));
    CHECK(os::wait_ended(pidfd.get(), Deadline(20s)));
    // A zombie has ended, is not reaped, and takes signals without effect.
    CHECK(os::has_ended(pidfd));
    CHECK_FALSE(os::is_reaped(pidfd));
    CHECK_FALSE(os::is_reaped(child.pid()));
    CHECK(os::send_signal(pidfd.get(), SIGKILL));
    const pid_t pid = child.pid();
    const auto status = os::reap(pidfd.get());
    REQUIRE(status.has_value());
    CHECK(status->exitcode == -SIGKILL);
    CHECK_FALSE(status->core_dumped);
    CHECK(os::is_reaped(pidfd));
    CHECK(os::is_reaped(pid));
    CHECK_FALSE(os::send_signal(pidfd.get(), SIGKILL));
    CHECK_FALSE(os::reap(pidfd.get()).has_value());
    CHECK_FALSE(os::pidfd_open(pid));
    CHECK(os::has_ended(os::UniqueFd()));
}

TEST_CASE("a number that is a thread's by now names no process", "[os]") {
    std::promise<pid_t> number;
    std::promise<void> end;
    std::jthread thread([&] {
        number.set_value(os::thread_id());
        end.get_future().wait();
    });
    const pid_t tid = number.get_future().get();
    CHECK_FALSE(os::pidfd_open(tid));
    CHECK(os::is_reaped(tid));
    end.set_value();
}

TEST_CASE("what may not be signalled is an error that names call and signal", "[os]") {
    Fork child([] {
        if (::geteuid() == 0 && ::setuid(54321) != 0) { ::_exit(0); }
        try {
            os::send_signal(os::pidfd_open(1).get(), SIGUSR1);
            ::_exit(1);
        } catch (const mp::OSError& error) {
            const bool named = std::strstr(error.what(), "pidfd_send_signal(SIGUSR1)") != nullptr;
            ::_exit(named && error.code().value() == EPERM ? 0 : 2);
        }
    });
    CHECK(child.end() == 0);
}

TEST_CASE("a child's exit status is told", "[os]") {
    Fork child([] { ::_exit(77); });
    const os::UniqueFd pidfd = os::pidfd_open(child.pid());
    REQUIRE(os::wait_ended(pidfd.get(), Deadline(20s)));
    CHECK(os::reap(pidfd.get())->exitcode == 77);
}

TEST_CASE("the birth tells two processes apart and stays for the zombie", "[os]") {
    Fork first(sleep_for_ever);
    Fork second(sleep_for_ever);
    const os::UniqueFd one = os::pidfd_open(first.pid());
    const os::UniqueFd two = os::pidfd_open(second.pid());
    const auto birth = os::birth_of(one, first.pid());
    CHECK(birth != 0);
    CHECK(os::birth_of(os::pidfd_open(first.pid()), first.pid()) == birth);
    CHECK(os::birth_of(two, second.pid()) != birth);
    ::kill(first.pid(), SIGKILL);
    REQUIRE(os::wait_ended(one.get(), Deadline(20s)));
    CHECK(os::birth_of(one, first.pid()) == birth);
}

TEST_CASE("the stat line is read whatever the program's name is", "[os]") {
    observe::Report report;
    Fork child([&] {
        ::prctl(PR_SET_NAME, "a) Z 1 2 (b");
        report.say("named");
        sleep_for_ever();
    });
    REQUIRE(report.hear() == "named");
    const auto stat = os::proc_stat(child.pid());
    REQUIRE(stat.has_value());
    CHECK(stat->ppid == ::getpid());
    CHECK(stat->threads == 1);
    CHECK(stat->start_time > 0);
    CHECK((stat->state == 'S' || stat->state == 'R'));
    const auto own = os::proc_stat(::getpid());
    std::jthread other([&] { CHECK(os::proc_stat(::getpid())->threads == own->threads + 1); });
    other.join();
    const pid_t pid = child.pid();
    child.kill();
    CHECK_FALSE(os::proc_stat(pid).has_value());
}

TEST_CASE("redirected descriptors are /dev/null, open, and stay open over an exec", "[os]") {
    for (const bool was_open : {true, false}) {
        Fork child([&] {
            if (!was_open) { ::close(STDIN_FILENO); }
            os::redirect_to_null(STDIN_FILENO);
            char byte;
            const bool at_end = ::read(STDIN_FILENO, &byte, 1) == 0;
            const bool kept = ::fcntl(STDIN_FILENO, F_GETFD) == 0;
            // And with no other descriptor to be had.
            const rlimit few{.rlim_cur = 1, .rlim_max = 1};
            ::setrlimit(RLIMIT_NOFILE, &few);
            os::redirect_to_null(STDIN_FILENO);
            ::_exit(at_end && kept && ::read(STDIN_FILENO, &byte, 1) == 0 ? 0 : 1);
        });
        CHECK(child.end() == 0);
    }
}

TEST_CASE("random bytes are all filled, and differ", "[os]") {
    std::string one(1000, '\0');
    std::string two(1000, '\0');
    os::random_bytes(one.data(), one.size());
    os::random_bytes(two.data(), two.size());
    CHECK(one != two);
    CHECK(one.substr(990) != std::string(10, '\0'));
}

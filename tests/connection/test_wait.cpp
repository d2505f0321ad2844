// SPDX-License-Identifier: BSL-1.0
#include "raw_peer.hpp"
#include "support/bounds.hpp"
#include "support/catch.hpp"

#include <multiprocessing/connection.hpp>
#include <multiprocessing/process.hpp>

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <initializer_list>
#include <list>
#include <string>
#include <vector>

namespace mp = multiprocessing;
using mp::connection::wait;
using mp::connection::Waitable;
using namespace std::chrono_literals;
using support::refuses;

namespace {

/// Something of somebody else's that has a descriptor.
struct Device {
    int fd;
    int fileno() const { return fd; }
};

}  // namespace

TEST_CASE("wait returns the ready ones in the order given") {
    auto [a, b] = mp::Pipe();
    auto [c, d] = mp::Pipe();
    auto [e, f] = mp::Pipe();
    CHECK(wait({a, c, e}, 0s).empty());
    f.send(1);
    b.send(1);
    const std::vector<Waitable> ready = wait({a, Waitable(c), e}, 0s);
    REQUIRE(ready.size() == 2);
    CHECK(ready[0].fileno() == a.fileno());
    CHECK(ready[0].index() == 0);
    CHECK(ready[1] == e);
    CHECK(ready[1].index() == 2);
    CHECK(wait({e, c, a}).front() == e);
}

TEST_CASE("wait takes connections, descriptors and what has one") {
    auto [a, b] = mp::Pipe();
    auto [c, d] = mp::Pipe();
    auto [e, f] = mp::Pipe();
    const Device device{e.fileno()};
    const int fd = c.fileno();
    d.send(1);
    f.send(1);
    const auto ready = wait({a, fd, device}, 20s);
    REQUIRE(ready.size() == 2);
    CHECK(ready[0] == fd);
    CHECK(ready[1] == device);
    CHECK(ready[1].index() == 2);
}

TEST_CASE("wait returns the elements of a range of one type") {
    auto [a, b] = mp::Pipe();
    auto [c, d] = mp::Pipe();
    d.send(1);
    const std::vector connections{a, c};
    const std::vector<mp::Connection> ready = wait(connections, 20s);
    CHECK(ready == std::vector{c});
    CHECK(wait(std::list{c, a}, 20s) == std::vector{c});

    std::deque<int> fds{a.fileno(), c.fileno()};
    CHECK(wait(fds) == std::vector{c.fileno()});
    const int array[] = {a.fileno(), c.fileno()};
    CHECK(wait(array, 20s) == std::vector{c.fileno()});
    CHECK(wait(std::vector{Device{c.fileno()}}).front().fd == c.fileno());

    const std::vector<Waitable> mixed{a, c.fileno()};
    const std::vector<Waitable> of_mixed = wait(mixed, 20s);
    REQUIRE(of_mixed.size() == 1);
    CHECK(of_mixed[0].index() == 1);
}

TEST_CASE("the end of file is ready, and stays so") {
    auto [a, b] = mp::Pipe();
    b.close();
    for (int i = 0; i < 3; ++i) { CHECK(wait({a}, 20s).size() == 1); }
}

TEST_CASE("a sentinel is ready once its process has ended") {
    auto [hold, let_go] = mp::Pipe(false);
    mp::Process child([hold = hold] { hold.recv<int>(); });
    child.start();
    CHECK(wait({child.sentinel()}, 0s).empty());
    let_go.send(1);
    const auto ready = wait({hold, child.sentinel()}, 20s);
    REQUIRE_FALSE(ready.empty());
    CHECK(wait(std::vector{child.sentinel()}, 20s) == std::vector{child.sentinel()});
    CHECK(child.join(20s));
}

TEST_CASE("wait keeps its timeout") {
    auto [a, b] = mp::Pipe();
    CHECK(support::timed([&, &a = a] {
              CHECK(wait({a}, 60ms).empty());
              return 0;
          }) >= 60ms);
    CHECK(support::timed([&, &a = a] { return wait({a}, -5s); }) < 4s);
    CHECK(support::timed([&, &a = a] { return wait({a}, 0s); }) < 4s);
    CHECK(support::timed([] { return wait({}, 40ms); }) >= 40ms);
    CHECK(support::timed([] { return wait(std::vector<int>(), 40ms); }) >= 40ms);
    CHECK(wait({}).empty());
}

TEST_CASE("wait refuses what is not open, by name") {
    auto [a, b] = mp::Pipe();
    auto [reader, writer] = mp::Pipe(false);
    b.send(1);  // `a` is ready, which does not hide the error
    CHECK(refuses(EBADF, "descriptor -1", [&, &a = a] { wait({a, -1}, 20s); }));
    CHECK(refuses(EBADF, "descriptor 44977608", [&, &a = a] { wait({a, 44977608}, 20s); }));
    CHECK(refuses(EBADF, "descriptor 44977608", [] { wait(std::vector{44977608}); }));
    CHECK(refuses(EBADF, "write-only", [&, &writer = writer] { wait({writer}, 20s); }));
    a.close();
    CHECK(refuses(EBADF, "handle is closed", [&, &a = a] { wait({a}, 20s); }));
    CHECK(refuses(EBADF, "handle is closed", [&, &a = a] { wait(std::vector{a}, 20s); }));
}

TEST_CASE("a signal does not end a wait") {
    struct sigaction previous {};
    struct sigaction action {};  // without SA_RESTART
    action.sa_handler = [](int) {};
    REQUIRE(::sigaction(SIGUSR1, &action, &previous) == 0);
    auto [a, b] = mp::Pipe();
    const pid_t self = ::getpid();
    auto [hold, let_go] = mp::Pipe(false);
    mp::Process child([self, hold = hold] {
        while (!hold.poll(1ms)) { ::kill(self, SIGUSR1); }
    });
    child.start();
    CHECK(support::timed([&, &a = a] {
              CHECK(wait({a}, 100ms).empty());
              return 0;
          }) >= 100ms);
    CHECK(support::timed([&, &a = a] {
              CHECK_FALSE(a.poll(100ms));
              return 0;
          }) >= 100ms);
    let_go.send(1);
    CHECK(child.join(20s));
    ::sigaction(SIGUSR1, &previous, nullptr);
}

TEST_CASE("wait finds one among thousands of descriptors") {
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
    const rlimit wanted{std::min<rlim_t>(before.rlim_max, 6000), before.rlim_max};
    if (before.rlim_cur < wanted.rlim_cur) { REQUIRE(::setrlimit(RLIMIT_NOFILE, &wanted) == 0); }
    // Two descriptors a pipe; every other one of 5000 waited for is an end that nobody sends to.
    const auto limit = std::max(before.rlim_cur, wanted.rlim_cur);
    const auto pipes = std::min<std::size_t>(2500, static_cast<std::size_t>(limit) / 2 - 50);
    std::vector<mp::Connection> ends;
    for (std::size_t i = 0; i < pipes; ++i) {
        auto [a, b] = mp::Pipe();
        ends.push_back(a);
        ends.push_back(b);
    }
    CHECK(wait(ends, 0s).empty());
    ends[ends.size() - 1].send(1);
    ends[2].send(2);
    CHECK(wait(ends, 20s) == std::vector{ends[3], ends[ends.size() - 2]});
    ends.clear();
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
}

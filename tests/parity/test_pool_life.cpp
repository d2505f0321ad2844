// SPDX-License-Identifier: BSL-1.0

// Pools that cannot be made.

#include <multiprocessing/pool.hpp>
#include <multiprocessing/process.hpp>

#include <sys/resource.h>

#include <filesystem>
#include <iterator>
#include <string>

#include <support/bounds.hpp>
#include <support/catch.hpp>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

int square(int number) { return number * number; }

std::size_t living_members() {
    using mp::detail::Family;
    std::size_t living = 0;
    Family::for_each([&](mp::detail::MemberId id) { living += Family::has_ended(id) ? 0U : 1U; });
    return living;
}

std::size_t open_descriptors() {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

void limit_descriptors(std::size_t most) {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = most;
    setrlimit(RLIMIT_NOFILE, &limit);
}

// Makes pools under ever wider limits; 0 when each that failed left nobody behind, and at least one
// failed after some of its workers had been started.
int make_pools_that_fail() {
    mp::Pool(1).apply(square, 1);  // what is there from the first use on
    const std::size_t before = living_members();
    const std::size_t open = open_descriptors();
    bool failed_midway = false;
    for (std::size_t more = 2; more < 60; more += 3) {
        limit_descriptors(open + more);
        try {
            mp::Pool pool(20);
        } catch (const mp::OSError& error) {
            const std::string text = error.what();
            failed_midway = failed_midway || (text.find("of 20 of a pool") != text.npos &&
                                              text.find("worker 1 of") == text.npos);
        }
        limit_descriptors(open + 200);
        if (!support::eventually([&] { return living_members() == before; })) { return 1; }
    }
    return failed_midway ? 0 : 2;
}

}  // namespace

TEST_CASE(
    "TestPoolNotLeakOnFailure.test_release_unused_processes: "
    "a pool that cannot have all its workers has none",
    "[parity]") {
    mp::Process program([] { throw mp::SystemExit(make_pools_that_fail()); });
    program.start();
    CHECK(program.join(60s));
    CHECK(program.exitcode() == 0);
}

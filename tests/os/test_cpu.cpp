// SPDX-License-Identifier: BSL-1.0
#include "shm/shared.hpp"
#include "support/catch.hpp"

#include <multiprocessing/os/cpu.hpp>

#include <sched.h>
#include <sys/wait.h>

namespace os = multiprocessing::detail::os;

TEST_CASE("a quota is rounded up to whole processors", "[os]") {
    CHECK(os::cpus_from_quota(200'000, 100'000) == 2);
    CHECK(os::cpus_from_quota(100'000, 100'000) == 1);
    CHECK(os::cpus_from_quota(150'000, 100'000) == 2);
    CHECK(os::cpus_from_quota(100'001, 100'000) == 2);
    CHECK(os::cpus_from_quota(10'000, 100'000) == 1);
    CHECK(os::cpus_from_quota(1, 100'000) == 1);
    CHECK(os::cpus_from_quota(1'600'000, 100'000) == 16);
    CHECK(os::cpus_from_quota(25'000, 10'000) == 3);
}

TEST_CASE("what is no quota sets no limit", "[os]") {
    CHECK_FALSE(os::cpus_from_quota(0, 100'000).has_value());   // "max" is read as 0
    CHECK_FALSE(os::cpus_from_quota(-1, 100'000).has_value());  // the older hierarchy's "none"
    CHECK_FALSE(os::cpus_from_quota(100'000, 0).has_value());
    CHECK(os::cpus_from_quota(1e300, 1).value() > 1'000);
}

TEST_CASE("what the control group allows is nothing or at least one processor", "[os]") {
    CHECK(os::cgroup_cpus().value_or(1) >= 1);
}

TEST_CASE("the affinity counts the processors that this process may run on", "[os]") {
    CHECK(os::affinity_cpus() >= 1);
    CHECK(os::affinity_cpus() <= os::online_cpus());
    observe::Fork restricted([] {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(static_cast<std::size_t>(::sched_getcpu()), &set);
        ::_exit(::sched_setaffinity(0, sizeof set, &set) == 0 && os::affinity_cpus() == 1 ? 0 : 1);
    });
    CHECK(restricted.end() == 0);
}

// SPDX-License-Identifier: BSL-1.0
#include "process/observe.hpp"
#include "shm/shared.hpp"
#include "support/catch.hpp"

#include <multiprocessing/os/fork.hpp>

#include <sched.h>
#include <sys/syscall.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <set>

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

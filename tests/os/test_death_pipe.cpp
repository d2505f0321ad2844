// SPDX-License-Identifier: BSL-1.0
#include "process/observe.hpp"
#include "process/subreaper.hpp"
#include "shm/shared.hpp"
#include "support/catch.hpp"

#include <multiprocessing/os/death_pipe.hpp>

#include <chrono>
#include <csignal>
#include <memory>
#include <utility>

namespace os = multiprocessing::detail::os;
using observe::Fork;
using namespace std::chrono_literals;

namespace {

[[noreturn]] void sleep_for_ever() {
    for (;;) { ::pause(); }
}

// A plain fork that dies with this process by the pipe alone: without PDEATHSIG.
struct Kept {
    explicit Kept(const observe::Report& report)
        : process([&] {
              pipe->arm(::getppid(), /*forked_by_main_thread=*/false);
              report.say("armed");
              sleep_for_ever();
          }) {
        life = pipe->hold();
        pipe.reset();
    }
    std::unique_ptr<os::DeathPipe<>> pipe = std::make_unique<os::DeathPipe<>>();
    os::DeathPipe<>::Holder life;
    Fork process;
};

}  // namespace

TEST_CASE("the child ends with SIGKILL when the parent's end is dropped", "[os]") {
    observe::Report report;
    Kept child(report);
    REQUIRE(report.hear() == "armed");
    os::DeathPipe<>::Holder moved = std::move(child.life);
    CHECK_FALSE(observe::is_gone(child.process.pid()));
    { const os::DeathPipe<>::Holder dropped = std::move(moved); }
    CHECK(report.ends_within(1s));
    const int status = child.process.end();
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGKILL);
}

TEST_CASE("the pipe alone ends the child at its parent's death, siblings and later forks or not",
          "[os]") {
    observe::Subreaper reaper;
    observe::Report report;
    observe::Door door;
    Fork parent([&] {
        Kept first(report);
        Kept second(report);
        const Fork plain([&] { door.pass(); });  // had it an end of theirs, it would keep them
        report.say("made");
        sleep_for_ever();
    });
    int armed = 0;
    for (int i = 0; i < 3; ++i) { armed += report.hear() == "armed" ? 1 : 0; }
    CHECK(armed == 2);
    parent.kill();
    door.open();
    CHECK(report.ends_within(1s));
}

TEST_CASE("a child whose parent is gone before it arms does not live", "[os]") {
    observe::Subreaper reaper;
    observe::Report report;
    observe::Door door;
    Fork parent([&] {
        os::DeathPipe<> pipe;
        const pid_t self = ::getpid();
        if (::fork() == 0) {
            report.say("waits");
            door.pass();
            pipe.arm(self, /*forked_by_main_thread=*/true);
            report.say("lives");
            sleep_for_ever();
        }
        const auto life = pipe.hold();
        sleep_for_ever();
    });
    REQUIRE(report.hear() == "waits");
    parent.kill();
    door.open();
    CHECK(report.hear_all() == "");
}

TEST_CASE("a dropped pipe leaves no descriptor, and its number is not closed twice", "[os]") {
    const auto before = support::open_descriptors();
    auto pipe = std::make_unique<os::DeathPipe<>>();
    CHECK(support::open_descriptors().size() == before.size() + 2);
    Fork child([&] {
        // The parent's end was closed at the fork; its number is another file's by now.
        const int own = ::open("/dev/null", O_RDONLY);
        pipe.reset();
        ::_exit(::fcntl(own, F_GETFD) >= 0 ? 0 : 1);
    });
    CHECK(child.end() == 0);
    pipe.reset();
    CHECK(support::open_descriptors() == before);
}

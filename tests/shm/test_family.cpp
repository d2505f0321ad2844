// SPDX-License-Identifier: BSL-1.0
#include "process/observe.hpp"
#include "process/subreaper.hpp"
#include "shm/shared.hpp"
#include "support/catch.hpp"

#include <multiprocessing/os/fork.hpp>
#include <multiprocessing/shm/family.hpp>

#include <sched.h>
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

using multiprocessing::detail::Family;
using multiprocessing::detail::MemberId;
namespace mp = multiprocessing;
namespace os = multiprocessing::detail::os;
using namespace std::chrono_literals;

namespace {

// A plain fork that joins the family, tells its id, and goes on as `f` says.
class Member {
  public:
    template <class F>
    explicit Member(F f) {
        Family::self();  // the registry is there before the fork
        pid_ = ::fork();
        if (pid_ == 0) {
            *id_ = Family::self();
            joined_.say("joined");
            f();
            ::_exit(0);
        }
        joined_.hear();
    }
    ~Member() {
        if (!reaped_) {
            ::kill(pid_, SIGKILL);
            reap();
        }
    }

    MemberId id() const { return *id_; }
    pid_t pid() const { return pid_; }
    // Waits for the end, leaving a zombie.
    void wait_for_end() const {
        siginfo_t info{};
        while (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT) < 0) {}
    }
    void reap() {
        ::waitpid(pid_, nullptr, 0);
        reaped_ = true;
    }

  private:
    observe::Report joined_;
    observe::Shared<std::atomic<MemberId>> id_;
    pid_t pid_;
    bool reaped_ = false;
};

[[noreturn]] void sleep_for_ever() {
    for (;;) { ::pause(); }
}

void leave_orderly(int code) {
    Family::record_exit(code);
    ::_exit(code);
}

}  // namespace

TEST_CASE("a process has one id; its children have others", "[shm]") {
    const MemberId self = Family::self();
    CHECK(self != 0);
    CHECK((self & ~multiprocessing::detail::member_id_mask) == 0);
    CHECK(Family::self() == self);
    CHECK(Family::pid(self) == ::getpid());
    CHECK_FALSE(Family::has_ended(self));
    CHECK_FALSE(Family::has_died(self));
    CHECK_FALSE(Family::exit_record(self).has_value());
    const Member one(sleep_for_ever);
    const Member two(sleep_for_ever);
    CHECK(std::set<MemberId>{self, one.id(), two.id()}.size() == 3);
    CHECK(Family::pid(one.id()) == one.pid());
    CHECK(Family::self() == self);
}

TEST_CASE("threads that join at the same moment get one id", "[shm]") {
    const pid_t pid = ::fork();
    if (pid == 0) {
        std::set<MemberId> seen;
        std::mutex mutex;
        std::atomic<int> ready{0};
        {
            std::vector<std::jthread> team;
            for (int t = 0; t < 4; ++t) {
                team.emplace_back([&] {
                    ++ready;
                    while (ready < 4) {}
                    const MemberId id = Family::self();
                    const std::scoped_lock lock(mutex);
                    seen.insert(id);
                });
            }
        }
        int entries = 0;
        Family::for_each([&](MemberId id) { entries += Family::pid(id) == ::getpid() ? 1 : 0; });
        ::_exit(seen.size() == 1 && *seen.begin() == Family::self() && entries == 1 ? 0 : 1);
    }
    int status = -1;
    ::waitpid(pid, &status, 0);
    CHECK(status == 0);
}

TEST_CASE("nobody has ended, has no pid, no parent and no record", "[shm]") {
    CHECK(Family::has_ended(0));
    CHECK(Family::has_died(0));
    CHECK_FALSE(Family::pid(0).has_value());
    CHECK_FALSE(Family::exit_record(0).has_value());
    CHECK(Family::parent(0) == 0);
    // A slot without a number, and a generation that has not been.
    for (const MemberId id : {0x0000'1000U, 0x3fff'f001U}) {
        CHECK(Family::has_ended(id));
        CHECK_FALSE(Family::pid(id).has_value());
    }
    std::atomic<std::uint32_t> word{1};
    CHECK(support::timed([&] {
              Family::wait_with_owner(word, 1, 0, 20ms);
              return 0;
          }) >= 20ms);
}

TEST_CASE("a process that stands still or is a zombie's parent has not ended; a zombie has",
          "[shm]") {
    Member member(sleep_for_ever);
    CHECK_FALSE(Family::has_ended(member.id()));
    ::kill(member.pid(), SIGSTOP);
    ::waitpid(member.pid(), nullptr, WUNTRACED);
    CHECK_FALSE(Family::has_ended(member.id()));
    ::kill(member.pid(), SIGKILL);
    member.wait_for_end();
    CHECK(observe::is_gone(member.pid()));
    CHECK(Family::has_ended(member.id()));
    CHECK(Family::has_died(member.id()));
    member.reap();
    CHECK(Family::has_ended(member.id()));
    CHECK(Family::has_died(member.id()));
}

TEST_CASE("flag bits of a lock's word do not matter", "[shm]") {
    Member member(sleep_for_ever);
    const MemberId flagged = member.id() | 0xc000'0000U;
    CHECK_FALSE(Family::has_ended(flagged));
    CHECK(Family::pid(flagged) == member.pid());
    ::kill(member.pid(), SIGKILL);
    member.reap();
    CHECK(Family::has_ended(flagged));
    CHECK(Family::has_died(flagged));
}

TEST_CASE("who ended of its own accord left a record and has not died", "[shm]") {
    Member orderly([] { leave_orderly(300); });
    Member by_underscore_exit([] { ::_exit(3); });
    Member signalled([] { ::raise(SIGTERM); });
    for (Member* const member : {&orderly, &by_underscore_exit, &signalled}) {
        member->wait_for_end();
    }
    CHECK(Family::has_ended(orderly.id()));
    CHECK_FALSE(Family::has_died(orderly.id()));
    CHECK(Family::exit_record(orderly.id()) == 300 % 256);
    for (const Member* const member : {&by_underscore_exit, &signalled}) {
        CHECK(Family::has_ended(member->id()));
        CHECK(Family::has_died(member->id()));
        CHECK_FALSE(Family::exit_record(member->id()).has_value());
    }
}

TEST_CASE("members are found by pid and birth, with their parents", "[shm]") {
    const MemberId self = Family::self();
    Member member([] { sleep_for_ever(); });
    Member child([self] {
        Family::set_parent(self);
        leave_orderly(0);
    });
    child.wait_for_end();
    CHECK(Family::parent(member.id()) == 0);
    CHECK(Family::parent(child.id()) == self);
    const std::uint64_t birth = os::birth_of(os::pidfd_open(member.pid()), member.pid());
    CHECK(Family::find(member.pid(), birth) == member.id());
    CHECK(Family::find(member.pid(), 0) == member.id());
    CHECK_FALSE(Family::find(member.pid(), birth + 1).has_value());
    CHECK(Family::find(child.pid(), 0) == child.id());  // a zombie too
    std::set<MemberId> all;
    Family::for_each([&](MemberId id) { all.insert(id); });
    CHECK(all.contains(self));
    CHECK(all.contains(member.id()));
}

TEST_CASE("the child of a fork joins under its own id, whatever its parent's is", "[shm]") {
    observe::Report report;
    const MemberId self = Family::self();
    Member member([&] {
        const MemberId own = Family::self();
        const pid_t pid = ::fork();
        if (pid == 0) {
            report.say(Family::self() != own && Family::self() != self &&
                               Family::pid(Family::self()) == ::getpid()
                           ? "own"
                           : "wrong");
            ::_exit(0);
        }
        ::waitpid(pid, nullptr, 0);
    });
    CHECK(report.hear() == "own");
    member.reap();
}

TEST_CASE("slots are used again; what is known of their former users stays right", "[shm]") {
    support::allow(110s * support::slowness);
    Member orderly([] { leave_orderly(0); });
    Member died([] { ::raise(SIGKILL); });
    orderly.reap();
    died.reap();
    // Through all slots, so that each of the two has had a later user.
    constexpr int joins = static_cast<int>(Family::capacity) + 50;
    observe::Shared<std::atomic<MemberId>> last;
    bool right = true;
    for (int i = 0; i < joins && right; ++i) {
        const pid_t pid = ::fork();
        if (pid == 0) {
            *last = Family::self();
            if (i % 3 == 0) { Family::record_exit(0); }
            ::_exit(0);
        }
        ::waitpid(pid, nullptr, 0);
        right = Family::has_ended(*last) && Family::has_died(*last) == (i % 3 != 0) &&
                !Family::has_died(orderly.id()) && Family::has_died(died.id());
    }
    CHECK(right);
    CHECK_FALSE(Family::pid(orderly.id()).has_value());
    CHECK_FALSE(Family::pid(died.id()).has_value());
    CHECK_FALSE(Family::exit_record(orderly.id()).has_value());
    CHECK(Family::has_ended(orderly.id()));
    CHECK(Family::parent(orderly.id()) == 0);
}

TEST_CASE("the death of the owner ends a wait early, as a rule", "[shm]") {
    observe::Shared<std::atomic<std::uint32_t>> word;
    *word = 1;
    int early = 0;
    for (int round = 0; round < 10; ++round) {
        Member owner(sleep_for_ever);
        const auto took = support::timed([&] {
            std::jthread killer([&] {
                std::this_thread::sleep_for(20ms);  // so that the wait has begun
                ::kill(owner.pid(), SIGKILL);
            });
            while (!Family::has_ended(owner.id())) {
                Family::wait_with_owner(*word, 1, owner.id(), 2s);
            }
            return 0;
        });
        // On a busy machine the mark of the death may come so long before the end that the wait is
        // taken up again: with the slices that all waits are cut into, that is late by one.
        early += took < 1s ? 1 : 0;
    }
    CHECK(early >= 1);
}

TEST_CASE("a wait for an owner that has ended, or for a changed word, is bounded", "[shm]") {
    observe::Shared<std::atomic<std::uint32_t>> word;
    Member owner([] { ::_exit(0); });
    owner.reap();
    CHECK(support::timed([&] {
              Family::wait_with_owner(*word, 0, owner.id(), 30ms);
              return 0;
          }) < 5s);
    CHECK(support::timed([&] {
              Family::wait_with_owner(*word, 1, Family::self(), 10s);
              return 0;
          }) < 5s);
}

TEST_CASE("a process that is killed while it joins leaves a registry in which others join",
          "[shm]") {
    for (int round = 0; round < 200; ++round) {
        const pid_t pid = ::fork();
        if (pid == 0) {
            for (;;) {
                Family::self();
                os::process_page().family_id.store(0);  // joins again and again
            }
        }
        // Somewhere in its joins.
        for (int i = 0; i < round * 20; ++i) { static_cast<void>(::getppid()); }
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
        Member member([] { leave_orderly(1); });
        member.reap();
        REQUIRE(Family::has_ended(member.id()));
        REQUIRE_FALSE(Family::has_died(member.id()));
    }
    int living = 0;
    Family::for_each([&](MemberId id) { living += Family::has_ended(id) ? 0 : 1; });
    CHECK(living == 1);
}

TEST_CASE("a process in another pid namespace is refused, with the reason", "[shm]") {
    Family::self();
    observe::Report report;
    const pid_t pid = ::fork();
    if (pid == 0) {
        if (::unshare(CLONE_NEWPID) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) {
            report.say("no right to make one");
            ::_exit(0);
        }
        const pid_t inner = ::fork();
        if (inner == 0) {
            try {
                Family::self();
                report.say("joined");
            } catch (const mp::ProcessError& error) { report.say(error.what()); }
            ::_exit(0);
        }
        ::waitpid(inner, nullptr, 0);
        ::_exit(0);
    }
    ::waitpid(pid, nullptr, 0);
    const std::string said = report.hear().value_or("nothing");
    if (said == "no right to make one") {
        WARN(said);
    } else {
        CHECK_THAT(said, support::contains("another pid namespace"));
    }
}

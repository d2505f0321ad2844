// SPDX-License-Identifier: BSL-1.0
#include "observe.hpp"
#include "subreaper.hpp"
#include "support/catch.hpp"

#include <multiprocessing/process.hpp>

#include <chrono>
#include <csignal>
#include <set>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

const auto bound = 20s * support::slowness;

[[noreturn]] void sleep_for_ever() {
    for (;;) { ::pause(); }
}

// Three children with three children each below a root. Everybody reports its pid; middles also
// that they are middles, with which one of them can be told to end.
class Tree {
  public:
    enum class Middle { lives, is_killed, is_killed_and_reaped };

    explicit Tree(Middle middle, bool stubborn = false, bool root_leaves = false)
        : root_([this, middle, stubborn, root_leaves] { be_root(middle, stubborn, root_leaves); }) {
        root_.start();
        for (int i = 0; i < 13; ++i) { pids_.insert(static_cast<pid_t>(pids_said_.hear_number())); }
        prepared_.hear();
    }

    mp::Process& root() { return root_; }
    const std::set<pid_t>& pids() const { return pids_; }
    int living() const {
        int count = 0;
        for (const pid_t pid : pids_) { count += observe::is_gone(pid) ? 0 : 1; }
        return count;
    }
    bool all_gone(std::chrono::milliseconds within) { return pids_said_.ends_within(within); }

  private:
    void be_root(Middle middle, bool stubborn, bool root_leaves) {
        if (stubborn) { std::signal(SIGTERM, SIG_IGN); }  // inherited by all
        std::vector<mp::Process> middles;
        for (int i = 0; i < 3; ++i) {
            middles.emplace_back([this, root = ::getpid()] {
                std::vector<mp::Process> leaves;
                for (int j = 0; j < 3; ++j) {
                    leaves.emplace_back([this] {
                        pids_said_.say(::getpid());
                        sleep_for_ever();
                    });
                    leaves.back().start();
                }
                pids_said_.say(::getpid());
                middles_ready_.say("ready");
                sleep_for_ever();
            });
            middles.back().start();
        }
        pids_said_.say(::getpid());
        for (int i = 0; i < 3; ++i) { middles_ready_.hear(); }
        if (middle != Middle::lives) {
            middles[1].kill();
            if (middle == Middle::is_killed_and_reaped) { middles[1].join(); }
        }
        prepared_.say("prepared");
        if (root_leaves) { ::_exit(3); }
        sleep_for_ever();
    }

    observe::Report pids_said_;
    observe::Report middles_ready_;
    observe::Report prepared_;
    std::set<pid_t> pids_;
    mp::Process root_;
};

}  // namespace

TEST_CASE("terminate_tree ends a process and all its descendants", "[process]") {
    observe::Subreaper reaper;
    observe::Door door;
    mp::Process sibling([&] { door.pass(); });
    sibling.start();
    Tree tree(Tree::Middle::lives);
    REQUIRE(tree.pids().size() == 13);
    CHECK(tree.living() == 13);
    const auto took = support::timed([&] {
        tree.root().terminate_tree(10s);
        return 0;
    });
    CHECK(took < 5s * support::slowness);  // nobody makes it wait for the grace to pass
    CHECK(tree.living() == 0);
    CHECK(tree.root().exitcode() == -SIGTERM);
    CHECK(sibling.is_alive());
    door.open();
    CHECK(sibling.join(bound));
}

TEST_CASE("terminate_tree reaches those below a process that has died", "[process]") {
    observe::Subreaper reaper;
    const auto middle = GENERATE(Tree::Middle::is_killed, Tree::Middle::is_killed_and_reaped);
    Tree tree(middle);
    REQUIRE(support::eventually([&] { return tree.living() == 12; }));
    tree.root().terminate_tree();
    CHECK(tree.all_gone(1s));
    CHECK(tree.living() == 0);
}

TEST_CASE("terminate_tree reaches those that an ended process has left behind", "[process]") {
    observe::Subreaper reaper;
    Tree tree(Tree::Middle::lives, /*stubborn=*/false, /*root_leaves=*/true);
    REQUIRE(tree.root().join(bound));
    CHECK(tree.living() == 12);
    tree.root().terminate_tree();
    CHECK(tree.all_gone(1s));
    CHECK(tree.living() == 0);
    CHECK(tree.root().exitcode() == 3);
}

TEST_CASE("terminate_tree kills after the grace who does not heed SIGTERM", "[process]") {
    observe::Subreaper reaper;
    Tree tree(Tree::Middle::is_killed_and_reaped, /*stubborn=*/true);
    REQUIRE(support::eventually([&] { return tree.living() == 12; }));
    const auto took = support::timed([&] {
        tree.root().terminate_tree(200ms);
        return 0;
    });
    CHECK(took >= 200ms);
    CHECK(tree.all_gone(1s));
    CHECK(tree.root().exitcode() == -SIGKILL);
}

TEST_CASE("terminate_tree ends programs and plain forks below a process, stopped ones too",
          "[process]") {
    observe::Subreaper reaper;
    observe::Report report;
    mp::Process root([&] {
        const pid_t program = ::fork();
        if (program == 0) {
            ::execlp("sleep", "sleep", "1000", nullptr);
            ::_exit(1);
        }
        if (::fork() == 0) {
            if (::fork() == 0) {
                report.say(::getpid());
                ::raise(SIGSTOP);
                sleep_for_ever();
            }
            report.say(::getpid());
            sleep_for_ever();
        }
        report.say(program);
        sleep_for_ever();
    });
    root.start();
    std::vector<pid_t> pids;
    for (int i = 0; i < 3; ++i) { pids.push_back(static_cast<pid_t>(report.hear_number())); }
    root.terminate_tree(100ms);
    CHECK(root.exitcode() == -SIGTERM);
    for (const pid_t pid : pids) { CHECK(observe::is_gone(pid)); }
}

TEST_CASE("terminate_tree of a tree that goes on forking comes to an end", "[process]") {
    observe::Subreaper reaper;
    observe::Report report;
    mp::Process root([&] {
        std::signal(SIGTERM, SIG_IGN);
        report.say("forking");
        // One generation after the other: each forks the next and ends soon.
        for (int generation = 0; generation < 100'000; ++generation) {
            const pid_t next = ::fork();
            if (next < 0) { ::_exit(1); }
            if (next > 0) {
                ::usleep(2000);
                ::_exit(0);
            }
            ::usleep(200);
        }
        ::_exit(0);
    });
    root.start();
    REQUIRE(report.hear() == "forking");
    root.terminate_tree(20ms);
    CHECK(root.join(bound));
}

// SPDX-License-Identifier: BSL-1.0
#include "process/observe.hpp"
#include "shm/shared.hpp"
#include "support/catch.hpp"

#include <multiprocessing/shm/owner_word.hpp>

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>
#include <vector>

using multiprocessing::detail::Deadline;
using multiprocessing::detail::Family;
using multiprocessing::detail::OwnerWord;
using observe::Fork;
using observe::Shared;
namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

using Result = OwnerWord::Result;

const Deadline at_once{0s};

Deadline soon() { return Deadline(20s * support::slowness); }

// Holds the word and is killed then.
void leave_dead_holder(OwnerWord& word) {
    Family::self();
    Fork holder([&] {
        word.acquire(soon(), true);
        ::raise(SIGKILL);
    });
    holder.end();
}

}  // namespace

TEST_CASE("the word is its holder", "[shm]") {
    Shared<OwnerWord> word;
    CHECK(word->owner() == 0);
    CHECK_FALSE(word->release());
    CHECK(word->try_acquire());
    CHECK(word->owner() == Family::self());
    CHECK_FALSE(word->is_inherited());
    CHECK_FALSE(word->try_acquire());
    CHECK(word->acquire(at_once, true) == Result::timeout);
    CHECK(support::timed([&] { return word->acquire(Deadline(60ms), true); }) >= 60ms);
    CHECK(word->owner() == Family::self());
    CHECK(word->release());
    CHECK_FALSE(word->release());
    CHECK(word->acquire(at_once, false) == Result::acquired);
    CHECK(word->release());
}

TEST_CASE(
    "a child that holds the word keeps its parent out, stopped or not, and any process may free it",
    "[shm]") {
    Family::self();
    Shared<OwnerWord> word;
    observe::Report report;
    Fork holder([&] {
        word->acquire(soon(), true);
        report.say("held");
        for (;;) { ::pause(); }
    });
    REQUIRE(report.hear() == "held");
    ::kill(holder.pid(), SIGSTOP);
    CHECK(word->acquire(Deadline(120ms), true) == Result::timeout);  // more than two slices
    CHECK(Family::pid(word->owner()) == holder.pid());
    CHECK(word->release());
    CHECK(word->acquire(at_once, true) == Result::acquired);
    CHECK(word->release());
}

TEST_CASE("a release wakes who waits, one after the other, long before it looks by itself",
          "[shm]") {
    Family::self();
    int prompt = 0;
    for (int round = 0; round < 20; ++round) {
        Shared<OwnerWord> word;
        REQUIRE(word->acquire(at_once, true) == Result::acquired);
        observe::Report report;
        std::vector<Fork> team;
        for (int i = 0; i < 4; ++i) {
            team.emplace_back([&] {
                report.say("waits");
                report.say(word->acquire(soon(), true) == Result::acquired ? "acquired" : "wrong");
                word->release();
            });
        }
        for (int i = 0; i < 4; ++i) { REQUIRE(report.hear() == "waits"); }
        std::this_thread::sleep_for(5ms);  // so that they sleep, which nothing tells
        const auto begin = std::chrono::steady_clock::now();
        CHECK(word->release());
        for (int i = 0; i < 4; ++i) { REQUIRE(report.hear() == "acquired"); }
        prompt += std::chrono::steady_clock::now() - begin < 20ms ? 1 : 0;
        for (auto& fork : team) { REQUIRE(fork.end() == 0); }
        CHECK(word->owner() == 0);
    }
    // A busy machine may be late now and then, but not as a rule.
    CHECK(prompt >= 5);
}

TEST_CASE("a dead holder's word is taken over, by one, or refused", "[shm]") {
    Shared<OwnerWord> word;
    leave_dead_holder(*word);
    CHECK_FALSE(word->try_acquire());
    CHECK(word->acquire(at_once, false) == Result::owner_died);
    CHECK(word->acquire(soon(), false) == Result::owner_died);
    // Also without waiting.
    CHECK(word->acquire(at_once, true) == Result::inherited);
    CHECK(word->is_inherited());
    CHECK(word->owner() == Family::self());
    CHECK(word->release());
    CHECK_FALSE(word->is_inherited());
    CHECK(word->acquire(at_once, true) == Result::acquired);
    CHECK(word->release());
}

TEST_CASE("what was not repaired is left to the next", "[shm]") {
    Shared<OwnerWord> word;
    leave_dead_holder(*word);
    REQUIRE(word->acquire(at_once, true) == Result::inherited);
    word->release_unrepaired();
    CHECK(word->owner() == 0);
    CHECK(word->is_inherited());
    CHECK_FALSE(word->release());
    CHECK(word->acquire(at_once, true) == Result::inherited);
    CHECK(word->release());
    CHECK(word->acquire(at_once, true) == Result::acquired);
}

TEST_CASE("recover frees a dead holder's word, and nobody else's", "[shm]") {
    Shared<OwnerWord> word;
    word->recover();
    CHECK(word->try_acquire());
    word->recover();
    CHECK(word->owner() == Family::self());
    CHECK(word->release());
    leave_dead_holder(*word);
    word->recover();
    CHECK(word->owner() == 0);
    CHECK(word->acquire(at_once, false) == Result::acquired);
}

TEST_CASE("the death of the holder ends the wait of all, and one inherits", "[shm]") {
    Family::self();
    for (int round = 0; round < 20; ++round) {
        Shared<OwnerWord> word;
        observe::Report report;
        Fork holder([&] {
            word->acquire(soon(), true);
            report.say("held");
            for (;;) { ::pause(); }
        });
        REQUIRE(report.hear() == "held");
        std::vector<Fork> team;
        for (int i = 0; i < 3; ++i) {
            team.emplace_back([&] {
                report.say("waits");
                const Result result = word->acquire(soon(), true);
                report.say(result == Result::inherited  ? "inherited"
                           : result == Result::acquired ? "acquired"
                                                        : "wrong");
                word->release();
            });
        }
        for (int i = 0; i < 3; ++i) { REQUIRE(report.hear() == "waits"); }
        const auto begin = std::chrono::steady_clock::now();
        ::kill(holder.pid(), SIGKILL);  // and left a zombie
        REQUIRE(report.hear() == "inherited");
        REQUIRE(report.hear() == "acquired");
        REQUIRE(report.hear() == "acquired");
        REQUIRE(std::chrono::steady_clock::now() - begin < 1s * support::slowness);
    }
}

TEST_CASE("waiters that are killed do not keep the others from the word", "[shm]") {
    Family::self();
    Shared<OwnerWord> word;
    for (int round = 0; round < 50; ++round) {
        REQUIRE(word->acquire(soon(), true) != Result::timeout);
        observe::Report report;
        Fork victim([&] {
            report.say("waits");
            word->acquire(soon(), true);
            for (;;) { ::pause(); }
        });
        Fork survivor([&] {
            report.say("waits");
            report.say(word->acquire(soon(), true) != Result::timeout ? "acquired" : "too late");
            word->release();
        });
        REQUIRE(report.hear() == "waits");
        REQUIRE(report.hear() == "waits");
        word->release();
        victim.kill();
        REQUIRE(report.hear() == "acquired");
        REQUIRE(survivor.end() == 0);
    }
}

TEST_CASE("one at a time is inside, of threads and processes that come and die", "[shm]") {
    Family::self();
    struct State {
        OwnerWord word;
        std::atomic<int> inside{0};
        std::atomic<long> sections{0};
        std::atomic<int> overlaps{0};
    };
    Shared<State> state;
    const auto work = [&](long sections) {
        for (long i = 0; i < sections; ++i) {
            // A holder that was killed inside may have left its mark; who inherits takes it away.
            if (state->word.acquire(soon(), true) == Result::inherited) { state->inside = 0; }
            if (++state->inside != 1) { ++state->overlaps; }
            ++state->sections;
            --state->inside;
            state->word.release();
        }
    };
    std::vector<Fork> team;
    for (int i = 0; i < 2; ++i) {
        team.emplace_back([&] {
            std::jthread other([&] { work(20'000); });
            work(20'000);
        });
    }
    for (int round = 0; round < 50; ++round) {
        const long before = state->sections;
        Fork victim([&] { work(1'000'000); });
        REQUIRE(support::eventually([&] { return state->sections > before; }));
        victim.kill();
    }
    for (auto& fork : team) { CHECK(fork.end() == 0); }
    CHECK(state->overlaps == 0);
    CHECK(state->word.acquire(soon(), true) != Result::timeout);
}

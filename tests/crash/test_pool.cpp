// SPDX-License-Identifier: BSL-1.0

// Workers, the nursery and the parent of a pool die; nobody hangs, and only what was in hand is
// lost.

#include "process/observe.hpp"

#include <multiprocessing.hpp>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include <support/bounds.hpp>
#include <support/catch.hpp>

namespace mp = multiprocessing;
using observe::is_gone;
using observe::nursery_of;
using observe::pids_of;
using namespace std::chrono_literals;

namespace {

int square(int number) { return number * number; }

const std::vector<int> eight = {0, 1, 2, 3, 4, 5, 6, 7};
const std::vector<int> eight_squares = {0, 1, 4, 9, 16, 25, 36, 49};

enum class End { segv, kill, abort, quick_exit, exit, system_exit };

int end_at_three(int number, End how) {
    if (number != 3) { return square(number); }
    switch (how) {
        case End::segv:
            raise(SIGSEGV);
            break;
        case End::kill:
            kill(getpid(), SIGKILL);
            break;
        case End::abort:
            std::abort();
        case End::quick_exit:
            _exit(3);
        case End::exit:
            std::exit(0);
        case End::system_exit:
            throw mp::SystemExit(7);
    }
    return -1;
}

}  // namespace

TEST_CASE("a worker that ends in a task costs that task alone, however it ends") {
    struct Case {
        End how;
        int exitcode;
    };
    for (const Case end :
         {Case{End::segv, -SIGSEGV}, Case{End::kill, -SIGKILL}, Case{End::abort, -SIGABRT},
          Case{End::quick_exit, 3}, Case{End::exit, 0}, Case{End::system_exit, 7}}) {
        CAPTURE(end.exitcode);
        mp::Pool pool(2);
        std::vector<mp::AsyncResult<int>> results;
        for (const int number : eight) {
            results.push_back(pool.apply_async(end_at_three, number, end.how));
        }
        for (const int number : eight) {
            auto& result = results[static_cast<std::size_t>(number)];
            if (number != 3) {
                CHECK(result.get(20s) == square(number));
                continue;
            }
            try {
                result.get(20s);
                FAIL_CHECK("the task of a dead worker has a result");
            } catch (const mp::WorkerDiedError& death) {
                CHECK(death.exitcode() == end.exitcode);
                CHECK(death.signal() == (end.exitcode < 0 ? -end.exitcode : 0));
                CHECK(death.pid() > 0);
                CHECK(std::string(death.what()).find(std::to_string(death.pid())) !=
                      std::string::npos);
            }
        }
        CHECK(pool.map(square, eight) == eight_squares);
        CHECK(support::eventually([&] { return pool.workers().size() == 2; }));
        pool.close();
        pool.join();
    }
}

TEST_CASE("a death in a map names the index of its item") {
    mp::Pool pool(2);
    for (const int chunksize : {1, 8}) {
        try {
            pool.map(
                +[](int number) { return end_at_three(number, End::kill); }, eight, chunksize);
            FAIL_CHECK("the map of a dead worker has results");
        } catch (const mp::WorkerDiedError& death) {
            CHECK(death.task_index() == 3);
            CHECK(death.signal_name() == "SIGKILL");
        }
    }
}

TEST_CASE("idle workers may be killed, all at once and again and again") {
    mp::Pool pool(4);
    const int rounds = 100 / support::slowness;
    for (int round = 0; round < rounds; ++round) {
        for (const pid_t pid : pids_of(pool)) { kill(pid, SIGKILL); }
        REQUIRE(pool.map_async(square, eight).get(20s) == eight_squares);
    }
    CHECK(support::timed([&] {
              pool.terminate();
              pool.join();
          }) < 5s * support::slowness);
}

TEST_CASE("busy workers may be killed at random: every task has one verdict") {
    mp::Pool pool(4);
    const int rounds = 60 / support::slowness;
    int died = 0;
    int round = 0;
    // On a machine that is busy with others it takes more rounds until one is hit in a task.
    for (; round < rounds || (died == 0 && round < 100 * rounds); ++round) {
        std::vector<mp::AsyncResult<int>> results;
        for (int i = 0; i < 40; ++i) {
            results.push_back(pool.apply_async(
                +[](int number) {
                    const auto end = std::chrono::steady_clock::now() + 20us;
                    while (std::chrono::steady_clock::now() < end) {}
                    return square(number);
                },
                i));
        }
        for (const pid_t pid : pids_of(pool)) { kill(pid, SIGKILL); }
        for (int i = 0; i < 40; ++i) {
            try {
                const int result = results[static_cast<std::size_t>(i)].get(20s);
                CHECK(result == square(i));
            } catch (const mp::WorkerDiedError&) { ++died; }
        }
    }
    CHECK(died > 0);
    // One at most for each worker that was killed.
    CHECK(died <= 4 * round);
    CHECK(pool.map(square, eight) == eight_squares);
}

TEST_CASE("the nursery may be killed: what its workers had in hand is lost, the pool goes on") {
    mp::Pool pool(2);
    CHECK(pool.map(square, eight) == eight_squares);
    SECTION("while they are idle") {
        for (int round = 0; round < 5; ++round) {
            const auto workers = pids_of(pool);
            kill(nursery_of(pool), SIGKILL);
            // Until its death has reached them they take tasks, which are lost with them.
            for (const pid_t pid : workers) {
                REQUIRE(support::eventually([&] { return is_gone(pid); }, 20s));
            }
            REQUIRE(pool.map_async(square, eight).get(20s) == eight_squares);
        }
    }
    SECTION("while they are busy") {
        mp::Event started;
        static const mp::Event* event = nullptr;
        event = &started;  // the workers of this pool are forked from here on
        mp::Pool busy(1);
        auto lost = busy.apply_async(
            +[](int) {
                event->set();
                for (;;) { pause(); }
                return 0;
            },
            0);
        auto queued = busy.apply_async(square, 3);
        REQUIRE(started.wait(20s));
        kill(nursery_of(busy), SIGKILL);
        CHECK_THROWS_AS(lost.get(20s), mp::WorkerDiedError);
        CHECK(queued.get(20s) == 9);
    }
}

TEST_CASE("nothing of a pool outlives its process, whatever ends that and whenever") {
    const int rounds = 40 / support::slowness;
    for (int round = 0; round < rounds; ++round) {
        auto [ours, theirs] = mp::Pipe();
        mp::Process owner(
            [](mp::Connection connection) {
                mp::Pool pool(2);
                // Busy and idle: one worker sleeps in a task.
                auto sleeping = pool.apply_async(
                    +[](int) {
                        for (;;) { pause(); }
                        return 0;
                    },
                    0);
                std::vector<pid_t> pids = {nursery_of(pool)};
                for (const pid_t pid : pids_of(pool)) { pids.push_back(pid); }
                connection.send(pids);
                for (;;) { pause(); }
            },
            theirs);
        owner.start();
        theirs.close();
        REQUIRE(ours.poll(20s));
        const auto pids = ours.recv<std::vector<pid_t>>();
        REQUIRE(pids.size() >= 1);
        owner.kill();
        owner.join();
        for (const pid_t pid : pids) {
            CHECK(support::eventually([&] { return is_gone(pid); }, 1s));
        }
    }
}

TEST_CASE("a pool that nobody ends leaves nothing when the program ends") {
    for (const bool busy : {false, true}) {
        auto [ours, theirs] = mp::Pipe();
        mp::Process owner(
            [](mp::Connection connection, bool is_busy) {
                static mp::Pool* leaked = new mp::Pool(2);
                auto* const sleeping = is_busy ? new mp::AsyncResult<int>(leaked->apply_async(
                                                     +[](int) {
                                                         for (;;) { pause(); }
                                                         return 0;
                                                     },
                                                     0))
                                               : nullptr;
                leaked->apply(square, 1);
                static_cast<void>(sleeping);
                std::vector<pid_t> pids = {nursery_of(*leaked)};
                for (const pid_t pid : pids_of(*leaked)) { pids.push_back(pid); }
                connection.send(pids);
            },
            theirs, busy);
        owner.start();
        const auto pids = ours.recv<std::vector<pid_t>>();
        CHECK(owner.join(10s * support::slowness));
        CHECK(owner.exitcode() == 0);
        for (const pid_t pid : pids) { CHECK(is_gone(pid)); }
    }
}

TEST_CASE("an initializer that ends every worker breaks the pool at once") {
    mp::Value<int> started(0);
    for (const int how : {0, 1, 2}) {
        started = 0;
        mp::Pool pool({.processes = 3, .initializer = [&] {
                           started += 1;
                           if (how == 0) { throw std::runtime_error("no database"); }
                           if (how == 1) { _exit(5); }
                           raise(SIGSEGV);
                       }});
        try {
            pool.map_async(square, eight).get(20s);
            FAIL_CHECK("a pool without workers has results");
        } catch (const mp::BrokenProcessPool& broken) {
            if (how == 0) {
                CHECK(std::string(broken.what()).find("no database") != std::string::npos);
            }
        }
        CHECK_THROWS_AS(pool.apply(square, 2), mp::BrokenProcessPool);
        pool.terminate();
        pool.join();
        CHECK(started.value() <= 3);
    }
}

TEST_CASE("an initializer that fails once only does not break the pool") {
    mp::Value<int> started(0);
    mp::Pool pool({.processes = 2, .initializer = [&] {
                       if (++started == 1) { throw std::runtime_error("once"); }
                   }});
    CHECK(pool.map_async(square, eight).get(20s) == eight_squares);
}

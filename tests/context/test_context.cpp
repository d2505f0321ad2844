// SPDX-License-Identifier: BSL-1.0

// Start methods by their names, and what a context makes.

#include "support/catch.hpp"

#include <multiprocessing.hpp>

#include <chrono>
#include <string>
#include <vector>

namespace mp = multiprocessing;

TEST_CASE("fork is the start method unless another is set") {
    CHECK(mp::get_all_start_methods() == std::vector<std::string>{"fork", "spawn", "forkserver"});
    mp::set_start_method("fork", true);
    CHECK(mp::get_start_method() == "fork");
    CHECK_THROWS_AS(mp::set_start_method("fork"), mp::ProcessError);
    mp::set_start_method("spawn", true);
    CHECK(mp::get_start_method() == "spawn");
    mp::set_start_method("forkserver", true);
    CHECK(mp::get_context().get_start_method() == "forkserver");
    CHECK_THROWS_AS(mp::set_start_method("vfork", true), mp::ValueError);
    CHECK(mp::get_start_method() == "forkserver");
    // These tests do not begin with freeze_support().
    mp::Process process([] {});
    CHECK_THROWS_AS(process.start(), mp::ProcessError);
    mp::set_start_method("fork", true);
    CHECK(mp::get_start_method() == "fork");
    process.start();
    process.join();
    CHECK_THROWS_AS(mp::get_context("spawn").Pool(1), mp::ProcessError);
}

TEST_CASE("a context makes what the library makes") {
    const auto ctx = mp::get_context("fork");
    CHECK(ctx.get_start_method() == "fork");
    CHECK(ctx.get_context().get_start_method() == "fork");
    CHECK(mp::get_context().get_start_method() == "fork");

    auto queue = ctx.Queue<int>(3);
    auto joinable = ctx.JoinableQueue<std::string>();
    auto simple = ctx.SimpleQueue<int>();
    auto lock = ctx.Lock();
    auto rlock = ctx.RLock({.on_owner_death = mp::OwnerDeath::poison});
    auto semaphore = ctx.Semaphore(2);
    auto bounded = ctx.BoundedSemaphore(1, {.on_death = mp::UnitDeath::lose});
    auto condition = ctx.Condition(lock);
    auto own = ctx.Condition();
    auto event = ctx.Event();
    auto barrier = ctx.Barrier(2);
    auto value = ctx.Value(1.5);
    auto shared = ctx.Value(2, rlock);
    auto raw = ctx.RawValue('x');
    auto array = ctx.Array<int>(4);
    auto list = ctx.Array({1, 2, 3});
    auto bytes = ctx.RawArray<char>(8);
    auto copied = ctx.Array<long>(std::vector{4, 5});
    auto [parent, child] = ctx.Pipe();

    auto process = ctx.Process(
        {.name = "worker"},
        [](mp::Queue<int> to, mp::Event done) {
            to.put(42);
            done.set();
        },
        queue, event);
    process.start();
    CHECK(queue.get() == 42);
    CHECK(event.wait());
    process.join();
    CHECK(process.name() == "worker");
    auto unnamed = ctx.Process([end = child] { end.send(7); });
    unnamed.start();
    CHECK(parent.recv<int>() == 7);
    unnamed.join();
    CHECK(unnamed.exitcode() == 0);

    CHECK(semaphore.get_value() == 2);
    CHECK(bounded.get_value() == 1);
    CHECK(barrier.parties() == 2);
    CHECK(value.value() == 1.5);
    CHECK(shared.value() == 2);
    CHECK(raw.value() == 'x');
    CHECK(array.size() == 4);
    CHECK(list.slice(0, 3) == std::vector{1, 2, 3});
    CHECK(bytes.size() == 8);
    CHECK(copied.back() == 5);
    CHECK(simple.empty());
    CHECK(joinable.join(std::chrono::seconds(0)));
    own.acquire();
    own.release();
    auto pool = ctx.Pool(2);
    CHECK(pool.apply([](int x) { return x + 1; }, 1) == 2);
    CHECK(ctx.Pool({.processes = 1}).processes() == 1);
    CHECK(ctx.current_process().pid() == mp::current_process().pid());
    CHECK_FALSE(ctx.parent_process());
    CHECK(ctx.cpu_count() >= 1);
}

TEST_CASE("a context is for one start method") {
    CHECK_THROWS_AS(mp::get_context("thread"), mp::ValueError);
    CHECK(mp::get_context("spawn").get_start_method() == "spawn");
    CHECK_THROWS_AS(mp::get_context("fork").set_start_method("fork"), mp::ValueError);
    CHECK_THROWS_AS(mp::get_context("fork").get_context("spawn"), mp::ValueError);
}

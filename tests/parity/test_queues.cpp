// SPDX-License-Identifier: BSL-1.0

// CPython's tests of the queues, one test case a test.

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/leak_check.hpp"

#include <multiprocessing/process.hpp>
#include <multiprocessing/queues.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

constexpr auto timeout = 300ms;

/// Ends the child and checks that it ended well.
void join(mp::Process& process) {
    CHECK(process.join(60s));
    CHECK(process.exitcode() == 0);
}

/// How long a call took that ended with the exception that was expected.
template <class Error, class F>
std::chrono::nanoseconds time_until(F f) {
    return support::timed([&] { CHECK_THROWS_AS(f(), Error); });
}

bool is_about(std::chrono::nanoseconds time, std::chrono::nanoseconds expected) {
    return time >= expected && time < expected + 10s;
}

struct Unserialisable {
    bool broken = false;
    template <class Archive>
    void serialize(Archive& archive) {
        if (broken) { throw std::runtime_error("cannot be serialised"); }
        archive(broken);
    }
};

}  // namespace

TEST_CASE("_TestQueue.test_put: a bounded queue fills up, each form of put says so", "[parity]") {
    const mp::Queue<int> queue(6);
    const mp::Queue<int> may_start;
    const mp::Queue<int> may_go_on;
    mp::Process child([=] {
        may_start.get();
        for (int i = 1; i <= 6; ++i) { queue.get(); }
        may_go_on.put(1);
    });
    child.start();
    CHECK(queue.empty());
    CHECK(!queue.full());
    queue.put(1);
    queue.put(2, true);
    queue.put(3, true, mp::forever);
    queue.put(4, false);
    queue.put(5, false, mp::forever);
    queue.put_nowait(6);
    CHECK(!queue.empty());
    CHECK(queue.full());
    CHECK(is_about(time_until<mp::Full>([&] { queue.put(7, false); }), 0s));
    CHECK(is_about(time_until<mp::Full>([&] { queue.put(7, false, mp::forever); }), 0s));
    CHECK(is_about(time_until<mp::Full>([&] { queue.put_nowait(7); }), 0s));
    CHECK(is_about(time_until<mp::Full>([&] { queue.put(7, true, timeout); }), timeout));
    CHECK(is_about(time_until<mp::Full>([&] { queue.put(7, false, 60s); }), 0s));
    CHECK(is_about(time_until<mp::Full>([&] { queue.put(7, true, timeout); }), timeout));
    may_start.put(1);
    may_go_on.get();
    CHECK(queue.empty());
    CHECK(!queue.full());
    join(child);
}

TEST_CASE("_TestQueue.test_get: each form of get takes in order, then says Empty", "[parity]") {
    const mp::Queue<int> queue;
    const mp::Queue<int> may_start;
    const mp::Queue<int> may_go_on;
    mp::Process child([=] {
        may_start.get();
        for (int i = 2; i <= 5; ++i) { queue.put(i); }
        may_go_on.put(1);
    });
    child.start();
    CHECK(queue.empty());
    may_start.put(1);
    may_go_on.get();
    CHECK(!queue.empty());
    CHECK(queue.get(true, mp::forever) == 2);
    CHECK(queue.get(true) == 3);
    CHECK(queue.get(1s) == 4);
    CHECK(queue.get_nowait() == 5);
    CHECK(queue.empty());
    CHECK(is_about(time_until<mp::Empty>([&] { queue.get(false); }), 0s));
    CHECK(is_about(time_until<mp::Empty>([&] { queue.get(false, mp::forever); }), 0s));
    CHECK(is_about(time_until<mp::Empty>([&] { queue.get_nowait(); }), 0s));
    CHECK(is_about(time_until<mp::Empty>([&] { queue.get(true, timeout); }), timeout));
    CHECK(is_about(time_until<mp::Empty>([&] { queue.get(false, 60s); }), 0s));
    CHECK(is_about(time_until<mp::Empty>([&] { queue.get(timeout); }), timeout));
    join(child);
}

TEST_CASE("_TestQueue.test_fork: a child can put on a queue that its parent has put on",
          "[parity]") {
    const mp::Queue<int> queue;
    for (int i = 0; i < 10; ++i) { queue.put(i); }
    mp::Process child([=] {
        for (int i = 10; i < 20; ++i) { queue.put(i); }
    });
    child.start();
    for (int i = 0; i < 20; ++i) { CHECK(queue.get() == i); }
    CHECK_THROWS_AS(queue.get(false), mp::Empty);
    join(child);
}

TEST_CASE("_TestQueue.test_qsize: qsize follows puts and gets", "[parity]") {
    const mp::Queue<int> queue;
    CHECK(queue.qsize() == 0);
    queue.put(1);
    CHECK(queue.qsize() == 1);
    queue.put(5);
    CHECK(queue.qsize() == 2);
    queue.get();
    CHECK(queue.qsize() == 1);
    queue.get();
    CHECK(queue.qsize() == 0);
    queue.close();
}

TEST_CASE("_TestQueue.test_task_done: join returns after the last task_done", "[parity]") {
    const mp::JoinableQueue<std::optional<int>> queue;
    std::vector<std::unique_ptr<mp::Process>> workers;
    for (int i = 0; i < 4; ++i) {
        workers.push_back(std::make_unique<mp::Process>([=] {
            while (queue.get()) { queue.task_done(); }
            queue.task_done();
        }));
        workers.back()->start();
    }
    for (int i = 0; i < 10; ++i) { queue.put(i); }
    queue.join();
    CHECK(queue.empty());
    for (int i = 0; i < 4; ++i) { queue.put(std::nullopt); }
    for (auto& worker : workers) { join(*worker); }
    CHECK(queue.join(0s));
    queue.close();
}

TEST_CASE("_TestQueue.test_timeout: get waits as long as it was told", "[parity]") {
    const mp::Queue<int> queue;
    CHECK(is_about(time_until<mp::Empty>([&] { queue.get(true, 200ms); }), 200ms));
    queue.close();
}

TEST_CASE(
    "_TestQueue.test_queue_feeder_donot_stop_onexc: what cannot be serialised does not "
    "stop the queue",
    "[parity]") {
    SECTION("the next item arrives") {
        const mp::Queue<Unserialisable> queue;
        CHECK_THROWS_WITH(queue.put({true}), "cannot be serialised");
        queue.put({false});
        CHECK(!queue.get(1s).broken);
    }
    SECTION("the place is free") {
        const mp::Queue<Unserialisable> queue(1);
        CHECK_THROWS_WITH(queue.put({true}), "cannot be serialised");
        queue.put({false});
        CHECK(queue.qsize() == 1);
        CHECK(!queue.get(1s).broken);
        CHECK(queue.qsize() == 0);
        CHECK(queue.empty());
    }
}

TEST_CASE("_TestQueue.test_queue_feeder_on_queue_feeder_error: the error reaches who put the item",
          "[parity]") {
    const mp::Queue<Unserialisable> queue;
    std::string said;
    try {
        queue.put({true});
    } catch (const std::runtime_error& error) { said = error.what(); }
    CHECK(said == "cannot be serialised");
    queue.put({false});
    CHECK(!queue.get(1s).broken);
}

TEST_CASE("_TestQueue.test_closed_queue_put_get_exceptions: put and get after close", "[parity]") {
    const mp::Queue<int> queue;
    queue.close();
    CHECK_THROWS_WITH(queue.put(1), support::contains("is closed"));
    CHECK_THROWS_WITH(queue.get(), support::contains("is closed"));
    CHECK_THROWS_AS(queue.put(1), mp::ValueError);
    CHECK_THROWS_AS(queue.get(), mp::ValueError);
    const mp::JoinableQueue<int> joinable;
    joinable.close();
    CHECK_THROWS_WITH(joinable.put(1), support::contains("is closed"));
    CHECK_THROWS_WITH(joinable.get(), support::contains("is closed"));
    CHECK_THROWS_AS(joinable.put(1), mp::ValueError);
    CHECK_THROWS_AS(joinable.get(), mp::ValueError);
}

TEST_CASE("_TestQueue.test_closed_queue_empty_exceptions: empty after close", "[parity]") {
    const mp::Queue<int> unused;
    unused.close();
    CHECK(unused.empty());
    const mp::Queue<std::string> used;
    used.put("foo");
    used.close();
    used.join_thread();
    CHECK_THROWS_AS(used.empty(), mp::ValueError);
    CHECK_THROWS_WITH(used.empty(), support::contains("is closed"));
}

TEST_CASE("TestSimpleQueue.test_empty: empty is true before the first put and after the last get",
          "[parity]") {
    const mp::SimpleQueue<bool> queue;
    const mp::SimpleQueue<int> may_start;
    const mp::SimpleQueue<int> may_go_on;
    mp::Process child([=] {
        may_start.get();
        // What it sees is what it puts.
        queue.put(queue.empty());
        queue.put(queue.empty());
        may_go_on.put(1);
    });
    child.start();
    CHECK(queue.empty());
    may_start.put(1);
    may_go_on.get();
    CHECK(!queue.empty());
    CHECK(queue.get() == true);
    CHECK(queue.get() == false);
    CHECK(queue.empty());
    join(child);
}

TEST_CASE("TestSimpleQueue.test_close: closing twice is fine", "[parity]") {
    const mp::SimpleQueue<int> queue;
    queue.close();
    CHECK_NOTHROW(queue.close());
}

TEST_CASE("TestSimpleQueue.test_closed: closing gives the descriptors back", "[parity]") {
    const auto before = support::open_descriptors();
    const mp::SimpleQueue<int> queue;
    CHECK(support::open_descriptors() != before);
    queue.close();
    CHECK(support::open_descriptors() == before);
}

TEST_CASE("TestSimpleQueue.test_empty_exceptions: empty after close", "[parity]") {
    const mp::SimpleQueue<int> queue;
    queue.close();
    CHECK_THROWS_AS(queue.empty(), mp::ValueError);
    CHECK_THROWS_WITH(queue.empty(), support::contains("is closed"));
}

// SPDX-License-Identifier: BSL-1.0

// CPython's tests of concurrent.futures: Future, wait, as_completed.

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/pools.hpp"

#include <multiprocessing/futures.hpp>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace mp::futures;
using namespace std::chrono_literals;
using support::Cell;
using support::cell;
using support::eventually;

namespace {

const auto bound = 20s * support::slowness;

int multiply(int a, int b) { return a * b; }
int fail(int) { throw std::runtime_error("this is an exception"); }
int sleep_and_return(int milliseconds) {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    return milliseconds;
}

/// One worker that is kept busy until `free`, so that what is submitted later is pending.
class Busy {
  public:
    Busy() { REQUIRE(support::have_started(1)); }
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;
    ~Busy() { free(); }
    void free() { cell(Cell::release) = 1; }

  private:
    // Before the workers are forked, who then have them too.
    bool are_reset_ = (support::reset_cells(), true);

  public:
    mp::ProcessPoolExecutor executor{1};
    mp::Future<int> running = executor.submit(support::held, 1);
};

mp::Future<int> cancelled_future(Busy& busy) {
    auto future = busy.executor.submit(multiply, 1, 1);
    REQUIRE(future.cancel());
    return future;
}
template <class F>
F ended(F future) {
    REQUIRE(eventually([&] { return future.done(); }));
    return future;
}

}  // namespace

TEST_CASE("FutureTests.test_done_callback_with_result: the callback sees the result", "[parity]") {
    mp::ProcessPoolExecutor executor(1);
    std::atomic<int> seen{0};
    auto future = executor.submit(multiply, 5, 1);
    future.add_done_callback([&](const mp::Future<int>& done) { seen = done.result(); });
    CHECK(eventually([&] { return seen == 5; }));
}

TEST_CASE("FutureTests.test_done_callback_with_exception: the callback sees the error",
          "[parity]") {
    mp::ProcessPoolExecutor executor(1);
    std::atomic<bool> seen{false};
    auto future = executor.submit(fail, 1);
    future.add_done_callback([&](const mp::Future<int>& done) {
        try {
            std::rethrow_exception(done.exception());
        } catch (const std::runtime_error& error) {
            seen = std::string(error.what()).find("this is an exception") != std::string::npos;
        }
    });
    CHECK(eventually([&] { return seen.load(); }));
}

TEST_CASE("FutureTests.test_done_callback_with_cancel: the callback sees that it is cancelled",
          "[parity]") {
    Busy busy;
    std::atomic<bool> seen{false};
    auto future = busy.executor.submit(multiply, 1, 1);
    future.add_done_callback([&](const mp::Future<int>& done) { seen = done.cancelled(); });
    CHECK(future.cancel());
    CHECK(seen);
}

TEST_CASE("FutureTests.test_done_callback_raises: the next one still runs", "[parity]") {
    mp::ProcessPoolExecutor executor(1);
    std::atomic<int> called{0};
    auto future = executor.submit(sleep_and_return, 20);
    future.add_done_callback([&](const mp::Future<int>&) {
        ++called;
        throw std::runtime_error("from a callback");
    });
    future.add_done_callback([&](const mp::Future<int>&) { ++called; });
    CHECK(future.result(bound) == 20);
    CHECK(eventually([&] { return called == 2; }));
}

TEST_CASE("FutureTests.test_done_callback_already_successful: it is called at once", "[parity]") {
    mp::ProcessPoolExecutor executor(1);
    const auto future = ended(executor.submit(multiply, 5, 1));
    int seen = 0;
    future.add_done_callback([&](const mp::Future<int>& done) { seen = done.result(); });
    CHECK(seen == 5);
}

TEST_CASE("FutureTests.test_done_callback_already_failed: it is called at once", "[parity]") {
    mp::ProcessPoolExecutor executor(1);
    const auto future = ended(executor.submit(fail, 1));
    bool seen = false;
    future.add_done_callback(
        [&](const mp::Future<int>& done) { seen = done.exception() != nullptr; });
    CHECK(seen);
}

TEST_CASE("FutureTests.test_done_callback_already_cancelled: it is called at once", "[parity]") {
    Busy busy;
    const auto future = cancelled_future(busy);
    bool seen = false;
    future.add_done_callback([&](const mp::Future<int>& done) { seen = done.cancelled(); });
    CHECK(seen);
}

TEST_CASE("FutureTests.test_done_callback_raises_already_succeeded: nothing is thrown here",
          "[parity]") {
    mp::ProcessPoolExecutor executor(1);
    const auto future = ended(executor.submit(multiply, 5, 1));
    CHECK_NOTHROW(future.add_done_callback(
        [](const mp::Future<int>&) { throw std::runtime_error("from a late callback"); }));
    CHECK(future.result() == 5);
}

TEST_CASE("FutureTests.test_cancel: what is pending, and only that", "[parity]") {
    Busy busy;
    auto pending = busy.executor.submit(multiply, 1, 1);
    CHECK(pending.cancel());
    CHECK(pending.cancelled());
    CHECK(pending.cancel());
    CHECK_FALSE(busy.running.cancel());
    CHECK_FALSE(busy.running.cancelled());
    busy.free();
    CHECK(busy.running.result(bound) == 1);
    CHECK_FALSE(busy.running.cancel());
    const auto failed = ended(busy.executor.submit(fail, 1));
    CHECK_FALSE(failed.cancel());
    CHECK_THROWS_AS(failed.result(), std::runtime_error);
}

TEST_CASE("FutureTests.test_cancelled: of the states only one", "[parity]") {
    Busy busy;
    const auto pending = busy.executor.submit(multiply, 1, 1);
    CHECK_FALSE(pending.cancelled());
    CHECK_FALSE(busy.running.cancelled());
    CHECK(cancelled_future(busy).cancelled());
    busy.free();
    CHECK_FALSE(ended(busy.executor.submit(multiply, 1, 1)).cancelled());
    const auto failed = ended(busy.executor.submit(fail, 1));
    CHECK_FALSE(failed.cancelled());
    CHECK(failed.exception() != nullptr);
}

TEST_CASE("FutureTests.test_done: with a result, an error, or cancelled", "[parity]") {
    Busy busy;
    const auto pending = busy.executor.submit(multiply, 1, 1);
    CHECK_FALSE(pending.done());
    CHECK_FALSE(busy.running.done());
    CHECK(cancelled_future(busy).done());
    busy.free();
    CHECK(eventually([&] { return pending.done() && busy.running.done(); }));
}

TEST_CASE("FutureTests.test_running: while a worker has it", "[parity]") {
    Busy busy;
    const auto pending = busy.executor.submit(multiply, 1, 1);
    CHECK_FALSE(pending.running());
    CHECK(busy.running.running());
    CHECK_FALSE(cancelled_future(busy).running());
    busy.free();
    CHECK(pending.result(bound) == 1);
    CHECK_FALSE(pending.running());
    CHECK_FALSE(busy.running.running());
}

TEST_CASE("FutureTests.test_result_with_timeout: each state has its answer", "[parity]") {
    Busy busy;
    const auto pending = busy.executor.submit(multiply, 42, 1);
    CHECK_THROWS_AS(pending.result(0s), mp::TimeoutError);
    CHECK_THROWS_AS(busy.running.result(0s), mp::TimeoutError);
    CHECK_THROWS_AS(cancelled_future(busy).result(0s), mp::CancelledError);
    const auto failing = busy.executor.submit(fail, 1);
    busy.free();
    CHECK(pending.result(bound) == 42);
    CHECK_THROWS_AS(failing.result(bound), std::runtime_error);
    CHECK(pending.result(0s) == 42);
}

TEST_CASE("FutureTests.test_result_with_success: who waits is woken", "[parity]") {
    Busy busy;
    std::jthread later([&] {
        std::this_thread::sleep_for(20ms);
        busy.free();
    });
    CHECK(busy.running.result(bound) == 1);
}

TEST_CASE("FutureTests.test_result_with_cancel: who waits is woken", "[parity]") {
    Busy busy;
    const auto future = busy.executor.submit(multiply, 1, 1);
    std::jthread later([&] {
        std::this_thread::sleep_for(20ms);
        future.cancel();
    });
    CHECK_THROWS_AS(future.result(bound), mp::CancelledError);
}

TEST_CASE("FutureTests.test_exception_with_timeout: as result(), but returned", "[parity]") {
    Busy busy;
    const auto pending = busy.executor.submit(multiply, 42, 1);
    CHECK_THROWS_AS(pending.exception(0s), mp::TimeoutError);
    CHECK_THROWS_AS(cancelled_future(busy).exception(0s), mp::CancelledError);
    const auto failing = busy.executor.submit(fail, 1);
    busy.free();
    CHECK(pending.exception(bound) == nullptr);
    CHECK_THROWS_AS(std::rethrow_exception(failing.exception(bound)), std::runtime_error);
}

TEST_CASE("FutureTests.test_exception_with_success: who waits is woken", "[parity]") {
    mp::ProcessPoolExecutor executor(1);
    const auto future = executor.submit(
        +[](int milliseconds) -> int {
            std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
            throw std::runtime_error("late");
        },
        20);
    CHECK(future.exception(bound) != nullptr);
}

TEST_CASE("WaitTests.test_20369: a future that is there twice counts once", "[parity]") {
    mp::ProcessPoolExecutor executor(1);
    const auto future = executor.submit(sleep_and_return, 20);
    const auto [done, not_done] = wait(std::vector{future, future}, bound);
    CHECK(done.size() == 1);
    CHECK(not_done.empty());
}

TEST_CASE("WaitTests.test_first_completed: the one that has finished", "[parity]") {
    Busy busy;
    mp::ProcessPoolExecutor other(1);
    const auto quick = other.submit(multiply, 21, 2);
    const auto pending = busy.executor.submit(multiply, 1, 1);
    const auto [done, not_done] =
        wait(std::vector{pending, busy.running, quick}, bound, FIRST_COMPLETED);
    CHECK(done == std::vector{quick});
    CHECK(not_done == std::vector{pending, busy.running});
}

TEST_CASE("WaitTests.test_first_completed_some_already_completed: at once", "[parity]") {
    Busy busy;
    const auto cancelled = cancelled_future(busy);
    const auto pending = busy.executor.submit(multiply, 1, 1);
    const auto [done, not_done] =
        wait(std::vector{cancelled, pending, busy.running}, bound, FIRST_COMPLETED);
    CHECK(done == std::vector{cancelled});
    CHECK(not_done == std::vector{pending, busy.running});
}

TEST_CASE("WaitTests.test_first_exception: the first error ends it", "[parity]") {
    Busy busy;
    mp::ProcessPoolExecutor other(1);
    const auto first = other.submit(multiply, 2, 21);
    const auto second = other.submit(
        +[](int milliseconds) -> int {
            std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
            throw std::runtime_error("wrong");
        },
        50);
    const auto [done, not_done] =
        wait(std::vector{first, second, busy.running}, bound, FIRST_EXCEPTION);
    CHECK(done == std::vector{first, second});
    CHECK(not_done == std::vector{busy.running});
}

TEST_CASE("WaitTests.test_first_exception_some_already_complete: what is cancelled is no error",
          "[parity]") {
    Busy busy;
    mp::ProcessPoolExecutor other(1);
    const auto cancelled = cancelled_future(busy);
    const auto success = ended(other.submit(multiply, 2, 21));
    const auto failing = other.submit(
        +[](int milliseconds) -> int {
            std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
            throw std::runtime_error("wrong");
        },
        50);
    const auto [done, not_done] =
        wait(std::vector{success, cancelled, failing, busy.running}, bound, FIRST_EXCEPTION);
    CHECK(done == std::vector{success, cancelled, failing});
    CHECK(not_done == std::vector{busy.running});
}

TEST_CASE("WaitTests.test_first_exception_one_already_failed: at once", "[parity]") {
    Busy busy;
    mp::ProcessPoolExecutor other(1);
    const auto failed = ended(other.submit(fail, 1));
    const auto [done, not_done] = wait(std::vector{failed, busy.running}, bound, FIRST_EXCEPTION);
    CHECK(done == std::vector{failed});
    CHECK(not_done == std::vector{busy.running});
}

TEST_CASE("WaitTests.test_all_completed: all of them", "[parity]") {
    Busy busy;
    const auto cancelled = cancelled_future(busy);
    const auto first = busy.executor.submit(fail, 1);
    const auto second = busy.executor.submit(multiply, 2, 21);
    std::jthread later([&] {
        std::this_thread::sleep_for(20ms);
        busy.free();
    });
    const auto [done, not_done] =
        wait(std::vector{cancelled, busy.running, first, second}, bound, ALL_COMPLETED);
    CHECK(done.size() == 4);
    CHECK(not_done.empty());
}

TEST_CASE("WaitTests.test_timeout: what is done then, and what is not", "[parity]") {
    Busy busy;
    const auto cancelled = cancelled_future(busy);
    const auto [done, not_done] = wait(std::vector{cancelled, busy.running}, 50ms);
    CHECK(done == std::vector{cancelled});
    CHECK(not_done == std::vector{busy.running});
}

TEST_CASE("AsCompletedTests.test_no_timeout: all of them, each once", "[parity]") {
    Busy busy;
    mp::ProcessPoolExecutor other(1);
    const auto cancelled = cancelled_future(busy);
    const auto quick = other.submit(multiply, 2, 21);
    std::vector<mp::Future<int>> seen;
    for (auto&& future : as_completed(std::vector{cancelled, quick, busy.running})) {
        seen.push_back(future);
        if (seen.size() == 2) { busy.free(); }
    }
    CHECK(seen.size() == 3);
    CHECK(seen.back() == busy.running);
}

TEST_CASE("AsCompletedTests.test_future_times_out: what is done comes before the error",
          "[parity]") {
    Busy busy;
    const auto cancelled = cancelled_future(busy);
    for (const auto time : {0ms, 100ms}) {
        int seen = 0;
        try {
            for (auto&& future : as_completed(std::vector{cancelled, busy.running}, time)) {
                CHECK(future == cancelled);
                ++seen;
            }
            FAIL_CHECK("nothing was late");
        } catch (const mp::TimeoutError&) {}
        CHECK(seen == 1);
    }
}

TEST_CASE("AsCompletedTests.test_duplicate_futures: once", "[parity]") {
    mp::ProcessPoolExecutor executor(1);
    const auto future = executor.submit(sleep_and_return, 20);
    int seen = 0;
    for (auto&& each : as_completed(std::vector{future, future, future}, bound)) {
        CHECK(each.result() == 20);
        ++seen;
    }
    CHECK(seen == 1);
}

TEST_CASE("AsCompletedTests.test_free_reference_yielded_future: the range keeps none that it gave",
          "[parity]") {
    mp::ProcessPoolExecutor executor(1);
    auto range = [&] {
        std::vector<mp::Future<std::shared_ptr<int>>> futures;
        for (int i = 0; i < 3; ++i) {
            futures.push_back(executor.submit(
                +[](int number) { return std::make_shared<int>(number); }, i));
        }
        return as_completed(futures, bound);
    }();
    std::weak_ptr<int> earlier;
    for (auto&& future : range) {
        CHECK(earlier.expired());
        earlier = future.result();
        CHECK_FALSE(earlier.expired());
    }
}

TEST_CASE("AsCompletedTests.test_correct_timeout_exception_msg: how many of how many", "[parity]") {
    Busy busy;
    const auto cancelled = cancelled_future(busy);
    const auto also = cancelled_future(busy);
    const auto pending = busy.executor.submit(multiply, 1, 1);
    try {
        for (auto&& future :
             as_completed(std::vector{cancelled, also, pending, busy.running}, 0s)) {
            static_cast<void>(future);
        }
        FAIL_CHECK("nothing was late");
    } catch (const mp::TimeoutError& error) {
        CHECK_THAT(error.what(), support::contains("2 (of 4) futures unfinished"));
    }
}

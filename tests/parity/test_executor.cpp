// SPDX-License-Identifier: BSL-1.0

// CPython's tests of concurrent.futures.ProcessPoolExecutor.

#include "process/observe.hpp"
#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/forked.hpp"
#include "support/pools.hpp"

#include <multiprocessing/futures.hpp>

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <optional>
#include <ranges>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;
using support::Cell;
using support::cell;
using support::eventually;
using support::numbers;

namespace {

const auto bound = 20s * support::slowness;

int power(int base, int exponent) {
    int result = 1;
    for (int i = 0; i < exponent; ++i) { result *= base; }
    return result;
}
int square(int number) { return number * number; }
int sleep_for(int milliseconds) {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    return milliseconds;
}
pid_t own_pid(int) { return ::getpid(); }
int invert(int number) {
    if (number == 0) { throw std::domain_error("division by zero"); }
    return 100 / number;
}

template <class Range>
auto list_of(Range&& range) {
    std::vector<typename std::remove_reference_t<Range>::value_type> list;
    for (auto& each : range) { list.push_back(each); }
    return list;
}

enum class Fault { none, error, exit, crash };
void commit_fault(Fault fault) {
    if (fault == Fault::error) { throw std::runtime_error("in the serialisation"); }
    if (fault == Fault::exit) { std::exit(1); }
    if (fault == Fault::crash) { ::raise(SIGSEGV); }
}
/// Does something wrong when it is written or read in a certain process.
struct Faulty {
    Fault on_save = Fault::none;
    Fault on_load = Fault::none;
    pid_t where = 0;  // 0: everywhere but there; else in that process alone

    template <class Archive>
    void save(Archive& archive) const {
        commit_fault(on_save);
        archive(on_save, on_load, where);
    }
    template <class Archive>
    void load(Archive& archive) {
        archive(on_save, on_load, where);
        if (where == 0 || where == ::getpid()) { commit_fault(on_load); }
    }
};
int take(const Faulty&) { return 1; }
Faulty give(Fault on_save, Fault on_load, pid_t where) { return {on_save, on_load, where}; }
int commit(Fault fault) {
    commit_fault(fault);
    return 1;
}

const mp::ExecutorOptions as_python{.max_workers = 2, .on_worker_death = mp::break_pool};

// What kills a worker breaks the executor in Python's way, and costs that call alone in ours.
template <class Submit>
void check_lost(Submit submit) {
    mp::ProcessPoolExecutor python(as_python);
    CHECK_THROWS_AS(submit(python).result(bound), mp::BrokenProcessPool);
    CHECK_THROWS_AS(python.submit(square, 3), mp::BrokenProcessPool);
    mp::ProcessPoolExecutor ours(1);
    CHECK_THROWS_AS(submit(ours).result(bound), mp::WorkerDiedError);
    CHECK(ours.submit(square, 3).result(bound) == 9);
}

}  // namespace

TEST_CASE("ExecutorTest.test_submit: a result", "[parity]") {
    mp::ProcessPoolExecutor executor(2);
    CHECK(executor.submit(power, 2, 8).result(bound) == 256);
}

TEST_CASE("ExecutorTest.test_submit_keyword: options do not get in the way of arguments",
          "[parity]") {
    mp::ProcessPoolExecutor executor(2);
    CHECK(executor.submit({.timeout = 60s, .name = "named"}, power, 2, 8).result(bound) == 256);
}

TEST_CASE("ExecutorTest.test_map: over two ranges, in chunks too", "[parity]") {
    mp::ProcessPoolExecutor executor(2);
    const auto count = numbers(10);
    std::vector<int> expected;
    for (const int each : count) { expected.push_back(power(each, each)); }
    CHECK(list_of(executor.map(power, count, count)) == expected);
    CHECK(list_of(executor.map({.chunksize = 3}, power, count, count)) == expected);
    CHECK(list_of(executor.map(square, std::views::iota(0, 4))) == std::vector<int>{0, 1, 4, 9});
    // As far as the shortest goes.
    CHECK(list_of(executor.map(power, count, numbers(2))).size() == 2);
    CHECK(list_of(executor.map(square, std::vector<int>())).empty());
}

TEST_CASE("ExecutorTest.test_map_exception: the results before it, then the error", "[parity]") {
    mp::ProcessPoolExecutor executor(2);
    std::vector<int> seen;
    try {
        for (const int each : executor.map(invert, std::vector<int>{1, 2, 0, 4})) {
            seen.push_back(each);
        }
        FAIL_CHECK("nothing was thrown");
    } catch (const std::domain_error&) {}
    CHECK(seen == std::vector<int>{100, 50});
}

TEST_CASE("ExecutorTest.test_map_timeout: counted from the call", "[parity]") {
    mp::ProcessPoolExecutor executor(2);
    std::vector<int> seen;
    try {
        for (const int each : executor.map({.timeout = 500ms * support::slowness}, sleep_for,
                                           std::vector<int>{0, 0, 2'000 * support::slowness})) {
            seen.push_back(each);
        }
        FAIL_CHECK("nothing was late");
    } catch (const mp::TimeoutError&) {}
    CHECK(seen == std::vector<int>{0, 0});
}

TEST_CASE("ExecutorTest.test_shutdown_race_issue12456: map and shutdown at once", "[parity]") {
    mp::ProcessPoolExecutor executor(2);
    auto results = executor.map(square, numbers(3));
    executor.shutdown();
    CHECK(list_of(results) == std::vector<int>{0, 1, 4});
}

TEST_CASE("ExecutorTest.test_max_workers_negative: 0 and -1 are refused", "[parity]") {
    for (const int count : {0, -1}) {
        CHECK_THROWS_AS(mp::ProcessPoolExecutor(count), mp::ValueError);
        CHECK_THROWS_AS(mp::ProcessPoolExecutor({.max_workers = count}), mp::ValueError);
    }
}

TEST_CASE("ProcessPoolExecutorTest.test_killed_child: breaks it, in Python's way", "[parity]") {
    support::reset_cells();
    mp::ProcessPoolExecutor executor(as_python);
    const auto pid = executor.submit(own_pid, 0).result(bound);
    const auto running = executor.submit(sleep_for, 60'000);
    ::kill(pid, SIGKILL);
    CHECK_THROWS_AS(running.result(bound), mp::BrokenProcessPool);
    CHECK_THROWS_AS(executor.submit(square, 2), mp::BrokenProcessPool);
}

TEST_CASE("ProcessPoolExecutorTest.test_map_chunksize: any size gives the same", "[parity]") {
    mp::ProcessPoolExecutor executor(2);
    std::vector<int> expected;
    for (const int each : numbers(40)) { expected.push_back(square(each)); }
    for (const int size : {1, 6, 40, 50}) {
        CHECK(list_of(executor.map({.chunksize = size}, square, numbers(40))) == expected);
    }
    CHECK_THROWS_AS(executor.map({.chunksize = -1}, square, numbers(3)), mp::ValueError);
}

TEST_CASE("ProcessPoolExecutorTest.test_traceback: where it came from is said", "[parity]") {
    mp::ProcessPoolExecutor executor(1);
    try {
        executor.submit(invert, 0).result(bound);
        FAIL_CHECK("nothing was thrown");
    } catch (const mp::RemoteError& error) {
        CHECK(error.message() == "division by zero");
        CHECK(error.pid() != ::getpid());
        CHECK_THAT(error.type_name(), support::contains("domain_error"));
    }
}

TEST_CASE("ProcessPoolExecutorTest.test_saturation: as many processes as workers", "[parity]") {
    support::reset_cells();
    mp::ProcessPoolExecutor executor(2);
    std::vector<mp::Future<pid_t>> futures;
    for (int i = 0; i < 30; ++i) { futures.push_back(executor.submit(own_pid, i)); }
    std::set<pid_t> pids;
    for (const auto& future : futures) { pids.insert(future.result(bound)); }
    CHECK(pids.size() <= 2);
}

TEST_CASE("ProcessPoolExecutorTest.test_max_tasks_per_child: then another process", "[parity]") {
    mp::ProcessPoolExecutor executor({.max_workers = 1, .max_tasks_per_child = 3});
    std::vector<pid_t> pids;
    for (int i = 0; i < 4; ++i) { pids.push_back(executor.submit(own_pid, i).result(bound)); }
    CHECK(pids[0] == pids[1]);
    CHECK(pids[1] == pids[2]);
    CHECK(pids[2] != pids[3]);
}

TEST_CASE("ProcessPoolExecutor.test_max_tasks_per_child_one_worker: all of them are done",
          "[parity]") {
    for (const auto death : {mp::replace_worker, mp::break_pool}) {
        mp::ProcessPoolExecutor executor(
            {.max_workers = 1, .max_tasks_per_child = 2, .on_worker_death = death});
        std::vector<mp::Future<int>> futures;
        for (int i = 0; i < 10; ++i) { futures.push_back(executor.submit(square, i)); }
        for (int i = 0; i < 10; ++i) {
            CHECK(futures[static_cast<std::size_t>(i)].result(bound) == i * i);
        }
    }
}

TEST_CASE("ProcessPoolExecutorTest.test_max_tasks_early_shutdown: all results are right",
          "[parity]") {
    mp::ProcessPoolExecutor executor({.max_workers = 3, .max_tasks_per_child = 1});
    std::vector<mp::Future<int>> futures;
    for (int i = 0; i < 6; ++i) { futures.push_back(executor.submit(power, i, i)); }
    executor.shutdown();
    for (int i = 0; i < 6; ++i) {
        CHECK(futures[static_cast<std::size_t>(i)].result() == power(i, i));
    }
}

TEST_CASE("ProcessPoolExecutor.test_map_buffersize: so many are taken ahead, and no more",
          "[parity]") {
    mp::ProcessPoolExecutor executor(2);
    CHECK_THROWS_AS(executor.map({.buffersize = -1}, square, numbers(3)), mp::ValueError);
    for (const int size : {1, 2, 3, 6}) {
        CHECK(list_of(executor.map({.buffersize = size}, square, numbers(3))) ==
              std::vector<int>{0, 1, 4});
    }
    int taken = 0;
    auto endless = std::views::iota(0) | std::views::transform([&](int number) {
                       ++taken;
                       return number;
                   });
    auto results = executor.map({.buffersize = 4}, square, endless);
    int given = 0;
    for (const int each : results) {
        CHECK(each == given * given);
        ++given;
        CHECK(taken <= given + 4 + 1);
        if (given == 20) { break; }
    }
}

TEST_CASE("ProcessPoolShutdownTest.test_run_after_shutdown: is refused", "[parity]") {
    mp::ProcessPoolExecutor executor(1);
    executor.shutdown();
    CHECK_THROWS_AS(executor.submit(square, 2), mp::ProcessError);
    CHECK_THROWS_AS(executor.map(square, numbers(2)), mp::ProcessError);
    executor.shutdown();
}

TEST_CASE("ProcessPoolShutdownTest.test_interpreter_shutdown: what was submitted is done",
          "[parity]") {
    support::reset_cells();
    support::Forked program([] {
        // Leaked: only the end of the program ends it.
        auto* const executor = new mp::ProcessPoolExecutor(1);
        executor->submit(
            +[](int) {
                std::this_thread::sleep_for(100ms);
                ++cell(Cell::finished);
                return 0;
            },
            0);
        executor->submit(
            +[](int) { return ++cell(Cell::finished); }, 0);
        std::exit(0);
        return 1;
    });
    CHECK(program.join() == 0);
    CHECK(cell(Cell::finished) == 2);
}

TEST_CASE("ProcessPoolShutdownTest.test_hang_issue12364: all results are there", "[parity]") {
    mp::ProcessPoolExecutor executor(2);
    std::vector<mp::Future<int>> futures;
    for (int i = 0; i < 50; ++i) { futures.push_back(executor.submit(sleep_for, 1)); }
    executor.shutdown();
    for (const auto& future : futures) { CHECK(future.result(0s) == 1); }
}

TEST_CASE("ProcessPoolShutdownTest.test_cancel_futures: what waits is cancelled, the rest is done",
          "[parity]") {
    mp::ProcessPoolExecutor executor(2);
    std::vector<mp::Future<int>> futures;
    for (int i = 0; i < 50; ++i) { futures.push_back(executor.submit(sleep_for, 20)); }
    CHECK(futures.front().result(bound) == 20);
    executor.shutdown(/*wait=*/true, /*cancel_futures=*/true);
    const auto cancelled = std::count_if(futures.begin(), futures.end(),
                                         [](const auto& each) { return each.cancelled(); });
    CHECK(cancelled > 20);
    CHECK(cancelled < 50);
    for (const auto& future : futures) {
        CHECK(future.done());
        if (!future.cancelled()) { CHECK(future.exception() == nullptr); }
    }
}

TEST_CASE("ProcessPoolShutdownTest.test_hang_gh83386: a program ends after the work", "[parity]") {
    support::reset_cells();
    support::Forked program([] {
        {
            mp::ProcessPoolExecutor executor(1);
            executor.submit(
                +[](int) {
                    std::this_thread::sleep_for(100ms);
                    return ++cell(Cell::finished);
                },
                0);
            executor.shutdown(/*wait=*/false);
        }
        std::exit(0);
        return 1;
    });
    CHECK(program.join() == 0);
    CHECK(cell(Cell::finished) == 1);
}

TEST_CASE("ProcessPoolShutdownTest.test_hang_gh94440: submit, cancel, shutdown", "[parity]") {
    for (int round = 0; round < 20; ++round) {
        mp::ProcessPoolExecutor executor({.max_workers = 1, .max_tasks_per_child = 1});
        auto future = executor.submit(square, 1);
        executor.submit(square, 2).cancel();
        executor.shutdown();
        CHECK(future.result(0s) == 1);
    }
}

TEST_CASE("ProcessPoolShutdownTest.test_processes_terminate: all processes end", "[parity]") {
    support::reset_cells();
    std::set<pid_t> pids;
    {
        mp::ProcessPoolExecutor executor(3);
        std::vector<mp::Future<int>> futures;
        for (int i = 0; i < 3; ++i) { futures.push_back(executor.submit(support::held, i)); }
        REQUIRE(support::have_started(3));
        cell(Cell::release) = 1;
        for (int i = 0; i < 3; ++i) { pids.insert(executor.submit(own_pid, i).result(bound)); }
        executor.shutdown();
    }
    for (const pid_t pid : pids) { CHECK(observe::is_gone(pid)); }
}

TEST_CASE("ProcessPoolShutdownTest.test_context_manager_shutdown: leaving the scope waits",
          "[parity]") {
    support::reset_cells();
    std::optional<mp::Future<int>> last;
    pid_t pid = 0;
    {
        mp::ProcessPoolExecutor executor(2);
        pid = executor.submit(own_pid, 0).result(bound);
        CHECK(list_of(executor.map(square, numbers(5))).back() == 16);
        for (int i = 0; i < 10; ++i) { last = executor.submit(sleep_for, 5); }
    }
    CHECK(last->result(0s) == 5);
    CHECK(observe::is_gone(pid));
}

TEST_CASE("ProcessPoolShutdownTest.test_shutdown_no_wait: results still arrive, workers end",
          "[parity]") {
    pid_t pid = 0;
    std::optional<mp::Future<int>> future;
    {
        mp::ProcessPoolExecutor executor(1);
        pid = executor.submit(own_pid, 0).result(bound);
        future = executor.submit(sleep_for, 100);
        executor.shutdown(/*wait=*/false);
        CHECK_FALSE(future->done());
    }
    CHECK(future->result(bound) == 100);
    CHECK(eventually([&] { return observe::is_gone(pid); }));
}

TEST_CASE("ProcessPoolExecutor.test_terminate_workers: what runs is broken, what waits cancelled",
          "[parity]") {
    support::reset_cells();
    for (const bool at_once : {false, true}) {
        CAPTURE(at_once);
        mp::ProcessPoolExecutor executor(1);
        const auto running = executor.submit(sleep_for, 60'000);
        REQUIRE(eventually([&] { return running.running(); }));
        const auto waiting = executor.submit(square, 2);
        at_once ? executor.kill_workers() : executor.terminate_workers();
        CHECK_THROWS_AS(running.result(0s), mp::BrokenProcessPool);
        CHECK(waiting.cancelled());
        CHECK_THROWS_AS(executor.submit(square, 2), mp::ProcessError);
        executor.kill_workers();
    }
}

TEST_CASE("ProcessPoolExecutor.test_kill_workers: after shutdown too", "[parity]") {
    mp::ProcessPoolExecutor executor(1);
    executor.shutdown();
    CHECK_NOTHROW(executor.kill_workers());
}

TEST_CASE("ExecutorDeadlockTest.test_error_at_task_pickle: is that future's error", "[parity]") {
    mp::ProcessPoolExecutor executor(1);
    const auto future = executor.submit(take, Faulty{.on_save = Fault::error});
    CHECK_THROWS_AS(future.result(bound), std::runtime_error);
    CHECK(executor.submit(square, 3).result(bound) == 9);
}

TEST_CASE("ExecutorDeadlockTest.test_exit_at_task_unpickle: breaks it in Python's way",
          "[parity]") {
    check_lost([](mp::ProcessPoolExecutor& executor) {
        return executor.submit(take, Faulty{.on_load = Fault::exit});
    });
}

TEST_CASE("ExecutorDeadlockTest.test_crash_at_task_unpickle: breaks it in Python's way",
          "[parity]") {
    check_lost([](mp::ProcessPoolExecutor& executor) {
        return executor.submit(take, Faulty{.on_load = Fault::crash});
    });
}

TEST_CASE("ExecutorDeadlockTest.test_error_at_task_unpickle: costs that future alone", "[parity]") {
    mp::ProcessPoolExecutor executor(as_python);
    const auto future = executor.submit(take, Faulty{.on_load = Fault::error});
    CHECK_THROWS_AS(future.result(bound), std::runtime_error);
    CHECK(executor.submit(square, 3).result(bound) == 9);
}

TEST_CASE("ExecutorDeadlockTest.test_crash_during_func_exec_on_worker: is told", "[parity]") {
    check_lost(
        [](mp::ProcessPoolExecutor& executor) { return executor.submit(commit, Fault::crash); });
}

TEST_CASE("ExecutorDeadlockTest.test_exit_during_func_exec_on_worker: is told with its code",
          "[parity]") {
    mp::ProcessPoolExecutor executor(1);
    try {
        executor.submit(commit, Fault::exit).result(bound);
        FAIL_CHECK("nothing was thrown");
    } catch (const mp::WorkerDiedError& death) { CHECK(death.exitcode() == 1); }
    CHECK(executor.submit(square, 3).result(bound) == 9);
}

TEST_CASE("ExecutorDeadlockTest.test_error_during_func_exec_on_worker: is the future's",
          "[parity]") {
    mp::ProcessPoolExecutor executor(as_python);
    CHECK_THROWS_AS(executor.submit(commit, Fault::error).result(bound), std::runtime_error);
    CHECK(executor.submit(square, 3).result(bound) == 9);
}

TEST_CASE("ExecutorDeadlockTest.test_crash_during_result_pickle_on_worker: is told", "[parity]") {
    check_lost([](mp::ProcessPoolExecutor& executor) {
        return executor.submit(give, Fault::crash, Fault::none, 0);
    });
}

TEST_CASE("ExecutorDeadlockTest.test_exit_during_result_pickle_on_worker: is told", "[parity]") {
    check_lost([](mp::ProcessPoolExecutor& executor) {
        return executor.submit(give, Fault::exit, Fault::none, 0);
    });
}

TEST_CASE("ExecutorDeadlockTest.test_error_during_result_pickle_on_worker: is the future's",
          "[parity]") {
    mp::ProcessPoolExecutor executor(as_python);
    CHECK_THROWS_AS(executor.submit(give, Fault::error, Fault::none, 0).result(bound),
                    std::runtime_error);
    CHECK(executor.submit(square, 3).result(bound) == 9);
}

TEST_CASE(
    "ExecutorDeadlockTest.test_error_during_result_unpickle_in_result_handler: is the future's",
    "[parity]") {
    mp::ProcessPoolExecutor executor(as_python);
    CHECK_THROWS_AS(executor.submit(give, Fault::none, Fault::error, ::getpid()).result(bound),
                    std::runtime_error);
    CHECK(executor.submit(square, 3).result(bound) == 9);
}

TEST_CASE("ExecutorDeadlockTest.test_shutdown_deadlock: a crash after shutdown", "[parity]") {
    mp::ProcessPoolExecutor executor(as_python);
    const auto future = executor.submit(
        +[](int milliseconds) {
            std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
            ::raise(SIGKILL);
            return 0;
        },
        100);
    executor.shutdown(/*wait=*/true);
    CHECK_THROWS_AS(future.result(0s), mp::BrokenProcessPool);
}

TEST_CASE("ExecutorDeadlockTest.test_shutdown_deadlock_pickle: what cannot be written fails alone",
          "[parity]") {
    mp::ProcessPoolExecutor executor(2);
    const auto bad = executor.submit(take, Faulty{.on_save = Fault::error});
    const auto good = executor.submit(square, 3);
    executor.shutdown(/*wait=*/false);
    CHECK_THROWS_AS(bad.result(bound), std::runtime_error);
    CHECK(good.result(bound) == 9);
}

TEST_CASE("ExecutorDeadlockTest.test_crash_big_data: no deadlock", "[parity]") {
    mp::ProcessPoolExecutor executor(as_python);
    std::vector<mp::Future<int>> futures;
    try {
        for (int i = 0; i < 10; ++i) {
            futures.push_back(executor.submit(
                +[](const std::string& text) {
                    ::raise(SIGSEGV);
                    return static_cast<int>(text.size());
                },
                std::string(2'000'000, 'x')));
        }
    } catch (const mp::BrokenProcessPool&) {
        // It broke meanwhile.
    }
    REQUIRE_FALSE(futures.empty());
    for (const auto& future : futures) {
        CHECK_THROWS_AS(future.result(bound), mp::BrokenProcessPool);
    }
}

TEST_CASE(
    "ExecutorDeadlockTest.test_gh105829_should_not_deadlock_if_wakeup_pipe_full: thousands of "
    "submits",
    "[parity]") {
    mp::ProcessPoolExecutor executor(1);
    executor.submit(square, 1).add_done_callback(
        [](const mp::Future<int>&) { std::this_thread::sleep_for(200ms); });
    std::vector<mp::Future<int>> futures;
    for (int i = 0; i < 20'000; ++i) { futures.push_back(executor.submit(square, i % 100)); }
    for (const auto& future : futures) { REQUIRE(future.result(bound) >= 0); }
}

TEST_CASE("InitializerMixin.test_initializer: before each worker's first call", "[parity]") {
    static int marker = 0;
    mp::ProcessPoolExecutor executor({.max_workers = 2, .initializer = [] { marker = 7; }});
    std::vector<mp::Future<int>> futures;
    for (int i = 0; i < 20; ++i) {
        futures.push_back(executor.submit(
            +[](int) { return marker; }, i));
    }
    for (const auto& future : futures) { CHECK(future.result(bound) == 7); }
    CHECK(marker == 0);
}

TEST_CASE("FailingInitializer.test_initializer: everything is broken by it", "[parity]") {
    mp::ProcessPoolExecutor executor(
        {.max_workers = 2, .initializer = [] { throw mp::ValueError("error in initializer"); }});
    std::optional<mp::Future<int>> future;
    try {
        future = executor.submit(square, 1);
    } catch (const mp::BrokenProcessPool&) {
        return;  // that quick
    }
    try {
        future->result(bound);
        FAIL_CHECK("nothing was thrown");
    } catch (const mp::BrokenProcessPool& error) {
        CHECK_THAT(error.what(), support::contains("error in initializer"));
    }
    CHECK_THROWS_AS(executor.submit(square, 1), mp::BrokenProcessPool);
}

// SPDX-License-Identifier: BSL-1.0

// CPython's tests of processes, one test case a test.

#include "process/observe.hpp"
#include "process/subreaper.hpp"
#include "support/catch.hpp"

#include <multiprocessing/connection.hpp>
#include <multiprocessing/os/fork.hpp>
#include <multiprocessing/pool.hpp>
#include <multiprocessing/process.hpp>
#include <multiprocessing/queues.hpp>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

const auto bound = 60s * support::slowness;

[[noreturn]] void sleep_for_ever() {
    for (;;) { ::pause(); }
}

bool is_active(const mp::Process& process) {
    const auto children = mp::active_children();
    return std::any_of(children.begin(), children.end(),
                       [&](const auto& child) { return child.pid() == process.pid(); });
}

// Ends a child in one way and looks at all that can be asked of it.
template <class End>
std::optional<int> exitcode_after(End end) {
    mp::Process process({.daemon = true}, sleep_for_ever);
    process.start();
    CHECK(process.is_alive());
    CHECK(is_active(process));
    CHECK_FALSE(process.exitcode().has_value());
    CHECK(support::timed([&] { return process.join(0s); }) < 10s);
    CHECK(process.is_alive());
    CHECK(support::timed([&] { return process.join(-1s); }) < 10s);
    CHECK(process.is_alive());
    end(process);
    process.join();
    CHECK_FALSE(process.is_alive());
    CHECK_FALSE(is_active(process));
    process.join();
    return process.exitcode();
}

}  // namespace

TEST_CASE("_TestProcess.test_current: the main process describes itself", "[parity]") {
    const auto current = mp::current_process();
    CHECK(current.is_alive());
    CHECK_FALSE(current.daemon());
    CHECK_FALSE(current.authkey().empty());
    CHECK(current.ident() == ::getpid());
    CHECK_FALSE(current.exitcode().has_value());
}

TEST_CASE("_TestProcess.test_args_argument: arguments arrive as they were given", "[parity]") {
    const auto arrives = [](const auto& value) {
        mp::Queue<std::decay_t<decltype(value)>> queue(1);
        mp::Process process(
            {.daemon = true}, [](auto& to, const auto& argument) { to.put(argument); }, queue,
            value);
        process.start();
        const bool same = queue.get(bound) == value;
        process.join();
        return same && process.exitcode() == 0;
    };
    CHECK(arrives(1));
    CHECK(arrives(std::string("a string")));
    CHECK(arrives(std::vector<std::string>{"a", "list"}));
    CHECK(arrives(std::tuple(1, std::string("tuple"))));
}

TEST_CASE("_TestProcess.test_daemon_argument: the flag is the creator's unless given", "[parity]") {
    const mp::Process inherited([] {});
    CHECK(inherited.daemon() == mp::current_process().daemon());
    CHECK(mp::Process({.daemon = true}, [] {}).daemon());
    CHECK_FALSE(mp::Process({.daemon = false}, [] {}).daemon());
}

TEST_CASE("_TestProcess.test_parent_process_attributes: a child knows its parent's pid and name",
          "[parity]") {
    CHECK_FALSE(mp::parent_process().has_value());
    auto [reader, writer] = mp::Pipe(false);
    mp::Process process(
        [](mp::Connection& to) {
            to.send(std::pair(mp::parent_process()->pid(), mp::parent_process()->name()));
        },
        writer);
    process.start();
    const auto [pid, name] = reader.recv<std::pair<pid_t, std::string>>();
    process.join();
    CHECK(pid == ::getpid());
    CHECK(name == mp::current_process().name());
}

TEST_CASE("_TestProcess.test_parent_process: a grandchild sees its parent's end", "[parity]") {
    observe::Subreaper reaper;
    auto [reader, writer] = mp::Pipe(false);
    mp::Process process(
        [](mp::Connection& to) {
            mp::Process inner(
                [](mp::Connection& connection) {
                    const auto parent = mp::parent_process();
                    connection.send(std::string(parent->is_alive() ? "alive" : "not alive"));
                    const bool ended = parent->join(bound);
                    connection.send(
                        std::string(ended && !parent->is_alive() ? "not alive" : "alive"));
                },
                to);
            inner.start();
            sleep_for_ever();
        },
        writer);
    process.start();
    REQUIRE(reader.poll(bound));
    CHECK(reader.recv<std::string>() == "alive");
    process.terminate();
    process.join();
    REQUIRE(reader.poll(bound));
    CHECK(reader.recv<std::string>() == "not alive");
}

TEST_CASE("_TestProcess.test_process: a process before, during and after its run", "[parity]") {
    mp::Queue<std::tuple<std::string, int, std::string, std::string, pid_t>> queue;
    observe::Door door;
    mp::Process process(
        {.name = "SomeProcess", .daemon = true},
        [&door](auto& to, const std::string& first, int second) {
            const auto current = mp::current_process();
            to.put({first, second, current.name(), current.authkey(), current.pid()});
            door.pass();
        },
        queue, "hello", 2);
    process.set_authkey(mp::current_process().authkey());
    CHECK_FALSE(process.is_alive());
    CHECK(process.daemon());
    CHECK_FALSE(is_active(process));
    CHECK_FALSE(process.exitcode().has_value());
    process.start();
    CHECK_FALSE(process.exitcode().has_value());
    CHECK(process.is_alive());
    CHECK(is_active(process));
    const auto [first, second, name, authkey, pid] = queue.get(bound);
    CHECK(first == "hello");
    CHECK(second == 2);
    CHECK(name == process.name());
    CHECK(authkey == mp::current_process().authkey());
    CHECK(pid == process.pid());
    door.open();
    process.join();
    CHECK(process.exitcode() == 0);
    CHECK_FALSE(process.is_alive());
    CHECK_FALSE(is_active(process));
}

TEST_CASE("_TestProcess.test_process_mainthread_native_id: the child's main thread is another",
          "[parity]") {
    mp::Queue<pid_t> queue;
    mp::Process process([](auto& to) { to.put(::gettid()); }, queue);
    process.start();
    const pid_t child = queue.get(bound);
    process.join();
    CHECK(child != ::gettid());
    CHECK(child == process.pid());
}

TEST_CASE("_TestProcess.test_terminate: a terminated child ends with -SIGTERM", "[parity]") {
    CHECK(exitcode_after([](mp::Process& process) { process.terminate(); }) == -SIGTERM);
}

TEST_CASE("_TestProcess.test_kill: a killed child ends with -SIGKILL", "[parity]") {
    CHECK(exitcode_after([](mp::Process& process) { process.kill(); }) == -SIGKILL);
}

TEST_CASE("_TestProcess.test_interrupt: an interrupted child ends at once", "[parity]") {
    // Python's default handler raises KeyboardInterrupt and the code is 1; here it is the signal.
    CHECK(exitcode_after([](mp::Process& process) { process.interrupt(); }) == -SIGINT);
}

TEST_CASE("_TestProcess.test_interrupt_no_handler: without a handler the code is -SIGINT",
          "[parity]") {
    observe::Report report;
    mp::Process process([&] {
        std::signal(SIGINT, SIG_DFL);
        report.say("set");
        sleep_for_ever();
    });
    process.start();
    REQUIRE(report.hear() == "set");
    process.interrupt();
    process.join();
    CHECK(process.exitcode() == -SIGINT);
}

TEST_CASE("_TestProcess.test_cpu_count: there is at least one processor", "[parity]") {
    CHECK(mp::cpu_count() >= 1);
}

TEST_CASE("_TestProcess.test_active_children: a child is listed from start to join", "[parity]") {
    observe::Door door;
    mp::Process process({.daemon = true}, [&] { door.pass(); });
    CHECK_FALSE(is_active(process));
    process.start();
    CHECK(is_active(process));
    door.open();
    process.join();
    CHECK_FALSE(is_active(process));
}

namespace {

void send_path_and_recurse(mp::Connection& to, const std::string& path) {
    to.send(path);
    if (path.size() == 2) { return; }
    for (const char* const step : {"0", "1"}) {
        mp::Process process(send_path_and_recurse, to, path + step);
        process.start();
        process.join();
    }
}

}  // namespace

TEST_CASE("_TestProcess.test_recursion: processes start processes, depth first", "[parity]") {
    auto [reader, writer] = mp::Pipe(false);
    send_path_and_recurse(writer, "");
    std::vector<std::string> paths;
    while (reader.poll()) { paths.push_back(reader.recv<std::string>()); }
    CHECK(paths == std::vector<std::string>{"", "0", "00", "01", "1", "10", "11"});
}

TEST_CASE("_TestProcess.test_sentinel: the sentinel is ready once the child has ended",
          "[parity]") {
    observe::Door door;
    mp::Process process([&] { door.pass(); });
    CHECK_THROWS_AS(process.sentinel(), mp::ValueError);
    process.start();
    const int sentinel = process.sentinel();
    CHECK(mp::connection::wait({sentinel}, 0s).empty());
    door.open();
    CHECK(mp::connection::wait({sentinel}, bound).size() == 1);
    process.join();
    CHECK(mp::connection::wait({sentinel}, 0s).size() == 1);
}

TEST_CASE("_TestProcess.test_close: a process that has ended can be closed, and then no more asked",
          "[parity]") {
    observe::Door door;
    mp::Process process([&] { door.pass(); });
    process.start();
    CHECK(process.is_alive());
    CHECK_THROWS_AS(process.close(), mp::ValueError);
    door.open();
    process.join();
    CHECK_FALSE(process.is_alive());
    CHECK(process.exitcode() == 0);
    process.close();
    CHECK_THROWS_AS(process.is_alive(), mp::ValueError);
    CHECK_THROWS_AS(process.join(), mp::ValueError);
    CHECK_THROWS_AS(process.terminate(), mp::ValueError);
    process.close();
}

TEST_CASE("_TestProcess.test_many_processes: a hundred end by themselves, a hundred are terminated",
          "[parity]") {
    const auto end_all = [](auto target, auto after_start, int expected) {
        std::vector<mp::Process> team;
        for (int i = 0; i < 100; ++i) { team.emplace_back(target); }
        for (auto& process : team) { process.start(); }
        for (auto& process : team) { after_start(process); }
        int right = 0;
        for (auto& process : team) {
            process.join();
            right += process.exitcode() == expected ? 1 : 0;
        }
        return right;
    };
    CHECK(end_all([] { std::this_thread::sleep_for(10ms); }, [](mp::Process&) {}, 0) == 100);
    CHECK(end_all(
              sleep_for_ever, [](mp::Process& process) { process.terminate(); }, -SIGTERM) == 100);
}

TEST_CASE(
    "_TestProcess.test_lose_target_ref: after start the target's captures are the child's alone",
    "[parity]") {
    auto object = std::make_shared<int>(6);
    const std::weak_ptr<int> watched = object;
    mp::Queue<int> queue;
    mp::Process process([held = std::move(object)](auto& to) { to.put(*held); }, queue);
    CHECK_FALSE(watched.expired());
    process.start();
    CHECK(watched.expired());
    process.join();
    CHECK(queue.get(bound) == 6);
}

TEST_CASE(
    "_TestProcess.test_error_on_stdio_flush_1: a parent with a closed stream starts processes",
    "[parity]") {
    for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
        mp::Process outer([fd] {
            std::printf("unwritten");
            ::close(fd);
            mp::Process inner([] { std::printf("unwritten"); });
            inner.start();
            inner.join();
            throw mp::SystemExit(inner.exitcode().value_or(100));
        });
        CHECK(observe::written_to(STDOUT_FILENO, [&] {
                  outer.start();
                  outer.join();
              }).size() <= 2 * std::string("unwritten").size());
        CHECK(outer.exitcode() == 0);
    }
}

TEST_CASE("_TestProcess.test_error_on_stdio_flush_2: a child may close its streams", "[parity]") {
    for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
        mp::Process process([fd] {
            std::printf("u");
            std::fclose(fd == STDOUT_FILENO ? stdout : stderr);
            ::close(fd);
        });
        static_cast<void>(observe::written_to(STDOUT_FILENO, [&] {
            process.start();
            process.join();
        }));
        CHECK(process.exitcode() == 0);
    }
}

TEST_CASE("_TestSubclassingProcess.test_subclassing: a subclass with a pipe of its own",
          "[parity]") {
    class UpperCaser : public mp::Process {
      public:
        UpperCaser() = default;
        void run() override {
            parent_.close();
            while (const auto text = child_.recv<std::optional<std::string>>()) {
                std::string upper = *text;
                for (char& letter : upper) {
                    letter = static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
                }
                child_.send(upper);
            }
            child_.close();
        }
        std::string submit(const std::string& text) {
            parent_.send(std::optional(text));
            return parent_.recv<std::string>();
        }
        void stop() {
            parent_.send(std::optional<std::string>());
            parent_.close();
            child_.close();
        }

      private:
        std::pair<mp::Connection, mp::Connection> ends_ = mp::Pipe();
        mp::Connection& child_ = ends_.first;
        mp::Connection& parent_ = ends_.second;
    };
    UpperCaser upper;
    upper.start();
    CHECK(upper.submit("hello") == "HELLO");
    CHECK(upper.submit("world") == "WORLD");
    upper.stop();
    upper.join();
    CHECK(upper.exitcode() == 0);
}

TEST_CASE("_TestSubclassingProcess.test_stderr_flush: what ended the child is on stderr after join",
          "[parity]") {
    mp::Process process([] { throw std::domain_error("1/0"); });
    const std::string text = observe::written_to(STDERR_FILENO, [&] {
        process.start();
        process.join();
    });
    CHECK(process.exitcode() == 1);
    CHECK_THAT(text, support::contains("Process " + process.name() + ":\n"));
    CHECK_THAT(text, support::contains("std::domain_error: 1/0"));
}

TEST_CASE("_TestSubclassingProcess.test_sys_exit: a reason becomes a code, or a text and 1",
          "[parity]") {
    const auto ends = [](auto reason) {
        std::optional<int> code;
        const std::string text = observe::written_to(STDERR_FILENO, [&] {
            mp::Process process([reason] { throw mp::SystemExit(reason); });
            process.start();
            process.join();
            code = process.exitcode();
        });
        return std::pair(code.value_or(-1000), text);
    };
    CHECK(ends("ignore this") == std::pair(1, std::string("ignore this\n")));
    CHECK(ends(std::string("[1, 2, 3]")) == std::pair(1, std::string("[1, 2, 3]\n")));
    CHECK(ends(true) == std::pair(1, std::string()));
    CHECK(ends(false) == std::pair(0, std::string()));
    CHECK(ends(8) == std::pair(8, std::string()));
    mp::Process process([] { throw mp::SystemExit(); });
    process.start();
    process.join();
    CHECK(process.exitcode() == 0);
}

TEST_CASE("_TestPollEintr.test_poll_eintr: a signal does not end a join", "[parity]") {
    static volatile std::sig_atomic_t got = 0;
    got = 0;
    struct sigaction count {};
    struct sigaction saved {};
    count.sa_handler = [](int) { got = 1; };
    ::sigaction(SIGUSR1, &count, &saved);
    mp::Process sleeper([] { std::this_thread::sleep_for(400ms); });
    mp::Process killer([parent = ::getpid()] {
        std::this_thread::sleep_for(100ms);  // so that the parent is in its join
        ::kill(parent, SIGUSR1);
    });
    killer.start();
    sleeper.start();
    sleeper.join();
    killer.join();
    CHECK(got == 1);
    CHECK(sleeper.exitcode() == 0);
    ::sigaction(SIGUSR1, &saved, nullptr);
}

TEST_CASE("TestStdinBadfiledescriptor.test_queue_in_process: a child makes a queue and a child",
          "[parity]") {
    mp::Process process([] {
        mp::Queue<int> queue;
        mp::Process inner([](auto& from) { static_cast<void>(from.try_get()); }, queue);
        inner.start();
        inner.join();
        throw mp::SystemExit(inner.exitcode().value_or(100));
    });
    process.start();
    process.join();
    CHECK(process.exitcode() == 0);
}

TEST_CASE("TestStdinBadfiledescriptor.test_pool_in_process: a child makes a pool", "[parity]") {
    mp::Process process([] {
        mp::Pool pool(4);
        const auto squares =
            pool.map([](int x) { return x * x; }, std::vector<int>{1, 2, 3, 4, 5, 6, 7});
        pool.close();
        pool.join();
        throw mp::SystemExit(squares == std::vector<int>{1, 4, 9, 16, 25, 36, 49} ? 0 : 1);
    });
    process.start();
    process.join();
    CHECK(process.exitcode() == 0);
}

namespace {

// Each generation forks the next; the last says how far the handlers have counted.
void generation(int left, mp::Connection& to) {
    if (left == 0) { return to.send(mp::detail::os::fork_epoch()); }
    mp::Process process(generation, left - 1, to);
    process.start();
    process.join();
}

}  // namespace

TEST_CASE(
    "TestForkAwareThreadLock.test_lock: generations of processes do not pile up fork handlers",
    "[parity]") {
    auto [reader, writer] = mp::Pipe(false);
    const auto before = mp::detail::os::fork_epoch();
    generation(5, writer);
    // A handler that stood there twice would count twice.
    CHECK(reader.recv<std::uint64_t>() == before + 5);
}

TEST_CASE("_TestAtExit.test_atexit: an exit handler registered in the child runs at its end",
          "[parity]") {
    static observe::Report* report;
    observe::Report said;
    report = &said;
    mp::Process process([] { std::atexit([] { report->say("deadbeef"); }); });
    process.start();
    process.join();
    CHECK(said.hear_all() == "deadbeef\n");
}

// SPDX-License-Identifier: BSL-1.0

// What CPython's tests say of the start methods; the tests of this group begin with
// freeze_support().

#include "spawn/images.hpp"
#include "support/catch.hpp"

#include <multiprocessing.hpp>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;
using spawned::bound;
using spawned::exit_of;
using spawned::need;
using spawned::open_count;

namespace {

void tell_method(const mp::Connection& to) { to.send(mp::get_start_method()); }
void put_and_pass_on(mp::Queue<int>& queue, int depth) {
    queue.put(depth);
    if (depth == 0) { return; }
    mp::Process grandchild(put_and_pass_on, queue, depth - 1);
    need(exit_of(grandchild) == 0, 2);
}

// The process that forked it.
pid_t parent_of(pid_t pid) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    std::getline(stat, text);
    return std::stoi(text.substr(text.rfind(')') + 4));
}

void after_signal_to_server(int signal) {
    const auto ctx = mp::get_context("forkserver");
    auto [ours, theirs] = ctx.Pipe();
    auto first = ctx.Process([](const mp::Connection& end) { end.send(end.recv<int>()); }, theirs);
    first.start();
    theirs.close();
    const pid_t server = parent_of(*first.pid());
    need(server != ::getpid(), 3);
    ::kill(server, signal);
    std::this_thread::sleep_for(50ms);
    auto second = ctx.Process([] {});
    need(exit_of(second) == 0, 4);
    ours.send(5);
    need(ours.recv<int>() == 5, 5);
    need(first.join(bound), 6);
    // Nobody may be left to tell it.
    need(first.exitcode().value_or(0) == 0, 7);
}

}  // namespace

TEST_CASE("TestStartMethod.test_context: a context has one method, and so have its children",
          "[parity][spawn]") {
    for (const std::string& method : mp::get_all_start_methods()) {
        CAPTURE(method);
        const auto ctx = mp::get_context(method);
        CHECK(ctx.get_start_method() == method);
        CHECK(ctx.get_context().get_start_method() == method);
        CHECK_THROWS_AS(ctx.set_start_method("spawn"), mp::ValueError);
        CHECK_THROWS_AS(ctx.set_start_method(method, true), mp::ValueError);
        auto [ours, theirs] = ctx.Pipe();
        auto process = ctx.Process(tell_method, theirs);
        process.start();
        CHECK(ours.recv<std::string>() == method);
        process.join();
    }
}

TEST_CASE("TestStartMethod.test_set_get: what is set is there in children", "[parity][spawn]") {
    mp::Process elsewhere([] {
        for (const std::string& method : mp::get_all_start_methods()) {
            mp::set_start_method(method, /*force=*/true);
            need(mp::get_start_method() == method, 2);
            need(mp::get_context().get_start_method() == method, 3);
            auto [ours, theirs] = mp::Pipe();
            mp::Process child(tell_method, theirs);
            child.start();
            need(ours.recv<std::string>() == method, 4);
            child.join();
        }
    });
    CHECK(exit_of(elsewhere) == 0);
}

TEST_CASE("TestStartMethod.test_get_all: all three, the default first", "[parity][spawn]") {
    const auto all = mp::get_all_start_methods();
    CHECK(std::set<std::string>(all.begin(), all.end()) ==
          std::set<std::string>{"fork", "spawn", "forkserver"});
    mp::Process fresh([front = all.front()] { need(mp::get_start_method() == front, 2); });
    CHECK(exit_of(fresh) == 0);
}

TEST_CASE("TestStartMethod.test_mixed_startmethod: a queue of any context goes to a process of any",
          "[parity][spawn]") {
    for (const std::string& maker : mp::get_all_start_methods()) {
        for (const std::string& user : mp::get_all_start_methods()) {
            CAPTURE(maker, user);
            auto queue = mp::get_context(maker).Queue<int>();
            auto process =
                mp::get_context(user).Process([](mp::Queue<int>& to) { to.put(7); }, queue);
            CHECK(exit_of(process) == 0);
            CHECK(queue.get(bound) == 7);
        }
    }
}

TEST_CASE("TestStartMethod.test_nested_startmethod: a child passes its queue to its own child",
          "[parity][spawn]") {
    for (const std::string& method : mp::get_all_start_methods()) {
        CAPTURE(method);
        const auto ctx = mp::get_context(method);
        auto queue = ctx.Queue<int>();
        auto process = ctx.Process(put_and_pass_on, queue, 2);
        CHECK(exit_of(process) == 0);
        CHECK(std::set<int>{queue.get(bound), queue.get(bound), queue.get(bound)} ==
              std::set<int>{0, 1, 2});
    }
}

TEST_CASE("_TestProcess.test_set_executable: a process of the file that was chosen",
          "[parity][spawn]") {
    mp::Process elsewhere([] {
        const auto self = std::filesystem::read_symlink("/proc/self/exe");
        const auto link = self.string() + "-link-" + std::to_string(::getpid());
        std::filesystem::create_symlink(self, link);
        for (const std::filesystem::path& path : {self, std::filesystem::path(link)}) {
            mp::set_executable(path);
            mp::Process child({.start_method = "spawn"}, [] {});
            need(exit_of(child) == 0, 2);
        }
        std::filesystem::remove(link);
        mp::set_executable("/nowhere/at all");
        mp::Process child({.start_method = "spawn"}, [] {});
        try {
            child.start();
        } catch (const mp::OSError&) { throw mp::SystemExit(5); }
    });
    CHECK(exit_of(elsewhere) == 5);
    CHECK_THROWS_AS(mp::set_executable(""), mp::ValueError);
}

TEST_CASE("_TestProcess.test_child_fd_inflation: later children have no more than earlier ones",
          "[parity][spawn]") {
    for (const char* method : {"spawn", "forkserver"}) {
        CAPTURE(method);
        const auto ctx = mp::get_context(method);
        auto counts = ctx.Queue<std::size_t>();
        const auto end = ctx.Event();
        std::vector<mp::Process> processes;
        for (int i = 0; i < 5; ++i) {
            processes.push_back(ctx.Process(
                [](mp::Queue<std::size_t>& to, const mp::Event& until) {
                    to.put(open_count());
                    until.wait();
                },
                counts, end));
            processes.back().start();
        }
        std::set<std::size_t> found;
        for (int i = 0; i < 5; ++i) { found.insert(counts.get(bound)); }
        end.set();
        for (auto& process : processes) { process.join(); }
        CHECK(found.size() == 1);
    }
}

TEST_CASE("_TestProcess.test_forkserver_sigint: Ctrl-C does not end the server",
          "[parity][spawn]") {
    mp::Process elsewhere(after_signal_to_server, SIGINT);
    CHECK(exit_of(elsewhere) == 0);
}

TEST_CASE("_TestProcess.test_forkserver_sigkill: a server that died is replaced",
          "[parity][spawn][crash]") {
    mp::Process elsewhere(after_signal_to_server, SIGKILL);
    CHECK(exit_of(elsewhere) == 0);
}

TEST_CASE("TestCloseFds.test_closefd: a descriptor is there in a copy and not in an image",
          "[parity][spawn]") {
    constexpr int high = 700;
    REQUIRE(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, high) == high);
    for (const std::string& method : mp::get_all_start_methods()) {
        CAPTURE(method);
        auto process = mp::get_context(method).Process(
            [](int fd) { throw mp::SystemExit(::fcntl(fd, F_GETFD) >= 0 ? 3 : 4); }, high);
        CHECK(exit_of(process) == (method == "fork" ? 3 : 4));
    }
    ::close(high);
}

// SPDX-License-Identifier: BSL-1.0

// Processes that do not inherit their parent: "spawn" and "forkserver".

#include "spawn/images.hpp"
#include "support/bounds.hpp"
#include "support/catch.hpp"

#include <multiprocessing.hpp>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;
using spawned::bound;
using spawned::exit_of;
using spawned::need;
using spawned::open_count;

namespace {

int global_number = 1;

struct Ticket {
    int id;
    std::string who;
    std::optional<std::vector<double>> prices;
};

void check_arguments(int number, const std::string& text, const Ticket& ticket,
                     std::unique_ptr<int> owned,
                     const std::map<std::string, std::vector<int>>& map) {
    need(number == 7, 11);
    need(text == "seven", 12);
    need(ticket.id == 3 && ticket.who == "eve" && ticket.prices->at(1) == 2.5, 13);
    need(owned != nullptr && *owned == 9, 14);
    need(map.at("a") == std::vector<int>{1, 2}, 15);
}

void check_identity(const std::string& name, pid_t parent, const std::string& authkey) {
    need(mp::current_process().name() == name, 21);
    need(mp::parent_process() && mp::parent_process()->pid() == parent, 22);
    need(mp::parent_process()->name() == "MainProcess", 23);
    need(mp::parent_process()->is_alive(), 24);
    need(mp::current_process().authkey() == authkey, 25);
    need(mp::active_children().empty(), 26);
    char title[16];
    ::prctl(PR_GET_NAME, title);
    need(std::string_view(title) == name.substr(0, 15), 27);
    need(::getenv("MULTIPROCESSING_CHILD") == nullptr, 28);
}

void throw_number(int) { throw std::runtime_error("on purpose"); }
void die(int signal) { ::raise(signal); }
void exit_with(int code) { throw mp::SystemExit(code); }
int add(int a, int b) { return a + b; }

template <class F>
void check_callable(F f) {
    need(f(4) == 7, 32);
}

}  // namespace

TEST_CASE("a started image gets its arguments by value", "[spawn]") {
    const auto ctx = mp::get_context(GENERATE(as<std::string>(), "spawn", "forkserver"));
    auto process = ctx.Process(
        check_arguments, 7, "seven", Ticket{3, "eve", std::vector<double>{1.5, 2.5}},
        std::make_unique<int>(9), std::map<std::string, std::vector<int>>{{"a", {1, 2}}});
    CHECK(exit_of(process) == 0);
}

TEST_CASE("a started image is who its parent says", "[spawn]") {
    const auto ctx = mp::get_context(GENERATE(as<std::string>(), "spawn", "forkserver"));
    auto process = ctx.Process({.name = "a name with spaces"}, check_identity, "a name with spaces",
                               ::getpid(), mp::current_process().authkey());
    CHECK(exit_of(process) == 0);
    auto daemon = ctx.Process({.daemon = true}, [] { need(mp::current_process().daemon(), 41); });
    CHECK(exit_of(daemon) == 0);
}

TEST_CASE("global variables have the values that the program starts with", "[spawn]") {
    global_number = 2;
    const auto ctx = mp::get_context(GENERATE(as<std::string>(), "spawn", "forkserver"));
    auto process = ctx.Process([] { exit_with(40 + global_number); });
    CHECK(exit_of(process) == 41);
    mp::Process forked([] { exit_with(40 + global_number); });
    CHECK(exit_of(forked) == 42);
    global_number = 1;
}

TEST_CASE("exit codes of started images", "[spawn]") {
    const auto ctx = mp::get_context(GENERATE(as<std::string>(), "spawn", "forkserver"));
    auto thrown = ctx.Process(throw_number, 1);
    CHECK(exit_of(thrown) == 1);
    auto killed = ctx.Process(die, SIGKILL);
    CHECK(exit_of(killed) == -SIGKILL);
    auto left = ctx.Process(exit_with, 77);
    CHECK(exit_of(left) == 77);
    auto slow = ctx.Process([] { std::this_thread::sleep_for(60s); });
    slow.start();
    CHECK(slow.is_alive());
    CHECK_FALSE(slow.join(10ms));
    CHECK_FALSE(slow.exitcode());
    CHECK(mp::active_children().size() == 1);
    slow.terminate();
    CHECK(slow.join(bound));
    CHECK(slow.exitcode() == -SIGTERM);
    CHECK(mp::active_children().empty());
}

TEST_CASE("what can be called in a started image", "[spawn]") {
    const auto ctx = mp::get_context(GENERATE(as<std::string>(), "spawn", "forkserver"));
    const auto bound_function = mp::partial(add, 3);
    auto partial = ctx.Process(check_callable<decltype(bound_function)>, bound_function);
    CHECK(exit_of(partial) == 0);
    const int three = 3;
    const auto vouched = mp::by_value([step = three + 0](int number) { return number + step; });
    auto by_value = ctx.Process(check_callable<decltype(vouched)>, vouched);
    CHECK(exit_of(by_value) == 0);
    auto direct = ctx.Process(mp::partial(exit_with, 5));
    CHECK(exit_of(direct) == 5);
    // Two lambdas in one function are two types.
    auto one = ctx.Process([] { exit_with(1); });
    auto two = ctx.Process([] { exit_with(2); });
    CHECK(exit_of(two) == 2);
    CHECK(exit_of(one) == 1);
}

TEST_CASE("what cannot be sent is refused by name, and nothing is started", "[spawn]") {
    const auto ctx = mp::get_context(GENERATE(as<std::string>(), "spawn", "forkserver"));
    int number = 3;
    auto captures = ctx.Process([&number] { number = 4; });
    CHECK_THROWS_WITH(captures.start(), Catch::Contains("the target") && Catch::Contains("lambda"));
    auto pointer = ctx.Process([](int, int*) {}, 1, &number);
    CHECK_THROWS_WITH(pointer.start(), Catch::Contains("argument 2") && Catch::Contains("int*"));
    CHECK_THROWS_AS(pointer.start(), mp::SerializationError);
    CHECK_FALSE(pointer.pid());
    CHECK(mp::active_children().empty());
    auto null = ctx.Process(mp::partial(static_cast<void (*)(int)>(nullptr), 1));
    CHECK_THROWS_AS(null.start(), mp::SerializationError);
}

TEST_CASE("a child that is large to tell", "[spawn]") {
    const auto ctx = mp::get_context(GENERATE(as<std::string>(), "spawn", "forkserver"));
    const std::vector<double> values(4'000'000, 1.5);
    auto process = ctx.Process(
        [](const std::vector<double>& all) {
            need(all.size() == 4'000'000 && all.back() == 1.5, 51);
        },
        values);
    CHECK(exit_of(process) == 0);
}

TEST_CASE("a started image has the descriptors that it needs", "[spawn]") {
    // Ours that are not meant for it, and what the tests were started with.
    const int ours = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    REQUIRE(ours >= 0);
    const auto inheritable = [] {
        int count = 0;
        for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
            const int flags = ::fcntl(std::stoi(entry.path().filename()), F_GETFD);
            if (flags >= 0 && (flags & FD_CLOEXEC) == 0) { ++count; }
        }
        return count;
    };
    const auto ctx = mp::get_context(GENERATE(as<std::string>(), "spawn", "forkserver"));
    // Besides: the family's registry, the death pipe of the fork server, and the listing.
    auto process = ctx.Process([] { exit_with(static_cast<int>(open_count())); });
    CHECK(exit_of(process) <= inheritable() + 3);
    ::close(ours);
}

TEST_CASE("handles are arguments of a started image", "[spawn]") {
    const auto ctx = mp::get_context(GENERATE(as<std::string>(), "spawn", "forkserver"));
    const auto lock = ctx.Lock();
    auto queue = ctx.Queue<std::string>();
    auto back = ctx.JoinableQueue<int>();
    const auto number = ctx.Value(5);
    const auto numbers = ctx.Array<double>(100);
    const auto event = ctx.Event();
    const auto condition = ctx.Condition();
    const auto barrier = ctx.Barrier(2);
    auto [ours, theirs] = ctx.Pipe();
    auto process = ctx.Process(
        [](mp::Lock a_lock, mp::Queue<std::string> in, mp::JoinableQueue<int> out,
           mp::Value<int> value, mp::Array<double> array, mp::Event gate, mp::Condition changed,
           mp::Barrier meeting, mp::Connection connection) {
            for (std::string word = in.get(); word != "end"; word = in.get()) {
                out.put(static_cast<int>(word.size()));
            }
            out.join();
            for (int i = 0; i < 1000; ++i) {
                const std::scoped_lock guard(a_lock);
                value.set_value(value.value() + 1);
            }
            array[99] = 2.5;
            gate.wait();
            meeting.wait();
            {
                const std::scoped_lock guard(changed);
                changed.notify_all();
            }
            connection.send(connection.recv<int>() + 1);
        },
        lock, queue, back, number, numbers, event, condition, barrier, theirs);
    process.start();
    theirs.close();
    for (const char* word : {"a", "bcd", "end"}) { queue.put(word); }
    for (const int size : {1, 3}) {
        CHECK(back.get(bound) == size);
        back.task_done();
    }
    for (int i = 0; i < 1000; ++i) {
        const std::scoped_lock guard(lock);
        number.set_value(number.value() + 1);
    }
    {
        const std::scoped_lock guard(condition);
        event.set();
        barrier.wait();
        CHECK(condition.wait(bound));
    }
    ours.send(41);
    CHECK(ours.recv<int>() == 42);
    CHECK(process.join(bound));
    CHECK(process.exitcode() == 0);
    CHECK(number.value() == 2005);
    CHECK(numbers[99] == 2.5);
}

TEST_CASE("a started image that is killed holding a lock does not keep it", "[spawn][crash]") {
    const auto ctx = mp::get_context(GENERATE(as<std::string>(), "spawn", "forkserver"));
    const auto lock = ctx.Lock();
    auto process = ctx.Process(
        [](mp::Lock a_lock) {
            a_lock.acquire();
            ::raise(SIGKILL);
        },
        lock);
    CHECK(exit_of(process) == -SIGKILL);
    const auto result = lock.acquire(bound);
    CHECK(result);
    CHECK(result.owner_died());
    lock.release();
}

TEST_CASE("many handles go to a started image", "[spawn]") {
    const auto ctx = mp::get_context(GENERATE(as<std::string>(), "spawn", "forkserver"));
    std::vector<mp::Lock> locks;
    for (int i = 0; i < 500; ++i) { locks.push_back(ctx.Lock()); }
    auto process = ctx.Process(
        [](const std::vector<mp::Lock>& all) {
            for (const auto& lock : all) { lock.acquire(); }
            throw mp::SystemExit(static_cast<int>(all.size() / 10));
        },
        locks);
    CHECK(exit_of(process) == 50);
    CHECK(locks[0].locked());
    CHECK(locks[499].locked());
}

TEST_CASE("a program without standard streams starts images", "[spawn]") {
    const std::string method = GENERATE(as<std::string>(), "spawn", "forkserver");
    mp::Process closed([&] {
        for (int fd = 0; fd <= 2; ++fd) { ::close(fd); }
        const auto ctx = mp::get_context(method);
        auto queue = ctx.Queue<int>();
        auto process = ctx.Process(
            [](mp::Queue<int>& to) {
                for (int fd = 0; fd <= 2; ++fd) { need(::fcntl(fd, F_GETFD) >= 0, 2); }
                to.put(5);
            },
            queue);
        need(exit_of(process) == 0, 3);
        need(queue.get(bound) == 5, 4);
    });
    CHECK(exit_of(closed) == 0);
}

TEST_CASE("a started image starts others", "[spawn]") {
    const std::string method = GENERATE(as<std::string>(), "spawn", "forkserver");
    const auto ctx = mp::get_context(method);
    auto process = ctx.Process(
        [](const std::string& how) {
            for (const std::string& each : {how, std::string("fork")}) {
                mp::Process grandchild({.start_method = each}, exit_with, 6);
                need(exit_of(grandchild) == 6, 61);
            }
        },
        method);
    CHECK(exit_of(process) == 0);
}

TEST_CASE("a daemonic image ends with its parent", "[spawn]") {
    const std::string method = GENERATE(as<std::string>(), "spawn", "forkserver");
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), 0) == 0);
    mp::Process middle([&] {
        ::close(ends[0]);
        mp::Process daemon({.daemon = true, .start_method = method},
                           [] { std::this_thread::sleep_for(60s); });
        daemon.start();
        const pid_t pid = *daemon.pid();
        need(::write(ends[1], &pid, sizeof pid) == sizeof pid, 71);
        ::raise(SIGKILL);
    });
    CHECK(exit_of(middle) == -SIGKILL);
    ::close(ends[1]);
    pid_t pid = 0;
    CHECK(::read(ends[0], &pid, sizeof pid) == sizeof pid);
    ::close(ends[0]);
    REQUIRE(pid != 0);
    CHECK(support::eventually([pid] {
        std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
        std::string text;
        std::getline(stat, text);
        return text.empty() || text[text.rfind(')') + 2] == 'Z';
    }));
}

TEST_CASE("the start method of the program", "[spawn]") {
    CHECK(mp::get_all_start_methods() == std::vector<std::string>{"fork", "spawn", "forkserver"});
    mp::Process elsewhere([] {
        mp::set_start_method("spawn");
        need(mp::get_start_method() == "spawn", 81);
        try {
            mp::set_start_method("fork");
            throw mp::SystemExit(82);
        } catch (const mp::ProcessError&) {}
        // A child goes on with what the program has settled.
        mp::Process child([] { need(mp::get_start_method() == "spawn", 83); });
        need(exit_of(child) == 0, 84);
        mp::set_start_method("fork", /*force=*/true);
        need(mp::get_context().get_start_method() == "fork", 85);
        need(mp::get_context("spawn").get_start_method() == "spawn", 86);
    });
    CHECK(exit_of(elsewhere) == 0);
    CHECK_THROWS_AS(mp::get_context("thread"), mp::ValueError);
    CHECK_THROWS_AS(mp::Process({.start_method = "thread"}, [] {}), mp::ValueError);
}

TEST_CASE("a fork server that is killed is replaced", "[spawn]") {
    mp::Process elsewhere([] {
        mp::Process first({.start_method = "forkserver"}, [] { exit_with(::getppid() & 0x7f); });
        first.start();
        first.join();
        mp::Process who({.start_method = "forkserver"}, [] { std::this_thread::sleep_for(60s); });
        who.start();
        std::ifstream stat("/proc/" + std::to_string(*who.pid()) + "/stat");
        std::string text;
        std::getline(stat, text);
        const pid_t server = std::stoi(text.substr(text.rfind(')') + 4));
        need(server != ::getpid(), 91);
        ::kill(server, SIGKILL);
        who.kill();
        need(who.join(bound), 92);
        // Nobody is left to tell how it ended.
        static_cast<void>(who.exitcode());
        mp::Process second({.start_method = "forkserver"}, exit_with, 5);
        try {
            second.start();
        } catch (const mp::ProcessError&) { second.start(); }
        need(second.join(bound) && second.exitcode() == 5, 93);
    });
    CHECK(exit_of(elsewhere) == 0);
}

TEST_CASE("programs that are not prepared are told so", "[spawn]") {
    const auto program =
        std::filesystem::read_symlink("/proc/self/exe").parent_path() / "spawn_unprepared";
    const auto run = [&](const char* what) {
        const std::string command = "timeout 20 " + program.string() + " " + what + " 2>&1";
        std::unique_ptr<FILE, int (*)(FILE*)> output(::popen(command.c_str(), "r"), ::pclose);
        std::string text;
        for (int c = 0; (c = std::fgetc(output.get())) != EOF;) { text += static_cast<char>(c); }
        return text;
    };
    CHECK_THAT(run("plain"), Catch::Contains("freeze_support"));
    // The one child runs what it is to run, and starts nobody before.
    CHECK_THAT(run("late"), Catch::Contains("before main, or before freeze_support()") &&
                                Catch::EndsWith("two levels\n"));
    // A program that was set as executable and knows nothing of children.
    mp::Process elsewhere([&] {
        mp::set_executable("/bin/true");
        mp::Process child({.start_method = "spawn"}, exit_with, 5);
        try {
            child.start();
            child.join();
        } catch (const mp::ProcessError&) { return; }
        need(child.exitcode() == 0, 95);  // it had read nothing and gone
    });
    CHECK(exit_of(elsewhere) == 0);
}

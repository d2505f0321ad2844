// SPDX-License-Identifier: BSL-1.0

// CPython's tests of pipes, connections and `wait`, one test case a test.

#include "support/bounds.hpp"
#include "support/catch.hpp"

#include <multiprocessing/connection.hpp>
#include <multiprocessing/os/unique_fd.hpp>
#include <multiprocessing/process.hpp>
#include <multiprocessing/reduction.hpp>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <map>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

namespace mp = multiprocessing;
using mp::connection::wait;
using mp::detail::os::UniqueFd;
using namespace std::chrono_literals;

namespace {

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Ends the child and checks that it ended well.
void join(mp::Process& process) {
    CHECK(process.join(60s));
    CHECK(process.exitcode() == 0);
}

/// Sends every message back until an empty one comes.
void echo(mp::Connection connection) {
    for (;;) {
        const auto message = connection.recv_bytes();
        if (message.empty()) { break; }
        connection.send_bytes(message);
    }
    connection.close();
}

/// A file without a name.
UniqueFd temporary_file() {
    char name[] = "/tmp/multiprocessing-test-XXXXXX";
    UniqueFd file(::mkstemp(name));
    ::unlink(name);
    return file;
}

std::string contents(const UniqueFd& file) {
    std::array<char, 64> text{};
    const ssize_t size = ::pread(file.get(), text.data(), text.size(), 0);
    return {text.data(), size < 0 ? 0 : static_cast<std::size_t>(size)};
}

/// Receives a descriptor and writes through it.
void write_through_received(const mp::Connection& connection, std::string_view data) {
    const UniqueFd file(mp::reduction::recv_handle(connection));
    if (::write(file.get(), data.data(), data.size()) != static_cast<ssize_t>(data.size())) {
        throw mp::ProcessError("not written");
    }
}

/// Sleeps up to a tenth of a second, which is the "slow" of `wait`'s tests.
void dawdle() {
    std::random_device random;
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 100));
}

/// Four children send ten messages each, tagged with their pid; `wait` finds them until each is at
/// its end.
void wait_for_pipes(bool slow) {
    std::vector<mp::Connection> readers;
    std::vector<mp::Process> processes;
    for (int i = 0; i < 4; ++i) {
        auto [reader, writer] = mp::Pipe(false);
        processes.emplace_back(
            mp::ProcessOptions{.daemon = true},
            [slow](const mp::Connection& connection) {
                for (int message = 0; message < 10; ++message) {
                    if (slow) { dawdle(); }
                    connection.send(std::pair(message, static_cast<int>(::getpid())));
                }
            },
            writer);
        processes.back().start();
        writer.close();
        readers.push_back(reader);
    }
    std::vector<std::pair<int, int>> messages;
    while (!readers.empty()) {
        for (const mp::Connection& ready : wait(readers)) {
            try {
                messages.push_back(ready.recv<std::pair<int, int>>());
            } catch (const mp::EOFError&) {
                std::erase(readers, ready);
                ready.close();
            }
        }
    }
    std::vector<std::pair<int, int>> expected;
    for (int message = 0; message < 10; ++message) {
        for (const auto& process : processes) {
            expected.emplace_back(message, process.pid().value());
        }
    }
    std::ranges::sort(messages);
    std::ranges::sort(expected);
    CHECK(messages == expected);
    for (auto& process : processes) { join(process); }
}

/// The same with plain TCP sockets, which are not connections.
void wait_for_sockets(bool slow) {
    const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    REQUIRE(::bind(listener.get(), generic, size) == 0);
    REQUIRE(::listen(listener.get(), 4) == 0);
    REQUIRE(::getsockname(listener.get(), generic, &size) == 0);

    std::vector<mp::Process> processes;
    for (int i = 0; i < 4; ++i) {
        processes.emplace_back(mp::ProcessOptions{.daemon = true}, [slow, address] {
            const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
            if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address),
                          sizeof address) != 0) {
                std::exit(2);
            }
            for (int message = 0; message < 10; ++message) {
                if (slow) { dawdle(); }
                const std::string line = std::to_string(message) + "\n";
                if (::write(socket.get(), line.data(), line.size()) < 0) { std::exit(3); }
            }
        });
        processes.back().start();
    }
    std::map<int, std::string> texts;
    std::vector<int> readers;
    for (int i = 0; i < 4; ++i) {
        readers.push_back(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
        texts[readers.back()];
    }
    while (!readers.empty()) {
        for (const int ready : wait(readers)) {
            char buffer[32];
            const ssize_t got = ::read(ready, buffer, sizeof buffer);
            if (got > 0) {
                texts[ready].append(buffer, static_cast<std::size_t>(got));
            } else {
                std::erase(readers, ready);
                ::close(ready);
            }
        }
    }
    CHECK(texts.size() == 4);
    for (const auto& [fd, text] : texts) { CHECK(text == "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n"); }
    for (auto& process : processes) { join(process); }
}

}  // namespace

TEST_CASE("_TestConnection.test_connection: an echo child gets and gives back all that can be sent",
          "[parity]") {
    auto [connection, child_connection] = mp::Pipe();
    mp::Process process({.daemon = true}, echo, child_connection);
    process.start();

    // The child gives the bytes back as they came, those of a value too.
    const std::vector<double> sequence{1, 2.25, -3};
    connection.send(sequence);
    CHECK(connection.recv<std::vector<double>>() == sequence);

    const std::string message = "hello world";
    connection.send_bytes(message);
    CHECK(text_of(connection.recv_bytes()) == message);

    std::vector<std::byte> buffer(20);
    connection.send_bytes(message);
    CHECK(connection.recv_bytes_into(buffer) == message.size());
    CHECK(text_of(buffer) == message + std::string(20 - message.size(), '\0'));

    std::ranges::fill(buffer, std::byte{0});
    connection.send_bytes(message);
    CHECK(connection.recv_bytes_into(buffer, 3) == message.size());
    CHECK(text_of(buffer) ==
          std::string(3, '\0') + message + std::string(17 - message.size(), '\0'));

    const std::string longer(40, ' ');
    connection.send_bytes(longer);
    try {
        connection.recv_bytes_into(buffer);
        FAIL("nothing was thrown");
    } catch (const mp::BufferTooShort& error) { CHECK(text_of(error.message()) == longer); }

    CHECK_FALSE(connection.poll());
    CHECK(support::timed([&, &connection = connection] { return connection.poll(); }) < 10s);
    CHECK_FALSE(connection.poll(-1s));
    CHECK(support::timed([&, &connection = connection] { return connection.poll(-1s); }) < 10s);
    const auto waited =
        support::timed([&, &connection = connection] { return connection.poll(200ms); });
    CHECK(waited >= 200ms);
    CHECK(waited < 10s);

    connection.send(0);
    CHECK(connection.poll(20s));
    CHECK(connection.recv<int>() == 0);

    std::string big(16 << 20, 'X');
    for (std::size_t i = 0; i < big.size(); i += 4096) {
        big[i] = static_cast<char>('a' + i / 4096 % 26);
    }
    connection.send_bytes(big);
    CHECK(text_of(connection.recv_bytes()) == big);

    connection.send_bytes("");  // ends the child
    CHECK(connection.readable());
    CHECK(connection.writable());
    child_connection.close();
    CHECK_THROWS_AS(connection.recv<int>(), mp::EOFError);
    CHECK_THROWS_AS(connection.recv_bytes(), mp::EOFError);
    join(process);
}

TEST_CASE("_TestConnection.test_duplex_false: each end of a one-way pipe knows its one direction",
          "[parity]") {
    auto [reader, writer] = mp::Pipe(false);
    writer.send(1);
    CHECK(reader.recv<int>() == 1);
    CHECK(reader.readable());
    CHECK_FALSE(reader.writable());
    CHECK_FALSE(writer.readable());
    CHECK(writer.writable());
    CHECK_THROWS_AS(reader.send(2), mp::OSError);
    CHECK_THROWS_AS(writer.recv<int>(), mp::OSError);
    CHECK_THROWS_AS(writer.poll(), mp::OSError);
}

TEST_CASE(
    "_TestConnection.test_spawn_close: the child's end works when the parent has closed its copy "
    "at once",
    "[parity]") {
    auto [connection, child_connection] = mp::Pipe();
    mp::Process process({.daemon = true}, echo, child_connection);
    process.start();
    child_connection.close();
    connection.send_bytes("hello");
    CHECK(text_of(connection.recv_bytes()) == "hello");
    connection.send_bytes("");
    join(process);
}

TEST_CASE(
    "_TestConnection.test_sendbytes: a stretch of the bytes is sent, and only one that there is",
    "[parity]") {
    const std::string message = "abcdefghijklmnopqrstuvwxyz";
    auto [a, b] = mp::Pipe();
    const auto minus_one = static_cast<std::size_t>(-1);
    a.send_bytes(message);
    CHECK(text_of(b.recv_bytes()) == message);
    a.send_bytes(message, 5);
    CHECK(text_of(b.recv_bytes()) == message.substr(5));
    a.send_bytes(message, 7, 8);
    CHECK(text_of(b.recv_bytes()) == message.substr(7, 8));
    a.send_bytes(message, 26);
    CHECK(text_of(b.recv_bytes()).empty());
    a.send_bytes(message, 26, 0);
    CHECK(text_of(b.recv_bytes()).empty());

    CHECK_THROWS_AS(a.send_bytes(message, 27), mp::ValueError);
    CHECK_THROWS_AS(a.send_bytes(message, 22, 5), mp::ValueError);
    CHECK_THROWS_AS(a.send_bytes(message, 26, 1), mp::ValueError);
    CHECK_THROWS_AS(a.send_bytes(message, minus_one), mp::ValueError);
    CHECK_THROWS_AS(a.send_bytes(message, 4, minus_one), mp::ValueError);
}

TEST_CASE(
    "_TestConnection.test_fd_transfer: the child writes through a descriptor that it was sent",
    "[parity]") {
    auto [connection, child_connection] = mp::Pipe();
    mp::Process process({.daemon = true}, write_through_received, child_connection, "foo");
    process.start();
    const UniqueFd file = temporary_file();
    mp::reduction::send_handle(connection, file.get());
    join(process);
    CHECK(contents(file) == "foo");
}

TEST_CASE("_TestConnection.test_large_fd_transfer: descriptor numbers above 256 do on both sides",
          "[parity]") {
    const auto allow_descriptors = [] {
        rlimit limit{};
        ::getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = std::max(limit.rlim_cur, std::min<rlim_t>(limit.rlim_max, 1024));
        ::setrlimit(RLIMIT_NOFILE, &limit);
    };
    allow_descriptors();
    auto [connection, child_connection] = mp::Pipe();
    mp::Process process({.daemon = true}, [child_connection = child_connection] {
        for (int fd = 0; fd < 256; ++fd) {
            if (::fcntl(fd, F_GETFD) < 0 && ::dup2(child_connection.fileno(), fd) < 0) {
                std::exit(2);
            }
        }
        write_through_received(child_connection, "bar");
    });
    process.start();
    const UniqueFd file = temporary_file();
    const UniqueFd high(::fcntl(file.get(), F_DUPFD_CLOEXEC, 257));
    REQUIRE(high.get() > 256);
    mp::reduction::send_handle(connection, high.get());
    join(process);
    CHECK(contents(file) == "bar");
}

TEST_CASE(
    "_TestConnection.test_missing_fd_transfer: a byte that came without a descriptor is an error",
    "[parity]") {
    auto [connection, child_connection] = mp::Pipe();
    mp::Process process({.daemon = true}, [child_connection = child_connection] {
        if (::write(child_connection.fileno(), "\0", 1) != 1) { std::exit(2); }
    });
    process.start();
    CHECK_THROWS_AS(mp::reduction::recv_handle(connection), std::runtime_error);
    join(process);
}

TEST_CASE("_TestConnection.test_context: a connection is closed at the end of its scope",
          "[parity]") {
    int fds[2];
    {
        auto [a, b] = mp::Pipe();
        fds[0] = a.fileno();
        fds[1] = b.fileno();
        CHECK(::fcntl(fds[0], F_GETFD) >= 0);
        a.send(1729);
        CHECK(b.recv<int>() == 1729);
    }
    CHECK(::fcntl(fds[0], F_GETFD) == -1);
    CHECK(::fcntl(fds[1], F_GETFD) == -1);

    auto [a, b] = mp::Pipe();
    a.close();
    CHECK(a.closed());
    CHECK_THROWS_AS(a.recv<int>(), mp::OSError);
}

TEST_CASE(
    "_TestPoll.test_empty_string: an empty message is there for poll, however often it is asked",
    "[parity]") {
    auto [a, b] = mp::Pipe();
    CHECK_FALSE(a.poll());
    b.send_bytes("");
    CHECK(a.poll());
    CHECK(a.poll());
}

TEST_CASE("_TestPoll.test_strings: messages, empty ones among them, keep their boundaries",
          "[parity]") {
    const std::vector<std::string> strings{"hello", "", "a", "b", "", "bye", "", "lop"};
    auto [a, b] = mp::Pipe();
    mp::Process process(
        [&strings](const mp::Connection& connection) {
            for (const auto& string : strings) { connection.send_bytes(string); }
        },
        b);
    process.start();
    for (const auto& string : strings) {
        CHECK(a.poll(20s));
        CHECK(text_of(a.recv_bytes()) == string);
    }
    join(process);
}

TEST_CASE("_TestPoll.test_boundaries: a child that only polls takes nothing of a message away",
          "[parity]") {
    auto [reader, writer] = mp::Pipe(false);
    auto [done, say_done] = mp::Pipe(false);
    mp::Process process(
        [](const mp::Connection& polled, const mp::Connection& say) {
            polled.poll(20s);
            say.send(1);
        },
        reader, say_done);
    process.start();
    const std::vector<std::string> strings{"abc", "def"};
    for (const auto& string : strings) { writer.send_bytes(string); }
    done.recv<int>();
    CHECK(text_of(reader.recv_bytes()) == "abc");
    CHECK(text_of(reader.recv_bytes()) == "def");
    join(process);
}

TEST_CASE(
    "_TestPoll.test_dont_merge: messages are never merged, and poll is true until each is read",
    "[parity]") {
    auto [a, b] = mp::Pipe();
    CHECK_FALSE(a.poll(0s));
    CHECK_FALSE(b.poll(0s));
    mp::Process process(
        [](const mp::Connection& connection) {
            for (const std::string_view message : {"a", "b", "cd"}) {
                connection.send_bytes(message);
            }
        },
        b);
    process.start();
    for (const std::string_view message : {"a", "b", "cd"}) {
        CHECK(a.poll(20s));
        CHECK(a.poll(20s));
        CHECK(a.poll(20s));
        CHECK(text_of(a.recv_bytes()) == message);
    }
    join(process);
}

TEST_CASE(
    "_TestPicklingConnections.test_access: either end of a one-way pipe is sent and used by the "
    "child",
    "[parity]") {
    auto [connection, child_connection] = mp::Pipe();
    mp::Process process(
        {.daemon = true},
        [](const mp::Connection& from_parent) {
            const auto writer = from_parent.recv<mp::Connection>();
            writer.send("all is well");
            writer.close();
            const auto reader = from_parent.recv<mp::Connection>();
            const auto first = reader.recv<std::string>();
            from_parent.send(first + reader.recv<std::string>());
        },
        child_connection);
    process.start();
    {
        auto [reader, writer] = mp::Pipe(false);
        connection.send(writer);
        CHECK(reader.recv<std::string>() == "all is well");
    }
    {
        auto [reader, writer] = mp::Pipe(false);
        connection.send(reader);
        reader.close();
        writer.send("foo");
        writer.send("bar");
        CHECK(connection.recv<std::string>() == "foobar");
    }
    join(process);
}

TEST_CASE("_TestPollEintr.test_poll_eintr: a signal does not end a join early", "[parity]") {
    static volatile std::sig_atomic_t handled = 0;
    struct sigaction previous {};
    struct sigaction action {};
    action.sa_handler = [](int) { handled = 1; };
    REQUIRE(::sigaction(SIGUSR1, &action, &previous) == 0);
    const pid_t parent = ::getpid();
    auto [said, say] = mp::Pipe(false);
    mp::Process process([parent, say = say] {
        std::this_thread::sleep_for(100ms);
        ::kill(parent, SIGUSR1);
        std::this_thread::sleep_for(200ms);
        say.send(1);
    });
    process.start();
    process.join();
    CHECK(handled == 1);
    CHECK(said.poll());  // join() came back after the child's last act
    CHECK_FALSE(process.is_alive());
    CHECK(process.exitcode() == 0);
    ::sigaction(SIGUSR1, &previous, nullptr);
}

TEST_CASE(
    "TestInvalidHandle.test_invalid_handles: a descriptor that is none is an error and no crash",
    "[parity]") {
    const mp::Connection connection(44977608);
    CHECK_THROWS_AS(connection.poll(), mp::OSError);
    CHECK_THROWS_AS(mp::Connection(-1), mp::ValueError);
}

TEST_CASE("TestWait.test_wait: all messages of four children are found", "[parity]") {
    wait_for_pipes(false);
}

TEST_CASE("TestWait.test_wait_slow: all messages of four slow children are found", "[parity]") {
    wait_for_pipes(true);
}

TEST_CASE("TestWait.test_wait_socket: plain sockets are waited for as well", "[parity]") {
    wait_for_sockets(false);
}

TEST_CASE("TestWait.test_wait_socket_slow: plain sockets of slow children are waited for as well",
          "[parity]") {
    wait_for_sockets(true);
}

TEST_CASE("TestWait.test_wait_timeout: nothing is ready before something was sent", "[parity]") {
    auto [a, b] = mp::Pipe();
    const auto waited = support::timed([&, &a = a, &b = b] {
        CHECK(wait({a, b}, 500ms).empty());
        return 0;
    });
    CHECK(waited >= 500ms);
    CHECK(waited < 20s);
    b.send(std::monostate());
    CHECK(wait(std::vector{a, b}, 20s) == std::vector{a});
}

TEST_CASE(
    "TestWait.test_wait_integer: a sentinel is ready when its process has ended, with or without "
    "others",
    "[parity]") {
    auto [a, b] = mp::Pipe();
    auto [started, say_started] = mp::Pipe(false);
    mp::Process process([say_started = say_started] {
        say_started.send(1);
        std::this_thread::sleep_for(500ms);
    });
    process.start();
    CHECK(started.recv<int>() == 1);

    const std::vector objects{a.fileno(), process.sentinel(), b.fileno()};
    std::vector<int> ready;
    const auto waited = support::timed([&] { return ready = wait(objects, 20s); });
    CHECK(ready == std::vector{process.sentinel()});
    CHECK(waited < 10s);
    CHECK(waited > 100ms);

    a.send(1);
    CHECK(support::timed([&] { return ready = wait(objects, 20s); }) < 10s);
    CHECK(ready == std::vector{process.sentinel(), b.fileno()});

    b.send(1);
    CHECK(support::timed([&] { return ready = wait(objects, 20s); }) < 10s);
    CHECK(ready == objects);
    join(process);
}

TEST_CASE("TestWait.test_neg_timeout: a negative timeout is none", "[parity]") {
    auto [a, b] = mp::Pipe();
    const auto waited = support::timed([&, &a = a] {
        CHECK(wait({a}, -1s).empty());
        return 0;
    });
    CHECK(waited < 10s);
}

TEST_CASE(
    "TestIgnoreEINTR.test_ignore: a signal disturbs neither a receive nor a send that waits for "
    "room",
    "[parity]") {
    constexpr std::size_t big = 4 << 20;
    auto [connection, child_connection] = mp::Pipe();
    mp::Process process(
        {.daemon = true},
        [](const mp::Connection& child) {
            struct sigaction action {};  // without SA_RESTART
            action.sa_handler = [](int) {};
            ::sigaction(SIGUSR1, &action, nullptr);
            child.send("ready");
            const int received = child.recv<int>();
            child.send(received);
            child.send_bytes(std::string(big, 'x'));
        },
        child_connection);
    process.start();
    const pid_t pid = process.pid().value();
    const auto disturb = [pid] {
        for (int i = 0; i < 20; ++i) {
            ::kill(pid, SIGUSR1);
            std::this_thread::sleep_for(1ms);
        }
    };
    CHECK(connection.recv<std::string>() == "ready");
    disturb();  // in recv
    connection.send(1234);
    CHECK(connection.recv<int>() == 1234);
    CHECK(connection.poll(20s));
    disturb();  // in send_bytes, which has filled the socket
    CHECK(text_of(connection.recv_bytes()) == std::string(big, 'x'));
    join(process);
}

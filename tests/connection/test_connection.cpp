// SPDX-License-Identifier: BSL-1.0
#include "raw_peer.hpp"
#include "support/bounds.hpp"
#include "support/catch.hpp"

#include <multiprocessing/connection.hpp>
#include <multiprocessing/os/process.hpp>
#include <multiprocessing/process.hpp>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;
using support::Joined;
using support::pattern;
using support::RawPeer;
using support::refuses;
using support::text_of;

namespace {

/// Tells whether the thread of this process waits for something.
bool is_asleep(pid_t thread) {
    std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/stat");
    std::string pid, name, state;
    return file >> pid >> name >> state && state == "S";
}

}  // namespace

TEST_CASE("messages of every size arrive in both directions, byte for byte") {
    constexpr std::size_t kib = 1024;
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{1}, 4 * kib, 64 * kib - 1, 64 * kib + 1, 1024 * kib - 1,
          1024 * kib, 1024 * kib + 1, 16 * 1024 * kib}) {
        auto [here, there] = mp::Pipe();
        const Joined echo([there = there] { there.send_bytes(there.recv_bytes()); });
        const auto sent = pattern(size);
        here.send_bytes(sent);
        CHECK(here.recv_bytes() == sent);
    }
}

TEST_CASE("send_bytes sends the stretch that it is asked for") {
    auto [a, b] = mp::Pipe();
    const std::string_view text = "0123456789";
    a.send_bytes(text, 3);
    CHECK(text_of(b.recv_bytes()) == "3456789");
    a.send_bytes(text, 3, 2);
    CHECK(text_of(b.recv_bytes()) == "34");
    a.send_bytes(text, 10);
    CHECK(b.recv_bytes().empty());
    a.send_bytes(text, 4, 0);
    CHECK(b.recv_bytes().empty());

    CHECK_THROWS_AS(a.send_bytes(text, 11), mp::ValueError);
    CHECK_THROWS_AS(a.send_bytes(text, 0, 11), mp::ValueError);
    CHECK_THROWS_AS(a.send_bytes(text, 4, 7), mp::ValueError);
    CHECK_THROWS_AS(a.send_bytes(text, static_cast<std::size_t>(-1)), mp::ValueError);
    CHECK_THROWS_AS(a.send_bytes(text, 1, static_cast<std::size_t>(-1)), mp::ValueError);
    CHECK_FALSE(b.poll());  // nothing of those was sent
}

TEST_CASE("recv_bytes_into fills what the message fills and leaves the rest") {
    auto [a, b] = mp::Pipe();
    std::vector<std::byte> buffer(8, std::byte{'.'});
    a.send_bytes("abc");
    CHECK(b.recv_bytes_into(buffer) == 3);
    CHECK(text_of(buffer) == "abc.....");
    a.send_bytes("xyz");
    CHECK(b.recv_bytes_into(buffer, 5) == 3);
    CHECK(text_of(buffer) == "abc..xyz");
    a.send_bytes("");
    CHECK(b.recv_bytes_into(buffer, 8) == 0);

    a.send_bytes("kept");
    CHECK_THROWS_AS(b.recv_bytes_into(buffer, 9), mp::ValueError);
    CHECK(text_of(b.recv_bytes()) == "kept");  // an error in the arguments receives nothing
}

TEST_CASE("a message that is too long for the buffer is in the error, and the buffer as it was") {
    auto [a, b] = mp::Pipe();
    std::vector<std::byte> buffer(4, std::byte{'.'});
    a.send_bytes("12345");
    a.send_bytes("next");
    try {
        b.recv_bytes_into(buffer);
        FAIL("nothing was thrown");
    } catch (const mp::BufferTooShort& error) { CHECK(text_of(error.message()) == "12345"); }
    CHECK(text_of(buffer) == "....");
    CHECK(b.recv_bytes_into(buffer) == 4);
    CHECK(text_of(buffer) == "next");
}

TEST_CASE("a one-way pipe has a receiving and a sending end") {
    auto [reader, writer] = mp::Pipe(false);
    CHECK(reader.readable());
    CHECK_FALSE(reader.writable());
    CHECK_FALSE(writer.readable());
    CHECK(writer.writable());
    writer.send_bytes("abc");
    CHECK(text_of(reader.recv_bytes()) == "abc");

    std::array<std::byte, 4> buffer{};
    CHECK(refuses(EBADF, "connection is read-only", [&] { reader.send(1); }));
    CHECK(refuses(EBADF, "connection is read-only", [&] { reader.send_bytes("abc"); }));
    CHECK(refuses(EBADF, "connection is write-only", [&] { writer.recv<int>(); }));
    CHECK(refuses(EBADF, "connection is write-only", [&] { writer.recv_bytes(); }));
    CHECK(refuses(EBADF, "connection is write-only", [&] { writer.recv_bytes_into(buffer); }));
    CHECK(refuses(EBADF, "connection is write-only", [&] { writer.poll(); }));

    reader.close();
    CHECK(refuses(EPIPE, "", [&] { writer.send(1); }));
}

TEST_CASE("a closed connection refuses everything") {
    auto [a, b] = mp::Pipe();
    a.close();
    a.close();
    CHECK(a.closed());
    CHECK_FALSE(b.closed());
    const mp::Connection never;
    CHECK(never.closed());
    std::array<std::byte, 4> buffer{};
    for (const mp::Connection& closed : {a, never}) {
        CHECK(refuses(EBADF, "handle is closed", [&] { closed.send(1); }));
        CHECK(refuses(EBADF, "handle is closed", [&] { closed.recv<int>(); }));
        CHECK(refuses(EBADF, "handle is closed", [&] { closed.send_bytes("abc"); }));
        CHECK(refuses(EBADF, "handle is closed", [&] { closed.recv_bytes(); }));
        CHECK(refuses(EBADF, "handle is closed", [&] { closed.recv_bytes_into(buffer); }));
        CHECK(refuses(EBADF, "handle is closed", [&] { closed.poll(); }));
        CHECK(refuses(EBADF, "handle is closed", [&] { closed.fileno(); }));
        closed.close();
    }
}

TEST_CASE("copies are one end, which closes for all of them or with the last") {
    auto [a, b] = mp::Pipe();
    {
        const mp::Connection copy = a;
        CHECK(copy == a);
        CHECK_FALSE(copy == b);
        copy.send_bytes("from the copy");
    }
    CHECK(text_of(b.recv_bytes()) == "from the copy");
    const mp::Connection copy = a;
    copy.close();
    CHECK(a.closed());
    CHECK_THROWS_AS(b.recv_bytes(), mp::EOFError);

    auto [c, d] = mp::Pipe();
    const mp::Connection moved = std::move(c);
    CHECK_FALSE(moved.closed());
    { const mp::Connection last = std::move(d); }
    CHECK_THROWS_AS(moved.recv_bytes(), mp::EOFError);
}

TEST_CASE("what was sent before the end is received before the end, which is then there for good") {
    auto [a, b] = mp::Pipe();
    a.send_bytes("one");
    a.send_bytes("");
    a.close();
    CHECK(text_of(b.recv_bytes()) == "one");
    CHECK(b.poll());
    CHECK(b.recv_bytes().empty());
    std::array<std::byte, 4> buffer{};
    for (int i = 0; i < 3; ++i) {
        CHECK(b.poll());
        CHECK_THROWS_AS(b.recv_bytes(), mp::EOFError);
        CHECK_THROWS_AS(b.recv<int>(), mp::EOFError);
        CHECK_THROWS_AS(b.recv_bytes_into(buffer), mp::EOFError);
    }
}

TEST_CASE("a peer that closes without having read everything leaves the end of file as well") {
    auto [a, b] = mp::Pipe();
    b.send_bytes("never read");
    a.send_bytes("last words");
    a.close();
    CHECK(text_of(b.recv_bytes()) == "last words");
    for (int i = 0; i < 2; ++i) { CHECK_THROWS_AS(b.recv_bytes(), mp::EOFError); }
}

TEST_CASE("sending to nobody is EPIPE and no signal") {
    SECTION("over a socket") {
        auto [a, b] = mp::Pipe();
        b.close();
        for (int i = 0; i < 2; ++i) {
            CHECK(refuses(EPIPE, "", [&, &a = a] { a.send_bytes("abc"); }));
        }
    }
    SECTION("over a pipe") {
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        const mp::Connection reader(ends[0], true, false);
        const mp::Connection writer(ends[1], false, true);
        writer.send_bytes("abc");
        CHECK(text_of(reader.recv_bytes()) == "abc");
        reader.close();
        for (int i = 0; i < 2; ++i) {
            CHECK(refuses(EPIPE, "", [&] { writer.send_bytes("abc"); }));
        }
        sigset_t mask;
        REQUIRE(::pthread_sigmask(SIG_SETMASK, nullptr, &mask) == 0);
        CHECK(::sigismember(&mask, SIGPIPE) == 0);  // the thread's mask is as it was
    }
    SECTION("to a peer that closes while the sender waits for room") {
        auto [a, b] = mp::Pipe();
        // Full, so that the sender sends nothing before it waits.
        const int flags = ::fcntl(a.fileno(), F_GETFL);
        REQUIRE(::fcntl(a.fileno(), F_SETFL, flags | O_NONBLOCK) == 0);
        while (::write(a.fileno(), "x", 1) == 1) {}
        REQUIRE(::fcntl(a.fileno(), F_SETFL, flags) == 0);
        std::atomic<pid_t> sender_id = 0;
        bool epipe = false;
        {
            const Joined sender([&, &a = a] {
                sender_id = mp::detail::os::thread_id();
                epipe = refuses(EPIPE, "", [&] { a.send_bytes("abc"); });
            });
            CHECK(support::eventually([&] { return sender_id != 0 && is_asleep(sender_id); }));
            b.close();
        }
        CHECK(epipe);
    }
}

TEST_CASE("an end of file within a message is an error of its own") {
    RawPeer peer;
    SECTION("within the length") { CHECK(peer.write({0, 0, 0})); }
    SECTION("after the length") { CHECK(peer.write({0, 0, 0, 5})); }
    SECTION("within the bytes") { CHECK(peer.write({0, 0, 0, 5, 'a', 'b'})); }
    SECTION("within a long length") { CHECK(peer.write({255, 255, 255, 255, 0, 0})); }
    // Memory for what is claimed here could not be had.
    SECTION("after a length of 2^39") {
        CHECK(peer.write({255, 255, 255, 255, 0, 0, 0, 128, 0, 0, 0, 0, 'a'}));
    }
    peer.raw.reset();
    CHECK(peer.connection.poll());
    CHECK(refuses(ECONNRESET, "got end of file during message",
                  [&] { peer.connection.recv_bytes(); }));
    CHECK_THROWS_AS(peer.connection.recv_bytes(), mp::EOFError);
}

TEST_CASE("a length that no sender writes ends the receiving, and the receiving alone") {
    const bool duplex = GENERATE(true, false);
    RawPeer peer(duplex);
    SECTION("below -1") { CHECK(peer.write({255, 255, 255, 254, 'a', 'b', 'c', 'd'})); }
    SECTION("the smallest") { CHECK(peer.write({128, 0, 0, 0})); }
    SECTION("a short one written long") {
        CHECK(peer.write({255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 3, 'a', 'b', 'c'}));
    }
    SECTION("over the limit") {
        CHECK(peer.write({255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255}));
    }
    SECTION("over a limit that was set") {
        peer.connection.set_max_message(2);
        CHECK(peer.write({0, 0, 0, 3, 'a', 'b', 'c'}));
    }
    CHECK_THROWS_AS(peer.connection.recv_bytes(), mp::OSError);
    CHECK_FALSE(peer.connection.readable());
    CHECK_THROWS_AS(peer.connection.recv_bytes(), mp::OSError);
    CHECK_THROWS_AS(peer.connection.poll(), mp::OSError);
    CHECK(peer.connection.closed() == !duplex);
    if (duplex) {
        peer.connection.send_bytes("ab");
        CHECK(text_of(peer.read(6)) == std::string("\0\0\0\2ab", 6));
    }
}

TEST_CASE("a message longer than maxlength ends the receiving") {
    SECTION("both ways: it can still send") {
        auto [a, b] = mp::Pipe();
        a.send_bytes("123");
        CHECK(text_of(b.recv_bytes(3)) == "123");
        a.send_bytes("1234");
        CHECK(refuses(EMSGSIZE, "bad message length", [&, &b = b] { b.recv_bytes(3); }));
        CHECK_FALSE(b.readable());
        CHECK_FALSE(b.closed());
        CHECK_THROWS_AS(b.recv_bytes(), mp::OSError);
        b.send_bytes("still here");
        CHECK(text_of(a.recv_bytes()) == "still here");
        // The other side is not left waiting for a reader that will not come.
        CHECK(refuses(EPIPE, "", [&, &a = a] { a.send_bytes(pattern(8 << 20)); }));
    }
    SECTION("one way: it is closed") {
        auto [reader, writer] = mp::Pipe(false);
        writer.send_bytes("1");
        CHECK_THROWS_AS(reader.recv_bytes(0), mp::OSError);
        CHECK(reader.closed());
    }
}

TEST_CASE("a message over the limit is refused by the sender, and the next one is sent") {
    auto [a, b] = mp::Pipe();
    CHECK(a.max_message() == std::uint64_t{1} << 40);
    a.set_max_message(4);
    CHECK_THROWS_AS(a.send_bytes("12345"), mp::ValueError);
    a.send_bytes("1234");
    CHECK(text_of(b.recv_bytes()) == "1234");
}

TEST_CASE("poll waits for as long as it is told and takes nothing away") {
    RawPeer peer;
    CHECK(support::timed([&] { return peer.connection.poll(); }) < 5s);
    CHECK_FALSE(peer.connection.poll());
    CHECK_FALSE(peer.connection.poll(-1s));
    CHECK(support::timed([&] { CHECK_FALSE(peer.connection.poll(50ms)); }) >= 50ms);
    CHECK(peer.write({0, 0}));  // a part of a message
    for (int i = 0; i < 3; ++i) {
        CHECK(peer.connection.poll());
        CHECK(peer.connection.poll(mp::forever));
    }
    CHECK(peer.write({0, 1, 'x'}));
    CHECK(text_of(peer.connection.recv_bytes()) == "x");
    CHECK_FALSE(peer.connection.poll());
}

TEST_CASE("a connection takes over a descriptor") {
    CHECK_THROWS_AS(mp::Connection(-1), mp::ValueError);
    auto [one, other] = mp::detail::os::socketpair();
    CHECK_THROWS_AS(mp::Connection(one.get(), false, false), mp::ValueError);

    REQUIRE(::fcntl(one.get(), F_SETFD, 0) == 0);
    const int fd = one.release();
    const mp::Connection connection(fd);
    CHECK(connection.fileno() == fd);
    CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    connection.close();
    CHECK(::fcntl(fd, F_GETFD) == -1);

    auto [a, b] = mp::Pipe();
    CHECK((::fcntl(a.fileno(), F_GETFD) & FD_CLOEXEC) != 0);
    CHECK((::fcntl(b.fileno(), F_GETFD) & FD_CLOEXEC) != 0);

    const mp::Connection absurd(44977608);
    CHECK(refuses(EBADF, "44977608", [&] { absurd.poll(); }));
    CHECK(refuses(EBADF, "44977608", [&] { absurd.recv_bytes(); }));
    CHECK(refuses(EBADF, "44977608", [&] { absurd.send_bytes("abc"); }));
}

TEST_CASE("descriptors in non-blocking mode do as well") {
    auto [a, b] = mp::Pipe();
    for (const int fd : {a.fileno(), b.fileno()}) {
        REQUIRE(::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK) == 0);
    }
    const auto sent = pattern(4 << 20);
    const Joined sender([&, &a = a] { a.send_bytes(sent); });
    CHECK(b.recv_bytes() == sent);
}

TEST_CASE("a TCP socket does as well, without descriptors") {
    const mp::detail::os::UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    REQUIRE(::bind(listener.get(), generic, size) == 0);
    REQUIRE(::listen(listener.get(), 1) == 0);
    REQUIRE(::getsockname(listener.get(), generic, &size) == 0);
    const mp::Connection a(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(a.fileno(), generic, size) == 0);
    const mp::Connection b(::accept(listener.get(), nullptr, nullptr));

    const auto sent = pattern(4 << 20);
    {
        const Joined sender([&] { a.send_bytes(sent); });
        CHECK(b.recv_bytes() == sent);
    }
    CHECK_THROWS_AS(a.send(b), mp::OSError);
    a.send("next");
    CHECK(b.recv<std::string>() == "next");
    a.close();
    CHECK_THROWS_AS(b.recv<int>(), mp::EOFError);
}

TEST_CASE("one thread sends on an end while another receives on it") {
    auto [a, b] = mp::Pipe();
    constexpr int count = 3000;
    const auto message = [](int i) { return pattern(static_cast<std::size_t>(i % 7 * 1500)); };
    std::array<int, 2> right{};
    {
        std::vector<Joined> threads;
        for (const auto& [end, result] : {std::pair{a, &right[0]}, std::pair{b, &right[1]}}) {
            threads.emplace_back([&message, end = end] {
                for (int i = 0; i < count; ++i) { end.send_bytes(message(i)); }
            });
            threads.emplace_back([&message, end = end, result = result] {
                for (int i = 0; i < count; ++i) {
                    *result += end.recv_bytes() == message(i) ? 1 : 0;
                }
            });
        }
    }
    CHECK(right == std::array{count, count});
}

TEST_CASE("the end of file comes when every process that has the other side has closed it") {
    auto [here, there] = mp::Pipe();
    auto [hold, let_go] = mp::Pipe(false);
    mp::Process child([here = here, hold = hold] {
        here.close();
        hold.recv<int>();
    });
    child.start();  // it has `there` too, and `let_go`
    there.close();
    CHECK_FALSE(here.poll(20ms));
    let_go.send(1);
    CHECK(here.poll(20s));
    CHECK_THROWS_AS(here.recv<int>(), mp::EOFError);
    CHECK(child.join(20s));
}

TEST_CASE("a sender that is killed within a message is an error and no hang") {
    auto [reader, writer] = mp::Pipe(false);
    mp::Process child([writer = writer] { writer.send_bytes(pattern(16 << 20)); });
    child.start();
    writer.close();
    CHECK(reader.poll(20s));
    child.kill();
    CHECK(child.join(20s));
    CHECK(refuses(ECONNRESET, "got end of file during message",
                  [&, &reader = reader] { reader.recv_bytes(); }));
    CHECK_THROWS_AS(reader.recv_bytes(), mp::EOFError);
}

TEST_CASE("a message of more than 2 GiB arrives", "[stress][long]") {
    constexpr std::size_t size = (std::size_t{1} << 31) + 4097;
    void* const memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    const std::span data(static_cast<std::byte*>(memory),
                         size);  // read, not written: takes no memory
    data.front() = std::byte{1};
    data[size / 2] = std::byte{2};
    data.back() = std::byte{3};
    auto [a, b] = mp::Pipe();
    {
        const Joined sender([&, &a = a] { a.send_bytes(data); });
        const auto received = b.recv_bytes();
        REQUIRE(received.size() == size);
        CHECK(std::memcmp(received.data(), data.data(), size) == 0);
    }
    a.send_bytes("and the next");
    CHECK(text_of(b.recv_bytes()) == "and the next");
    ::munmap(memory, size);
}

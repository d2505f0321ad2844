// SPDX-License-Identifier: BSL-1.0
#include "raw_peer.hpp"
#include "support/catch.hpp"
#include "support/leak_check.hpp"

#include <multiprocessing/connection.hpp>
#include <multiprocessing/process.hpp>
#include <multiprocessing/reduction.hpp>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

namespace mp = multiprocessing;
namespace os = mp::detail::os;
using namespace std::chrono_literals;
using support::RawPeer;
using support::refuses;
using support::text_of;

namespace {

struct Parcel {
    std::string label;
    std::vector<mp::Connection> connections;
    std::pair<mp::Connection, int> last;
};

std::size_t open_count() { return support::open_descriptors().size(); }

/// Sends `bytes` with descriptors beside them, framed or not as the caller likes.
void send_raw(const mp::Connection& connection, std::vector<std::byte> bytes,
              std::vector<int> fds) {
    const std::span<const std::byte> part(bytes);
    REQUIRE(os::send(connection.fileno(), os::Transport::local, std::span(&part, 1), fds) ==
            bytes.size());
}

/// Returns the bytes of a message with its length in front.
std::vector<std::byte> framed(const std::vector<std::byte>& message) {
    const mp::detail::FrameHeader header(message.size());
    std::vector<std::byte> bytes(header.bytes().begin(), header.bytes().end());
    bytes.insert(bytes.end(), message.begin(), message.end());
    return bytes;
}

/// Returns the bytes of a message that holds a connection, without the descriptor.
std::vector<std::byte> connection_message() {
    auto [a, b] = mp::Pipe();
    auto [c, d] = mp::Pipe();
    a.send(c);
    return b.recv_bytes();
}

/// Lowers the number of descriptors that may be open for as long as it lives.
struct FewDescriptors {
    rlimit before{};
    explicit FewDescriptors(rlim_t limit) {
        ::getrlimit(RLIMIT_NOFILE, &before);
        const rlimit lowered{limit, before.rlim_max};
        ::setrlimit(RLIMIT_NOFILE, &lowered);
    }
    ~FewDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before); }
};

}  // namespace

TEST_CASE("a connection is sent over a connection, and the sender keeps its own") {
    auto [a, b] = mp::Pipe();
    auto [c, d] = mp::Pipe();
    c.set_max_message(1000);
    a.send(c);
    const auto received = b.recv<mp::Connection>();
    CHECK(received.fileno() != c.fileno());
    CHECK((::fcntl(received.fileno(), F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(received.max_message() == 1000);
    received.send("over the copy");
    CHECK(d.recv<std::string>() == "over the copy");
    c.close();
    d.send("back");
    CHECK(received.recv<std::string>() == "back");
}

TEST_CASE("a connection that was sent can do what the sender's could") {
    auto [a, b] = mp::Pipe(false);  // a one-way pipe carries descriptors too
    auto [reader, writer] = mp::Pipe(false);
    b.send(reader);
    b.send(writer);
    const auto reader_copy = a.recv<mp::Connection>();
    const auto writer_copy = a.recv<mp::Connection>();
    CHECK(reader_copy.readable());
    CHECK_FALSE(reader_copy.writable());
    CHECK_FALSE(writer_copy.readable());
    CHECK(writer_copy.writable());
    writer_copy.send(1);
    CHECK(reader_copy.recv<int>() == 1);
    writer.close();
    writer_copy.close();
    CHECK_THROWS_AS(reader_copy.recv<int>(), mp::EOFError);
}

TEST_CASE("several connections travel inside a value") {
    auto [a, b] = mp::Pipe();
    std::vector<mp::Connection> kept;
    Parcel parcel{"three", {}, {}};
    for (int i = 0; i < 3; ++i) {
        auto [c, d] = mp::Pipe();
        kept.push_back(c);
        if (i < 2) {
            parcel.connections.push_back(d);
        } else {
            parcel.last = {d, 9};
        }
    }
    a.send(parcel);
    const auto received = b.recv<Parcel>();
    CHECK(received.label == "three");
    CHECK(received.last.second == 9);
    kept[0].send(0);
    kept[1].send(1);
    kept[2].send(2);
    CHECK(received.connections.at(0).recv<int>() == 0);
    CHECK(received.connections.at(1).recv<int>() == 1);
    CHECK(received.last.first.recv<int>() == 2);
}

TEST_CASE("a connection that another process made is used here") {
    auto [here, there] = mp::Pipe();
    mp::Process child([there = there] {
        auto [a, b] = mp::Pipe();
        there.send(a);
        b.send(b.recv<std::string>() + ", and back");
    });
    child.start();
    const auto connection = here.recv<mp::Connection>();
    connection.send("there");
    CHECK(connection.recv<std::string>() == "there, and back");
    CHECK(child.join(20s));
}

TEST_CASE("a message carries at most 253 connections") {
    auto [a, b] = mp::Pipe();
    auto [c, d] = mp::Pipe();
    a.send(std::vector<mp::Connection>(253, c));
    CHECK(b.recv<std::vector<mp::Connection>>().size() == 253);
    CHECK_THROWS_AS(a.send(std::vector<mp::Connection>(254, c)), mp::SerializationError);
    a.send(1);  // nothing of that was sent
    CHECK(b.recv<int>() == 1);
}

TEST_CASE("a closed connection is not sent, nor one where there is nothing to carry it") {
    auto [a, b] = mp::Pipe();
    auto [c, d] = mp::Pipe();
    c.close();
    CHECK(refuses(EBADF, "handle is closed", [&, &a = a, &c = c] { a.send(c); }));
    CHECK_THROWS_AS(mp::dumps(d), mp::SerializationError);
    a.send(1);
    CHECK(b.recv<int>() == 1);

    // A pipe is no socket, and carries bytes alone.
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const mp::Connection reader(ends[0], true, false);
    const mp::Connection writer(ends[1], false, true);
    CHECK_THROWS_AS(writer.send(d), mp::OSError);
    writer.send(2);
    CHECK(reader.recv<int>() == 2);
}

TEST_CASE("a descriptor that did not come is an error, and the next message is received") {
    const auto message = connection_message();
    auto [a, b] = mp::Pipe();
    a.send_bytes(message);
    CHECK_THROWS_AS(b.recv<mp::Connection>(), mp::SerializationError);
    a.send(1);
    CHECK(b.recv<int>() == 1);
    CHECK_THROWS_AS(mp::loads<mp::Connection>(std::span(message).subspan(8)),
                    mp::SerializationError);
}

TEST_CASE("descriptors that nobody asked for are closed") {
    auto [a, b] = mp::Pipe();
    auto [c, d] = mp::Pipe();
    const auto before = open_count();
    a.send(1);
    const auto one = framed(b.recv_bytes());
    const std::vector<int> three(3, c.fileno());

    send_raw(a, one, three);  // with a value that has no use for them
    CHECK(b.recv<int>() == 1);
    CHECK(open_count() == before);

    send_raw(a, framed(support::bytes_of("bytes")), three);
    CHECK(text_of(b.recv_bytes()) == "bytes");
    CHECK(open_count() == before);

    const auto connection = framed(connection_message());
    send_raw(a, connection, three);  // the first is the value's
    { CHECK(b.recv<mp::Connection>().fileno() >= 0); }
    CHECK(open_count() == before);

    send_raw(a, connection, three);  // with a value of another type
    CHECK_THROWS_AS(b.recv<int>(), mp::SerializationError);
    CHECK(open_count() == before);

    send_raw(a, {connection.begin(), connection.begin() + 4}, {});  // behind the length
    send_raw(a, {connection.begin() + 4, connection.end()}, three);
    CHECK_THROWS_AS(b.recv<mp::Connection>(), mp::SerializationError);
    CHECK(open_count() == before);

    a.send("and the next");
    CHECK(b.recv<std::string>() == "and the next");
}

TEST_CASE("a receiver without room for a descriptor says so and goes on") {
    auto [a, b] = mp::Pipe();
    auto [c, d] = mp::Pipe();
    a.send(std::vector{c, d});
    a.send(1);
    const auto before = open_count();
    std::string refusal;
    try {
        // The lowest free number and no more: one of the two fits.
        const os::UniqueFd lowest(::dup(a.fileno()));
        const FewDescriptors few(static_cast<rlim_t>(lowest.get() + 1));
        b.recv<std::vector<mp::Connection>>();
    } catch (const mp::SerializationError& error) { refusal = error.what(); }
    CHECK_THAT(refusal, support::contains("too many descriptors open"));
    CHECK(open_count() == before);
    CHECK(b.recv<int>() == 1);
}

TEST_CASE("send_handle and recv_handle hand over a descriptor") {
    auto [a, b] = mp::Pipe();
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const os::UniqueFd read_end(ends[0]);
    os::UniqueFd write_end(ends[1]);
    mp::reduction::send_handle(a, write_end.get());
    write_end.reset();
    os::UniqueFd received(mp::reduction::recv_handle(b));
    CHECK((::fcntl(received.get(), F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(::write(received.get(), "x", 1) == 1);
    char byte = 0;
    CHECK(::read(read_end.get(), &byte, 1) == 1);
    CHECK(byte == 'x');

    CHECK(refuses(EBADF, "", [&, &a = a] { mp::reduction::send_handle(a, 44977608); }));
    a.send("nothing of that was sent");
    CHECK(b.recv<std::string>() == "nothing of that was sent");
}

TEST_CASE("recv_handle refuses what is not one descriptor") {
    auto [a, b] = mp::Pipe();
    const auto before = open_count();
    send_raw(a, {std::byte{1}}, {});
    CHECK_THROWS_AS(mp::reduction::recv_handle(b), mp::ProcessError);
    send_raw(a, {std::byte{2}}, {a.fileno(), a.fileno()});
    CHECK_THROWS_AS(mp::reduction::recv_handle(b), mp::ProcessError);
    CHECK(open_count() == before);
    a.close();
    CHECK_THROWS_AS(mp::reduction::recv_handle(b), mp::EOFError);
}

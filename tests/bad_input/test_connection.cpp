// SPDX-License-Identifier: BSL-1.0

// What misuse of pipes and connections is answered with.

#include "support/catch.hpp"

#include <multiprocessing/connection.hpp>
#include <multiprocessing/errors.hpp>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

// The call is refused with that error of the kernel's and these words.
template <class F>
bool refuses(int error, std::string_view words, F call) {
    try {
        call();
    } catch (const mp::OSError& refused) {
        CAPTURE(refused.what(), refused.code().value());
        CHECK(refused.code().value() == error);
        CHECK_THAT(std::string(refused.what()), support::contains(std::string(words)));
        return true;
    }
    return false;
}

}  // namespace

TEST_CASE("the ends of a one-way pipe go one way") {
    auto [reader, writer] = mp::Pipe(false);
    CHECK(refuses(EBADF, "read-only", [&, &end = reader] { end.send(1); }));
    CHECK(refuses(EBADF, "read-only", [&, &end = reader] { end.send_bytes("x"); }));
    CHECK(refuses(EBADF, "write-only", [&, &end = writer] { end.recv<int>(); }));
    CHECK(refuses(EBADF, "write-only", [&, &end = writer] { end.recv_bytes(); }));
    CHECK(refuses(EBADF, "write-only", [&, &end = writer] { end.poll(); }));
    std::array<std::byte, 8> buffer{};
    CHECK(refuses(EBADF, "write-only", [&, &end = writer] { end.recv_bytes_into(buffer); }));
}

TEST_CASE("offsets and sizes outside of the bytes are ValueError, and nothing is sent") {
    auto [a, b] = mp::Pipe();
    CHECK_THROWS_AS(a.send_bytes("four", 5), mp::ValueError);
    CHECK_THROWS_AS(a.send_bytes("four", 2, 3), mp::ValueError);
    CHECK_THROWS_AS(a.send_bytes("four", 0, 5), mp::ValueError);
    CHECK_THROWS_AS(a.send_bytes("four", 1, std::size_t(-1)), mp::ValueError);
    CHECK_FALSE(b.poll());
    a.send_bytes("four", 4);  // nothing is a message
    CHECK(b.recv_bytes().empty());

    a.send_bytes("four");
    std::array<std::byte, 8> buffer{};
    CHECK_THROWS_AS(b.recv_bytes_into(buffer, 9), mp::ValueError);
    CHECK(b.recv_bytes_into(buffer, 4) == 4);
}

TEST_CASE("too small a buffer is BufferTooShort, which has the message") {
    auto [a, b] = mp::Pipe();
    a.send_bytes("longer than that");
    std::array<std::byte, 4> buffer{};
    try {
        b.recv_bytes_into(buffer);
        FAIL("was taken for long enough");
    } catch (const mp::BufferTooShort& error) { CHECK(error.message().size() == 16); }
    CHECK(buffer == std::array<std::byte, 4>{});
    CHECK_FALSE(b.poll());
}

TEST_CASE("a message longer than allowed ends the reading side") {
    auto [a, b] = mp::Pipe();
    a.send_bytes("12345");
    CHECK(refuses(EMSGSIZE, "bad message length", [&, &end = b] { end.recv_bytes(4); }));
    CHECK_FALSE(b.readable());
    CHECK(b.writable());
    CHECK(refuses(EBADF, "", [&, &end = b] { end.recv_bytes(); }));
    b.send(1);
    CHECK(a.recv<int>() == 1);

    auto [reader, writer] = mp::Pipe(false);
    writer.send_bytes("12345");
    CHECK(refuses(EMSGSIZE, "bad message length", [&, &end = reader] { end.recv_bytes(4); }));
    CHECK(reader.closed());
}

TEST_CASE("the end of the file is EOFError for ever, and the other direction a broken pipe") {
    auto [a, b] = mp::Pipe();
    a.send(1);
    a.close();
    CHECK(b.recv<int>() == 1);
    CHECK(b.poll());
    CHECK_THROWS_AS(b.recv<int>(), mp::EOFError);
    CHECK_THROWS_AS(b.recv_bytes(), mp::EOFError);
    CHECK(refuses(EPIPE, "", [&, &end = b] { end.send(1); }));
}

TEST_CASE("a closed connection refuses everything but being closed") {
    auto [a, b] = mp::Pipe();
    a.close();
    a.close();
    CHECK(a.closed());
    CHECK(refuses(EBADF, "closed", [&, &end = a] { end.send(1); }));
    CHECK(refuses(EBADF, "closed", [&, &end = a] { end.recv<int>(); }));
    CHECK(refuses(EBADF, "closed", [&, &end = a] { end.poll(); }));
    CHECK(refuses(EBADF, "closed", [&, &end = a] { end.fileno(); }));
    CHECK(refuses(EBADF, "closed", [&, &end = a] { mp::connection::wait({end}, 0s); }));
}

TEST_CASE("another type than was sent is SerializationError, and the connection goes on") {
    auto [a, b] = mp::Pipe();
    a.send(std::string("text"));
    CHECK_THROWS_AS(b.recv<int>(), mp::SerializationError);
    a.send_bytes("no value at all");
    CHECK_THROWS_AS(b.recv<int>(), mp::SerializationError);
    a.send(7);
    CHECK(b.recv<int>() == 7);
}

TEST_CASE("waiting for what is no descriptor is an error") {
    CHECK(refuses(EBADF, "", [] { mp::connection::wait({-1}, 0s); }));
    CHECK(refuses(EBADF, "", [] { mp::connection::wait({999'999}, 0s); }));
}

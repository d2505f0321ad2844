// SPDX-License-Identifier: BSL-1.0
#include "raw_peer.hpp"
#include "support/catch.hpp"

#include <multiprocessing/connection.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

namespace mp = multiprocessing;
using support::RawPeer;
using support::text_of;

namespace {

struct Ticket {
    int id;
    std::string who;
    std::vector<double> prices;
    bool operator==(const Ticket&) const = default;
};

struct NeverSent {
    std::uint16_t a;
    std::uint8_t b[3];
};

template <class F>
std::string refusal_of(F&& f) {
    try {
        f();
    } catch (const mp::SerializationError& error) { return error.what(); }
    return {};
}

template <class T>
T sent_and_received(const T& value) {
    auto [a, b] = mp::Pipe();
    a.send(value);
    T received = b.recv<T>();
    CHECK_FALSE(b.poll());
    return received;
}

}  // namespace

TEST_CASE("a value arrives as it was sent") {
    CHECK(sent_and_received(42) == 42);
    CHECK(sent_and_received(std::string()).empty());
    CHECK(sent_and_received(Ticket{7, "Ada", {1.5, 2.5}}) == Ticket{7, "Ada", {1.5, 2.5}});
    const std::map<std::string, std::optional<int>> map{{"one", 1}, {"none", std::nullopt}};
    CHECK(sent_and_received(map) == map);
    const std::variant<int, std::string> variant("text");
    CHECK(sent_and_received(variant) == variant);
    CHECK(sent_and_received(std::tuple(1, 'c', 2.5)) == std::tuple(1, 'c', 2.5));
}

TEST_CASE("what can only be moved is sent from where it is") {
    auto [a, b] = mp::Pipe();
    const auto value = std::make_unique<int>(5);
    a.send(value);
    CHECK(*b.recv<std::unique_ptr<int>>() == 5);
    CHECK(*value == 5);
}

TEST_CASE("a string literal is sent as a string") {
    auto [a, b] = mp::Pipe();
    a.send("hello");
    CHECK(b.recv<std::string>() == "hello");
    a.send("");
    CHECK(b.recv<std::string>().empty());
}

TEST_CASE("a message of another type is refused by name, and the next one is received") {
    auto [a, b] = mp::Pipe();
    a.send(std::string("a string"));
    a.send(Ticket{1, "Ada", {}});
    a.send(3);

    const auto text = refusal_of([&, &b = b] { b.recv<int>(); });
    CHECK_THAT(text, support::contains("not a int"));
    CHECK_THAT(text, support::contains("basic_string"));
    CHECK_THAT(refusal_of([&, &b = b] { b.recv<std::vector<int>>(); }),
               support::contains("Ticket"));
    CHECK(b.recv<int>() == 3);
    CHECK_FALSE(b.poll());
}

TEST_CASE("types that differ in size or sign only are different types") {
    auto [a, b] = mp::Pipe();
    a.send(std::int32_t{1});
    CHECK_THROWS_AS(b.recv<std::int64_t>(), mp::SerializationError);
    a.send(std::int32_t{1});
    CHECK_THROWS_AS(b.recv<std::uint32_t>(), mp::SerializationError);
}

TEST_CASE("bytes that are no value are refused, and the next message is received") {
    auto [a, b] = mp::Pipe();
    a.send_bytes("");
    a.send_bytes("short");
    a.send_bytes("these are not the bytes of a value");
    a.send(1);
    for (int i = 0; i < 3; ++i) {
        CHECK_THAT(refusal_of([&, &b = b] { b.recv<NeverSent>(); }),
                   support::contains("NeverSent"));
    }
    CHECK(b.recv<int>() == 1);
}

TEST_CASE("every cut and every further byte of a message is refused") {
    auto [a, b] = mp::Pipe();
    a.send(Ticket{7, "Ada", {1.5}});
    const auto message = b.recv_bytes();
    for (std::size_t size = 0; size < message.size(); ++size) {
        a.send_bytes(message, 0, size);
        CHECK_THROWS_AS(b.recv<Ticket>(), mp::SerializationError);
    }
    auto longer = message;
    longer.push_back(std::byte{0});
    a.send_bytes(longer);
    CHECK_THROWS_AS(b.recv<Ticket>(), mp::SerializationError);
    a.send_bytes(message);
    CHECK(b.recv<Ticket>() == Ticket{7, "Ada", {1.5}});
}

TEST_CASE("values and bytes share a connection in the order in which they were sent") {
    auto [a, b] = mp::Pipe();
    a.send(1);
    a.send_bytes("two");
    a.send(std::string("three"));
    CHECK(b.recv<int>() == 1);
    CHECK(text_of(b.recv_bytes()) == "two");
    CHECK(b.recv<std::string>() == "three");
}

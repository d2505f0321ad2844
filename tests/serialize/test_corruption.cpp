// SPDX-License-Identifier: BSL-1.0

// Received bytes are never trusted. Every prefix and every corruption of one byte of a set of
// messages gives a value or SerializationError, and allocates in proportion to the bytes that are
// there.

#include "support/catch.hpp"

#include "oversold.hpp"

#include <multiprocessing/serialize.hpp>
#include <multiprocessing/serialize/exception.hpp>

#include <algorithm>
#include <array>
#include <bitset>
#include <chrono>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <filesystem>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <variant>
#include <vector>

namespace mp = multiprocessing;
namespace detail = mp::detail;

namespace {

/// Is thrown where more is allocated than the message justifies.
struct TooMuch {};

std::size_t budget = std::numeric_limits<std::size_t>::max();

struct Budget {
    explicit Budget(std::size_t bytes) { budget = bytes; }
    ~Budget() { budget = std::numeric_limits<std::size_t>::max(); }
};

void* allocate(std::size_t size) {
    if (size > budget) { throw TooMuch(); }
    if (budget != std::numeric_limits<std::size_t>::max()) { budget -= size; }
    void* const memory = std::malloc(size != 0 ? size : 1);
    if (memory == nullptr) { throw std::bad_alloc(); }
    return memory;
}

}  // namespace

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return std::malloc(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return std::malloc(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

enum class Color : std::uint8_t { red, green };
enum class Truth : bool { no, yes };

struct Ticket {
    int id;
    std::string who;
};

struct Mixed {
    bool flag;
    Color color;
    Truth truth;
    char label[3];
    bool flags[2];
    std::optional<Ticket> ticket;
    std::vector<Ticket> tickets;
};

struct Empty {};

struct Node {
    std::uint16_t v;
    std::vector<Node> kids;
    std::unique_ptr<Node> next;
    std::map<std::uint8_t, Node> more;
};

class Class {
  public:
    Class() = default;
    explicit Class(int number) : number_(number) {}
    void serialize(auto& archive) { archive(number_, names_); }

  private:
    int number_ = 0;
    std::vector<std::string> names_{"a", "b"};
};

struct Tag {
    Tag() = default;
    explicit Tag(int) {}
    void serialize(auto&) {}
};

/// Tells what is wrong with what `load` makes of `bytes`; "" if it is a value or
/// `SerializationError`.
template <class Load>
std::string fault(std::span<const std::byte> bytes, Load load) {
    // In memory of exactly that size, so that a sanitizer sees what is read beyond it.
    const std::size_t size = bytes.size();
    const std::unique_ptr<std::byte[]> copy(new std::byte[size]);
    std::copy(bytes.begin(), bytes.end(), copy.get());
    try {
        const Budget bounded((std::size_t{1} << 20) + 64 * size);
        load(std::span<const std::byte>(copy.get(), size));
    } catch (const mp::SerializationError&) {
    } catch (const TooMuch&) { return "allocates too much"; } catch (const std::exception& error) {
        return std::string("throws another exception: ") + error.what();
    }
    return "";
}

template <class Load>
void check_all(const std::vector<std::byte>& message, Load load) {
    REQUIRE_NOTHROW(load(message));
    REQUIRE(fault(message, load) == "");
    std::size_t faults = 0;
    const auto check = [&](std::span<const std::byte> bytes, std::size_t at, int with) {
        const std::string found = fault(bytes, load);
        if (found.empty() || ++faults > 3) { return; }
        FAIL_CHECK("byte " << at << " of " << message.size() << " as " << with << ": " << found);
    };
    for (std::size_t n = 0; n < message.size(); ++n) { check(std::span(message).first(n), n, -1); }
    auto bytes = message;
    const bool is_small = message.size() <= 200;
    for (std::size_t at = 0; at < bytes.size(); ++at) {
        const std::byte original = bytes[at];
        const auto with = [&](int value) {
            bytes[at] = static_cast<std::byte>(value);
            check(bytes, at, value);
        };
        if (is_small) {
            for (int value = 0; value < 256; ++value) { with(value); }
        } else {
            for (const int value : {0, 1, 2, 3, 9, 0x7f, 0x80, 0xfe, 0xff}) { with(value); }
            with(std::to_integer<int>(original) + 1);
            with(std::to_integer<int>(original) - 1);
            with(std::to_integer<int>(original) ^ 0x10);
        }
        bytes[at] = original;
    }
}

template <class T>
void check(const T& value) {
    INFO(detail::type_name<T>());
    check_all(mp::dumps(value), [](std::span<const std::byte> bytes) { mp::loads<T>(bytes); });
}

Node small_tree() {
    Node leaf{7, {}, nullptr, {}};
    Node root{1, {}, std::make_unique<Node>(Node{2, {}, nullptr, {}}), {}};
    root.kids.push_back(std::move(leaf));
    root.more.emplace(std::uint8_t{3}, Node{4, {}, nullptr, {}});
    return root;
}

}  // namespace

TEST_CASE("corrupted scalars give a value or SerializationError") {
    check(true);
    check(5);
    check(Color::green);
    check(Truth::yes);
    check(1.5L);
    check(std::monostate());
    check(Empty());
    check(std::bitset<11>(5));
    check(std::complex<double>(1, 2));
    check(std::chrono::seconds(3));
    check(std::error_code(2, std::generic_category()));
}

TEST_CASE("corrupted strings and containers give a value or SerializationError") {
    check(std::string("some text"));
    check(std::u32string(U"wide"));
    check(std::vector<int>{1, 2, 3});
    check(std::vector<bool>(21, true));
    check(std::vector<std::string>{"a", "", "ccc"});
    check(std::vector<std::vector<std::vector<char>>>{{{'a'}, {}}, {}});
    check(std::deque<short>{1, 2});
    check(std::list<char>{1, 2, 3});
    check(std::array<std::string, 2>{"a", "b"});
    check(std::map<std::string, int>{{"a", 1}, {"b", 2}});
    check(std::map<bool, bool>{{true, false}});
    check(std::set<int>{1, 2, 3});
    check(std::unordered_map<char, std::string>{{'a', "x"}, {'b', "y"}});
    check(std::unordered_set<std::string>{"a", "b"});
    check(std::filesystem::path("/a/b"));
}

TEST_CASE("corrupted counts of things that take little room allocate little") {
    check(std::vector<Empty>(3));
    check(std::vector<std::monostate>(3));
    check(std::vector<std::tuple<>>(3));
    check(std::vector<std::array<int, 0>>(3));
    check(std::vector<std::bitset<0>>(3));
    check(std::vector<Tag>(3));
    check(std::list<Empty>(3));
    check(std::vector<std::optional<std::array<char, 300>>>(3));
    check(std::vector<std::unique_ptr<Ticket>>(3));
    check(std::vector<std::variant<char, std::array<char, 200>>>(3));
}

TEST_CASE("corrupted sums, products and pointers give a value or SerializationError") {
    using Variant = std::variant<std::monostate, int, std::string, std::vector<bool>>;
    check(std::optional<std::string>("text"));
    check(std::vector<Variant>{Variant(), Variant(5), Variant("text"), std::vector<bool>(3)});
    check(std::tuple<char, std::string, bool>('a', "b", true));
    check(std::make_unique<Ticket>(Ticket{1, "Ada"}));
    check(std::make_shared<std::vector<int>>(3));
}

TEST_CASE("corrupted classes give a value or SerializationError") {
    check(Ticket{1, "Ada"});
    check(Mixed{true,
                Color::red,
                Truth::yes,
                {'a', 'b', 'c'},
                {true, false},
                Ticket{1, "Ada"},
                {Ticket{2, "Bob"}, Ticket{3, ""}}});
    check(Class(5));
    check(std::vector<Class>{Class(5), Class(6)});
    check(small_tree());
    auto f = mp::partial([](const std::string&, int, char) {}, "text", 5);
    check(f);
}

TEST_CASE("corrupted longer messages give a value or SerializationError") {
    std::map<std::string, std::vector<Ticket>> bookings;
    for (int i = 0; i < 20; ++i) {
        bookings["train " + std::to_string(i)] = {{i, "Ada"}, {i + 1, "Bob"}};
    }
    check(bookings);
}

TEST_CASE("every claimed length is refused without an allocation of that length") {
    for (int shift = 0; shift < 64; ++shift) {
        std::vector<std::byte> bytes(16);
        const std::uint64_t claimed = std::uint64_t{1} << shift;
        std::memcpy(bytes.data(), &claimed, sizeof claimed);
        const auto lengths = [&]<class T>(std::type_identity<T>) {
            INFO(detail::type_name<T>());
            CHECK(fault(bytes, [](std::span<const std::byte> b) { mp::loads<T>(b); }) == "");
        };
        lengths(std::type_identity<std::string>());
        lengths(std::type_identity<std::u32string>());
        lengths(std::type_identity<std::vector<bool>>());
        lengths(std::type_identity<std::vector<double>>());
        lengths(std::type_identity<std::vector<Ticket>>());
        lengths(std::type_identity<std::vector<Empty>>());
        lengths(std::type_identity<std::vector<Tag>>());
        lengths(std::type_identity<std::vector<Node>>());
        lengths(std::type_identity<std::unordered_set<int>>());
        lengths(std::type_identity<std::map<Color, Truth>>());
    }
}

TEST_CASE("a count of large elements that can be small allocates for what is there") {
    // As many elements as bytes would be right if each were absent; but all are present.
    using Large = std::array<char, 1000>;
    std::vector<std::byte> bytes(100'000, std::byte{1});
    const std::uint64_t claimed = bytes.size() - sizeof claimed;
    std::memcpy(bytes.data(), &claimed, sizeof claimed);
    const auto load_as = [&]<class T>(std::type_identity<T>) {
        INFO(detail::type_name<T>());
        CHECK(fault(bytes, [](std::span<const std::byte> b) { mp::loads<T>(b); }) == "");
    };
    load_as(std::type_identity<std::vector<std::optional<Large>>>());
    load_as(std::type_identity<std::vector<std::variant<char, Large>>>());
    load_as(std::type_identity<std::deque<std::optional<Large>>>());
}

namespace {

class Registered : public std::runtime_error {
  public:
    Registered() : std::runtime_error("registered") {}
    explicit Registered(int code) : std::runtime_error("registered"), code_(code) {}
    void serialize(auto& archive) { archive(code_, names_); }

  private:
    int code_ = 0;
    std::vector<std::string> names_{"a"};
};
MULTIPROCESSING_EXCEPTION(Registered);

template <class Throw>
void check_exception(Throw thrower) {
    std::exception_ptr error;
    try {
        thrower();
    } catch (...) { error = std::current_exception(); }
    detail::Writer out;
    detail::save_exception(out, error, {1, "P"});
    check_all(out.release(), [](std::span<const std::byte> bytes) {
        detail::Reader in(bytes);
        if (detail::load_exception(in) == nullptr) { throw std::logic_error("no exception"); }
    });
}

}  // namespace

TEST_CASE("corrupted exceptions give an exception or SerializationError") {
    check_exception([] { throw std::out_of_range("text"); });
    check_exception([] { throw std::system_error(2, std::generic_category(), "open"); });
    check_exception([] {
        throw std::filesystem::filesystem_error("copy", "/a", "/b",
                                                std::make_error_code(std::errc::io_error));
    });
    check_exception([] { throw mp::BufferTooShort(std::vector<std::byte>(3)); });
    check_exception([] { throw mp::WorkerDiedError("died", mp::Death{.pid = 3, .exitcode = -9}); });
    check_exception([] { throw Registered(5); });
    check_exception([] { throw shop::Oversold("sold out"); });
    check_exception([] { throw 42; });
    check_exception([] {
        try {
            throw std::out_of_range("inner");
        } catch (...) { std::throw_with_nested(Registered(5)); }
    });
}

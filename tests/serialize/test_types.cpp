// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <multiprocessing/serialize.hpp>

#include <array>
#include <bitset>
#include <chrono>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <forward_list>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

namespace mp = multiprocessing;
namespace detail = mp::detail;

namespace {

enum class Color : std::uint8_t { red, green };
enum class Truth : bool { no, yes };
enum Plain { plain_a, plain_b, plain_c = 100 };
enum Fixed : short { fixed_low = -5, fixed_high = 5 };

struct Ticket {
    int id;
    std::string who;
    bool operator==(const Ticket&) const = default;
};

struct Empty {
    bool operator==(const Empty&) const = default;
};

/// Sends `value` there and back, and checks what is promised about its size.
template <class T>
T there_and_back(const T& value) {
    const auto bytes = mp::dumps(value);
    CHECK(bytes.size() >= detail::min_saved_size<T>);
    if constexpr (detail::is_plain_v<T>) { CHECK(bytes.size() == detail::saved_size(value)); }
    return mp::loads<T>(bytes);
}

template <class T>
void check(const T& value) {
    INFO(detail::type_name<T>());
    CHECK(there_and_back(value) == value);
}

template <class T>
void check_limits() {
    check(std::numeric_limits<T>::lowest());
    check(std::numeric_limits<T>::max());
    check(T{});
}

template <class T>
bool is_refused(std::vector<std::byte> bytes) {
    try {
        mp::loads<T>(bytes);
        return false;
    } catch (const mp::SerializationError&) { return true; }
}

std::vector<std::byte> bytes_of(std::initializer_list<int> numbers) {
    std::vector<std::byte> bytes;
    for (const int number : numbers) { bytes.push_back(static_cast<std::byte>(number)); }
    return bytes;
}

}  // namespace

TEST_CASE("arithmetic types are sent") {
    check(true);
    check(false);
    check_limits<char>();
    check_limits<signed char>();
    check_limits<unsigned char>();
    check_limits<wchar_t>();
    check_limits<char8_t>();
    check_limits<char16_t>();
    check_limits<char32_t>();
    check_limits<short>();
    check_limits<unsigned short>();
    check_limits<int>();
    check_limits<unsigned>();
    check_limits<long>();
    check_limits<unsigned long>();
    check_limits<long long>();
    check_limits<unsigned long long>();
    check_limits<float>();
    check_limits<double>();
    check_limits<long double>();
    check(std::numeric_limits<long double>::epsilon());
    check(std::byte{200});
}

TEST_CASE("a bool is 0 or 1") {
    CHECK(is_refused<bool>(bytes_of({2})));
    CHECK(is_refused<Truth>(bytes_of({2})));
    CHECK(is_refused<std::optional<int>>(bytes_of({2, 0, 0, 0, 0})));
    CHECK(is_refused<std::unique_ptr<int>>(bytes_of({255, 0, 0, 0, 0})));
}

TEST_CASE("enumerations are sent") {
    check(Color::green);
    check(static_cast<Color>(77));  // legal: the underlying type is fixed
    check(Truth::yes);
    check(plain_c);
    check(fixed_low);
#if !defined(__clang__)
    // g++ tells how far the values of an enumeration without fixed type reach.
    CHECK(is_refused<Plain>(mp::dumps(1000u)));
#endif
}

TEST_CASE("strings of all characters are sent") {
    check(std::string("hello"));
    check(std::string());
    check(std::string("a\0b", 3));
    check(std::wstring(L"wide"));
    check(std::u8string(u8"eight"));
    check(std::u16string(u"sixteen"));
    check(std::u32string(U"thirty-two"));
    check(std::string(100'000, 'x'));
}

TEST_CASE("a string literal is sent as a string") {
    CHECK(mp::loads<std::string>(mp::dumps("literal")) == "literal");
    CHECK(mp::loads<std::u16string>(mp::dumps(u"literal")) == u"literal");
    STATIC_REQUIRE(std::is_same_v<detail::sent_t<const char(&)[5]>, std::string>);
    STATIC_REQUIRE(std::is_same_v<detail::sent_t<char(&)[5]>, std::string>);
    STATIC_REQUIRE(std::is_same_v<detail::sent_t<const wchar_t(&)[5]>, std::wstring>);
    STATIC_REQUIRE(std::is_same_v<detail::sent_t<const int&>, int>);
    STATIC_REQUIRE(std::is_same_v<detail::sent_t<int(&)[3]>, int*>);
}

TEST_CASE("sequences are sent") {
    check(std::vector<int>{1, 2, 3});
    check(std::vector<int>{});
    check(std::vector<std::string>{"one", "", "three"});
    check(std::vector<Ticket>{{1, "Ada"}, {2, "Bob"}});
    check(std::vector<std::vector<double>>{{1.5}, {}, {2.5, 3.5}});
    check(std::vector<Empty>(1000));
    check(std::vector<std::monostate>(5));
    check(std::vector<Color>{Color::red, Color::green});
    check(std::deque<int>{1, 2, 3});
    check(std::list<std::string>{"a", "b"});
    check(std::forward_list<int>{3, 2, 1});
    check(std::array<int, 3>{1, 2, 3});
    check(std::array<std::string, 2>{"x", "y"});
    check(std::array<int, 0>{});
    check(std::array<std::array<bool, 2>, 2>{{{true, false}, {false, true}}});
}

TEST_CASE("a vector of bools is sent, eight to a byte") {
    for (const std::size_t n : {0u, 1u, 7u, 8u, 9u, 1000u}) {
        std::vector<bool> bits(n);
        for (std::size_t i = 0; i < n; i += 3) { bits[i] = true; }
        check(bits);
    }
    CHECK(mp::dumps(std::vector<bool>(64)).size() == 16);
}

TEST_CASE("a vector that was received where it cannot be aligned is right all the same") {
    check(std::tuple<char, std::vector<double>, char, std::vector<int>>('a', {1.5, 2.5}, 'b', {7}));
    check(std::tuple<char, std::u32string>('a', U"text"));
}

TEST_CASE("maps and sets are sent") {
    check(std::map<std::string, int>{{"a", 1}, {"b", 2}});
    check(std::map<int, Ticket, std::greater<>>{{1, {1, "Ada"}}, {2, {2, "Bob"}}});
    check(std::multimap<int, int>{{1, 1}, {1, 2}});
    check(std::set<std::string>{"a", "b"});
    check(std::multiset<int>{1, 1, 2});
    check(std::unordered_map<std::string, std::vector<int>>{{"a", {1}}, {"b", {}}});
    check(std::unordered_multimap<int, int>{{1, 1}, {1, 2}});
    check(std::unordered_set<int>{1, 2, 3});
    check(std::unordered_multiset<int>{1, 1, 3});
    check(std::map<std::pair<int, int>, std::map<int, int>>{{{1, 2}, {{3, 4}}}});
}

TEST_CASE("keys that a received map has twice are merged") {
    const std::vector<std::pair<int, int>> twice{{1, 10}, {1, 20}, {2, 30}};
    CHECK(mp::loads<std::map<int, int>>(mp::dumps(twice)).size() == 2);
    CHECK(mp::loads<std::set<int>>(mp::dumps(std::vector<int>{5, 5, 5})) == std::set<int>{5});
}

TEST_CASE("tuples, pairs, optionals and variants are sent") {
    check(std::pair<int, std::string>(1, "one"));
    check(std::tuple<>());
    check(std::tuple<int, std::string, std::vector<int>>(1, "a", {2}));
    check(std::optional<int>());
    check(std::optional<std::string>("text"));
    check(std::optional<std::optional<int>>(std::optional<int>()));
    using Variant = std::variant<std::monostate, int, std::string, int>;
    check(Variant());
    check(Variant(std::in_place_index<1>, 5));
    check(Variant(std::in_place_index<3>, 5));
    check(Variant("text"));
    CHECK(is_refused<Variant>(bytes_of({4, 0, 0, 0, 0})));
}

namespace {

struct Throwing {
    Throwing() = default;
    explicit Throwing(int) { throw 1; }
    void serialize(auto&) {}
    std::vector<int> not_trivial;
};

}  // namespace

TEST_CASE("a variant without a value is refused") {
    std::variant<std::string, Throwing> variant;
    try {
        variant.emplace<1>(1);
    } catch (int) {}
    REQUIRE(variant.valueless_by_exception());
    CHECK_THROWS_AS(mp::dumps(variant), mp::SerializationError);
}

TEST_CASE("smart pointers are sent by value") {
    CHECK(there_and_back(std::unique_ptr<int>()) == nullptr);
    CHECK(*there_and_back(std::make_unique<Ticket>(Ticket{1, "Ada"})) == Ticket{1, "Ada"});
    CHECK(there_and_back(std::shared_ptr<int>()) == nullptr);
    CHECK(*there_and_back(std::make_shared<std::string>("shared")) == "shared");
    CHECK(*there_and_back(std::shared_ptr<const int>(std::make_shared<int>(3))) == 3);
}

namespace {

struct Base {
    int a = 0;
    virtual ~Base() = default;
    void serialize(auto& archive) { archive(a); }
};
struct Derived : Base {
    int b = 0;
};

}  // namespace

TEST_CASE("an object behind a pointer to its base is refused, not cut off") {
    std::unique_ptr<Base> pointer = std::make_unique<Base>();
    pointer->a = 4;
    CHECK(there_and_back(pointer)->a == 4);
    pointer = std::make_unique<Derived>();
    CHECK_THROWS_AS(mp::dumps(pointer), mp::SerializationError);
}

TEST_CASE("bitsets and complex numbers are sent") {
    check(std::bitset<0>());
    check(std::bitset<5>(0b10110));
    check(std::bitset<64>(0x8000000000000001));
    check(std::bitset<100>().set(99));
    CHECK(is_refused<std::bitset<5>>(bytes_of({0x20})));
    check(std::complex<float>(1, 2));
    check(std::complex<double>(1, 2));
    check(std::complex<long double>(1, 2));
    check(std::vector<std::complex<double>>{{1, 2}, {3, 4}});
}

TEST_CASE("times are sent") {
    using namespace std::chrono;
    check(5s);
    check(hours(3));
    check(duration<double>(1.5));
    check(system_clock::now());
    check(steady_clock::now());
    check(time_point<system_clock, minutes>(minutes(7)));
    check(year(2024) / 2 / 29);
    check(year(2024));
    check(month(12));
    check(weekday(3));
}

TEST_CASE("paths and error codes are sent") {
    check(std::filesystem::path("/tmp/a b"));
    check(std::filesystem::path());
    check(std::vector<std::filesystem::path>{"a", "b"});
    check(std::error_code());
    check(std::error_code(2, std::generic_category()));
    check(std::error_code(7, std::system_category()));
    check(std::make_error_code(std::errc::timed_out));
    CHECK(is_refused<std::error_code>(bytes_of({2, 0, 0, 0, 0})));
}

TEST_CASE("an error code of a foreign category is refused when it is sent") {
    struct Category : std::error_category {
        const char* name() const noexcept override { return "mine"; }
        std::string message(int) const override { return ""; }
    };
    static const Category category;
    CHECK_THROWS_AS(mp::dumps(std::error_code(1, category)), mp::SerializationError);
}

TEST_CASE("bytes that are missing or left over are refused") {
    auto bytes = mp::dumps(7);
    bytes.push_back(std::byte{});
    CHECK(is_refused<int>(bytes));
    bytes.resize(3);
    CHECK(is_refused<int>(bytes));
    CHECK(is_refused<std::string>({}));
    CHECK(is_refused<Empty>({}));
}

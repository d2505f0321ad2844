// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "synchronize/child.hpp"

#include <multiprocessing/errors.hpp>
#include <multiprocessing/sharedctypes.hpp>
#include <multiprocessing/synchronize.hpp>

#include <array>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <vector>

namespace mp = multiprocessing;
using support::Child;
using namespace std::chrono_literals;

namespace {

struct Point {
    double x = 0;
    double y = 0;
    std::int64_t z = 0;
    bool operator==(const Point&) const = default;
};

struct Hidden {
    int number() const { return number_; }

  private:
    int number_ = 4;
};

struct WithPointer {
    int number;
    const char* name;
};
struct Deep {
    std::array<WithPointer, 2> both;
};

template <class V, class T>
concept can_be_added_to = requires(const V& value) {
    value += T();
};
template <class V>
concept can_be_counted = requires(const V& value) {
    ++value;
};

}  // namespace

TEMPLATE_TEST_CASE("a value is read and written through the handle", "", mp::Value<int>,
                   mp::RawValue<int>) {
    TestType value(7);
    CHECK(value.value() == 7);
    value = 8;
    CHECK(value == 8);
    const int read = value;
    CHECK(read == 8);
    value.set_value(9);
    CHECK(value.get_obj() == 9);
    value.get_obj() = 10;
    CHECK(value.value() == 10);
    CHECK(TestType() == 0);
}

TEMPLATE_TEST_CASE("a copy of a handle is the same object, its value another", "", mp::Value<int>,
                   mp::RawValue<int>) {
    TestType value(1);
    TestType same = value;
    const TestType other(value.value());
    same = 2;
    CHECK(value == 2);
    CHECK(other == 1);
    TestType moved_on(5);
    moved_on = value;  // refers to the same object from now on
    moved_on = 6;
    CHECK(value == 6);
    [value] { value += 1; }();
    CHECK(value == 7);
}

TEMPLATE_TEST_CASE("a child and its parent see one object", "", mp::Value<int>, mp::RawValue<int>) {
    const TestType value(1);
    Child child([&] {
        value += 41;
        return 0;
    });
    CHECK(child.join() == 0);
    CHECK(value == 42);
}

TEMPLATE_TEST_CASE("operators work as they do on the number itself", "", mp::Value<int>,
                   mp::RawValue<int>) {
    const TestType value(10);
    CHECK((value += 5) == 15);
    CHECK((value -= 3) == 12);
    CHECK((value *= 2) == 24);
    CHECK((value /= 3) == 8);
    CHECK((value |= 3) == 11);
    CHECK((value &= 6) == 2);
    CHECK((value ^= 7) == 5);
    CHECK(++value == 6);
    CHECK(value++ == 6);
    CHECK(value == 7);
    CHECK(--value == 6);
    CHECK(value-- == 6);
    CHECK(value == 5);
}

TEMPLATE_TEST_CASE("numbers of every kind are values", "", bool, char, signed char, std::int8_t,
                   std::uint16_t, short, unsigned, long, std::uint64_t, float, double,
                   long double) {
    const mp::Value<TestType> value(TestType(1));
    const mp::RawValue<TestType> raw(TestType(1));
    CHECK(value == TestType(1));
    if constexpr (!std::same_as<TestType, bool>) {
        CHECK((value += TestType(2)) == TestType(3));
        CHECK((raw += TestType(2)) == TestType(3));
        CHECK((raw -= TestType(1)) == TestType(2));
        CHECK((raw *= TestType(4)) == TestType(8));
        CHECK(raw++ == TestType(8));
        CHECK(--raw == TestType(8));
    } else {
        CHECK((value &= false) == false);
        CHECK((raw |= true) == true);
    }
}

TEST_CASE("a RawValue that overflows goes round") {
    const mp::RawValue<std::int32_t> number(std::numeric_limits<std::int32_t>::max());
    CHECK(++number == std::numeric_limits<std::int32_t>::min());
    const mp::RawValue<std::uint8_t> byte(0);
    CHECK((byte -= 1) == 255);
}

TEST_CASE("what cannot be added has no operators") {
    STATIC_REQUIRE(!can_be_added_to<mp::Value<Point>, Point>);
    STATIC_REQUIRE(!can_be_counted<mp::Value<bool>>);
    STATIC_REQUIRE((can_be_added_to<mp::Value<int>, int> && can_be_counted<mp::RawValue<int>>));
}

TEMPLATE_TEST_CASE("no step of any process is lost", "", mp::Value<int>, mp::RawValue<int>,
                   mp::Value<double>, mp::RawValue<double>, mp::Value<long double>) {
    const TestType counter(0);
    constexpr int steps = 20'000;
    std::vector<Child> children;
    for (int i = 0; i < 3; ++i) {
        children.emplace_back([&] {
            for (int k = 0; k < steps; ++k) { counter += 1; }
            return 0;
        });
    }
    for (Child& child : children) { CHECK(child.join() == 0); }
    CHECK(counter == 3 * steps);
}

TEMPLATE_TEST_CASE("no step of any thread is lost", "[threads]", mp::Value<int>, mp::RawValue<int>,
                   mp::RawValue<double>) {
    const TestType counter(0);
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            for (int k = 0; k < 2'000; ++k) { ++counter; }
        });
    }
    for (std::thread& thread : threads) { thread.join(); }
    CHECK(counter == 8'000);
}

TEST_CASE("a structure is read and written whole") {
    const mp::Value<Point> point(Point{1, 1, 1});
    Child writer([&] {
        for (int i = 2; i < 10'000; ++i) {
            point.set_value({static_cast<double>(i), static_cast<double>(i), i});
        }
        return 0;
    });
    bool torn = false;
    while (writer.is_alive()) {
        const Point seen = point.value();
        torn = torn || seen.x != seen.y || seen.x != static_cast<double>(seen.z);
    }
    CHECK_FALSE(torn);
    CHECK(writer.join() == 0);
    CHECK(point.value() == Point{9'999, 9'999, 9'999});
    CHECK(mp::Value<Hidden>().value().number() == 4);
    CHECK(mp::Value<std::array<int, 3>>({1, 2, 3}).value() == std::array<int, 3>{1, 2, 3});
}

TEMPLATE_TEST_CASE("update changes the object in one step, or not at all", "", int, Point) {
    const mp::Value<TestType> value;
    const auto set = [](TestType& object, int number) {
        if constexpr (std::same_as<TestType, int>) {
            object = number;
        } else {
            object = {1.0 * number, 2.0 * number, number};
        }
    };
    TestType expected{};
    set(expected, 5);
    value.update([&](TestType& object) { set(object, 5); });
    CHECK(value.value() == expected);
    CHECK(value.update([&](TestType& object) { return object == expected; }));
    CHECK_THROWS_WITH(value.update([&](TestType& object) {
        set(object, 6);
        throw std::runtime_error("no");
    }),
                      "no");
    CHECK(value.value() == expected);
    CHECK_FALSE(value.get_lock().locked());
}

TEST_CASE("operations of a Value wait for whoever has its lock") {
    const mp::Value<int> value(1);
    const std::scoped_lock guard(value.get_lock());
    value += 1;  // it is an RLock
    const mp::Event begins;
    Child child([&] {
        begins.set();
        return value += 1;
    });
    REQUIRE(begins.wait(60s));
    CHECK_FALSE(child.join(100ms) == 3);
    value = 10;
    value.get_lock().release();
    CHECK(child.join() == 11);
    value.get_lock().acquire();
}

TEST_CASE("several Values may share a lock") {
    const mp::RLock lock;
    const mp::Value<int> one(1, lock);
    const mp::Value<double> two(2.5, lock);
    CHECK((one == 1 && two == 2.5));
    one.get_lock().acquire();
    CHECK(two.get_lock().locked());
    CHECK(lock.locked());
    lock.release();
}

TEST_CASE("a Value without a lock has none to give") {
    const mp::Value<int> value(3, false);
    CHECK_THROWS_AS(value.get_lock(), mp::AssertionError);
    value += 1;
    value.update([](int& number) { number *= 2; });
    CHECK(value == 8);
    const mp::Value<bool> flag(true, false);
    CHECK(flag.value());
}

TEST_CASE("the death of a process that held the lock does not hang a Value") {
    const mp::Value<int> value(1);
    Child child([&] {
        value.get_lock().acquire();
        value += 1;
        return 0;
    });
    CHECK(child.join() == 0);
    CHECK((value += 1) == 3);
    const std::scoped_lock guard(value.get_lock());
}

TEST_CASE("copy makes an object of its own, synchronized a lock around the same") {
    const mp::RawValue<int> raw(1);
    const mp::RawValue<int> copy = mp::sharedctypes::copy(raw);
    const mp::RLock lock;
    const mp::Value<int> guarded = mp::sharedctypes::synchronized(raw, lock);
    guarded += 1;
    CHECK((raw == 2 && copy == 1));
    guarded.get_lock().acquire();
    CHECK(lock.locked());
    lock.release();
    CHECK(mp::sharedctypes::synchronized(copy).value() == 1);
}

TEST_CASE("a pointer is seen wherever it hides in an aggregate") {
    STATIC_REQUIRE(mp::detail::holds_pointer<int*>());
    STATIC_REQUIRE(mp::detail::holds_pointer<WithPointer>());
    STATIC_REQUIRE(mp::detail::holds_pointer<Deep>());
    STATIC_REQUIRE(!mp::detail::holds_pointer<Point>());
    STATIC_REQUIRE(!mp::detail::holds_pointer<std::array<int, 100'000>>());
    STATIC_REQUIRE(!mp::detail::holds_pointer<Hidden>());
}

TEST_CASE("thousands of values need few descriptors") {
    std::vector<mp::Value<int>> values;
    for (int i = 0; i < 20'000; ++i) { values.emplace_back(i); }
    bool right = true;
    for (int i = 0; i < 20'000; ++i) { right = right && values[static_cast<std::size_t>(i)] == i; }
    CHECK(right);
}

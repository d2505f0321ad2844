// SPDX-License-Identifier: BSL-1.0

// CPython's tests of shared values and arrays, one test case a test.

#include "support/catch.hpp"
#include "synchronize/child.hpp"

#include <multiprocessing/errors.hpp>
#include <multiprocessing/sharedctypes.hpp>
#include <multiprocessing/synchronize.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <string_view>
#include <type_traits>
#include <vector>

namespace mp = multiprocessing;
using support::Child;

namespace {

struct Foo {
    int x;
    double y;
    std::int64_t z = 0;
};
using Text = std::array<char, 20>;

/// Five values of different types start as they should, and a child changes all of them.
template <template <class> class Kind>
void test_values() {
    const Kind<int> i(7);
    const Kind<double> d(3.5);
    const Kind<short> s(-6);
    const Kind<std::int64_t> q(std::int64_t{1} << 33);
    const Kind<char> c('x');
    CHECK((i == 7 && d == 3.5 && s == -6 && q == std::int64_t{1} << 33 && c == 'x'));
    Child child([&] {
        i = 24;
        d = -9.25;
        s = 10;
        q = std::int64_t{1} << 35;
        c = 'y';
        return 0;
    });
    CHECK(child.join() == 0);
    CHECK((i == 24 && d == -9.25 && s == 10 && q == std::int64_t{1} << 35 && c == 'y'));
}

/// Elements, slices, and a prefix sum computed in place by a child.
template <class Array>
void test_arrays() {
    std::vector<int> sequence{680, 626, 934, 821, 150, 233, 548, 982, 714, 831};
    const Array array(sequence);
    CHECK(array.size() == sequence.size());
    CHECK(array[3] == sequence[3]);
    CHECK(array.slice(2, 7) == std::vector<int>(sequence.begin() + 2, sequence.begin() + 7));
    const std::array replacement{1, 2, 3, 4};
    std::ranges::copy(replacement, array.begin() + 4);
    std::ranges::copy(replacement, sequence.begin() + 4);
    CHECK(array.slice(0, array.size()) == sequence);
    std::partial_sum(sequence.begin(), sequence.end(), sequence.begin());
    Child child([&] {
        for (std::size_t k = 1; k < array.size(); ++k) { array[k] += array[k - 1]; }
        return 0;
    });
    CHECK(child.join() == 0);
    CHECK(array.slice(0, array.size()) == sequence);
}

Text text_of(std::string_view words) {
    Text text{};
    std::ranges::copy(words, text.begin());
    return text;
}

/// All kinds of objects are doubled by a child, exactly.
template <template <class> class Value, class Array>
void test_doubling() {
    const Value<int> x(7);
    const Value<double> y(1.0 / 3.0);
    const Value<std::int64_t> z(std::int64_t{1} << 33);
    const Value<Foo> foo(Foo{3, 2.0});
    const Array numbers{0.0, 1.0, 2.0, 3.0, 4.0};
    const Value<Text> words(text_of("hello"));
    CHECK(foo.value().z == 0);
    Child child([&] {
        x *= 2;
        y *= 2;
        z *= 2;
        Foo doubled = foo.value();
        doubled.x *= 2;
        doubled.y *= 2;
        foo.set_value(doubled);
        for (double& number : numbers) { number *= 2; }
        words.set_value(text_of("hellohello"));
        return 0;
    });
    CHECK(child.join() == 0);
    CHECK(x == 14);
    CHECK(y == 2.0 / 3.0);
    CHECK(z == std::int64_t{1} << 34);
    CHECK((foo.value().x == 6 && foo.value().y == 4.0));
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        CHECK(numbers[i] == 2.0 * static_cast<double>(i));
    }
    CHECK(words.value() == text_of("hellohello"));
}

}  // namespace

TEST_CASE("_TestValue.test_value: values start as given, and a child changes them", "[parity]") {
    test_values<mp::Value>();
}

TEST_CASE("_TestValue.test_rawvalue: the same without a lock", "[parity]") {
    test_values<mp::RawValue>();
}

TEST_CASE("_TestValue.test_getobj_getlock: a Value has a lock of its own, the given one, or none",
          "[parity]") {
    const mp::Value<int> own(5);
    own.get_lock().acquire();
    CHECK(own.get_lock().locked());
    own.get_lock().release();
    CHECK(own.get_obj() == 5);
    const mp::RLock lock;
    const mp::Value<int> shared(5, lock);
    lock.acquire();
    CHECK(shared.get_lock().locked());
    lock.release();
    CHECK_FALSE(shared.get_lock().locked());
    const mp::Value<int> none(5, false);
    CHECK_THROWS_AS(none.get_lock(), mp::AssertionError);
    STATIC_REQUIRE(!std::is_constructible_v<mp::Value<int>, int, const char*>);
    STATIC_REQUIRE(!std::is_constructible_v<mp::Value<int>, int, mp::Semaphore>);
}

TEST_CASE("_TestArray.test_array: a child computes in place", "[parity]") {
    test_arrays<mp::Array<int>>();
}

TEST_CASE("_TestArray.test_array_from_size: an array is zeroed, in used memory too", "[parity]") {
    for (int round = 0; round < 3; ++round) {
        const mp::Array<int> array(10);
        CHECK(array.size() == 10);
        CHECK(array.slice(0, 10) == std::vector<int>(10, 0));
        std::iota(array.begin(), array.end(), 0);
        CHECK(array[9] == 9);
    }
}

TEST_CASE("_TestArray.test_rawarray: the same without a lock", "[parity]") {
    test_arrays<mp::RawArray<int>>();
}

TEST_CASE(
    "_TestArray.test_getobj_getlock_obj: an Array has a lock of its own, the given one, or none",
    "[parity]") {
    const mp::Array<int> own(10);
    own.get_lock().acquire();
    own.get_lock().release();
    CHECK(own.get_obj().data() == own.data());
    const mp::RLock lock;
    const mp::Array<int> shared(10, lock);
    lock.acquire();
    CHECK(shared.get_lock().locked());
    lock.release();
    const mp::Array<int> none(10, false);
    CHECK_THROWS_AS(none.get_lock(), mp::AssertionError);
    STATIC_REQUIRE(!std::is_constructible_v<mp::Array<int>, int, const char*>);
}

TEST_CASE("_TestSharedCTypes.test_sharedctypes: a child doubles objects of all kinds", "[parity]") {
    test_doubling<mp::RawValue, mp::RawArray<double>>();
}

TEST_CASE("_TestSharedCTypes.test_synchronize: the same with locks", "[parity]") {
    test_doubling<mp::Value, mp::Array<double>>();
}

TEST_CASE("_TestSharedCTypes.test_copy: a copy is an object of its own", "[parity]") {
    const mp::RawValue<Foo> foo(Foo{2, 5.0, std::int64_t{1} << 33});
    const auto copy = mp::sharedctypes::copy(foo);
    foo.set_value({0, 0.0, 0});
    CHECK(copy.value().x == 2);
    CHECK(copy.value().y == 5.0);
    CHECK(copy.value().z == std::int64_t{1} << 33);
}

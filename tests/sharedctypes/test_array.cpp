// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "synchronize/child.hpp"

#include <multiprocessing/errors.hpp>
#include <multiprocessing/sharedctypes.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <mutex>
#include <numeric>
#include <ranges>
#include <sstream>
#include <stdexcept>
#include <vector>

namespace mp = multiprocessing;
using support::Child;
using namespace std::chrono_literals;

namespace {
struct Triple {
    std::int64_t a, b, c;
    bool operator==(const Triple&) const = default;
};
}  // namespace

TEMPLATE_TEST_CASE("an array is made from a size, a list or a range", "", mp::Array<int>,
                   mp::RawArray<int>) {
    const TestType zeros(5);
    CHECK(std::vector<int>(zeros.begin(), zeros.end()) == std::vector<int>(5));
    const TestType listed{3, 1, 2};
    CHECK(listed.slice(0, 3) == std::vector{3, 1, 2});
    const TestType counted(std::views::iota(0, 4));
    CHECK(counted.slice(0, 9) == std::vector{0, 1, 2, 3});
    std::istringstream text("7 8 9");
    const TestType streamed(std::views::istream<int>(text));
    CHECK(streamed.slice(0, 3) == std::vector{7, 8, 9});
    const std::vector<short> shorts{4, 5};
    CHECK(TestType(shorts)[1] == 5);
    const TestType none(0);
    CHECK((none.empty() && none.begin() == none.end()));
}

TEST_CASE("an array's type follows from the range") {
    mp::Array array(std::vector<double>{1.5, 2.5});
    STATIC_REQUIRE(std::same_as<decltype(array), mp::Array<double>>);
    mp::RawArray raw(std::vector<double>{1.5});
    STATIC_REQUIRE(std::same_as<decltype(raw), mp::RawArray<double>>);
}

TEMPLATE_TEST_CASE("a copy of a handle is the same array", "", mp::Array<int>, mp::RawArray<int>) {
    TestType array{1, 2, 3};
    TestType same(array);
    same[0] = 9;
    CHECK(array[0] == 9);
    const TestType other(array.span());
    array[0] = 1;
    CHECK(other[0] == 9);
}

TEMPLATE_TEST_CASE("elements are plain memory", "", mp::Array<int>, mp::RawArray<int>) {
    const TestType array{3, 1, 2};
    CHECK(array.size() == 3);
    CHECK((array.front() == 3 && array.back() == 2 && array.at(1) == 1));
    std::sort(array.begin(), array.end());
    CHECK(std::accumulate(array.begin(), array.end(), 0) == 6);
    for (int& element : array) { element *= 2; }
    CHECK(std::ranges::equal(array.span(), std::vector{2, 4, 6}));
    CHECK(array.data() == &array[0]);
    array.set(1, 40);
    CHECK(array.get(1) == 40);
}

TEMPLATE_TEST_CASE("an index out of range is std::out_of_range", "", mp::Array<int>,
                   mp::RawArray<int>) {
    const TestType array(3);
    CHECK_THROWS_AS(array.at(3), std::out_of_range);
    CHECK_THROWS_AS(array.get(3), std::out_of_range);
    CHECK_THROWS_AS(array.set(3, 1), std::out_of_range);
    CHECK_THROWS_AS(array.get(static_cast<std::size_t>(-1)), std::out_of_range);
    if constexpr (requires { array.get_lock(); }) { CHECK_FALSE(array.get_lock().locked()); }
}

TEMPLATE_TEST_CASE("a slice takes what there is, as in Python", "", mp::Array<int>,
                   mp::RawArray<int>) {
    const TestType array{0, 1, 2, 3};
    CHECK(array.slice(1, 3) == std::vector{1, 2});
    CHECK(array.slice(2, 100) == std::vector{2, 3});
    CHECK(array.slice(3, 1).empty());
    CHECK(array.slice(9, 12).empty());
}

TEMPLATE_TEST_CASE("a size that cannot be is an error, not a crash", "", mp::Array<int>,
                   mp::RawArray<int>) {
    const int negative = -1;
    CHECK_THROWS_AS(TestType(static_cast<std::size_t>(negative)), mp::ValueError);
    CHECK_THROWS_AS(TestType(std::numeric_limits<std::size_t>::max() / sizeof(int)),
                    mp::ValueError);
    try {
        const TestType huge(std::size_t{1} << 44);
        FAIL("64 TiB were had");
    } catch (const mp::OSError& error) {
        CHECK((error.code().value() == ENOSPC || error.code().value() == ENOMEM));
    }
}

TEST_CASE("memory that is used again is zeroed") {
    for (int round = 0; round < 3; ++round) {
        const mp::Array<int> array(100);
        CHECK(std::ranges::count(array, 0) == 100);
        std::ranges::fill(array, -1);
    }
}

TEST_CASE("a large array has a segment of its own") {
    constexpr std::size_t size = 1'000'000;
    const mp::Array<double> array(size);
    Child child([&] {
        std::iota(array.begin(), array.end(), 0.0);
        return 0;
    });
    CHECK(child.join() == 0);
    CHECK(array[size - 1] == static_cast<double>(size - 1));
}

TEST_CASE("get, set and slice of an Array are steps under its lock") {
    const mp::RLock lock;
    const mp::Array<Triple> array(4, lock);
    Child writer([&] {
        for (int i = 1; i < 5'000; ++i) { array.set(2, {i, i, i}); }
        return 0;
    });
    bool torn = false;
    while (writer.is_alive()) {
        const Triple seen = array.get(2);
        const Triple copied = array.slice(2, 3)[0];
        torn = torn || seen.a != seen.b || seen.b != seen.c || copied.a != copied.c;
    }
    CHECK(writer.join() == 0);
    CHECK_FALSE(torn);
    CHECK(array.get(2) == Triple{4'999, 4'999, 4'999});
    CHECK(array.get(1) == Triple{});
    array.get_lock().acquire();
    CHECK(lock.locked());
    Child waits([&] {
        array.set(0, {1, 2, 3});
        return 0;
    });
    CHECK(waits.join(50ms) == 1000);
    lock.release();
    CHECK(waits.join() == 0);
}

TEST_CASE("an Array without a lock has none to give") {
    const mp::Array<int> array({1, 2, 3}, false);
    CHECK_THROWS_AS(array.get_lock(), mp::AssertionError);
    array.set(0, 5);
    CHECK(array.get(0) == 5);
    CHECK(mp::Array<int>(3, false).get(2) == 0);
}

TEST_CASE("copy makes elements of their own, synchronized a lock around the same") {
    const mp::RawArray<int> raw{1, 2};
    const mp::RawArray<int> copy = mp::sharedctypes::copy(raw);
    const mp::Array<int> guarded = mp::sharedctypes::synchronized(raw);
    guarded.set(0, 7);
    CHECK((raw[0] == 7 && copy[0] == 1));
    CHECK(guarded.get_obj().data() == raw.data());
}

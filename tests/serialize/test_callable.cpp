// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <multiprocessing/serialize.hpp>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace mp = multiprocessing;
namespace detail = mp::detail;

namespace {

int add(int a, int b) { return a + b; }

struct Scale {
    double factor;
    double operator()(double value) const { return factor * value; }
};

class Counting {
  public:
    Counting() = default;
    explicit Counting(int start) : count_(start) {}
    int operator()() { return count_++; }
    void serialize(auto& archive) { archive(count_); }

  private:
    int count_ = 0;
};

template <class F>
F there_and_back(const F& function) {
    detail::Writer out;
    detail::save_callable(out, function);
    detail::Reader in(out.view());
    F copy = detail::load_callable<F>(in);
    CHECK(in.remaining() == 0);
    return copy;
}

}  // namespace

TEST_CASE("function pointers and captureless lambdas are sent") {
    CHECK(there_and_back(&add)(1, 2) == 3);
    CHECK(there_and_back([](int x) { return x * 2; })(4) == 8);
    CHECK(there_and_back([](auto x) { return x + x; })(std::string("ab")) == "abab");
    CHECK(there_and_back(std::plus<>())(1, 2) == 3);
}

TEST_CASE("function objects are sent") {
    CHECK(there_and_back(Scale{2.5})(2) == 5);
    auto counting = there_and_back(Counting(5));
    CHECK(counting() == 5);
    CHECK(counting() == 6);
}

TEST_CASE("by_value sends captures as the bytes that they are") {
    const int factor = 3;
    const double offset = 0.5;
    auto f = mp::by_value([=](double x) { return factor * x + offset; });
    CHECK(f(2) == 6.5);
    CHECK(there_and_back(f)(2) == 6.5);
    CHECK(mp::loads<decltype(f)>(mp::dumps(f))(2) == 6.5);
    auto counter = mp::by_value([n = 0]() mutable { return ++n; });
    CHECK(counter() == 1);
    CHECK(there_and_back(counter)() == 2);
}

TEST_CASE("partial binds the first arguments") {
    const auto add_ten = mp::partial(add, 10);
    CHECK(add_ten(1) == 11);
    CHECK(there_and_back(add_ten)(1) == 11);
    const auto join = [](const std::string& a, const std::string& b) { return a + b; };
    CHECK(there_and_back(mp::partial(join, "text "))("more") == "text more");
    CHECK(there_and_back(mp::partial(mp::partial(add, 1), 2))() == 3);
    CHECK(there_and_back(mp::partial(Scale{2}))(3) == 6);
    CHECK(there_and_back(mp::partial(mp::by_value([ten = 10](int x) { return ten + x; }), 5))() ==
          15);
    const auto f = mp::partial(join, "a");
    CHECK(detail::saved_size(f) == mp::dumps(f).size());
}

TEST_CASE("a partial gives its arguments away when it is called as an rvalue") {
    auto take = mp::partial([](std::unique_ptr<int> number, int more) { return *number + more; },
                            std::make_unique<int>(5));
    auto copy = there_and_back(take);
    CHECK(std::move(take)(1) == 6);
    CHECK(std::move(copy)(2) == 7);
}

TEST_CASE("a partial that was cut off or begins wrongly is refused") {
    const auto f = mp::partial(add, 10);
    auto bytes = mp::dumps(f);
    bytes[0] = std::byte{1};
    CHECK_THROWS_AS(mp::loads<std::remove_const_t<decltype(f)>>(bytes), mp::SerializationError);
}

TEST_CASE("it is known at compile time which functions can be sent") {
    int captured = 0;
    const auto by_reference = [&captured] { return captured; };
    const auto by_copy = [captured] { return captured; };
    const auto nothing = [] {};
    STATIC_REQUIRE(detail::sendable_callable<int (*)(int, int)>);
    STATIC_REQUIRE(detail::sendable_callable<std::remove_const_t<decltype(nothing)>>);
    STATIC_REQUIRE(detail::sendable_callable<Scale>);
    STATIC_REQUIRE(detail::sendable_callable<decltype(mp::partial(add, 1))>);
    STATIC_REQUIRE(detail::sendable_callable<decltype(mp::by_value(by_copy))>);
    STATIC_REQUIRE_FALSE(detail::sendable_callable<std::remove_const_t<decltype(by_reference)>>);
    STATIC_REQUIRE_FALSE(detail::sendable_callable<std::remove_const_t<decltype(by_copy)>>);
    STATIC_REQUIRE_FALSE(detail::sendable_callable<decltype(mp::partial(by_copy))>);
    STATIC_REQUIRE_FALSE(detail::sendable_callable<decltype(mp::partial(add, &captured))>);
    STATIC_REQUIRE_FALSE(detail::sendable_callable<std::function<void()>>);
    STATIC_REQUIRE(detail::is_plain_v<decltype(mp::partial(add, 1))>);
    STATIC_REQUIRE(detail::is_plain_callable<int (*)(int, int)>);
    STATIC_REQUIRE_FALSE(detail::is_plain_callable<Counting>);
    STATIC_REQUIRE_FALSE(detail::is_plain_v<decltype(mp::partial(Counting()))>);
    CHECK(by_reference() == by_copy());
    nothing();
}

// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <multiprocessing/process/report.hpp>

#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <typeinfo>
#include <vector>

using multiprocessing::detail::demangle;
using multiprocessing::detail::describe_exception;

namespace {

template <class F>
std::exception_ptr thrown_by(F f) {
    try {
        f();
    } catch (...) { return std::current_exception(); }
    return nullptr;
}

void nest(int depth) {
    if (depth == 0) { throw std::runtime_error("innermost"); }
    try {
        nest(depth - 1);
    } catch (...) { std::throw_with_nested(std::runtime_error("level " + std::to_string(depth))); }
}

}  // namespace

TEST_CASE("a type's name is the one that the source has", "[process]") {
    CHECK(demangle(typeid(int).name()) == "int");
    CHECK(demangle(typeid(std::bad_alloc).name()) == "std::bad_alloc");
    CHECK(demangle("not a name") == "not a name");
}

TEST_CASE("an exception is described by its dynamic type and its text", "[process]") {
    CHECK(describe_exception(thrown_by([] { throw std::out_of_range("row"); })) ==
          "  std::out_of_range: row\n");
    CHECK(describe_exception(thrown_by([] { throw 1.5; })) == "  double\n");
    CHECK_THAT(describe_exception(thrown_by([] { throw std::string("text"); })),
               support::contains("string"));
}

TEST_CASE("a nested exception is described with its chain", "[process]") {
    const std::string text = describe_exception(thrown_by([] { nest(2); }));
    CHECK_THAT(text, support::contains(": level 2\n"));
    CHECK_THAT(
        text,
        support::contains("caused by std::_Nested_exception<std::runtime_error>: level 1\n") ||
            support::contains("caused by std::__nested<std::runtime_error>: level 1\n"));
    CHECK_THAT(text, support::contains("caused by std::runtime_error: innermost\n"));
    const std::string foreign = describe_exception(thrown_by([] {
        try {
            throw 7;
        } catch (...) { std::throw_with_nested(std::runtime_error("outer")); }
    }));
    CHECK_THAT(foreign, support::contains("int\n"));
}

TEST_CASE("a chain is described to a bounded depth", "[process]") {
    const std::string text = describe_exception(thrown_by([] { nest(100); }));
    CHECK_THAT(text, support::contains(": level 100\n"));
    CHECK_THAT(text, !support::contains(": level 50\n"));
}

TEST_CASE("an exception made to nest another where there was none is described alone",
          "[process]") {
    const auto alone = thrown_by([] { std::throw_with_nested(std::runtime_error("alone")); });
    CHECK_THAT(describe_exception(alone), support::contains(": alone\n"));
}

// SPDX-License-Identifier: BSL-1.0
#include "observe.hpp"
#include "support/catch.hpp"

#include <multiprocessing/process.hpp>

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace mp = multiprocessing;
using multiprocessing::detail::callable_with_copies;
using multiprocessing::detail::kept_argument_t;

namespace {

// What a child that was started with these arguments says.
template <class F, class... Args>
std::string said(F&& target, Args&&... arguments) {
    mp::Process process(std::forward<F>(target), std::forward<Args>(arguments)...);
    return observe::written_to(STDOUT_FILENO, [&] {
        process.start();
        process.join();
    });
}

void say(std::string_view text) {
    static_cast<void>(!::write(STDOUT_FILENO, text.data(), text.size()));
}

void by_value(std::string text, int number) { say(text + std::to_string(number)); }
void by_const_reference(const std::string& text, const int& number) { by_value(text, number); }
void by_reference(std::string& text, int& number) {
    text += "!";
    by_value(text, ++number);
}
void by_rvalue(std::string&& text) {
    const std::string taken = std::move(text);
    say(taken);
}
void takes_pointer(std::unique_ptr<int> number) { say(std::to_string(*number)); }
void takes_pointer_by_reference(std::unique_ptr<int>& number) { say(std::to_string(*number)); }
void takes_both(std::vector<int>& values, std::unique_ptr<int> number) {
    values.push_back(*number);
    say(std::to_string(values.size()) + std::to_string(values.back()));
}
void takes_view(std::string_view text) { say(text); }

struct Greeter {
    std::string greeting;
    void greet(const std::string& who) const { say(greeting + who); }
};

struct Counter {
    int calls = 0;
    void operator()() { say(std::to_string(++calls)); }
};

struct MoveOnly {
    std::unique_ptr<std::string> text;
    void operator()() const { say(*text); }
};

// Stands for a Queue: a handle, whose copies refer to one object.
struct Handle {
    std::shared_ptr<int> object;
};
void use_handle(Handle& handle) { say(std::to_string((*handle.object)++)); }

static_assert(std::is_same_v<kept_argument_t<const char (&)[6]>, std::string>);
static_assert(std::is_same_v<kept_argument_t<char (&)[6]>, std::string>);
static_assert(std::is_same_v<kept_argument_t<const std::string&>, std::string>);
static_assert(std::is_same_v<kept_argument_t<int (&)[3]>, int*>);
static_assert(std::is_same_v<kept_argument_t<std::unique_ptr<int>>, std::unique_ptr<int>>);
static_assert(callable_with_copies<void (*)(std::string&, std::unique_ptr<int>), std::string,
                                   std::unique_ptr<int>>);
static_assert(callable_with_copies<void (*)(int, int, int, int, int, int, int&), int, int, int, int,
                                   int, int, int>);
static_assert(!callable_with_copies<void (*)(int), std::string>);
static_assert(!callable_with_copies<void (*)(int), int, int>);
static_assert(!callable_with_copies<void (*)(int)>);

}  // namespace

TEST_CASE("arguments arrive however they are given and taken", "[process]") {
    std::string text = "text ";
    const std::string constant = "constant ";
    int number = 7;
    CHECK(said(by_value, text, number) == "text 7");
    CHECK(said(by_value, constant, 8) == "constant 8");
    CHECK(said(by_value, "literal ", 9) == "literal 9");
    CHECK(said(by_const_reference, text, number) == "text 7");
    CHECK(said(by_const_reference, "literal ", 9) == "literal 9");
    CHECK(said(by_reference, text, number) == "text !8");
    CHECK(said(by_reference, "literal ", 1) == "literal !2");
    CHECK(said(by_rvalue, text) == "text ");
    CHECK(said(takes_view, "view") == "view");
    // What the child changed was its copy.
    CHECK(text == "text ");
    CHECK(number == 7);
}

TEST_CASE("an argument is a copy of what it was when the process was made", "[process]") {
    std::string text = "then ";
    mp::Process process(by_value, text, 1);
    text = "now ";
    CHECK(observe::written_to(STDOUT_FILENO, [&] {
              process.start();
              process.join();
          }) == "then 1");
}

TEST_CASE("what can only be moved is moved into the child", "[process]") {
    CHECK(said(takes_pointer, std::make_unique<int>(5)) == "5");
    CHECK(said(takes_pointer_by_reference, std::make_unique<int>(6)) == "6");
    CHECK(said(takes_both, std::vector<int>{1, 2}, std::make_unique<int>(7)) == "37");
    CHECK(said([p = std::make_unique<int>(8)] { say(std::to_string(*p)); }) == "8");
    CHECK(said(MoveOnly{std::make_unique<std::string>("moved")}) == "moved");
    CHECK(said([](auto pointer) { say(std::to_string(*pointer)); }, std::make_unique<int>(9)) ==
          "9");
    CHECK(said([](auto&& value) { say(value); }, "any") == "any");
}

TEST_CASE("whatever can be called is a target", "[process]") {
    CHECK(said(&Greeter::greet, Greeter{"hello "}, "bob") == "hello bob");
    const auto pointer = std::make_shared<Greeter>(Greeter{"hi "});
    CHECK(said(&Greeter::greet, pointer, "eve") == "hi eve");
    CHECK(said(Counter{41}) == "42");
    Counter counter;
    CHECK(said(counter) == "1");
    CHECK(said(std::ref(counter)) == "1");
    CHECK(counter.calls == 0);
    CHECK(said([n = 1]() mutable { say(std::to_string(++n)); }) == "2");
    const auto constant = [] { say("constant"); };
    CHECK(said(constant) == "constant");
    CHECK(said(std::function<void(int)>([](int i) { say(std::to_string(i)); }), 3) == "3");
    CHECK(said(by_value, "t", 'A') == "t65");
}

TEST_CASE("options stand before the target, in any subset", "[process]") {
    mp::Process named({.name = "n"}, by_value, "a", 1);
    mp::Process daemonic({.daemon = true}, by_value, "a", 1);
    mp::Process both({.name = "n", .daemon = false}, [] {});
    CHECK(named.name() == "n");
    CHECK_FALSE(named.daemon());
    CHECK(daemonic.daemon());
    CHECK(daemonic.name().starts_with("Process-"));
    CHECK_FALSE(both.daemon());
    const mp::ProcessOptions options{.name = "kept", .daemon = true};
    CHECK(mp::Process(options, [] {}).name() == "kept");
    CHECK(mp::Process(options).daemon());
}

TEST_CASE("a parameter may be a reference to a handle", "[process]") {
    const Handle handle{std::make_shared<int>(4)};
    CHECK(said(use_handle, handle) == "4");
    CHECK(said([handle] { say(std::to_string(*handle.object)); }) == "4");
}

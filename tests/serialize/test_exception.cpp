// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include "oversold.hpp"

#include <multiprocessing/serialize/exception.hpp>

#include <any>
#include <exception>
#include <filesystem>
#include <functional>
#include <ios>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <variant>
#include <vector>

namespace mp = multiprocessing;
namespace detail = mp::detail;

namespace {

std::exception_ptr cross_border(const std::exception_ptr& error,
                                detail::Origin here = {42, "W-1"}) {
    detail::Writer out;
    detail::save_exception(out, error, here);
    detail::Reader in(out.view());
    auto arrived = detail::load_exception(in);
    CHECK(in.remaining() == 0);
    return arrived;
}

template <class F>
std::exception_ptr thrown_by(F f) {
    try {
        f();
    } catch (...) { return std::current_exception(); }
    return nullptr;
}

/// Throws, takes the exception across the border, and hands it as an `E` to `look`.
template <class E, class F, class Look>
void arrives_as(F f, Look look) {
    INFO(detail::type_name<E>());
    bool caught = false;
    try {
        std::rethrow_exception(cross_border(thrown_by(f)));
    } catch (const E& error) {
        caught = true;
        look(error);
    }
    CHECK(caught);
}

const mp::RemoteError& remote(const std::exception& error) {
    return dynamic_cast<const mp::RemoteError&>(error);
}

/// Checks that `original` arrives as an `E`, and that nothing but the most derived type was lost.
template <class E>
void keeps_type(const E& original) {
    const std::string text = original.what();
    arrives_as<E>([&] { throw original; },
                  [&](const E& error) {
                      CHECK(remote(error).message() == text);
                      CHECK_THAT(error.what(), support::contains(text));
                      CHECK(remote(error).pid() == 42);
                      CHECK(remote(error).process_name() == "W-1");
                      CHECK(typeid(error) == typeid(detail::Remote<E>));
                  });
    CHECK_THROWS_AS(std::rethrow_exception(cross_border(std::make_exception_ptr(original))),
                    mp::RemoteError);
    CHECK_THROWS_AS(std::rethrow_exception(cross_border(std::make_exception_ptr(original))),
                    std::exception);
}

}  // namespace

TEST_CASE("the standard exceptions arrive as themselves") {
    keeps_type(std::logic_error("text"));
    keeps_type(std::invalid_argument("text"));
    keeps_type(std::domain_error("text"));
    keeps_type(std::length_error("text"));
    keeps_type(std::out_of_range("text"));
    keeps_type(std::runtime_error("text"));
    keeps_type(std::range_error("text"));
    keeps_type(std::overflow_error("text"));
    keeps_type(std::underflow_error("text"));
    keeps_type(std::exception());
    keeps_type(std::bad_alloc());
    keeps_type(std::bad_array_new_length());
    keeps_type(std::bad_cast());
    keeps_type(std::bad_any_cast());
    keeps_type(std::bad_typeid());
    keeps_type(std::bad_exception());
    keeps_type(std::bad_optional_access());
    keeps_type(std::bad_variant_access());
    keeps_type(std::bad_function_call());
    keeps_type(std::bad_weak_ptr());
    keeps_type(std::ios_base::failure("text"));
}

TEST_CASE("the library's own errors arrive as themselves") {
    keeps_type(mp::ValueError("text"));
    keeps_type(mp::AssertionError("text"));
    keeps_type(mp::ProcessError("text"));
    keeps_type(mp::TimeoutError("text"));
    keeps_type(mp::AuthenticationError("text"));
    keeps_type(mp::EOFError());
    keeps_type(mp::Empty());
    keeps_type(mp::Full());
    keeps_type(mp::ShutDown());
    keeps_type(mp::BrokenBarrierError());
    keeps_type(mp::CancelledError());
    keeps_type(mp::InvalidStateError("text"));
    keeps_type(mp::SerializationError("text"));
    keeps_type(mp::StopIteration());
    keeps_type(mp::BrokenProcessPool("text"));
}

TEST_CASE("errors arrive with what they hold") {
    arrives_as<mp::BufferTooShort>(
        [] {
            throw mp::BufferTooShort({std::byte{1}, std::byte{2}});
        },
        [](const mp::BufferTooShort& error) {
            CHECK(error.message() == std::vector{std::byte{1}, std::byte{2}});
        });
    arrives_as<mp::OwnerDiedError>([] { throw mp::OwnerDiedError("the owner died", 77); },
                                   [](const mp::OwnerDiedError& error) {
                                       CHECK(error.pid() == 77);
                                       CHECK(remote(error).pid() == 42);
                                   });
    arrives_as<mp::WorkerDiedError>(
        [] {
            throw mp::WorkerDiedError("died", mp::Death{5, -11, 3, true, false, "tail"});
        },
        [](const mp::WorkerDiedError& error) {
            CHECK(error.pid() == 5);
            CHECK(error.signal() == 11);
            CHECK(error.task_index() == 3);
            CHECK(error.core_dumped());
            CHECK_FALSE(error.oom_killed());
            CHECK(error.stderr_tail() == "tail");
        });
    const std::error_code code(2, std::generic_category());
    arrives_as<std::system_error>(
        [&] { throw std::system_error(code, "open(file)"); },
        [&](const std::system_error& error) {
            CHECK(error.code() == code);
            CHECK(remote(error).message() == std::system_error(code, "open(file)").what());
            // Cut off to its own type it has the text once, not twice.
            CHECK(std::system_error(error).what() == remote(error).message());
        });
    const std::filesystem::filesystem_error original("copy", "/a", "/b", code);
    arrives_as<std::filesystem::filesystem_error>(
        [&] { throw original; },
        [&](const std::filesystem::filesystem_error& error) {
            CHECK(error.code() == code);
            CHECK(error.path1() == "/a");
            CHECK(error.path2() == "/b");
            CHECK(remote(error).message() == original.what());
            CHECK(remote(error).type_name() == "std::filesystem::filesystem_error");
        });
}

TEST_CASE("an error code of a foreign category makes its error a runtime_error") {
    struct Category : std::error_category {
        const char* name() const noexcept override { return "mine"; }
        std::string message(int) const override { return "my message"; }
    };
    static const Category category;
    arrives_as<std::runtime_error>(
        [] { throw std::system_error(1, category); },
        [](const std::runtime_error& error) {
            CHECK(dynamic_cast<const std::system_error*>(&error) == nullptr);
            CHECK_THAT(error.what(), support::contains("my message"));
            CHECK(remote(error).type_name() == "std::system_error");
        });
}

namespace mine {

struct Unregistered : std::out_of_range {
    using std::out_of_range::out_of_range;
};
struct Bare : std::exception {
    const char* what() const noexcept override { return "bare"; }
};
struct NoText : std::exception {
    const char* what() const noexcept override { return nullptr; }
};

/// Has members that are named as those of RemoteError.
struct Named {
    virtual ~Named() = default;
    virtual std::string message() const { return "mine"; }
    int pid() const { return 1; }
};
struct Clashing : std::runtime_error, Named {
    using std::runtime_error::runtime_error;
};

class Whole : public std::logic_error {
  public:
    Whole() : std::logic_error("whole") {}
    explicit Whole(int code) : std::logic_error("whole"), code_(code) {}
    int code() const { return code_; }
    void serialize(auto& archive) { archive(code_); }

  private:
    int code_ = 0;
};

struct FromPointer : std::logic_error {
    explicit FromPointer(const char* text) : std::logic_error(text) {}
};

struct Derived : Whole {
    using Whole::Whole;
};

struct Troubled : std::range_error {
    Troubled() : std::range_error("troubled") {}
    explicit Troubled(bool save) : std::range_error("troubled"), save_fails(save) {}
    bool save_fails = false;
    void save(auto&) const {
        if (save_fails) { throw 1; }
    }
    void load(auto&) { throw 2; }
};

struct Final final : std::overflow_error {
    using std::overflow_error::overflow_error;
};

}  // namespace mine

MULTIPROCESSING_EXCEPTION(mine::Clashing);
MULTIPROCESSING_EXCEPTION(mine::Whole);
MULTIPROCESSING_EXCEPTION(mine::FromPointer);
MULTIPROCESSING_EXCEPTION(mine::Troubled);
MULTIPROCESSING_EXCEPTION(mine::Final);
MULTIPROCESSING_EXCEPTION(shop::Oversold);

TEST_CASE("an unregistered exception arrives as its nearest standard base") {
    arrives_as<std::out_of_range>(
        [] { throw mine::Unregistered("text"); },
        [](const std::out_of_range& error) {
            CHECK(remote(error).message() == "text");
            CHECK(remote(error).type_name() == "mine::Unregistered");
            CHECK(typeid(error) == typeid(detail::Remote<std::out_of_range>));
        });
    arrives_as<std::exception>([] { throw mine::Bare(); },
                               [](const std::exception& error) {
                                   CHECK(remote(error).message() == "bare");
                                   CHECK(remote(error).type_name() == "mine::Bare");
                               });
    arrives_as<std::exception>(
        [] { throw mine::NoText(); },
        [](const std::exception& error) { CHECK(remote(error).message() == ""); });
}

TEST_CASE("a registered exception arrives as itself") {
    arrives_as<shop::Oversold>([] { throw shop::Oversold("text"); },
                               [](const shop::Oversold& error) {
                                   CHECK(remote(error).message() == "text");
                                   CHECK(remote(error).type_name() == "shop::Oversold");
                               });
    arrives_as<mine::FromPointer>(
        [] { throw mine::FromPointer("text"); },
        [](const mine::FromPointer& error) { CHECK(remote(error).message() == "text"); });
    arrives_as<mine::Clashing>(
        [] { throw mine::Clashing("text"); },
        [](const mine::Clashing& error) {
            CHECK(static_cast<const mine::Named&>(error).message() == "mine");
            CHECK(remote(error).message() == "text");
        });
}

TEST_CASE("a registered exception that can be sent arrives whole") {
    arrives_as<mine::Whole>([] { throw mine::Whole(7); },
                            [](const mine::Whole& error) { CHECK(error.code() == 7); });
}

TEST_CASE("an exception derived from a registered one arrives as that") {
    arrives_as<mine::Whole>([] { throw mine::Derived(7); },
                            [](const mine::Whole& error) {
                                CHECK(error.code() == 7);
                                CHECK(remote(error).type_name() == "mine::Derived");
                            });
}

TEST_CASE("an exception whose own code fails on the way still arrives") {
    for (const bool save_fails : {false, true}) {
        arrives_as<std::range_error>([&] { throw mine::Troubled(save_fails); },
                                     [](const std::range_error& error) {
                                         CHECK(remote(error).message() == "troubled");
                                         CHECK(remote(error).type_name() == "mine::Troubled");
                                     });
    }
}

TEST_CASE("a final class arrives as its nearest standard base") {
    arrives_as<std::overflow_error>([] { throw mine::Final("text"); },
                                    [](const std::overflow_error& error) {
                                        CHECK(remote(error).type_name() == "mine::Final");
                                    });
}

TEST_CASE("registering twice, and in another translation unit, does no harm") {
    mp::register_exception<shop::Oversold>();
    mp::register_exception<shop::Oversold>();
    int entries = 0;
    for (auto* entry = detail::first_exception_entry.load(); entry != nullptr;
         entry = entry->next) {
        entries += *entry->type == typeid(shop::Oversold);
    }
    CHECK(entries == 1);
}

TEST_CASE("what is no std::exception arrives as ProcessError and RemoteError") {
    const auto arrives = [](auto thrown, const std::string& type, const std::string& text) {
        arrives_as<mp::ProcessError>([&] { throw thrown; },
                                     [&](const mp::ProcessError& error) {
                                         CHECK(remote(error).type_name() == type);
                                         CHECK(remote(error).message() == text);
                                     });
    };
    arrives(42, "int", "42");
    arrives(static_cast<const char*>("text"), "char const*", "text");
    arrives(mine::Named(), "mine::Named", "mine::Named");
    arrives_as<mp::ProcessError>(
        [] { throw std::string("text"); },
        [&](const mp::ProcessError& error) { CHECK(remote(error).message() == "text"); });
}

namespace {

void throw_chain(int length) {
    if (length == 1) { throw std::out_of_range("link 1"); }
    try {
        throw_chain(length - 1);
    } catch (...) {
        const std::string text = "link " + std::to_string(length);
        if (length % 2 == 0) { std::throw_with_nested(std::runtime_error(text)); }
        std::throw_with_nested(mine::Whole(length));
    }
}

int chain_length(const std::exception& error) {
    try {
        std::rethrow_if_nested(error);
    } catch (const std::exception& inner) { return 1 + chain_length(inner); }
    return 1;
}

}  // namespace

TEST_CASE("a chain of nested exceptions arrives as a chain") {
    arrives_as<mine::Whole>(
        [] { throw_chain(3); },
        [](const mine::Whole& outer) {
            CHECK(outer.code() == 3);
            CHECK(remote(outer).type_name() == "mine::Whole");
            CHECK_THAT(remote(outer).traceback(), support::contains("link 2"));
            CHECK_THAT(remote(outer).traceback(), support::contains("link 1"));
            CHECK_THAT(remote(outer).traceback(), support::contains("W-1"));
            CHECK_THAT(remote(outer).traceback(), support::contains("42"));
            try {
                std::rethrow_if_nested(outer);
                FAIL("nothing is nested");
            } catch (const std::runtime_error& middle) {
                CHECK(remote(middle).message() == "link 2");
                CHECK(remote(middle).type_name() == "std::runtime_error");
                try {
                    std::rethrow_if_nested(middle);
                    FAIL("nothing is nested");
                } catch (const std::out_of_range& inner) {
                    CHECK(remote(inner).message() == "link 1");
                    CHECK(dynamic_cast<const std::nested_exception*>(&inner) == nullptr);
                }
            }
        });
}

TEST_CASE("a chain is cut off after 32 exceptions") {
    arrives_as<std::runtime_error>([] { throw_chain(32); },
                                   [](const std::exception& e) { CHECK(chain_length(e) == 32); });
    arrives_as<std::runtime_error>([] { throw_chain(100); },
                                   [](const std::exception& e) { CHECK(chain_length(e) == 32); });
}

TEST_CASE("an exception nested in a non-exception, and the other way round, arrive") {
    arrives_as<mp::ProcessError>(
        [] {
            try {
                throw std::out_of_range("inner");
            } catch (...) { std::throw_with_nested(mine::Named()); }
        },
        [](const mp::ProcessError& error) {
            CHECK(chain_length(error) == 2);
            CHECK(remote(error).type_name() == "mine::Named");
        });
    arrives_as<std::runtime_error>(
        [] {
            try {
                throw 42;
            } catch (...) { std::throw_with_nested(std::runtime_error("outer")); }
        },
        [](const std::runtime_error& error) {
            CHECK_THROWS_AS(std::rethrow_if_nested(error), mp::ProcessError);
        });
}

TEST_CASE("an exception that crosses a second border keeps its first origin") {
    auto error = thrown_by([] { throw_chain(3); });
    error = cross_border(error, {1, "first"});
    error = cross_border(error, {2, "second"});
    try {
        std::rethrow_exception(error);
    } catch (const mine::Whole& outer) {
        CHECK(outer.code() == 3);
        CHECK(remote(outer).type_name() == "mine::Whole");
        CHECK(remote(outer).message() == "whole");
        CHECK(remote(outer).pid() == 1);
        CHECK(remote(outer).process_name() == "first");
        CHECK_THAT(remote(outer).traceback(), support::contains("second"));
        CHECK(chain_length(outer) == 3);
    }
}

TEST_CASE("an exception pointer without exception becomes an error all the same") {
    CHECK_THROWS_AS(std::rethrow_exception(cross_border(nullptr)), mp::ProcessError);
}

TEST_CASE("copying an exception that arrived keeps what is known of it") {
    arrives_as<detail::Remote<std::out_of_range>>(
        [] { throw std::out_of_range("text"); },
        [](const detail::Remote<std::out_of_range>& error) {
            const auto copy = error;
            CHECK(copy.message() == "text");
            CHECK(std::string(copy.what()) == error.what());
        });
}

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Exceptions that cross a process border.
///
///     class Oversold : public std::runtime_error { using runtime_error::runtime_error; };
///     MULTIPROCESSING_EXCEPTION(Oversold);
///
///     try { pool.apply(book, 1); }
///     catch (const Oversold& error) { ... }             // its own type, thrown anew in this
///     process catch (const mp::RemoteError& error) { ... }      // every one of them, with where
///     it came from
///
/// Mirrors `multiprocessing.pool.RemoteTraceback`. What arrives derives from `RemoteError` and from
/// exactly one exception: the task's own type if that is a standard one, one of the library's, or a
/// registered one; else its nearest standard base; `ProcessError` if it is no `std::exception`. A
/// chain made by `std::throw_with_nested` arrives as a chain.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/serialize/archive.hpp>
#include <multiprocessing/serialize/codec.hpp>
#include <multiprocessing/serialize/demangle.hpp>
#include <multiprocessing/serialize/reflect.hpp>
#include <multiprocessing/serialize/sendable.hpp>
#include <multiprocessing/serialize/std_types.hpp>

#include <cxxabi.h>

#include <any>
#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <ios>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <variant>
#include <vector>

namespace multiprocessing {

/// Lets exceptions of type `E` arrive as `E`. They are sent whole if `E` can be sent, else made
/// anew from `what()`. Both processes must have registered it; a `final` class cannot be derived
/// from, and arrives as its nearest standard base.
///
/// \safety any thread, any number of times.
template <class E>
void register_exception();

/// `register_exception` at namespace scope, in a header or in any number of source files.
#define MULTIPROCESSING_EXCEPTION(...)                                            \
    [[maybe_unused]] static const bool MULTIPROCESSING_UNIQUE_NAME(__COUNTER__) = \
        (::multiprocessing::register_exception<__VA_ARGS__>(), true)
#define MULTIPROCESSING_UNIQUE_NAME(number) \
    MULTIPROCESSING_CONCATENATE(multiprocessing_exception_, number)
#define MULTIPROCESSING_CONCATENATE(a, b) a##b

namespace detail {

/// Where an exception was thrown, or passed through.
struct Origin {
    pid_t pid = 0;
    std::string process_name = {};
};

/// How many exceptions a chain of nested ones may have; what is further inside is cut off.
inline constexpr int max_nested_exceptions = 32;

struct KnownExceptions;

/// Writes `error`, which was caught in the process `here`.
template <class Known = KnownExceptions>
void save_exception(Writer& out, const std::exception_ptr& error, const Origin& here);

/// Returns the exception that was written, to be rethrown. (These are templates so that a program
/// that does not use them does not pay for the compilation of some eighty classes.)
///
/// \throws SerializationError when the bytes are none
template <class Known = KnownExceptions>
std::exception_ptr load_exception(Reader& in);

/// What is known of an exception from elsewhere.
struct RemoteFacts {
    std::string type_name = {};
    std::string message = {};
    std::vector<Origin> route =
        {};  // where it was thrown, then where it passed through; never empty
    std::string what = {};
    std::string traceback = {};
};

/// `RemoteError` by facts that are shared, so that copying the exception does not throw.
class RemoteBase : public RemoteError {
  public:
    explicit RemoteBase(const std::shared_ptr<const RemoteFacts>& facts) noexcept : facts_(facts) {}

    const std::string& type_name() const noexcept override { return facts_->type_name; }
    const std::string& message() const noexcept override { return facts_->message; }
    pid_t pid() const noexcept override { return facts_->route.front().pid; }
    const std::string& process_name() const noexcept override {
        return facts_->route.front().process_name;
    }
    const std::string& traceback() const noexcept override { return facts_->traceback; }
    const RemoteFacts& facts() const noexcept { return *facts_; }

  private:
    std::shared_ptr<const RemoteFacts> facts_;
};

/// An `E` from elsewhere. It declares nothing but `what`, so that members of `E` that are named as
/// those of `RemoteError` are not in the way.
template <class E>
class Remote : public E, public RemoteBase {
  public:
    template <class... Args>
    explicit Remote(const std::shared_ptr<const RemoteFacts>& facts, const Args&... args)
        : E(args...), RemoteBase(facts) {}

    const char* what() const noexcept override { return this->facts().what.c_str(); }
};

/// The same with another exception inside: the one that is being handled when it is made.
template <class E>
class RemoteNested : public Remote<E>, public std::nested_exception {
  public:
    using Remote<E>::Remote;
};

/// A registered type. Entries are static and never unlinked; the list needs no lock, which a fork
/// could find held.
struct ExceptionEntry {
    struct Arrival {
        std::shared_ptr<const RemoteFacts> facts;
        std::exception_ptr nested;
        std::span<const std::byte> payload;
        bool is_whole;
    };

    const std::type_info* type;
    bool (*matches)(const std::exception&);
    bool (*save)(Writer&, const std::exception&);  // false: it is rebuilt from its text
    std::exception_ptr (*load)(const Arrival&);
    ExceptionEntry* next = nullptr;  // written before the entry is linked
    std::atomic<bool> is_linked = false;
};

inline std::atomic<ExceptionEntry*> first_exception_entry = nullptr;

// -------------------------------------------------------------------------------------------------

/// Returns a type's name as it is written in source.
inline std::string readable_name(const char* mangled) {
    std::string name = demangle(mangled);
    for (const std::string_view inline_namespace : {"__cxx11::", "__1::"}) {
        for (auto at = name.find(inline_namespace); at != name.npos;
             at = name.find(inline_namespace)) {
            name.erase(at, inline_namespace.size());
        }
    }
    // What std::throw_with_nested throws is a class of the library's own around the one that is
    // meant.
    for (const std::string_view wrapper : {"std::_Nested_exception<", "std::__nested<"}) {
        if (name.starts_with(wrapper) && name.ends_with('>')) {
            name = name.substr(wrapper.size(), name.size() - wrapper.size() - 1);
        }
    }
    return name;
}

/// Makes an `E` from elsewhere. (By throwing it, which takes the compiler half the time that
/// `std::make_exception_ptr` does.)
template <class E, class... Args>
std::exception_ptr make_remote(const std::shared_ptr<const RemoteFacts>& facts,
                               const std::exception_ptr& nested, const Args&... args) {
    try {
        if constexpr (!std::is_base_of_v<std::nested_exception, E>) {
            if (nested != nullptr) {
                try {
                    std::rethrow_exception(nested);
                } catch (...) {  // being handled is how the inner one gets into the outer one
                    throw RemoteNested<E>(facts, args...);
                }
            }
        }
        throw Remote<E>(facts, args...);
    } catch (...) { return std::current_exception(); }
}

/// Returns what `std::system_error` was given, of which it made "given: text of the code".
inline std::string text_before(std::string_view message, const std::error_code& code) {
    if (message.starts_with("filesystem error: ")) { message.remove_prefix(18); }
    const auto at = message.find(": " + code.message());
    return std::string(message.substr(0, at));
}

/// The types whose error code is sent, so that it must be of a category that the receiver knows.
template <class E>
inline constexpr bool has_error_code =
    std::is_same_v<E, std::system_error> || std::is_same_v<E, std::filesystem::filesystem_error>;

/// What one of the known types is sent with besides its text.
template <class E>
bool can_save_known(const E& error) {
    if constexpr (has_error_code<E>) {
        return std_codec<std::error_code>::knows(error.code().category());
    } else {
        return true;
    }
}

template <class E>
void save_known(Writer& out, const E& error) {
    if constexpr (has_error_code<E>) { out(error.code()); }
    if constexpr (std::is_same_v<E, std::filesystem::filesystem_error>) {
        out(error.path1(), error.path2());
    } else if constexpr (std::is_same_v<E, BufferTooShort>) {
        out(error.message());
    } else if constexpr (std::is_same_v<E, OwnerDiedError>) {
        out(error.pid());
    } else if constexpr (std::is_same_v<E, WorkerDiedError>) {
        out(Death{error.pid(), error.exitcode(), error.task_index(), error.core_dumped(),
                  error.oom_killed(), error.stderr_tail()});
    }
}

template <class E>
std::exception_ptr load_known(Reader& in, const std::shared_ptr<const RemoteFacts>& facts,
                              const std::exception_ptr& nested) {
    const std::string& message = facts->message;
    if constexpr (std::is_same_v<E, std::system_error>) {
        const auto code = detail::load<std::error_code>(in);
        return make_remote<E>(facts, nested, code, text_before(message, code));
    } else if constexpr (std::is_same_v<E, std::filesystem::filesystem_error>) {
        const auto code = detail::load<std::error_code>(in);
        const auto path1 = detail::load<std::filesystem::path>(in);
        const auto path2 = detail::load<std::filesystem::path>(in);
        return make_remote<E>(facts, nested, text_before(message, code), path1, path2, code);
    } else if constexpr (std::is_same_v<E, BufferTooShort>) {
        return make_remote<E>(facts, nested, detail::load<std::vector<std::byte>>(in));
    } else if constexpr (std::is_same_v<E, OwnerDiedError>) {
        return make_remote<E>(facts, nested, message, detail::load<pid_t>(in));
    } else if constexpr (std::is_same_v<E, WorkerDiedError>) {
        return make_remote<E>(facts, nested, message, detail::load<Death>(in));
    } else if constexpr (std::is_constructible_v<E, const std::string&>) {
        return make_remote<E>(facts, nested, message);
    } else {
        return make_remote<E>(facts, nested);
    }
}

/// The types that arrive as themselves, each before its bases.
struct KnownExceptions {
    using list =
        types<TimeoutError, BufferTooShort, AuthenticationError, EOFError, Empty, Full, ShutDown,
              BrokenBarrierError, CancelledError, InvalidStateError, SerializationError,
              StopIteration, BrokenProcessPool, OwnerDiedError, WorkerDiedError, ProcessError,
              ValueError, AssertionError, std::filesystem::filesystem_error, std::ios_base::failure,
              std::system_error, std::invalid_argument, std::domain_error, std::length_error,
              std::out_of_range, std::logic_error, std::range_error, std::overflow_error,
              std::underflow_error, std::runtime_error, std::bad_array_new_length, std::bad_alloc,
              std::bad_any_cast, std::bad_cast, std::bad_typeid, std::bad_exception,
              std::bad_optional_access, std::bad_variant_access, std::bad_function_call,
              std::bad_weak_ptr, std::exception>;
};

/// Writes which of the known types `error` is (the first that it derives from), and what that type
/// holds.
template <class Known>
void save_nearest(Writer& out, const std::exception& error) {
    std::uint8_t index = 0;
    const auto save_as = [&]<class E>(std::type_identity<E>) {
        const auto* const known = dynamic_cast<const E*>(&error);
        if (known == nullptr || !can_save_known(*known)) {
            ++index;
            return false;
        }
        out.raw(index);
        save_known(out, *known);
        return true;
    };
    [&]<class... E>(types<E...>) {
        (save_as(std::type_identity<E>()) || ...);
    }(typename Known::list());
}

template <class Known>
std::exception_ptr load_nearest(Reader& in, const std::shared_ptr<const RemoteFacts>& facts,
                                const std::exception_ptr& nested) {
    return [&]<class... E>(types<E...>) {
        using Load = std::exception_ptr (*)(Reader&, const std::shared_ptr<const RemoteFacts>&,
                                            const std::exception_ptr&);
        static constexpr Load load[] = {&load_known<E>...};
        const auto index = in.raw<std::uint8_t>();
        if (index >= sizeof...(E)) { refuse_bytes("an exception is of no known type"); }
        return load[index](in, facts, nested);
    }(typename Known::list());
}

/// Returns the registered type to send `error` as: its own, else the last registered that it
/// derives from.
inline const ExceptionEntry* find_exception_entry(const std::exception& error,
                                                  std::string_view name) {
    const ExceptionEntry* base = nullptr;
    for (const auto* entry = first_exception_entry.load(); entry != nullptr; entry = entry->next) {
        if (!entry->matches(error)) { continue; }
        if (readable_name(entry->type->name()) == name) { return entry; }
        if (base == nullptr) { base = entry; }
    }
    return base;
}

inline const ExceptionEntry* find_exception_entry(std::string_view mangled) {
    for (const auto* entry = first_exception_entry.load(); entry != nullptr; entry = entry->next) {
        if (entry->type->name() == mangled) { return entry; }
    }
    return nullptr;
}

template <class E>
bool save_registered(Writer& out, const std::exception& error) {
    if constexpr (sendable<E>) {
        detail::save(out, dynamic_cast<const E&>(error));
        return true;
    } else {
        return false;
    }
}

template <class E>
std::exception_ptr load_registered(const ExceptionEntry::Arrival& arrival) {
    if (arrival.is_whole) {
        if constexpr (sendable<E>) {
            Reader in(arrival.payload);
            E error = detail::load<E>(in);
            if (in.remaining() != 0) { refuse_bytes("bytes are left over after an exception"); }
            return make_remote<E>(arrival.facts, arrival.nested, error);
        } else {
            refuse_bytes("an exception is there as a whole that is rebuilt from its text");
        }
    }
    const std::string& text = arrival.facts->message;
    if constexpr (std::is_constructible_v<E, std::string>) {
        return make_remote<E>(arrival.facts, arrival.nested, text);
    } else if constexpr (std::is_constructible_v<E, const char*>) {
        return make_remote<E>(arrival.facts, arrival.nested, text.c_str());
    } else if constexpr (std::is_default_constructible_v<E>) {
        return make_remote<E>(arrival.facts, arrival.nested);
    } else {
        refuse_bytes("an exception that can only be sent as a whole is not");
    }
}

template <class E>
inline ExceptionEntry exception_entry{
    &typeid(E),
    [](const std::exception& error) { return dynamic_cast<const E*>(&error) != nullptr; },
    &save_registered<E>,
    &load_registered<E>,
};

/// Returns the text of an exception that is no `std::exception`, and is being handled; its type's
/// name if there is no text in it.
inline std::string text_of_current(const std::string& type) {
    try {
        throw;
    } catch (const char* text) {
        return text != nullptr ? text : "";
    } catch (const std::string& text) { return text; } catch (int number) {
        return std::to_string(number);
    } catch (long number) { return std::to_string(number); } catch (unsigned number) {
        return std::to_string(number);
    } catch (...) { return type; }
}

inline std::exception_ptr nested_in_current() {
    try {
        throw;
    } catch (const std::nested_exception& error) { return error.nested_ptr(); } catch (...) {
        return nullptr;
    }
}

template <class Known>
void save_facts(Writer& out, const std::string& type, std::string_view message,
                std::vector<Origin> route, const Origin& here) {
    route.push_back(here);
    out(type, std::string(message), route);
}

template <class Known>
void save_std_exception(Writer& out, const std::exception& error, const Origin& here) {
    std::string type = readable_name(typeid(error).name());
    if (const auto* const remote = dynamic_cast<const RemoteError*>(&error)) {
        const auto* const ours = dynamic_cast<const RemoteBase*>(remote);
        type = remote->type_name();
        save_facts<Known>(out, type, remote->message(),
                          ours != nullptr
                              ? ours->facts().route
                              : std::vector<Origin>{{remote->pid(), remote->process_name()}},
                          here);
    } else {
        const char* const text = error.what();
        save_facts<Known>(out, type, text != nullptr ? text : "", {}, here);
    }

    const ExceptionEntry* const entry = find_exception_entry(error, type);
    Writer payload;
    bool is_whole = false;
    if (entry != nullptr) {
        try {
            is_whole = entry->save(payload, error);
        } catch (...) {  // the error itself is the news, not that it cannot be sent whole
            payload.clear();
        }
    }
    out(std::string(entry != nullptr ? entry->type->name() : ""), is_whole);
    out.length(payload.size());
    out.bytes(payload.view().data(), payload.size());
    save_nearest<Known>(out, error);
}

template <class Known>
void save_chain(Writer& out, const std::exception_ptr& error, const Origin& here, int depth);

/// Writes what is inside the exception that is being handled. It goes in front, because the
/// receiver needs it to make the outer one.
template <class Known>
void save_nested(Writer& out, const Origin& here, int depth) {
    const std::exception_ptr nested = depth < max_nested_exceptions ? nested_in_current() : nullptr;
    out(nested != nullptr);
    if (nested != nullptr) { save_chain<Known>(out, nested, here, depth + 1); }
}

template <class Known>
void save_chain(Writer& out, const std::exception_ptr& error, const Origin& here, int depth) {
    try {
        if (error == nullptr) { throw ProcessError("an error without an exception"); }
        std::rethrow_exception(error);
    } catch (const std::exception& caught) {
        save_nested<Known>(out, here, depth);
        save_std_exception<Known>(out, caught, here);
    } catch (...) {
        const std::type_info* const type = abi::__cxa_current_exception_type();
        save_nested<Known>(out, here, depth);
        const std::string name = type != nullptr ? readable_name(type->name()) : "unknown";
        const std::string text = text_of_current(name);
        save_facts<Known>(out, name, text, {}, here);
        out(std::string(), false, std::string());  // not registered
        save_nearest<Known>(out, ProcessError(text));
    }
}

template <class Known>
void save_exception(Writer& out, const std::exception_ptr& error, const Origin& here) {
    save_chain<Known>(out, error, here, 1);
}

inline std::string make_traceback(const RemoteFacts& facts, const RemoteFacts* nested) {
    std::string text = text_of("{}: {}\n", {facts.type_name, facts.message});
    const char* how = "thrown in";
    for (const Origin& origin : facts.route) {
        text += text_of("  {} process {} (pid {})\n", {how, origin.process_name, origin.pid});
        how = "passed on by";
    }
    if (nested != nullptr) { text += "caused by " + nested->traceback; }
    return text;
}

/// An exception that has been made, with its facts.
struct ArrivedException {
    std::shared_ptr<const RemoteFacts> facts;
    std::exception_ptr error;
};

template <class Known>
ArrivedException load_chain(Reader& in, int depth) {
    ArrivedException nested;
    if (detail::load<bool>(in)) {
        if (depth >= max_nested_exceptions) { refuse_bytes("exceptions are nested too deeply"); }
        nested = load_chain<Known>(in, depth + 1);
    }
    auto facts = std::make_shared<RemoteFacts>();
    in(facts->type_name, facts->message, facts->route);
    if (facts->route.empty()) { refuse_bytes("an exception comes from nowhere"); }
    const Origin& origin = facts->route.front();
    facts->what = text_of("{} [{} in {}, pid {}]",
                          {facts->message, facts->type_name, origin.process_name, origin.pid});
    facts->traceback = make_traceback(*facts, nested.facts.get());

    const auto registered = detail::load<std::string>(in);
    const bool is_whole = detail::load<bool>(in);
    const auto payload = in.take(in.length(1));
    const std::exception_ptr known = load_nearest<Known>(in, facts, nested.error);
    if (const ExceptionEntry* const entry = find_exception_entry(registered)) {
        try {
            return {facts, entry->load({facts, nested.error, payload, is_whole})};
        } catch (const SerializationError&) {
            throw;
        } catch (...) {  // its own code failed here: the nearest standard base still tells the news
            return {facts, known};
        }
    }
    return {facts, known};
}

template <class Known>
std::exception_ptr load_exception(Reader& in) {
    return load_chain<Known>(in, 1).error;
}

}  // namespace detail

template <class E>
void register_exception() {
    static_assert(std::is_base_of_v<std::exception, E>,
                  "multiprocessing: only classes derived from std::exception can be registered");
    if constexpr (!std::is_final_v<E>) {
        static_assert(detail::sendable<E> || std::is_constructible_v<E, std::string> ||
                          std::is_constructible_v<E, const char*> ||
                          std::is_default_constructible_v<E>,
                      "multiprocessing: a registered exception must be sendable, or made from a "
                      "std::string or const char*, or have a default constructor");
        auto& entry = detail::exception_entry<E>;
        if (entry.is_linked.exchange(true)) { return; }
        entry.next = detail::first_exception_entry.load();
        while (!detail::first_exception_entry.compare_exchange_weak(entry.next, &entry)) {}
    }
}

}  // namespace multiprocessing

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What crosses to a worker process and back: arguments and results as bytes, and the functions
/// that run on them there.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/backtrace.hpp>
#include <multiprocessing/pool/chunks.hpp>
#include <multiprocessing/pool/engine.hpp>
#include <multiprocessing/pool/outcome.hpp>
#include <multiprocessing/process/invoke.hpp>
#include <multiprocessing/process/local.hpp>
#include <multiprocessing/serialize/callable.hpp>
#include <multiprocessing/serialize/demangle.hpp>
#include <multiprocessing/serialize/exception.hpp>
#include <multiprocessing/serialize/std_types.hpp>

#include <unistd.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// Returns what a callable is called: a function's name where the program has symbols, else the
/// name of its type.
template <class F>
std::string name_of(const F& function) {
    if constexpr (std::is_pointer_v<F> && std::is_function_v<std::remove_pointer_t<F>>) {
        const auto address = reinterpret_cast<std::uintptr_t>(function);
        const std::string place = os::Symbols<std::void_t<F>>::shared().describe(address);
        return demangle(place.substr(0, place.find('+')).c_str());
    } else {
        return demangle(typeid(F).name());
    }
}

/// A place for a result, `void` included.
template <class R>
struct Box {
    std::optional<R> value = {};

    template <class Make>
    void fill(Make&& make) {
        value.emplace(make());
    }
    Outcome<R> outcome() && { return Outcome<R>(std::move(*value)); }
};
template <>
struct Box<void> {
    template <class Make>
    void fill(Make&& make) {
        make();
    }
    Outcome<void> outcome() && { return {}; }
};

/// Returns the error of an item whose task threw; to be called where it is caught.
/// In a thread `SystemExit` must not go on to whoever asks for the result.
inline std::exception_ptr task_error_here() {
    try {
        throw;
    } catch (const SystemExit& exit) {
        return std::make_exception_ptr(
            ProcessError(text_of("the task ended itself with exit code {}", {exit.code()})));
    } catch (...) { return std::current_exception(); }
}

/// Writes the error of an item. A template, since what it uses is compiled only where it is needed.
template <class Known = KnownExceptions>
void save_task_error(Writer& out, const std::exception_ptr& error) {
    save_exception<Known>(
        out, error, Origin{.pid = ::getpid(), .process_name = LocalProcess::instance().name()});
}

/// Runs items and gives what comes of each to `take`, up to the first error, which leaves the
/// function; or all of them, where outcomes are wanted.
template <class R, bool Outcomes, class Call, class Take>
void run_item(Call&& call, Take&& take) {
    if constexpr (!Outcomes) {
        if constexpr (std::is_void_v<R>) {
            call();
        } else {
            take(call());
        }
    } else {
        try {
            Box<R> box;
            box.fill(call);
            take(std::move(box).outcome());
        } catch (const SystemExit&) { throw; } catch (...) {
            take(Outcome<R>(std::current_exception()));
        }
    }
}

/// What a chunk's results are kept in: one element an item.
template <class R, bool Outcomes>
struct ChunkResults {
    using type = std::vector<std::conditional_t<Outcomes, Outcome<R>, R>>;
};
template <>
struct ChunkResults<void, false> {
    struct type {};  // nothing comes back but that it is done
};
template <class R, bool Outcomes>
using chunk_results_t = typename ChunkResults<R, Outcomes>::type;

/// Writes the results of a chunk.
template <class R, bool Outcomes>
void save_results(Writer& out, chunk_results_t<R, Outcomes>& results) {
    if constexpr (!Outcomes && std::is_void_v<R>) {
        static_cast<void>(out);
    } else if constexpr (!Outcomes) {
        save(out, results);
    } else {
        // A writer that failed can only begin anew; a value that cannot be written has become an
        // error then, and does not fail again.
        for (bool written = false; !written;) {
            written = true;
            out.clear();
            for (auto& result : results) {
                out.raw(static_cast<std::uint8_t>(result.has_value()));
                if (!result) {
                    save_task_error(out, result.error());
                } else if constexpr (!std::is_void_v<R>) {
                    try {
                        save(out, *result);
                    } catch (...) {
                        result = Outcome<R>(std::current_exception());
                        written = false;
                        break;
                    }
                }
            }
        }
    }
}

inline void check_result_count(std::size_t results, std::size_t items) {
    if (results != items) { refuse_bytes("a chunk has not as many results as items"); }
}

/// Reads the results of a chunk of `count` items.
template <class R, bool Outcomes>
chunk_results_t<R, Outcomes> load_results(Reader& in, std::size_t count) {
    chunk_results_t<R, Outcomes> results;
    if constexpr (Outcomes) {
        results.reserve(count);
        for (std::size_t item = 0; item < count; ++item) {
            if (in.raw<std::uint8_t>() == 0) {
                results.emplace_back(load_exception(in));
            } else if constexpr (std::is_void_v<R>) {
                results.emplace_back();
            } else {
                // What cannot be read costs this item and, since nobody knows where the next one
                // begins, those behind it.
                results.emplace_back(load<R>(in));
            }
        }
    } else if constexpr (!std::is_void_v<R>) {
        results = load<std::vector<R>>(in);
        check_result_count(results.size(), count);
    }
    return results;
}

/// Runs items [0, count) of `items`, telling the thread's scope which.
template <bool Star, bool Borrowed, class R, bool Outcomes, class F, class T>
chunk_results_t<R, Outcomes> run_items(F& function, T* items, std::size_t count) {
    TaskScope* const scope = TaskScope::current();
    chunk_results_t<R, Outcomes> results;
    if constexpr (Outcomes || !std::is_void_v<R>) { results.reserve(count); }
    for (std::size_t item = 0; item < count; ++item) {
        if (scope != nullptr) { scope->at_item(item); }
        run_item<R, Outcomes>(
            [&]() -> decltype(auto) {
                return call_with_item<Star, Borrowed>(function, items[item]);
            },
            [&]<class Result>(Result&& result) {
                if constexpr (Outcomes || !std::is_void_v<R>) {
                    results.emplace_back(std::forward<Result>(result));
                }
            });
    }
    return results;
}

/// A sequence of these is saved as a length and their bytes.
template <class T>
inline constexpr bool is_flat_element = codec<T>::raw() && std::is_trivially_copyable_v<T>;
template <>
inline constexpr bool is_flat_element<bool> = false;
template <>
inline constexpr bool is_flat_element<void> = false;

/// A chunk of a range, in bytes.
template <class F, class T, bool Star, bool Outcomes>
struct ChunkCode {
    using Item = std::remove_const_t<T>;
    using R = item_result_t<Star, /*Borrowed=*/false, F, Item>;

    static void encode(Writer& out, const F& function, T* items, std::size_t count) {
        save_callable(out, function);
        out.length(count);
        if constexpr (codec<Item>::raw()) {
            out.bytes(items, count * sizeof(Item));
        } else {
            for (std::size_t item = 0; item < count; ++item) { save(out, items[item]); }
        }
    }

    static void run(Reader& arguments, Writer& out, TaskScope& scope) {
        F function = load_callable<F>(arguments);
        const std::size_t count = arguments.length(min_saved_size<Item>);
        if constexpr (is_flat) {
            run_flat(function, count, arguments, out, scope);
        } else {
            run_any(function, count, arguments, out, scope);
        }
    }

  private:
    // Items and results are their bytes: read and written one by one where they stand.
    static constexpr bool is_flat = !Outcomes && is_flat_element<Item> && is_flat_element<R>;

    static void run_flat(F& function, std::size_t count, Reader& arguments, Writer& out,
                         TaskScope& scope) {
        using ItemBytes = std::array<std::byte, sizeof(Item)>;
        const std::span<const std::byte> items = arguments.take(count * sizeof(Item));
        out.reserve(sizeof(std::uint64_t) + count * sizeof(R));
        out.length(count);
        for (std::size_t number = 0; number < count; ++number) {
            scope.at_item(number);
            ItemBytes bytes;
            std::memcpy(bytes.data(), items.data() + number * sizeof(Item), sizeof(Item));
            auto item = std::bit_cast<Item>(bytes);
            const R result = call_with_item<Star, false>(function, item);
            out.raw(result);
        }
    }

    static void run_any(F& function, std::size_t count, Reader& arguments, Writer& out,
                        TaskScope& scope) {
        chunk_results_t<R, Outcomes> results;
        if constexpr (Outcomes || !std::is_void_v<R>) { results.reserve(count); }
        const auto take = [&]<class Result>(Result&& result) {
            if constexpr (Outcomes || !std::is_void_v<R>) {
                results.emplace_back(std::forward<Result>(result));
            }
        };
        for (std::size_t number = 0; number < count; ++number) {
            scope.at_item(number);
            std::optional<Item> item;
            try {
                item.emplace(load<Item>(arguments));
            } catch (...) {
                if constexpr (Outcomes) {
                    // Nobody knows where the next item begins.
                    for (; number < count; ++number) { take(Outcome<R>(std::current_exception())); }
                    break;
                } else {
                    throw;
                }
            }
            run_item<R, Outcomes>(
                [&]() -> decltype(auto) { return call_with_item<Star, false>(function, *item); },
                take);
        }
        save_results<R, Outcomes>(out, results);
    }
};

/// One call with its arguments, in bytes.
template <class F, class... Args>
struct CallCode {
    /// The function wants to know when nobody wants its result any more.
    static constexpr bool takes_stop_token =
        !callable_with_copies<F, Args...> && callable_with_copies<F, Args..., std::stop_token>;
    static_assert(takes_stop_token || callable_with_copies<F, Args...>,
                  "multiprocessing: the function cannot be called with these arguments");
    using Arguments = std::tuple<Args...>;

    static decltype(auto) call(F& function, Arguments& arguments) {
        if constexpr (takes_stop_token) {
            std::tuple<Args..., std::stop_token> all =
                std::tuple_cat(std::move(arguments), std::tuple(task_stop_token()));
            using Result = decltype(invoke_with_copies(function, all));
            return static_cast<std::decay_t<Result>>(invoke_with_copies(function, all));
        } else {
            return invoke_with_copies(function, arguments);
        }
    }
    using R = std::decay_t<decltype(call(std::declval<F&>(), std::declval<Arguments&>()))>;

    /// `arguments` is a tuple of values or references.
    template <class Tuple>
    static void encode(Writer& out, const F& function, const Tuple& arguments) {
        save_callable(out, function);
        std::apply([&](const Args&... each) { (save(out, each), ...); }, arguments);
    }

    static void run(Reader& in, Writer& out, TaskScope&) {
        F function = load_callable<F>(in);
        Arguments arguments{load<Args>(in)...};
        if constexpr (std::is_void_v<R>) {
            call(function, arguments);
        } else {
            const R result = call(function, arguments);
            save(out, result);
        }
    }
};

}  // namespace multiprocessing::detail

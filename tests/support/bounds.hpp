// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Bounds for tests: no test waits for ever, and none sleeps to "let it happen".
///
///     CHECK(support::eventually([&] { return !process.is_alive(); }));
///     CHECK(support::timed([&] { event.wait(100ms); }) >= 100ms);

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <thread>
#include <utility>

namespace support {

/// How much longer everything takes than in a plain build.
#if defined(__SANITIZE_THREAD__)
inline constexpr int slowness = 5;
#elif defined(__SANITIZE_ADDRESS__)
inline constexpr int slowness = 3;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
inline constexpr int slowness = 5;
#elif __has_feature(address_sanitizer)
inline constexpr int slowness = 3;
#else
inline constexpr int slowness = 1;
#endif
#else
inline constexpr int slowness = 1;
#endif

/// Polls `holds` every millisecond until it is true; returns whether it was within `bound`.
template <class Predicate>
bool eventually(Predicate holds, std::chrono::nanoseconds bound = std::chrono::seconds(20)) {
    const auto end = std::chrono::steady_clock::now() + bound * slowness;
    while (!holds()) {
        if (std::chrono::steady_clock::now() >= end) { return holds(); }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
}

/// Returns how long `f` took; its result is dropped.
template <class F>
std::chrono::nanoseconds timed(F&& f) {
    const auto begin = std::chrono::steady_clock::now();
    static_cast<void>(std::forward<F>(f)());
    return std::chrono::steady_clock::now() - begin;
}

namespace detail {

// Written before the alarm is armed, read by its handler.
inline char late_message[512];

// Only async-signal-safe calls: the process may be anywhere, in an allocation too.
inline void end_late(int signal) {
    static_cast<void>(!::write(STDERR_FILENO, late_message, std::strlen(late_message)));
    std::signal(signal, SIG_DFL);
    std::raise(signal);
}

}  // namespace detail

/// Ends this process by SIGALRM, and says which test it was, unless it is armed again in time.
///
/// An alarm and not a thread: it also ends a test that holds a lock or has stopped the world.
/// It is not inherited by `fork`, so a child is bounded by its parent's alarm and its own waits.
inline void arm_alarm(std::string_view test_case, std::chrono::seconds bound) {
    constexpr std::string_view says = "\nended by alarm(): this test case took too long: ";
    const auto room = sizeof(detail::late_message) - says.size() - 2;
    char* end = std::copy(says.begin(), says.end(), detail::late_message);
    test_case = test_case.substr(0, room);
    end = std::copy(test_case.begin(), test_case.end(), end);
    *end++ = '\n';
    *end = '\0';
    std::signal(SIGALRM, detail::end_late);
    ::alarm(static_cast<unsigned>(bound.count()));
}

inline void disarm_alarm() { ::alarm(0); }

/// Gives the running test case `bound` from now instead of two minutes.
inline void allow(std::chrono::seconds bound) { ::alarm(static_cast<unsigned>(bound.count())); }

}  // namespace support

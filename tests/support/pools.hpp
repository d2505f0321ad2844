// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Tests that hold for a pool of threads and for a pool of processes.
///
///     POOL_TEST_CASE("apply gives the result", "[pool]") {
///         Pool pool(2);
///         CHECK(pool.apply(square, 3) == 9);
///     }
///
/// makes two test cases, of which the one with threads has the tag [threads] too.

#include "bounds.hpp"
#include "catch.hpp"

#include <multiprocessing/pool.hpp>

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <new>
#include <numeric>
#include <thread>
#include <vector>

#define POOL_TEST_CASE(NAME, TAGS) \
    POOL_TEST_CASE_1(NAME, TAGS, POOL_TEST_CASE_NAME(body_of_pool_test_, __LINE__))
#define POOL_TEST_CASE_NAME(BEGIN, LINE) POOL_TEST_CASE_NAME_1(BEGIN, LINE)
#define POOL_TEST_CASE_NAME_1(BEGIN, LINE) BEGIN##LINE
#define POOL_TEST_CASE_1(NAME, TAGS, BODY)           \
    template <class Pool>                            \
    static void BODY();                              \
    TEST_CASE(NAME " (threads)", TAGS "[threads]") { \
        support::reset_cells();                      \
        BODY<multiprocessing::ThreadPool>();         \
    }                                                \
    TEST_CASE(NAME " (processes)", TAGS) {           \
        support::reset_cells();                      \
        BODY<multiprocessing::Pool>();               \
    }                                                \
    template <class Pool>                            \
    static void BODY()

namespace support {

/// Numbers that all processes of a test see. Zero at the beginning of each.
enum class Cell { started, release, finished, count, other, size };

inline std::array<std::atomic<int>, static_cast<std::size_t>(Cell::size)>& cells() {
    using Cells = std::array<std::atomic<int>, static_cast<std::size_t>(Cell::size)>;
    static auto* const shared = new (::mmap(nullptr, sizeof(Cells), PROT_READ | PROT_WRITE,
                                            MAP_SHARED | MAP_ANONYMOUS, -1, 0)) Cells();
    return *shared;
}

inline std::atomic<int>& cell(Cell which) { return cells()[static_cast<std::size_t>(which)]; }

inline void reset_cells() {
    for (auto& each : cells()) { each = 0; }
}

/// Returns 0, 1, ... : what a `map` goes over.
inline std::vector<int> numbers(int count) {
    std::vector<int> list(static_cast<std::size_t>(count));
    std::iota(list.begin(), list.end(), 0);
    return list;
}

/// A task that says that it has begun, and then waits to be released.
inline int held(int value) {
    ++cell(Cell::started);
    static_cast<void>(
        eventually([] { return cell(Cell::release) != 0; }, std::chrono::seconds(60)));
    ++cell(Cell::finished);
    return value;
}

inline bool have_started(int count) {
    return eventually([count] { return cell(Cell::started) >= count; });
}

/// Lets go of all tasks that are `held`, at the latest at the end of the scope: threads cannot be
/// stopped.
class Release {
  public:
    Release() = default;
    Release(const Release&) = delete;
    Release& operator=(const Release&) = delete;
    ~Release() { now(); }
    void now() { cell(Cell::release) = 1; }
};

}  // namespace support

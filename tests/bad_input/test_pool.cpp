// SPDX-License-Identifier: BSL-1.0

// What misuse of pools is answered with.

#include "support/catch.hpp"

#include <multiprocessing/errors.hpp>
#include <multiprocessing/parallel_map.hpp>
#include <multiprocessing/pool.hpp>
#include <multiprocessing/synchronize.hpp>

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

int square(int x) { return x * x; }
int refuse(int) { throw std::domain_error("refused"); }

// A result that cannot be serialised.
struct Stuck {
    template <class Archive>
    void save(Archive&) const {
        throw std::range_error("stuck");
    }
    template <class Archive>
    void load(Archive&) {}
};

Stuck stuck(int) { return {}; }

const std::vector<int> three{1, 2, 3};

}  // namespace

TEMPLATE_TEST_CASE("numbers that make no sense are ValueError", "", mp::Pool, mp::ThreadPool) {
    CHECK_THROWS_AS(TestType(-1), mp::ValueError);
    CHECK_THROWS_AS(TestType({.processes = -1}), mp::ValueError);
    CHECK_THROWS_AS(TestType({.processes = 1, .maxtasksperchild = -1}), mp::ValueError);
    TestType pool(1);
    CHECK_THROWS_AS(pool.map(square, three, -1), mp::ValueError);
    CHECK_THROWS_AS(pool.map_async(square, three, -1), mp::ValueError);
    CHECK_THROWS_AS(pool.imap(square, three, 0), mp::ValueError);
    CHECK_THROWS_AS(pool.imap(square, three, -1), mp::ValueError);
    CHECK_THROWS_AS(pool.imap_unordered(square, three, 0), mp::ValueError);
    CHECK_THROWS_AS(pool.imap(square, three, 1, -1), mp::ValueError);
    CHECK(pool.apply(square, 3) == 9);
}

TEMPLATE_TEST_CASE("a pool that was closed or terminated takes no tasks", "", mp::Pool,
                   mp::ThreadPool) {
    const bool ended = GENERATE(false, true);
    TestType pool(1);
    CHECK_THROWS_AS(pool.join(), mp::ValueError);
    if (ended) {
        pool.terminate();
    } else {
        pool.close();
    }
    CHECK_THROWS_AS(pool.apply(square, 1), mp::ValueError);
    CHECK_THROWS_AS(pool.apply_async(square, 1), mp::ValueError);
    CHECK_THROWS_AS(pool.map(square, three), mp::ValueError);
    CHECK_THROWS_AS(pool.map_async(square, three), mp::ValueError);
    CHECK_THROWS_AS(pool.imap(square, three), mp::ValueError);
    CHECK_THROWS_AS(pool.imap_unordered(square, three), mp::ValueError);
    pool.join();
    pool.join();
    pool.close();
    pool.terminate();
}

TEMPLATE_TEST_CASE("a result that is not there is TimeoutError, and no success", "", mp::Pool,
                   mp::ThreadPool) {
    const mp::Event let;
    static const mp::Event* gate = nullptr;
    gate = &let;  // the workers of this pool are forked from here on
    TestType pool(1);
    auto first = pool.apply_async(
        +[](int number) {
            gate->wait();
            return number;
        },
        7);
    CHECK_THROWS_AS(first.successful(), mp::ValueError);
    CHECK_THROWS_AS(first.get(0s), mp::TimeoutError);
    let.set();
    CHECK(first.get() == 7);
    CHECK(first.get() == 7);
    CHECK(first.successful());
}

TEMPLATE_TEST_CASE("a task's error is its own type; map throws the first", "", mp::Pool,
                   mp::ThreadPool) {
    TestType pool(2);
    CHECK_THROWS_AS(pool.apply(refuse, 1), std::domain_error);
    CHECK_THROWS_AS(pool.map(refuse, three), std::domain_error);
    auto results = pool.imap(refuse, three);
    CHECK_THROWS_AS(results.next(20s), std::domain_error);
    CHECK_THROWS_AS(results.next(20s), std::domain_error);
    CHECK_THROWS_AS(results.next(20s), std::domain_error);
    CHECK_THROWS_AS(results.next(20s), mp::StopIteration);
    CHECK(pool.map(square, three) == std::vector{1, 4, 9});
}

TEST_CASE("a result that cannot be sent is the task's error") {
    mp::Pool pool(1);
    CHECK_THROWS_WITH(pool.apply(stuck, 1), support::contains("stuck"));
    CHECK(pool.apply(square, 2) == 4);
}

TEST_CASE("parallel_map refuses numbers that make no sense") {
    CHECK_THROWS_AS(mp::parallel_map(square, three, {.processes = -1}), mp::ValueError);
    CHECK_THROWS_AS(mp::parallel_map(square, three, {.chunksize = -1}), mp::ValueError);
    CHECK_THROWS_AS(mp::parallel_map(refuse, three, {.processes = 2}), std::domain_error);
}

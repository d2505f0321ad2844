// SPDX-License-Identifier: BSL-1.0

// A pool's nursery is ended at each of its named places: the pool goes on with another, or says why
// it does not, and every task has one verdict.

// Before the library, which this file must therefore see first: no precompiled header.
namespace {
void reach(const char* place);
}  // namespace
#define MULTIPROCESSING_KILL_POINT(name) ::reach(name)

#include "process/observe.hpp"
#include "support/bounds.hpp"
#include "support/catch.hpp"

#include <multiprocessing/pool.hpp>

#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <new>
#include <set>
#include <string>
#include <vector>

namespace mp = multiprocessing;
using observe::is_gone;
using observe::nursery_of;
using observe::pids_of;
using namespace std::chrono_literals;

namespace {

// Shared with every process that is forked from here.
struct Trap {
    std::atomic<const char*> place{nullptr};  // literals have one address in all of them
    std::atomic<int> to_pass{0};
    std::atomic<int> sprung{0};
};

Trap& trap() {
    static Trap* const shared = ::new (::mmap(nullptr, sizeof(Trap), PROT_READ | PROT_WRITE,
                                              MAP_SHARED | MAP_ANONYMOUS, -1, 0)) Trap;
    return *shared;
}

void reach(const char* place) {
    const char* const wanted = trap().place;
    if (wanted == nullptr || std::strcmp(wanted, place) != 0) { return; }
    if (trap().to_pass.fetch_sub(1) != 0) { return; }
    ++trap().sprung;
    ::raise(SIGKILL);
}

// The trap is set as long as this lives.
class Armed {
  public:
    explicit Armed(const char* place, int to_pass = 0) {
        trap().to_pass = to_pass;
        trap().sprung = 0;
        trap().place = place;
    }
    Armed(const Armed&) = delete;
    Armed& operator=(const Armed&) = delete;
    ~Armed() { trap().place = nullptr; }

    bool has_sprung_once() const { return trap().sprung == 1; }
};

constexpr const char* places[] = {"nursery.obey.received", "nursery.start.forked",
                                  "nursery.start.noted", "nursery.deaths.learned",
                                  "nursery.deaths.told"};

int square(int number) { return number * number; }
const std::vector<int> numbers = {0, 1, 2, 3, 4, 5, 6, 7};
const std::vector<int> squares = {0, 1, 4, 9, 16, 25, 36, 49};

}  // namespace

TEST_CASE("a nursery that dies where it replaces a worker is itself replaced", "[crash]") {
    for (const char* const place : places) {
        for (const int to_pass : {0, 1}) {
            CAPTURE(place, to_pass);
            mp::Pool pool(2);
            REQUIRE(pool.map_async(square, numbers).get(20s) == squares);
            const pid_t first = nursery_of(pool);
            {
                const Armed armed(place, to_pass);
                // Their replacement leads the nursery past all its places, twice.
                for (const pid_t worker : pids_of(pool)) { ::kill(worker, SIGKILL); }
                CHECK(support::eventually([&] { return armed.has_sprung_once(); }));
            }
            // Not before: a worker that is about to end with its nursery may still take a task.
            CHECK(support::eventually([&] { return nursery_of(pool) != first; }));
            CHECK(support::eventually([&] { return pool.workers().size() == 2; }));
            CHECK(pool.map_async(square, numbers).get(20s) == squares);
            const pid_t nursery = nursery_of(pool);
            const std::set<pid_t> workers = pids_of(pool);
            pool.close();
            pool.join();
            CHECK(is_gone(nursery));
            for (const pid_t worker : workers) { CHECK(is_gone(worker)); }
        }
    }
}

TEST_CASE("a pool whose nursery dies while it is made says so, and leaves nobody", "[crash]") {
    for (const char* const place :
         {"nursery.obey.received", "nursery.start.forked", "nursery.start.noted"}) {
        CAPTURE(place);
        const Armed armed(place);
        std::string said;
        try {
            const mp::Pool pool(2);
        } catch (const mp::ProcessError& error) { said = error.what(); }
        CHECK(armed.has_sprung_once());
        CHECK_THAT(said, support::contains("was to start 2 workers"));
        CHECK_THAT(said, support::contains("SIGKILL"));
        CHECK(support::eventually([] { return mp::active_children().empty(); }));
    }
}

TEST_CASE("a nursery that dies where it ends its workers leaves none of them", "[crash]") {
    mp::Pool pool(2);
    REQUIRE(pool.map_async(square, numbers).get(20s) == squares);
    std::set<pid_t> all = pids_of(pool);
    all.insert(nursery_of(pool));
    const Armed armed("nursery.end.signalled");
    pool.terminate();
    pool.join();
    CHECK(armed.has_sprung_once());
    for (const pid_t pid : all) {
        CHECK(support::eventually([&] { return is_gone(pid); }));
    }
}

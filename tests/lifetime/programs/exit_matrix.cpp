// SPDX-License-Identifier: BSL-1.0

// A program that holds something of the library's and ends in some way, for test_exit.cpp:
//
//     lifetime_exit HOLDING WAY LOAD
//
// It ends by itself, or is ended by its alarm, which is a failure.

#include <multiprocessing.hpp>

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

const mp::Semaphore* begun = nullptr;  // gets a unit from every task, child and thread that is busy

void await_begun(int count) {
    for (int i = 0; i < count; ++i) {
        if (!begun->acquire(20s)) { ::_exit(90); }
    }
}

void spin_until(std::chrono::steady_clock::time_point end) {
    begun->release();
    while (std::chrono::steady_clock::now() < end) {}
}
int spin_for(int milliseconds) {
    spin_until(std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds));
    return milliseconds;
}
int spin_for_ever(int) {
    spin_until(std::chrono::steady_clock::time_point::max());
    return 0;
}
int echo(int number) { return number; }

// Each holds one kind of thing; its destructor is that thing's.

struct WithQueue {
    explicit WithQueue(bool busy) : queue(std::make_shared<mp::Queue<std::string>>()) {
        for (int i = 0; i < 100; ++i) { queue->put(std::string(64 * 1024, 'x')); }
        if (!busy) { return; }
        // A child that puts and gets on for as long as there is a program.
        user.emplace(mp::ProcessOptions{.daemon = true}, [this] {
            begun->release();
            for (;;) { queue->put(queue->get()); }
        });
        user->start();
        await_begun(1);
    }
    std::shared_ptr<mp::Queue<std::string>> queue;
    std::optional<mp::Process> user;
};

struct WithPool {
    explicit WithPool(bool busy) : pool(3) {
        pool.map(echo, {1, 2, 3});
        if (!busy) { return; }
        for (int i = 0; i < 100; ++i) { results.push_back(pool.apply_async(spin_for_ever, i)); }
        await_begun(3);
    }
    mp::Pool pool;
    std::vector<mp::AsyncResult<int>> results;
};

struct WithThreadPool {
    explicit WithThreadPool(bool busy) : pool(3) {
        pool.map(echo, {1, 2, 3});
        if (!busy) { return; }
        // Threads cannot be ended: those that run are waited for, where anybody waits.
        for (int i = 0; i < 100; ++i) { results.push_back(pool.apply_async(spin_for, 100)); }
        await_begun(3);
    }
    mp::ThreadPool pool;
    std::vector<mp::AsyncResult<int>> results;
};

struct WithChildren {
    explicit WithChildren(bool busy) {
        for (int i = 0; i < 3; ++i) {
            team.emplace_back([busy] {
                if (busy) {
                    spin_for(300);
                } else {
                    begun->release();
                    std::this_thread::sleep_for(300ms);
                }
            });
            team.back().start();
        }
        await_begun(3);
    }
    std::vector<mp::Process> team;
};

struct WithDaemons {
    explicit WithDaemons(bool busy) {
        for (int i = 0; i < 3; ++i) {
            team.emplace_back(mp::ProcessOptions{.daemon = true}, [busy] {
                if (busy) { spin_for_ever(0); }
                begun->release();
                for (;;) { ::pause(); }
            });
            team.back().start();
        }
        await_begun(3);
    }
    std::vector<mp::Process> team;
};

struct WithLocks {
    explicit WithLocks(bool busy) {
        lock.acquire();
        rlock.acquire();
        semaphore.acquire();
        condition.acquire();
        if (!busy) { return; }
        for (int which = 0; which < 4; ++which) {
            waiting.emplace_back(mp::ProcessOptions{.daemon = true}, [this, which] {
                begun->release();
                if (which == 0) { lock.acquire(); }
                if (which == 1) { rlock.acquire(); }
                if (which == 2) { semaphore.acquire(); }
                if (which == 3) { condition.acquire(); }
                ::_exit(91);  // nobody lets go
            });
            waiting.back().start();
        }
        await_begun(4);
    }
    mp::Lock lock;
    mp::RLock rlock;
    mp::Semaphore semaphore;
    mp::Condition condition;
    std::vector<mp::Process> waiting;
};

template <class Holding>
int hold_and_end(const std::string& way, bool busy) {
    if (way == "destroyed") {
        { const Holding holding(busy); }
        return 0;
    }
    if (way == "return") {
        static const Holding in_static(busy);
        return 0;
    }
    if (way == "leaked") {
        static Holding* volatile leaked = nullptr;  // volatile: a store that nobody reads is kept
        leaked = new Holding(busy);
        return leaked == nullptr ? 92 : 0;
    }
    const Holding holding(busy);
    if (way == "exit") { std::exit(3); }
    if (way == "_exit") { ::_exit(4); }
    if (way == "exception") { throw std::runtime_error("nobody catches this"); }
    if (way == "abort") { std::abort(); }
    if (way == "sigterm") {
        std::raise(SIGTERM);
        return 93;
    }
    if (way == "thread") {
        std::thread([] { std::exit(5); }).join();
        return 94;
    }
    return 95;
}

}  // namespace

int main(int argc, char** argv) {
    ::alarm(20);
    if (argc != 4) { return 96; }
    static const mp::Semaphore units(0, {.on_death = mp::UnitDeath::lose});
    begun = &units;
    const std::string holding = argv[1];
    const std::string way = argv[2];
    const bool busy = argv[3] == std::string("busy");
    if (holding == "queue") { return hold_and_end<WithQueue>(way, busy); }
    if (holding == "pool") { return hold_and_end<WithPool>(way, busy); }
    if (holding == "thread_pool") { return hold_and_end<WithThreadPool>(way, busy); }
    if (holding == "children") { return hold_and_end<WithChildren>(way, busy); }
    if (holding == "daemons") { return hold_and_end<WithDaemons>(way, busy); }
    if (holding == "locks") { return hold_and_end<WithLocks>(way, busy); }
    return 97;
}

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The six cases in which Python's multiprocessing waits for ever; `six_hangs.py` is the twin.

#include "process/observe.hpp"

#include <multiprocessing.hpp>

#include <chrono>
#include <csignal>
#include <stdexcept>
#include <string>

namespace lifetime {

namespace mp = multiprocessing;

/// Starts a process that blocks in `f(ready)` once it has set the event; kills it there.
template <class F>
void kill_blocked(F f) {
    const mp::Event ready;
    mp::Process process({.daemon = true}, [&] { f(ready); });
    process.start();
    ready.wait();
    const bool asleep = support::eventually([&] {
        const auto stat = mp::detail::os::proc_stat(*process.pid());
        return stat && stat->state == 'S';
    });
    if (!asleep) { throw std::runtime_error("the victim does not block"); }
    process.kill();
    process.join();
}

inline void condition_notify() {
    const mp::Condition condition;
    kill_blocked([&](const mp::Event& ready) {
        condition.acquire();
        ready.set();
        condition.wait();
    });
    condition.acquire();
    condition.notify();
    condition.release();
}

inline void event_set() {
    const mp::Event event;
    kill_blocked([&](const mp::Event& ready) {
        ready.set();
        event.wait();
    });
    event.set();
}

template <class Queue>
void get_after_a_getter() {
    const Queue queue;
    kill_blocked([&](const mp::Event& ready) {
        ready.set();
        queue.get();
    });
    queue.put(1);
    if (queue.get() != 1) { throw std::runtime_error("another item"); }
}
inline void queue_get() { get_after_a_getter<mp::Queue<int>>(); }
inline void simple_queue_get() { get_after_a_getter<mp::SimpleQueue<int>>(); }

inline void lock_acquire() {
    const mp::Lock lock;
    const mp::Event never;
    kill_blocked([&](const mp::Event& ready) {
        lock.acquire();
        ready.set();
        never.wait();
    });
    if (!lock.acquire().owner_died()) { throw std::runtime_error("the holder has not died"); }
}

inline void pool_apply() {
    mp::Pool pool(2);
    try {
        pool.apply([] { ::raise(SIGKILL); });
    } catch (const mp::WorkerDiedError& death) {
        if (death.signal() == SIGKILL) { return; }
    }
    throw std::runtime_error("the worker has not died");
}

struct Hang {
    const char* name;
    const char* what;
    void (*run)();
};
inline constexpr Hang six_hangs[] = {
    {"condition_notify", "`Condition.notify` after a waiter was killed", condition_notify},
    {"event_set", "`Event.set` after a waiter was killed", event_set},
    {"queue_get", "`Queue.get` after a blocked getter was killed", queue_get},
    {"simple_queue_get", "`SimpleQueue.get` after a blocked getter was killed", simple_queue_get},
    {"lock_acquire", "`Lock.acquire` after the holder was killed", lock_acquire},
    {"pool_apply", "`Pool.apply` of a task whose worker is killed", pool_apply},
};

}  // namespace lifetime

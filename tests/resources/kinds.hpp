// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Everything that can be made, each made and used in one line, for tests that do it where there is
/// nothing to make it of.

#include "support/bounds.hpp"

#include <multiprocessing.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "support/forked.hpp"

namespace resources {

namespace mp = multiprocessing;

inline const auto bound = std::chrono::seconds(20) * support::slowness;

/// One class of the library: `make` makes an object, uses it, and returns it to be kept.
struct Kind {
    const char* name;
    std::function<std::shared_ptr<void>()> make;
};

inline void expect(bool holds, const char* what) {
    if (!holds) { throw std::runtime_error(std::string("wrong: ") + what); }
}

inline int square(int number) { return number * number; }

template <class Lock>
std::shared_ptr<void> made_lock() {
    auto lock = std::make_shared<Lock>();
    expect(static_cast<bool>(lock->acquire(bound)), "acquire of a new lock");
    lock->release();
    return lock;
}

template <class Queue>
std::shared_ptr<void> made_queue() {
    auto queue = std::make_shared<Queue>();
    queue->put(std::string("item"));
    expect(queue->get() == "item", "get of what was put");
    return queue;
}

/// The classes that are objects in shared memory, or a pair of descriptors.
inline std::vector<Kind> objects() {
    return {
        {"Lock", made_lock<mp::Lock>},
        {"RLock", made_lock<mp::RLock>},
        {"Semaphore", made_lock<mp::Semaphore>},
        {"BoundedSemaphore", made_lock<mp::BoundedSemaphore>},
        {"Condition",
         [] {
             auto condition = std::make_shared<mp::Condition>();
             expect(static_cast<bool>(condition->acquire(bound)), "acquire of a new condition");
             condition->notify_all();
             condition->release();
             return condition;
         }},
        {"Event",
         [] {
             auto event = std::make_shared<mp::Event>();
             event->set();
             expect(event->wait(bound), "wait for an event that is set");
             return event;
         }},
        {"Barrier",
         [] {
             auto barrier = std::make_shared<mp::Barrier>(1);
             expect(barrier->wait(bound) == 0, "wait at a barrier of one");
             return barrier;
         }},
        {"Value",
         [] {
             auto value = std::make_shared<mp::Value<int>>(6);
             *value += 1;
             expect(value->value() == 7, "value");
             return value;
         }},
        {"Array",
         [] {
             auto array = std::make_shared<mp::Array<int>>(std::size_t{10'000});
             array->set(9'999, 7);
             expect(array->get(9'999) == 7, "array");
             return array;
         }},
        {"Queue", made_queue<mp::Queue<std::string>>},
        {"JoinableQueue",
         [] {
             auto queue = std::make_shared<mp::JoinableQueue<int>>();
             queue->put(1);
             expect(queue->get() == 1, "get of what was put");
             queue->task_done();
             expect(queue->join(bound), "join of a queue without tasks");
             return queue;
         }},
        {"SimpleQueue", made_queue<mp::SimpleQueue<std::string>>},
        {"Pipe",
         [] {
             auto [here, there] = mp::Pipe();
             here.send(std::string("message"));
             expect(there.recv<std::string>() == "message", "recv of what was sent");
             return std::make_shared<std::pair<mp::Connection, mp::Connection>>(std::move(here),
                                                                                std::move(there));
         }},
    };
}

inline Kind process() {
    return {"Process", [] {
                auto process = std::make_shared<mp::Process>([] { std::exit(7); });
                process->start();
                expect(process->join(bound) && process->exitcode() == 7, "a process's end");
                return process;
            }};
}
inline Kind daemon() {
    return {"a daemonic Process", [] {
                auto process = std::make_shared<mp::Process>(mp::ProcessOptions{.daemon = true},
                                                             [] { std::exit(7); });
                process->start();
                expect(process->join(bound) && process->exitcode() == 7, "a daemon's end");
                return process;
            }};
}
template <class Pool>
std::shared_ptr<void> made_pool() {
    auto pool = std::make_shared<Pool>(2);
    expect(pool->map_async(square, {1, 2, 3}).get(bound) == std::vector<int>{1, 4, 9}, "map");
    return pool;
}
inline Kind pool() { return {"Pool", made_pool<mp::Pool>}; }
inline Kind thread_pool() { return {"ThreadPool", made_pool<mp::ThreadPool>}; }

inline std::vector<Kind> everything() {
    std::vector<Kind> all = objects();
    for (const Kind& kind : {process(), daemon(), pool(), thread_pool()}) { all.push_back(kind); }
    return all;
}

/// Makes and uses one of each; returns what did not work, empty for nothing.
inline std::string unusable(const std::vector<Kind>& kinds = everything()) {
    std::string text;
    for (const Kind& kind : kinds) {
        try {
            kind.make();
        } catch (const std::exception& error) {
            text += std::string(kind.name) + ": " + error.what() + "\n";
        }
    }
    return text;
}

/// What was said when something could not be had.
struct Refusal {
    int error = 0;  ///< errno; 0: nothing was refused, -1: not an OSError
    std::string text;
    std::chrono::nanoseconds after{};

    /// Tells whether it came at once and reads `call(object)`, the call one of `calls`.
    /// Returns what is wrong, empty for nothing.
    std::string wrong(int expected, std::initializer_list<const char*> calls) const {
        if (error == 0) { return "not refused"; }
        std::string problem;
        if (error != expected) { problem = "error " + std::to_string(error) + ", "; }
        if (after > std::chrono::seconds(2) * support::slowness) { problem += "late, "; }
        bool is_named = false;
        for (const std::string call : calls) {
            is_named = is_named || (text.starts_with(call + "(") && !text.starts_with(call + "()"));
        }
        if (!is_named) { problem += "does not name call and object, "; }
        return problem.empty() ? problem : problem + text;
    }
};

/// Calls `f`, which is to be refused.
template <class F>
Refusal refusal(F f) {
    Refusal refused;
    refused.after = support::timed([&] {
        try {
            f();
        } catch (const mp::OSError& error) {
            refused.error = error.code().value();
            refused.text = error.what();
        } catch (const std::exception& error) {
            refused.error = -1;
            refused.text = error.what();
        }
        return 0;
    });
    return refused;
}

/// Runs `check` in a child, where limits can be lowered for good; returns the text that it returned
/// or how it ended instead.
template <class Check>
std::string in_child(Check check) {
    const int file = ::memfd_create("verdict", MFD_CLOEXEC);
    support::Forked child([&] {
        std::string verdict;
        try {
            verdict = check();
        } catch (const std::exception& error) { verdict = std::string("threw ") + error.what(); }
        return ::write(file, verdict.data(), verdict.size()) == static_cast<ssize_t>(verdict.size())
                   ? 0
                   : 98;
    });
    const int code = child.join();
    std::string text;
    char part[4096];
    for (ssize_t size;
         (size = ::pread(file, part, sizeof part, static_cast<off_t>(text.size()))) > 0;) {
        text.append(part, static_cast<std::size_t>(size));
    }
    ::close(file);
    if (code != 0) { text += "ended with code " + std::to_string(code); }
    return text;
}

}  // namespace resources

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What every subject of the storm is made of: a team of processes of which one after the other is
/// killed at a random moment and replaced, while it is watched that the others get on.

#include "support/bounds.hpp"
#include "support/leak_check.hpp"

#include <multiprocessing.hpp>

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <new>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace storm {

namespace mp = multiprocessing;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Random = std::mt19937_64;

/// Who makes no progress for so long hangs. Under a load that leaves each process little of a
/// processor, one that is out of luck waits for seconds while others take what it waits for.
inline constexpr auto hang = 40s * support::slowness;

/// What is wrong with what was tested.
struct Failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

inline void expect(bool holds, const std::string& what) {
    if (!holds) { throw Failure(what); }
}
inline void expect_equal(std::uint64_t got, std::uint64_t expected, const std::string& what) {
    expect(got == expected,
           what + ": " + std::to_string(got) + " instead of " + std::to_string(expected));
}
inline void expect_at_most(std::uint64_t got, std::uint64_t bound, const std::string& what) {
    expect(got <= bound, what + ": " + std::to_string(got) + ", at most " + std::to_string(bound));
}

/// What a storm has done.
struct Figures {
    std::uint64_t kills = 0;
    std::uint64_t items = 0;  // what was done by those who were not killed: items, sections, tasks
    std::chrono::nanoseconds longest_stall{0};  // of all who do the same, or of a task's result

    void note_stall(std::chrono::nanoseconds stall) {
        longest_stall = std::max(longest_stall, stall);
    }
};

inline std::chrono::microseconds random_time(Random& random, std::uint64_t most_microseconds) {
    return std::chrono::microseconds(random() % (most_microseconds + 1));
}

/// The moment of death: mostly soon, so that starting is hit as well.
inline std::chrono::microseconds random_moment(Random& random) {
    return random() % 4 == 0 ? random_time(random, 3000) : random_time(random, 300);
}

/// A `T` that all processes forked from here on see.
template <class T>
class Shared {
  public:
    Shared() : value_(new (map()) T()) {}
    Shared(const Shared&) = delete;
    Shared& operator=(const Shared&) = delete;
    ~Shared() { ::munmap(value_, sizeof(T)); }

    T* operator->() const { return value_; }
    T& operator*() const { return *value_; }

  private:
    static void* map() {
        void* const memory = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE,
                                    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) { throw std::bad_alloc(); }
        return memory;
    }

    T* value_;
};

/// Processes in numbered places, each of which counts its progress.
class Team {
  public:
    static constexpr std::size_t most = 8;

    struct Member {
        std::size_t place;
        std::uint64_t number;  // of all that there ever were, this one's
        std::atomic<std::uint64_t>& progress;
        unsigned seed;
    };
    /// What each does until it is killed, or told to end in whatever way the subject has.
    using Work = std::function<void(const Member&)>;
    /// Called before a kill, or between it and the replacement.
    using Mend = std::function<void(std::size_t place)>;

    /// Makes `roles` times `each` processes; those of a role have adjacent places.
    Team(std::size_t roles, std::size_t each, Work work, Random& random, Figures& figures)
        : each_(each),
          work_(std::move(work)),
          random_(random),
          figures_(figures),
          watched_(roles * each),
          role_progress_(roles, Clock::now()) {
        for (std::size_t place = 0; place < watched_.size(); ++place) {
            processes_.push_back(start(place));
        }
    }

    /// Kills a random one at a random moment and replaces it, so many times.
    void storm(
        std::uint64_t kills, const Mend& before = [](std::size_t) {},
        const Mend& after = [](std::size_t) {}) {
        for (std::uint64_t i = 0; i < kills; ++i) {
            watch(random_moment(random_));
            const std::size_t place = random_() % processes_.size();
            before(place);
            mp::Process& victim = processes_[place];
            victim.kill();
            expect(victim.join(hang), "a killed process does not end");
            expect(victim.exitcode() == -SIGKILL,
                   "process " + std::to_string(place) + " ended by itself with " +
                       std::to_string(victim.exitcode().value_or(-1000)));
            ++figures_.kills;
            after(place);
            victim = start(place);
        }
    }

    /// Waits until every one, but perhaps one who is dead, has made progress since `before`.
    void await_progress() { await_progress(all_progress(), most); }
    void await_progress(const std::vector<std::uint64_t>& before, std::size_t dead) {
        for (std::size_t i = 0; i < before.size(); ++i) {
            while (i != dead && progress(i) == before[i]) { watch(100us, dead); }
        }
    }

    /// Waits until of each role somebody who lives has made progress since now. Between a kill and
    /// the replacement: that could set going what the death has stopped.
    void await_roles(std::size_t dead) {
        const std::vector<std::uint64_t> before = all_progress();
        for (std::size_t role = 0; role < before.size(); role += each_) {
            const auto got_on = [&] {
                for (std::size_t i = role; i < role + each_; ++i) {
                    if (i != dead && progress(i) != before[i]) { return true; }
                }
                return false;
            };
            while (!got_on()) { watch(100us, dead); }
        }
    }

    /// Waits until all have ended by themselves.
    void join() {
        for (std::size_t place = 0; place < processes_.size(); ++place) {
            mp::Process& process = processes_[place];
            expect(process.join(hang), "process " + std::to_string(place) + " does not end");
            expect(process.exitcode() == 0, "process " + std::to_string(place) + " ended with " +
                                                std::to_string(process.exitcode().value_or(-1000)));
        }
        figures_.items += done();
    }

    /// Kills them all at once.
    void kill() {
        for (mp::Process& process : processes_) { process.kill(); }
        for (mp::Process& process : processes_) {
            expect(process.join(hang), "a killed process does not end");
        }
        figures_.kills += processes_.size();
        figures_.items += done();
    }

    /// What all of them have done, those who were killed included.
    std::uint64_t done() const {
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i < watched_.size(); ++i) { sum += progress(i); }
        return sum;
    }

    /// What each place has done.
    std::vector<std::uint64_t> all_progress() const {
        std::vector<std::uint64_t> all;
        for (std::size_t i = 0; i < watched_.size(); ++i) { all.push_back(progress(i)); }
        return all;
    }

  private:
    struct Watched {
        std::uint64_t progress = 0;
        Clock::time_point since = Clock::now();
    };
    struct alignas(64) Counter {
        std::atomic<std::uint64_t> value;
    };

    std::uint64_t progress(std::size_t place) const { return (*counters_)[place].value.load(); }

    mp::Process start(std::size_t place) {
        const auto seed = static_cast<unsigned>(random_());
        mp::Process process({.daemon = true}, [this, place, number = ++started_, seed] {
            work_({place, number, (*counters_)[place].value, seed});
        });
        process.start();
        watched_[place] = {progress(place), Clock::now()};
        return process;
    }

    // Lets them work, and sees who got on; one may be dead.
    void watch(std::chrono::microseconds time, std::size_t dead = most) {
        std::this_thread::sleep_for(time);
        const auto now = Clock::now();
        for (std::size_t place = 0; place < watched_.size(); ++place) {
            Watched& watched = watched_[place];
            const std::uint64_t seen = progress(place);
            if (seen != watched.progress) {
                watched = {seen, now};
                Clock::time_point& last = role_progress_[place / each_];
                figures_.note_stall(now - std::exchange(last, now));
            } else if (place != dead && now - watched.since > hang) {
                throw Failure("process " + std::to_string(place) + " (pid " +
                              std::to_string(processes_[place].pid().value_or(0)) + ") hangs");
            }
        }
        support::allow(120s * support::slowness);
    }

    const std::size_t each_;
    Work work_;
    Random& random_;
    Figures& figures_;
    Shared<std::array<Counter, most>> counters_;
    std::uint64_t started_ = 0;
    std::vector<Watched> watched_;
    std::vector<Clock::time_point> role_progress_;  // when one of that role was last seen to get on
    std::vector<mp::Process> processes_;
};

/// One thing that is stormed, for so many kills; throws a Failure.
struct Subject {
    const char* name;
    void (*run)(std::uint64_t kills, Random& random, Figures& figures);
    std::uint64_t portion;  // kills between two looks at what is left behind
};

void queue_storm(std::uint64_t kills, Random& random, Figures& figures);
void lock_storm(std::uint64_t kills, Random& random, Figures& figures);
void rlock_storm(std::uint64_t kills, Random& random, Figures& figures);
void semaphore_storm(std::uint64_t kills, Random& random, Figures& figures);
void condition_storm(std::uint64_t kills, Random& random, Figures& figures);
void event_storm(std::uint64_t kills, Random& random, Figures& figures);
void barrier_storm(std::uint64_t kills, Random& random, Figures& figures);
void pool_workers_storm(std::uint64_t kills, Random& random, Figures& figures);
void pool_nursery_storm(std::uint64_t kills, Random& random, Figures& figures);
void pool_parent_storm(std::uint64_t kills, Random& random, Figures& figures);

}  // namespace storm

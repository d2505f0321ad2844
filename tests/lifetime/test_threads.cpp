// SPDX-License-Identifier: BSL-1.0

// A process that is forked while other threads are in the middle of everything can use everything.

#include "support/bounds.hpp"
#include "support/catch.hpp"

#include <multiprocessing.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <exception>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

// With sixteen threads at work, each a child's equal.
const auto bound = 60s * support::slowness;
constexpr int good_end = 7;

int square(int number) { return number * number; }

// This process's standard output goes to /dev/null, for as long as it lives.
class SilentOutput {
  public:
    SilentOutput() : saved_(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)) {
        std::cout.flush();
        std::fflush(stdout);
        const int null = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
        ::dup2(null, STDOUT_FILENO);
        ::close(null);
    }
    SilentOutput(const SilentOutput&) = delete;
    SilentOutput& operator=(const SilentOutput&) = delete;
    ~SilentOutput() {
        std::cout.flush();
        std::fflush(stdout);
        ::dup2(saved_, STDOUT_FILENO);
        ::close(saved_);
    }

  private:
    int saved_;
};

// What threads and children use together.
struct Shared {
    mp::Queue<std::string> queue;
    mp::SimpleQueue<int> simple;
    mp::Lock lock;
    mp::RLock rlock;
    mp::Semaphore semaphore{2};
    mp::Event event;
    mp::Value<long> value{0L};
};

void use_memory(int round) {
    std::vector<std::unique_ptr<std::string>> texts;
    for (int i = 1; i < 50; ++i) {
        texts.push_back(
            std::make_unique<std::string>(static_cast<std::size_t>(i * 37 + round % 99), 'x'));
    }
    std::string large(300'000, 'y');  // by mmap
    large += *texts.back();
}

void use_streams(int round) {
    std::cout << "round " << round << ' ' << 2.5 << '\n' << std::flush;
    std::printf("round %d\n", round);
    std::ofstream("/dev/null") << std::string(100, 'x') << round << std::endl;
}

void use_queues(const Shared& shared) {
    shared.queue.put(std::string(200, 'x'));
    shared.queue.try_get();
    shared.simple.put(1);
    shared.simple.get();
    const mp::Queue<std::string> own;
    own.put("item");
    if (own.get(bound) != "item") { throw std::runtime_error("own queue"); }
}

void use_locks(const Shared& shared) {
    {
        const std::scoped_lock both(shared.lock, shared.rlock);
        shared.value.set_value(shared.value.value() + 1);
    }
    if (!shared.semaphore.acquire(bound)) { throw std::runtime_error("semaphore"); }
    shared.semaphore.release();
    shared.event.set();
    shared.event.clear();
    const mp::Lock own;
    const std::scoped_lock hold(own);
    const mp::Condition condition;
    const mp::Barrier barrier(1);
    condition.acquire();
    condition.notify_all();
    condition.release();
    barrier.wait(bound);
}

void check_nine(int result) {
    if (result != 9) { throw std::runtime_error("pool"); }
}

void use_new_pool() {
    mp::Pool pool(1);
    check_nine(pool.apply_async(square, 3).get(bound));
}

void use_thread_pool() {
    mp::ThreadPool pool(2);
    check_nine(pool.apply_async(square, 3).get(bound));
}

// Sixteen threads that do all that until the end of the scope.
class Hammers {
  public:
    explicit Hammers(const Shared& shared) : pool_(2) {
        const auto use_pool = [this](int) {
            if (pool_.map_async(square, {1, 2, 3}).get(bound).back() != 9) {
                throw std::runtime_error("map");
            }
        };
        for (int i = 0; i < 3; ++i) {
            start(use_memory);
            start(use_streams);
            start([&shared](int) { use_queues(shared); });
            start([&shared](int) { use_locks(shared); });
        }
        start(use_pool);
        start(use_pool);
        start([](int) { use_new_pool(); });
        start([](int) { use_thread_pool(); });
    }
    Hammers(const Hammers&) = delete;
    Hammers& operator=(const Hammers&) = delete;
    ~Hammers() { stop(); }

    /// Returns what went wrong in them.
    std::string stop() {
        stop_ = true;
        threads_.clear();
        const std::scoped_lock lock(mutex_);
        return wrong_;
    }
    int rounds() const { return rounds_; }
    std::size_t count() const { return threads_.size(); }

  private:
    void start(std::function<void(int)> work) {
        threads_.emplace_back([this, work = std::move(work)] {
            for (int round = 0; !stop_; ++round) {
                try {
                    work(round);
                    ++rounds_;
                } catch (const std::exception& error) {
                    const std::scoped_lock lock(mutex_);
                    wrong_ += std::string("a thread: ") + error.what() + "\n";
                    return;
                }
            }
        });
    }

    mp::Pool pool_;
    std::atomic<bool> stop_{false};
    std::atomic<int> rounds_{0};
    std::mutex mutex_;
    std::string wrong_;
    std::vector<std::jthread> threads_;  // last: they use the rest
};

// All of it, in a child.
[[noreturn]] void be_child(const Shared& shared, int number) {
    use_memory(number);
    use_streams(number);
    use_queues(shared);
    use_locks(shared);
    // A pool costs two processes; every fourth has one.
    if (number % 4 == 0) { use_new_pool(); }
    if (number % 4 == 1) { use_thread_pool(); }
    mp::Process inner([] { std::exit(3); });
    inner.start();
    if (!inner.join(bound) || inner.exitcode() != 3) { std::exit(4); }
    std::exit(good_end);
}

void fork_among_threads(int children) {
    const Shared shared;
    std::string wrong;
    int ended_well = 0;
    int rounds = 0;
    {
        const SilentOutput silent;
        Hammers hammers(shared);
        // As many at a time as keep two processors busy.
        std::deque<mp::Process> running;
        const auto end_first = [&] {
            mp::Process& first = running.front();
            if (!first.join(bound)) {
                wrong += "process " + std::to_string(first.pid().value_or(0)) + " hangs\n";
                first.kill();
                first.join();
            } else if (first.exitcode() == good_end) {
                ++ended_well;
            } else {
                wrong += "exit code " + std::to_string(first.exitcode().value_or(1000)) + "\n";
            }
            running.pop_front();
        };
        for (int i = 0; i < children && wrong.empty(); ++i) {
            running.emplace_back(mp::ProcessOptions{.daemon = i % 2 == 0},
                                 [&shared, i] { be_child(shared, i); });
            running.back().start();
            if (running.size() == 4) { end_first(); }
            if (i % 16 == 0) { support::allow(180s * support::slowness); }
        }
        while (!running.empty()) { end_first(); }
        support::allow(180s * support::slowness);
        wrong += hammers.stop();
        rounds = hammers.rounds();
    }
    CHECK(wrong == "");
    CHECK(ended_well == children);
    CHECK(rounds >= 16);
    // No thread or child has lost an addition, or died in one.
    CHECK(shared.lock.acquire(bound));
    CHECK(shared.value.value() > children);
    shared.lock.release();
}

}  // namespace

// Not under AddressSanitizer: the locks of its allocator are not taken around a fork, so that a
// child that is born while another thread allocates finds one of them held for ever.
#if !defined(__SANITIZE_ADDRESS__)
TEST_CASE("children of a program with sixteen threads at work use everything, and end",
          "[lifetime]") {
    fork_among_threads(24);
}

TEST_CASE("1,000 children of a program with sixteen threads at work use everything, and end",
          "[lifetime][long]") {
    fork_among_threads(1'000);
}
#endif

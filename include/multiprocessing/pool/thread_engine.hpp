// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The engine that runs tasks in threads of this process.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/process.hpp>
#include <multiprocessing/os/signals.hpp>
#include <multiprocessing/os/standard_error.hpp>
#include <multiprocessing/pool/engine.hpp>
#include <multiprocessing/pool/options.hpp>
#include <multiprocessing/pool/task_scope.hpp>
#include <multiprocessing/process/report.hpp>
#include <multiprocessing/timeout.hpp>

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <iterator>
#include <limits>
#include <memory>
#include <mutex>
#include <stop_token>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// What the threads of a pool share; lives as long as one of them does.
/// \safety threads. No job is called, and so no user code runs, under `mutex_`.
template <class Lazy = void>
class ThreadCrew : public std::enable_shared_from_this<ThreadCrew<Lazy>> {
  public:
    explicit ThreadCrew(PoolOptions options)
        : options_(std::move(options)),
          breaker_(options_.processes),
          places_(static_cast<std::size_t>(options_.processes)) {}

    void start();
    void submit(const std::shared_ptr<Job>& job, std::size_t first, std::size_t count);
    /// Of every job if it is null.
    std::size_t cancel(const Job* job, Engine::Reach reach);
    bool is_running(const Job& job) const;
    bool is_one_of_us() const noexcept { return current_ == this; }
    bool wait(Job& job, Predicate there, const Deadline& deadline);
    void close();
    void terminate() {
        end(Phase::terminated, std::make_exception_ptr(CancelledError(
                                   "the pool was terminated before the task had a result")));
    }
    void join();
    /// Leaves the threads to themselves.
    void detach();
    int processes() const noexcept { return options_.processes; }
    std::vector<WorkerInfo> workers() const;

  private:
    enum class Phase { running, closed, broken, terminated };

    // Chunks [next, end) of a job, which nobody has begun.
    struct Pending {
        std::shared_ptr<Job> job;
        std::size_t next;
        std::size_t end;
    };
    // One worker; its thread changes with `maxtasksperchild`.
    struct Place {
        std::thread thread;
        WorkerInfo info;
    };
    // A chunk in somebody's hands.
    struct Running {
        Job* job;
        std::size_t chunk;
        std::stop_source stop;
    };
    class Scope final : public TaskScope {
      public:
        Scope(std::atomic<std::uint64_t>& item, const Job& job, std::size_t chunk,
              std::stop_token token) noexcept
            : TaskScope(item, job.seed, job.first_item(chunk)), token_(std::move(token)) {}
        std::stop_token stop_token() override { return token_; }

      private:
        std::stop_token token_;
    };

    void start_thread(std::size_t place, std::thread& predecessor);
    void work(std::size_t place);
    bool initialize();
    bool replace(std::size_t place) noexcept;
    /// Takes the next chunk, of `only` if it is not null, and runs it without the lock.
    bool run_one(std::unique_lock<std::mutex>& lock, const Job* only);
    std::size_t await_room(std::unique_lock<std::mutex>& lock, const Job& job);
    bool has_failed() const { return phase_ == Phase::broken || phase_ == Phase::terminated; }
    /// Tells whether nothing comes any more.
    bool is_over() const { return has_failed() || (phase_ == Phase::closed && submissions_ == 0); }
    void end(Phase phase, std::exception_ptr verdict);

    // The crew that the calling thread is of.
    static inline thread_local const ThreadCrew* current_ = nullptr;

    const PoolOptions options_;
    mutable std::mutex mutex_;            // guards what follows
    std::condition_variable work_there_;  // a chunk was added, or the phase changed
    std::condition_variable
        progress_;  // a chunk was settled or a thread ended; for helpers and `join`
    Phase phase_ = Phase::running;
    std::exception_ptr verdict_;  // of every task once the phase is broken or terminated
    std::deque<Pending> pending_;
    std::vector<Running> running_;
    InitializerBreaker breaker_;
    std::vector<Place> places_;
    std::size_t submissions_ = 0;  // under way, of chunks that are accepted
    std::size_t begun_ = 0;        // threads that have begun, ever
    std::size_t alive_ = 0;        // threads that have not come to their end
    std::size_t watchers_ = 0;     // who waits for `progress_`
};

/// Tells whether the program is ending: statics are being destroyed, or will be next.
bool program_is_ending();
/// Has `program_is_ending` know of the end of a program that used a pool in this thread.
void watch_end_of_program();

template <class Lazy = void>
class ThreadEngine final : public Engine {
  public:
    explicit ThreadEngine(PoolOptions options)
        : crew_(std::make_shared<ThreadCrew<Lazy>>(std::move(options))) {
        crew_->start();
    }
    ~ThreadEngine() override { crew_->detach(); }

    void submit(const std::shared_ptr<Job>& job, std::size_t first, std::size_t count) override {
        crew_->submit(job, first, count);
    }
    std::size_t cancel(Job& job, Reach reach) override { return crew_->cancel(&job, reach); }
    std::size_t cancel_waiting() override { return crew_->cancel(nullptr, Reach::waiting); }
    bool is_running(const Job& job) const override { return crew_->is_running(job); }
    bool is_own_thread() const override { return crew_->is_one_of_us(); }
    bool wait(Job& job, Predicate there, const Deadline& deadline) override {
        return crew_->wait(job, there, deadline);
    }
    void close() override { crew_->close(); }
    void terminate() override { crew_->terminate(); }
    void join() override { crew_->join(); }
    int processes() const noexcept override { return crew_->processes(); }
    std::vector<WorkerInfo> workers() const override { return crew_->workers(); }

  private:
    const std::shared_ptr<ThreadCrew<Lazy>> crew_;  // its threads hold it too
};

// -------------------------------------------------------------------------------------------------

inline std::atomic<bool>& ending_flag() {
    static std::atomic<bool> ending{false};
    return ending;
}

inline bool program_is_ending() { return ending_flag().load(std::memory_order_relaxed); }

inline void watch_end_of_program() {
    // The thread-local objects of the thread that calls exit() go before all statics, those of the
    // main thread at no other time.
    struct MainThreadEnd {
        ~MainThreadEnd() {
            if (os::thread_id() == ::getpid()) {
                ending_flag().store(true, std::memory_order_relaxed);
            }
        }
    };
    static thread_local MainThreadEnd mark;
    // For an exit() in another thread; before what was made static earlier, which is the best there
    // is.
    static const bool registered = [] {
        os::on_exit([](int, void*) { ending_flag().store(true, std::memory_order_relaxed); });
        return true;
    }();
    static_cast<void>(&mark);
    static_cast<void>(registered);
}

template <class Lazy>
void ThreadCrew<Lazy>::start() {
    watch_end_of_program();
    try {
        for (std::size_t place = 0; place < places_.size(); ++place) {
            const std::scoped_lock lock(mutex_);
            std::thread nobody;
            start_thread(place, nobody);
        }
        std::unique_lock lock(mutex_);
        ++watchers_;
        progress_.wait(lock, [&] { return begun_ >= places_.size(); });
        --watchers_;
    } catch (const std::system_error& error) {
        terminate();
        join();
        throw OSError(error.code(),
                      text_of("pthread_create({} threads of a pool)", {places_.size()}));
    }
}

// With the mutex held. The new thread first joins the one whose place it takes; when there is no
// new thread to be had, `predecessor` is as it was.
template <class Lazy>
void ThreadCrew<Lazy>::start_thread(std::size_t place, std::thread& predecessor) {
    const auto handover = std::make_shared<std::thread>(std::move(predecessor));
    try {
        const os::BlockedSignals blocked;
        places_[place].thread = std::thread([self = this->shared_from_this(), place, handover] {
            if (handover->joinable()) { handover->join(); }
            self->work(place);
        });
    } catch (...) {
        predecessor = std::move(*handover);
        throw;
    }
    places_[place].info = {};
    ++alive_;
}

template <class Lazy>
void ThreadCrew<Lazy>::work(std::size_t place) {
    current_ = this;
    {
        const std::scoped_lock lock(mutex_);
        places_[place].info.pid = os::thread_id();
        ++begun_;
        if (watchers_ != 0) { progress_.notify_all(); }
    }
    bool replaced = false;
    if (initialize()) {
        int left = options_.maxtasksperchild;
        for (std::unique_lock lock(mutex_);;) {
            places_[place].info.state = WorkerState::idle;
            work_there_.wait(lock, [&] { return is_over() || !pending_.empty(); });
            if (pending_.empty()) { break; }
            places_[place].info.state = WorkerState::busy;
            run_one(lock, nullptr);
            ++places_[place].info.tasks_done;
            if (options_.maxtasksperchild != 0 && --left == 0) {
                replaced = replace(place);
                if (replaced) { break; }
                left = options_.maxtasksperchild;
            }
        }
    }
    const std::scoped_lock lock(mutex_);
    if (!replaced) { places_[place].info.pid = 0; }
    --alive_;
    progress_.notify_all();
}

template <class Lazy>
bool ThreadCrew<Lazy>::initialize() {
    for (;;) {
        std::exception_ptr error;
        try {
            if (options_.initializer) { options_.initializer(); }
        } catch (const SystemExit& exit) {
            error = std::make_exception_ptr(ProcessError(
                text_of("the initializer ended itself with exit code {}", {exit.code()})));
        } catch (...) { error = std::current_exception(); }
        bool broken = false;
        {
            const std::scoped_lock lock(mutex_);
            if (!error) {
                breaker_.succeeded();
                return true;
            }
            if (is_over() && pending_.empty()) { return false; }
            broken = breaker_.failed();
        }
        if (broken) {
            end(Phase::broken, broken_pool_error(error));
            return false;
        }
        os::write_to_stderr("multiprocessing: the initializer of a pool's thread failed:\n" +
                            describe_exception(error));
    }
}

// With the mutex held, by the thread that is to be replaced.
template <class Lazy>
bool ThreadCrew<Lazy>::replace(std::size_t place) noexcept {
    std::thread self = std::move(places_[place].thread);
    try {
        start_thread(place, self);
        return true;
    } catch (const std::exception&) {
        // No further thread to be had; this one goes on.
        places_[place].thread = std::move(self);
        return false;
    }
}

template <class Lazy>
bool ThreadCrew<Lazy>::run_one(std::unique_lock<std::mutex>& lock, const Job* only) {
    const auto found = std::find_if(pending_.begin(), pending_.end(), [&](const Pending& pending) {
        return only == nullptr || pending.job.get() == only;
    });
    if (found == pending_.end()) { return false; }
    std::shared_ptr<Job> job = found->job;
    const std::size_t chunk = found->next++;
    if (found->next == found->end) { pending_.erase(found); }
    std::stop_source stop =
        job->takes_stop_token ? std::stop_source() : std::stop_source(std::nostopstate);
    running_.push_back({job.get(), chunk, stop});
    lock.unlock();
    {
        std::atomic<std::uint64_t> item{0};
        const Scope scope(item, *job, chunk, stop.get_token());
        job->run_here(chunk);
    }
    lock.lock();
    std::erase_if(running_, [&](const Running& each) {
        return each.job == job.get() && each.chunk == chunk;
    });
    if (watchers_ != 0) { progress_.notify_all(); }
    // It may be the last to know the job, and what the job destroys may be anything.
    lock.unlock();
    job.reset();
    lock.lock();
    return true;
}

template <class Lazy>
void ThreadCrew<Lazy>::submit(const std::shared_ptr<Job>& job, std::size_t first,
                              std::size_t count) {
    watch_end_of_program();
    const std::size_t end = first + count;
    std::exception_ptr verdict;
    {
        std::unique_lock lock(mutex_);
        if (phase_ == Phase::broken) { std::rethrow_exception(verdict_); }
        if (phase_ != Phase::running) { throw_not_running(); }
        ++submissions_;
        while (first < end) {
            const std::size_t part = std::min(await_room(lock, *job), end - first);
            if (has_failed()) { break; }
            try {
                pending_.push_back({job, first, first + part});
            } catch (...) {
                verdict = std::current_exception();
                break;
            }
            first += part;
            if (watchers_ != 0) { progress_.notify_all(); }
            part == 1 ? work_there_.notify_one() : work_there_.notify_all();
        }
        --submissions_;
        if (phase_ != Phase::running) { work_there_.notify_all(); }
        if (verdict == nullptr) { verdict = verdict_; }
    }
    for (; first < end; ++first) { job->failed(first, 0, verdict); }
}

// Sleeps until there is room; returns for how many chunks. Not in a thread of the pool's own, which
// makes the room.
template <class Lazy>
std::size_t ThreadCrew<Lazy>::await_room(std::unique_lock<std::mutex>& lock, const Job& job) {
    constexpr auto unbounded = std::numeric_limits<std::size_t>::max();
    if (options_.max_pending == 0 || job.is_paced || is_one_of_us()) { return unbounded; }
    std::size_t taken = 0;
    ++watchers_;
    progress_.wait(lock, [&] {
        taken = running_.size();
        for (const Pending& each : pending_) { taken += each.end - each.next; }
        return has_failed() || taken < options_.max_pending;
    });
    --watchers_;
    return has_failed() ? unbounded : options_.max_pending - taken;
}

template <class Lazy>
bool ThreadCrew<Lazy>::is_running(const Job& job) const {
    const std::scoped_lock lock(mutex_);
    return std::any_of(running_.begin(), running_.end(),
                       [&](const Running& each) { return each.job == &job; });
}

template <class Lazy>
std::size_t ThreadCrew<Lazy>::cancel(const Job* job, Engine::Reach reach) {
    std::vector<Pending> taken;
    std::vector<std::stop_source> stops;
    {
        const std::scoped_lock lock(mutex_);
        const auto is_meant = [&](const Pending& pending) {
            return job == nullptr || pending.job.get() == job;
        };
        std::copy_if(pending_.begin(), pending_.end(), std::back_inserter(taken), is_meant);
        std::erase_if(pending_, is_meant);
        // A thread can only be asked; what it still brings finds its place taken.
        for (const Running& each : running_) {
            if (reach != Engine::Reach::running_too || each.job != job || !job->takes_stop_token) {
                continue;
            }
            stops.push_back(each.stop);
            taken.push_back({each.job->shared_from_this(), each.chunk, each.chunk + 1});
        }
    }
    // Before it is asked to stop: what it returns then would else be the result.
    std::size_t count = 0;
    const auto cancelled = std::make_exception_ptr(CancelledError());
    for (const auto& pending : taken) {
        for (std::size_t chunk = pending.next; chunk < pending.end; ++chunk) {
            if (pending.job->failed(chunk, 0, cancelled)) { ++count; }
        }
    }
    for (std::stop_source& stop : stops) { stop.request_stop(); }
    const std::scoped_lock lock(mutex_);
    progress_.notify_all();
    return count;
}

template <class Lazy>
bool ThreadCrew<Lazy>::wait(Job& job, Predicate there, const Deadline& deadline) {
    if (!is_one_of_us()) { return job.sleep_until(there, deadline); }
    // A task waits for another one. It may be the only thread: it runs what it waits for itself.
    // Not when it may wait for some time only, since a task that has begun cannot be left.
    std::unique_lock lock(mutex_);
    while (!there()) {
        if (deadline.is_infinite() && run_one(lock, &job)) { continue; }
        ++watchers_;
        if (deadline.is_infinite()) {
            progress_.wait(lock);
        } else {
            progress_.wait_until(lock, deadline.at());
        }
        --watchers_;
        if (deadline.has_passed()) { return there(); }
    }
    return true;
}

template <class Lazy>
void ThreadCrew<Lazy>::close() {
    const std::scoped_lock lock(mutex_);
    if (phase_ == Phase::running) { phase_ = Phase::closed; }
    work_there_.notify_all();
}

template <class Lazy>
void ThreadCrew<Lazy>::end(Phase phase, std::exception_ptr verdict) {
    std::deque<Pending> pending;
    {
        const std::scoped_lock lock(mutex_);
        if (phase_ == Phase::terminated || phase_ == Phase::broken) { return; }
        phase_ = phase;
        verdict_ = verdict;
        pending.swap(pending_);
        // A thread cannot be stopped; what it still brings finds its place taken. When it is the
        // pool that is broken, those that got through finish what they have.
        if (phase == Phase::terminated) {
            for (const auto& each : running_) {
                pending.push_back({each.job->shared_from_this(), each.chunk, each.chunk + 1});
            }
        }
        work_there_.notify_all();
    }
    for (const auto& each : pending) {
        for (std::size_t chunk = each.next; chunk < each.end; ++chunk) {
            each.job->failed(chunk, 0, verdict);
        }
    }
    const std::scoped_lock lock(mutex_);
    progress_.notify_all();
}

template <class Lazy>
void ThreadCrew<Lazy>::join() {
    if (is_one_of_us()) {
        throw AssertionError("a pool cannot be joined by one of its own threads");
    }
    std::vector<std::thread> threads;
    {
        std::unique_lock lock(mutex_);
        ++watchers_;
        const auto ended = [&] { return alive_ == 0; };
        if (program_is_ending()) {
            // Nobody waits for a task then: the threads go with the process.
            progress_.wait_for(lock, std::chrono::milliseconds(100), ended);
        } else {
            progress_.wait(lock, ended);
        }
        --watchers_;
        if (alive_ != 0) { return; }
        for (auto& place : places_) { threads.push_back(std::move(place.thread)); }
    }
    for (auto& thread : threads) {
        if (thread.joinable()) { thread.join(); }
    }
}

template <class Lazy>
void ThreadCrew<Lazy>::detach() {
    const std::scoped_lock lock(mutex_);
    for (auto& place : places_) {
        if (place.thread.joinable()) { place.thread.detach(); }
    }
}

template <class Lazy>
std::vector<WorkerInfo> ThreadCrew<Lazy>::workers() const {
    const std::scoped_lock lock(mutex_);
    std::vector<WorkerInfo> infos;
    for (const auto& place : places_) {
        // One that has ended, or has not begun, is none.
        if (place.info.pid != 0) { infos.push_back(place.info); }
    }
    return infos;
}

}  // namespace multiprocessing::detail

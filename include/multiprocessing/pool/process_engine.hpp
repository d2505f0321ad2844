// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The engine that runs tasks in worker processes.
///
/// One thread of the parent, the supervisor, receives everything: results from the workers and, in
/// the same ring and so in order behind them, the deaths that the nursery reports. Only it decides
/// what was lost. The parent's other threads put tasks and sleep until their job has what they
/// want.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/signals.hpp>
#include <multiprocessing/os/text_file.hpp>
#include <multiprocessing/pool/engine.hpp>
#include <multiprocessing/pool/job_table.hpp>
#include <multiprocessing/pool/nursery.hpp>
#include <multiprocessing/pool/options.hpp>
#include <multiprocessing/process/finalizers.hpp>
#include <multiprocessing/process/fork_child.hpp>
#include <multiprocessing/serialize/exception.hpp>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// The parent's side of a pool of processes; lives as long as the engine or its supervisor does.
/// \safety threads. Its mutex is never held while a job, and so user code, is called.
template <class Lazy = void>
class ProcessPool : public std::enable_shared_from_this<ProcessPool<Lazy>> {
  public:
    explicit ProcessPool(PoolOptions options);
    ProcessPool(const ProcessPool&) = delete;
    ProcessPool& operator=(const ProcessPool&) = delete;
    ~ProcessPool();

    /// Starts nursery, workers and supervisor; what it throws leaves nothing behind.
    void start();

    void submit(const std::shared_ptr<Job>& job, std::size_t first, std::size_t count);
    std::size_t cancel(Job& job);
    bool wait(Job& job, Predicate there, const Deadline& deadline);
    void close();
    void terminate() {
        end(Phase::terminated, std::make_exception_ptr(CancelledError(
                                   "the pool was terminated before the task had a result")));
    }
    void join();
    std::vector<WorkerInfo> workers() const;
    int processes() const noexcept { return options_.processes; }

  private:
    enum class Phase { running, closed, broken, terminated };

    // A task that was put and has no verdict yet.
    struct Outstanding {
        std::shared_ptr<Job> job;  // null once it has its verdict
        std::size_t chunk = 0;
    };
    // A worker's place; the worker in it changes.
    struct Place {
        bool taken = false;   // somebody was started, and his death has not been reported
        bool ready = false;   // he has run the initializer
        bool failed = false;  // his initializer failed; his death will follow
    };
    struct News {
        NewsHeader header;
        std::vector<std::byte> body;
    };

    // The supervisor's.
    void supervise();
    bool receive(std::chrono::nanoseconds patience);
    bool fetch(News& news, std::chrono::nanoseconds patience);
    void handle(News news);
    void handle_result(const NewsHeader& header, Reader& body);
    void handle_ready(std::uint32_t worker);
    void handle_failed_start(std::exception_ptr why);
    void handle_death(std::uint32_t worker, const DeathNotice& notice);
    static std::string manner_of(int exitcode);
    Place bury(std::uint32_t worker, const DeathNotice& notice);
    bool has_lost(std::uint32_t worker, std::uint64_t sequence);
    void fill_up();
    void check_nursery();
    void await_orphans();
    bool is_done();

    void start_nursery();
    void stop_nursery();
    Outstanding take(std::uint64_t sequence);
    void end(Phase phase, std::exception_ptr verdict);
    bool in_supervisor() const { return std::this_thread::get_id() == supervisor_id_.load(); }

    const PoolOptions options_;
    JobTable<Lazy> table_;
    std::thread supervisor_;
    std::atomic<std::thread::id> supervisor_id_{};
    typename Finalizers<Lazy>::Token finalizer_ = 0;
    std::mutex join_mutex_;  // one thread joins, the others wait for it

    mutable std::mutex mutex_;  // guards what follows
    Phase phase_ = Phase::running;
    std::exception_ptr verdict_;           // of every task, once the phase is broken or terminated
    std::deque<Outstanding> outstanding_;  // by sequence, from first_outstanding_ on
    std::uint64_t first_outstanding_ = 0;
    std::size_t open_ = 0;  // how many of them have no verdict
    std::vector<Place> places_;
    std::shared_ptr<ForkedChild<Lazy>> nursery_;
    NurseryLine line_;

    // The supervisor's alone.
    InitializerBreaker breaker_;
    std::exception_ptr last_failed_start_;  // null: the last worker that was started got through
    bool given_up_ = false;                 // too many starts in a row failed, though others work
    unsigned nursery_deaths_ = 0;           // since the last result
    std::deque<News> backlog_;              // received while something was being decided
};

/// What the front sees.
template <class Lazy = void>
class ProcessEngine final : public Engine {
  public:
    explicit ProcessEngine(PoolOptions options)
        : pool_(std::make_shared<ProcessPool<Lazy>>(std::move(options))) {
        pool_->start();
    }

    void submit(const std::shared_ptr<Job>& job, std::size_t first, std::size_t count) override {
        pool_->submit(job, first, count);
    }
    std::size_t cancel(Job& job) override { return pool_->cancel(job); }
    bool wait(Job& job, Predicate there, const Deadline& deadline) override {
        return pool_->wait(job, there, deadline);
    }
    void close() override { pool_->close(); }
    void terminate() override { pool_->terminate(); }
    void join() override { pool_->join(); }
    int processes() const noexcept override { return pool_->processes(); }
    std::vector<WorkerInfo> workers() const override { return pool_->workers(); }

  private:
    std::shared_ptr<ProcessPool<Lazy>> pool_;
};

// -------------------------------------------------------------------------------------------------

template <class Lazy>
ProcessPool<Lazy>::ProcessPool(PoolOptions options)
    : options_(std::move(options)),
      table_(static_cast<std::size_t>(options_.processes)),
      places_(static_cast<std::size_t>(options_.processes)),
      breaker_(options_.processes) {}

template <class Lazy>
void ProcessPool<Lazy>::start() {
    Children<Lazy>::instance().arm_exit(/*is_child=*/false);
    start_nursery();
    try {
        const os::BlockedSignals blocked;
        supervisor_ = std::thread([self = this->shared_from_this()] { self->supervise(); });
    } catch (const std::system_error& error) {
        stop_nursery();
        throw OSError(error.code(), "pthread_create(the thread that supervises a pool)");
    }
    // As Python's pool does, it ends before the program's daemonic children are terminated.
    constexpr int priority = 15;
    finalizer_ = Finalizers<Lazy>::instance().add(priority, [weak = this->weak_from_this()] {
        if (const auto self = weak.lock()) {
            self->terminate();
            self->join();
        }
    });
}

template <class Lazy>
void ProcessPool<Lazy>::start_nursery() {
    auto [ours, theirs] = os::socketpair();
    const ParentRecord self = self_as_parent();
    std::shared_ptr<ForkedChild<Lazy>> nursery;
    {
        // Until it has its own handlers: a Ctrl-C now would run the program's in it as well.
        const os::BlockedSignals blocked;
        nursery = fork_child(
            {.name = options_.name.empty() ? "PoolNursery" : options_.name + "-nursery",
             .identity = LocalProcess::instance().next_child_identity(),
             .daemon = true,
             .dies_with_parent = true,
             .authkey = LocalProcess::instance().authkey(),
             .parent = self},
            [&, this] {
                ours.reset();
                Nursery<Lazy>(table_, NurseryLine(std::move(theirs)), options_, self).run();
            });
    }
    theirs.reset();
    NurseryLine line(std::move(ours));
    line.send(NurseryCommand{.what = NurseryCommand::What::start_all});
    NurseryAnswer answer{.error = 0, .started = 0};
    const bool has_answered = line.receive(answer);
    if (!has_answered || answer.error != 0) {
        // It has ended those that it had started.
        nursery->join(forever);
        if (!has_answered) {
            const auto status = nursery->status();
            throw ProcessError(text_of(
                "process {}, which was to start {} workers of a pool, {}",
                {nursery->pid(), options_.processes, manner_of(status ? status->exitcode : 0)}));
        }
        throw_os_error(
            answer.error, "fork",
            text_of("worker {} of {} of a pool", {answer.started + 1, options_.processes}));
    }
    const std::scoped_lock lock(mutex_);
    nursery_ = std::move(nursery);
    line_ = std::move(line);
    std::fill(places_.begin(), places_.end(), Place{.taken = true});
}

template <class Lazy>
void ProcessPool<Lazy>::submit(const std::shared_ptr<Job>& job, std::size_t first,
                               std::size_t count) {
    Writer arguments;
    for (std::size_t chunk = first; chunk < first + count; ++chunk) {
        arguments.clear();
        std::exception_ptr error;
        try {
            job->encode(chunk, arguments);
        } catch (...) { error = std::current_exception(); }
        {
            const std::scoped_lock lock(mutex_);
            if (chunk == first) {
                if (phase_ == Phase::broken) { std::rethrow_exception(verdict_); }
                if (phase_ != Phase::running) { throw_not_running(); }
            }
            if (phase_ == Phase::broken || phase_ == Phase::terminated) {
                // It ended between two chunks: those that were put have their verdict already.
                error = verdict_;
            }
            if (error == nullptr) {
                const std::uint64_t sequence = first_outstanding_ + outstanding_.size();
                outstanding_.push_back({job, chunk});
                ++open_;
                const TaskHeader header{
                    .sequence = sequence, .code = job->code(), .taken_back = 0, .unused = 0};
                const auto body = arguments.view();
                try {
                    table_.tasks.put(
                        sizeof header + body.size(),
                        [&](std::span<std::byte> to) {
                            std::memcpy(to.data(), &header, sizeof header);
                            if (!body.empty()) {
                                std::memcpy(to.data() + sizeof header, body.data(), body.size());
                            }
                        },
                        forever);
                } catch (...) {
                    error = std::current_exception();  // no memory for it; the ring is as it was
                    outstanding_.pop_back();
                    --open_;
                }
            }
        }
        if (error != nullptr) { job->failed(chunk, 0, error); }
    }
}

template <class Lazy>
std::size_t ProcessPool<Lazy>::cancel(Job& job) {
    std::vector<Outstanding> taken;
    {
        const std::scoped_lock lock(mutex_);
        // What is still in the ring has not begun, and with the mark it never will.
        table_.tasks.for_each([&](std::span<std::byte> record) {
            TaskHeader header;
            std::memcpy(&header, record.data(), sizeof header);
            // Those that were taken back before may have left the list already.
            if (header.taken_back != 0) { return; }
            Outstanding& task =
                outstanding_[static_cast<std::size_t>(header.sequence - first_outstanding_)];
            if (task.job.get() != &job) { return; }
            header.taken_back = 1;
            std::memcpy(record.data(), &header, sizeof header);
            taken.push_back(std::exchange(task, {}));
            --open_;
        });
    }
    for (const Outstanding& task : taken) {
        task.job->failed(task.chunk, 0, std::make_exception_ptr(CancelledError()));
    }
    return taken.size();
}

template <class Lazy>
bool ProcessPool<Lazy>::wait(Job& job, Predicate there, const Deadline& deadline) {
    if (!in_supervisor()) { return job.sleep_until(there, deadline); }
    // In a callback: nobody else would bring what it waits for.
    while (!there() && !deadline.has_passed()) { receive(deadline.left(os::wait_slice)); }
    return there();
}

template <class Lazy>
void ProcessPool<Lazy>::close() {
    const std::scoped_lock lock(mutex_);
    if (phase_ != Phase::running) { return; }
    phase_ = Phase::closed;
    table_.tasks.shut_down(/*immediate=*/false);
}

template <class Lazy>
void ProcessPool<Lazy>::end(Phase phase, std::exception_ptr verdict) {
    std::deque<Outstanding> unfinished;
    {
        const std::scoped_lock lock(mutex_);
        if (phase_ == Phase::terminated || phase_ == Phase::broken) {
            if (phase == Phase::terminated) { phase_ = phase; }
            return;
        }
        phase_ = phase;
        verdict_ = verdict;
        // The entries stay, without their jobs, so that sequences go on meaning what they meant.
        unfinished = outstanding_;
        for (Outstanding& task : outstanding_) { task.job.reset(); }
        open_ = 0;
        table_.tasks.shut_down(/*immediate=*/true);
        line_.send(NurseryCommand{.what = NurseryCommand::What::quit});
    }
    for (const Outstanding& task : unfinished) {
        if (task.job != nullptr) { task.job->failed(task.chunk, 0, verdict); }
    }
}

template <class Lazy>
void ProcessPool<Lazy>::join() {
    if (in_supervisor()) {
        // From a callback: all that can be waited for here is that every task has its verdict.
        while (!is_done()) { receive(os::wait_slice); }
        return;
    }
    {
        const std::scoped_lock one_at_a_time(join_mutex_);
        if (!supervisor_.joinable()) { return; }
        supervisor_.join();
        stop_nursery();
    }
    // Not under the mutex: a finalizer that is running is perhaps waiting for it.
    Finalizers<Lazy>::instance().remove(finalizer_);
}

template <class Lazy>
ProcessPool<Lazy>::~ProcessPool() {
    // Joinable only when the last handle went in a callback, in the supervisor's own thread.
    if (supervisor_.joinable()) {
        supervisor_.detach();
        stop_nursery();
    }
}

template <class Lazy>
void ProcessPool<Lazy>::stop_nursery() {
    bool gently;
    {
        const std::scoped_lock lock(mutex_);
        gently = phase_ == Phase::closed;
        line_.send(NurseryCommand{.what = gently ? NurseryCommand::What::finish
                                                 : NurseryCommand::What::quit});
    }
    // After close() the workers end by themselves, and that may take as long as their exit handlers
    // do. Else they get half a second; should the nursery be stopped or stuck, its death ends them
    // as well.
    if (!nursery_->join(gently ? forever : Timeout(std::chrono::seconds(3)))) {
        nursery_->signal(SIGKILL);
        nursery_->join(forever);
    }
    await_orphans();
}

template <class Lazy>
std::vector<WorkerInfo> ProcessPool<Lazy>::workers() const {
    const std::scoped_lock lock(mutex_);
    std::vector<WorkerInfo> infos;
    for (std::size_t i = 0; i < places_.size(); ++i) {
        const WorkerSlot& slot = table_.slot(i);
        const pid_t pid = slot.pid.load();
        if (!places_[i].taken || pid == 0) { continue; }
        infos.push_back({.pid = pid,
                         .state = !places_[i].ready       ? WorkerState::starting
                                  : slot.busy.load() != 0 ? WorkerState::busy
                                                          : WorkerState::idle,
                         .tasks_done = slot.done.load(),
                         .memory = os::resident_bytes(pid)});
    }
    return infos;
}

// -------------------------------------------------------------------------------------------------

template <class Lazy>
void ProcessPool<Lazy>::supervise() {
    supervisor_id_.store(std::this_thread::get_id());
    while (!is_done()) {
        try {
            if (!receive(os::wait_slice)) { check_nursery(); }
        } catch (...) {
            // Without memory or descriptors: nothing further can be promised to anybody.
            end(Phase::broken, std::current_exception());
        }
    }
}

template <class Lazy>
bool ProcessPool<Lazy>::is_done() {
    const std::scoped_lock lock(mutex_);
    if (phase_ == Phase::terminated || phase_ == Phase::broken) { return true; }
    return phase_ == Phase::closed && open_ == 0;
}

template <class Lazy>
bool ProcessPool<Lazy>::receive(std::chrono::nanoseconds patience) {
    News news;
    if (!backlog_.empty()) {
        news = std::move(backlog_.front());
        backlog_.pop_front();
    } else if (!fetch(news, patience)) {
        return false;
    }
    handle(std::move(news));
    return true;
}

template <class Lazy>
bool ProcessPool<Lazy>::fetch(News& news, std::chrono::nanoseconds patience) {
    return table_.news.get(
               [&](std::span<const std::byte> record) {
                   std::memcpy(&news.header, record.data(), sizeof news.header);
                   record = record.subspan(sizeof news.header);
                   news.body.assign(record.begin(), record.end());
               },
               patience) == RingStatus::ok;
}

template <class Lazy>
void ProcessPool<Lazy>::handle(News news) {
    Reader body(news.body);
    switch (news.header.kind) {
        case NewsKind::ready:
            handle_ready(news.header.worker);
            break;
        case NewsKind::initializer_failed: {
            {
                const std::scoped_lock lock(mutex_);
                places_[news.header.worker].failed = true;
            }
            handle_failed_start(load_exception(body));
            break;
        }
        case NewsKind::result:
        case NewsKind::undeliverable:
            handle_result(news.header, body);
            break;
        case NewsKind::died:
            handle_death(news.header.worker, body.raw<DeathNotice>());
            break;
    }
}

template <class Lazy>
void ProcessPool<Lazy>::handle_result(const NewsHeader& header, Reader& body) {
    nursery_deaths_ = 0;
    const Outstanding task = take(header.sequence);
    if (task.job == nullptr) { return; }  // it was terminated meanwhile
    if (header.kind == NewsKind::result) {
        task.job->completed(task.chunk, body);
    } else {
        task.job->failed(task.chunk, table_.slot(header.worker).item.load(), load_exception(body));
    }
}

template <class Lazy>
typename ProcessPool<Lazy>::Outstanding ProcessPool<Lazy>::take(std::uint64_t sequence) {
    const std::scoped_lock lock(mutex_);
    if (sequence < first_outstanding_ || sequence >= first_outstanding_ + outstanding_.size()) {
        return {};
    }
    const Outstanding task =
        std::exchange(outstanding_[static_cast<std::size_t>(sequence - first_outstanding_)], {});
    if (task.job != nullptr) { --open_; }
    while (!outstanding_.empty() && outstanding_.front().job == nullptr) {
        outstanding_.pop_front();
        ++first_outstanding_;
    }
    return task;
}

template <class Lazy>
void ProcessPool<Lazy>::handle_ready(std::uint32_t worker) {
    breaker_.succeeded();
    last_failed_start_ = nullptr;
    given_up_ = false;
    {
        const std::scoped_lock lock(mutex_);
        places_[worker].ready = true;
    }
    fill_up();
}

template <class Lazy>
void ProcessPool<Lazy>::handle_failed_start(std::exception_ptr why) {
    last_failed_start_ = why;
    if (!breaker_.failed()) { return; }
    bool others_work;
    {
        const std::scoped_lock lock(mutex_);
        others_work =
            std::any_of(places_.begin(), places_.end(), [](Place place) { return place.ready; });
    }
    if (others_work) {
        given_up_ = true;
    } else {
        end(Phase::broken, broken_pool_error(why));
    }
}

template <class Lazy>
void ProcessPool<Lazy>::handle_death(std::uint32_t worker, const DeathNotice& notice) {
    const Place place = bury(worker, notice);
    // Ended before it was ready: the initializer's doing, or there was no process to be had.
    // Without an initializer it is somebody who kills our workers, and that says nothing about the
    // next one.
    if (!place.ready && !place.failed && (options_.initializer || notice.pid == 0)) {
        handle_failed_start(std::make_exception_ptr(
            ProcessError(notice.pid == 0 ? std::string("no worker could be forked")
                                         : text_of("worker process {} {} before it was ready",
                                                   {notice.pid, manner_of(notice.exitcode)}))));
    }
    fill_up();
}

template <class Lazy>
std::string ProcessPool<Lazy>::manner_of(int exitcode) {
    return exitcode < 0 ? "was ended by " + signal_name(-exitcode)
                        : text_of("exited with code {}", {exitcode});
}

// Gives the dead worker's task its verdict, if it had one in hand, and clears the place; returns
// what the place was.
template <class Lazy>
typename ProcessPool<Lazy>::Place ProcessPool<Lazy>::bury(std::uint32_t worker,
                                                          const DeathNotice& notice) {
    WorkerSlot& slot = table_.slot(worker);
    if (const std::uint64_t claim = slot.claim.load(); claim != 0 && has_lost(worker, claim - 1)) {
        if (const Outstanding task = take(claim - 1); task.job != nullptr) {
            const std::uint64_t item = slot.item.load();
            Death death{.pid = notice.pid,
                        .exitcode = notice.exitcode,
                        .task_index = task.job->first_item(task.chunk) + item,
                        .core_dumped = notice.core_dumped != 0};
            const std::string text =
                text_of("worker process {} {} while it ran item {}",
                        {notice.pid, manner_of(notice.exitcode), death.task_index});
            task.job->failed(task.chunk, item,
                             std::make_exception_ptr(WorkerDiedError(text, std::move(death))));
        }
    }
    slot.claim.store(0);
    slot.member.store(0);
    slot.pid.store(0);
    slot.done.store(0);
    slot.busy.store(0);
    const std::scoped_lock lock(mutex_);
    return std::exchange(places_[worker], {});
}

// Tells whether the task was in the hands of the worker, which is dead, and in nobody else's.
template <class Lazy>
bool ProcessPool<Lazy>::has_lost(std::uint32_t worker, std::uint64_t sequence) {
    {
        const std::scoped_lock lock(mutex_);
        // The claim is noted before the get is committed: the task may still be in the ring.
        const std::uint64_t first_queued =
            first_outstanding_ + outstanding_.size() - table_.tasks.size();
        if (sequence >= first_queued) { return false; }
    }
    // Or somebody else has taken it since, who has noted that likewise, and holds it still ...
    for (std::uint32_t other = 0; other < table_.workers(); ++other) {
        if (other != worker && table_.slot(other).claim.load() == sequence + 1) { return false; }
    }
    // ... or has put its result before he noted the next.
    for (News news; fetch(news, std::chrono::nanoseconds(0)); news = {}) {
        backlog_.push_back(std::move(news));
    }
    return std::none_of(backlog_.begin(), backlog_.end(), [&](const News& news) {
        return (news.header.kind == NewsKind::result ||
                news.header.kind == NewsKind::undeliverable) &&
               news.header.sequence == sequence;
    });
}

// Starts a worker for every empty place, where that makes sense.
template <class Lazy>
void ProcessPool<Lazy>::fill_up() {
    std::exception_ptr broken;
    {
        const std::scoped_lock lock(mutex_);
        if (phase_ == Phase::broken || phase_ == Phase::terminated) { return; }
        if (phase_ == Phase::closed && open_ == 0) { return; }
        const bool any_ready =
            std::any_of(places_.begin(), places_.end(), [](Place place) { return place.ready; });
        const bool any_undecided = std::any_of(places_.begin(), places_.end(), [](Place place) {
            return place.taken && !place.ready && !place.failed;
        });
        // The last one's initializer failed: those under way will show whether that is the rule.
        if (last_failed_start_ != nullptr && !any_ready && any_undecided) { return; }
        if (given_up_ && any_ready) { return; }
        if (given_up_) {
            broken = broken_pool_error(last_failed_start_);
        } else {
            for (std::uint32_t i = 0; i < places_.size(); ++i) {
                if (places_[i].taken) { continue; }
                places_[i].taken = true;
                // A nursery that is gone is found out by check_nursery, which starts all anew.
                line_.send(NurseryCommand{.what = NurseryCommand::What::start, .worker = i});
            }
        }
    }
    if (broken != nullptr) { end(Phase::broken, broken); }
}

// The workers of a nursery that was killed end with it, in a moment; what they have put before is
// theirs.
template <class Lazy>
void ProcessPool<Lazy>::await_orphans() {
    const Deadline bound(std::chrono::seconds(2));
    for (std::uint32_t i = 0; i < table_.workers(); ++i) {
        const MemberId member = table_.slot(i).member.load();
        while (member != 0 && !Family::has_ended(member) && !bound.has_passed()) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }
}

template <class Lazy>
void ProcessPool<Lazy>::check_nursery() {
    if (nursery_->is_alive()) { return; }
    await_orphans();
    while (receive(std::chrono::nanoseconds(0))) {}
    if (is_done()) { return; }
    constexpr unsigned bearable = 3;
    if (++nursery_deaths_ > bearable) {
        end(Phase::broken,
            std::make_exception_ptr(BrokenProcessPool(
                text_of("the process that starts the pool's workers died {} times without a result "
                        "in between",
                        {nursery_deaths_}))));
        return;
    }
    for (std::uint32_t i = 0; i < table_.workers(); ++i) {
        const pid_t pid = Family::pid(table_.slot(i).member.load()).value_or(0);
        bury(i, {.pid = pid, .exitcode = -SIGKILL, .core_dumped = 0});
    }
    start_nursery();
}

}  // namespace multiprocessing::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A pool of worker processes, seen from their parent.
///
/// One thread of the parent, the supervisor, receives everything: results from the workers and, in
/// the same ring and so in order behind them, the deaths that the nursery reports. Only it decides
/// what was lost. The parent's other threads put tasks and sleep until their job has what they
/// want; but a thread that finds the supervisor at rest receives the results of its own job itself,
/// which saves one sleep and one wake of the two that a call costs.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/kill_timer.hpp>
#include <multiprocessing/os/memory.hpp>
#include <multiprocessing/os/signals.hpp>
#include <multiprocessing/os/text_file.hpp>
#include <multiprocessing/pool/bulk.hpp>
#include <multiprocessing/pool/engine.hpp>
#include <multiprocessing/pool/job_table.hpp>
#include <multiprocessing/pool/nursery.hpp>
#include <multiprocessing/pool/options.hpp>
#include <multiprocessing/pool/trace.hpp>
#include <multiprocessing/process/finalizers.hpp>
#include <multiprocessing/process/fork_child.hpp>
#include <multiprocessing/serialize/demangle.hpp>
#include <multiprocessing/serialize/exception.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
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
#include <span>
#include <string>
#include <string_view>
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
    /// Of every job if it is null.
    std::size_t cancel(const Job* job, Engine::Reach reach);
    bool is_running(const Job& job) const;
    std::optional<Progress> reported(const Job& job) const;
    double under_way(const Job& job) const;
    void linger() { lingers_.store(true); }
    void break_off(bool at_once);
    bool wait(Job& job, Predicate there, const Deadline& deadline);
    void close();
    void terminate() {
        end(Phase::terminated, std::make_exception_ptr(CancelledError(
                                   "the pool was terminated before the task had a result")));
    }
    void join();
    std::vector<WorkerInfo> workers() const;
    int processes() const noexcept { return options_.processes; }
    /// Tells whether the calling thread is the one that receives: the supervisor, or who does so in
    /// its place. A callback may be running in it, and nobody else would bring what that waits for.
    bool in_supervisor() const {
        const auto self = std::this_thread::get_id();
        return self == supervisor_id_.load() || self == helper_id_.load();
    }

  private:
    enum class Phase { running, closed, broken, terminated };

    // A task that was put and has no verdict yet.
    struct Outstanding {
        std::shared_ptr<Job> job;  // null once it has its verdict
        std::size_t chunk = 0;
        int retries = 0;                        // that are left
        std::vector<std::byte> arguments = {};  // as they stand in the ring, while there are any
        std::shared_ptr<BulkRange> bulk = {};   // where they stand if they are large
        std::uint64_t bytes = 0;                // that they take
    };
    // One that is about to be put.
    struct Prepared {
        Outstanding task;
        std::span<const std::byte> record;  // what stands behind its header
    };
    class Batch;
    // A worker's place; the worker in it changes.
    struct Place {
        bool taken = false;   // somebody was started, and his death has not been reported
        bool ready = false;   // he has run the initializer
        bool failed = false;  // his initializer failed; his death will follow
        std::shared_ptr<BulkRange> given_up = {};  // perhaps he still reads it
    };
    // A task that was cancelled, and whose function has been asked to stop.
    struct Stopping {
        std::uint32_t worker;
        std::uint64_t sequence;
        Deadline until;
    };
    // From the time when its chunks are accepted until the last is put: close() waits for it.
    class Submission {
      public:
        explicit Submission(ProcessPool& pool, bool must_run = true) : pool_(pool) {
            const std::scoped_lock lock(pool_.mutex_);
            if (must_run) { pool_.check_running(); }
            ++pool_.submissions_;
        }
        Submission(const Submission&) = delete;
        Submission& operator=(const Submission&) = delete;
        ~Submission() {
            const std::scoped_lock lock(pool_.mutex_);
            --pool_.submissions_;
            pool_.close_ring();
        }

      private:
        ProcessPool& pool_;
    };
    static constexpr std::chrono::nanoseconds stop_grace = std::chrono::seconds(1);
    // Calls `f` at the end of a scope.
    template <class F>
    struct AtEnd {
        const F& f;
        ~AtEnd() { f(); }
    };
    // A record of the ring of news.
    class News {
      public:
        News() = default;
        explicit News(std::span<const std::byte> record);
        std::span<const std::byte> body() const noexcept {
            return size_ <= small_.size() ? std::span(small_.data(), size_) : std::span(large_);
        }

        bool is_result() const noexcept {
            return header.kind == NewsKind::result || header.kind == NewsKind::undeliverable;
        }

        NewsHeader header{};
        Outstanding task;  // whose result it is, once that `is_taken`; perhaps nobody's
        bool is_taken = false;

      private:
        std::size_t size_ = 0;
        std::array<std::byte, 48> small_;
        std::vector<std::byte> large_;
    };

    // The supervisor's.
    void supervise();
    void rest();
    void step(std::chrono::nanoseconds patience);
    bool receive(std::chrono::nanoseconds patience);
    bool fetch(std::chrono::nanoseconds patience);
    News next_news();
    void handle(const News& news);
    void handle_result(const News& news);
    void deliver(const News& news);
    void take_results();
    void trace_task(std::uint32_t worker, const Outstanding& task, std::int64_t began,
                    std::int64_t ended, std::string_view how);
    void handle_ready(std::uint32_t worker);
    void handle_failed_start(std::exception_ptr why);
    void handle_death(std::uint32_t worker, const DeathNotice& notice, std::string stderr_tail);
    static std::string manner_of(int exitcode);
    static std::string last_line(const std::string& text);
    std::string traceback_of(std::uint32_t worker);
    Place bury(std::uint32_t worker, const DeathNotice& notice, std::string stderr_tail);
    std::exception_ptr verdict_on(Outstanding& task, std::uint32_t worker,
                                  const DeathNotice& notice, std::string stderr_tail);
    bool has_lost(std::uint32_t worker, std::uint64_t sequence);
    void fill_up();
    void check_nursery();
    void await_orphans();
    bool is_done();

    // Of a thread that waits for a job. It receives results of that one; whatever else comes is
    // left to the supervisor, and so is whatever would run somebody's callback: that may need what
    // the thread holds.
    void receive_own(const Job& job, Predicate there, const Deadline& deadline);
    void receive_what_is_there(const Job& job);
    template <class Receive>
    void receive_if_free(Receive&& receive) noexcept;
    bool may_receive(const Job& job) const;
    void look_out(Predicate there, const Deadline& deadline);
    /// With the mutex held.
    void wake_supervisor() noexcept;
    void wake_receiver() noexcept;

    void start_nursery();
    void stop_nursery();
    /// With the mutex held.
    Outstanding take(std::uint64_t sequence);
    void check_running() const;
    void submit(std::span<Prepared> tasks, bool is_accepted);
    void await_room(std::unique_lock<std::mutex>& lock, std::uint64_t bytes);
    bool is_bounded() const noexcept {
        return options_.max_pending != 0 || options_.max_pending_bytes != 0;
    }
    std::exception_ptr put(std::span<Prepared> tasks, std::size_t& done) noexcept;
    bool run_again(Outstanding& task);
    void forget(const Outstanding& task);
    void close_ring();
    void take_waiting(const Job* job, std::vector<Outstanding>& taken);
    void take_running(const Job& job, std::vector<Outstanding>& taken);
    template <class F>
    void for_each_claim(const Job& job, F f) const;
    bool kill_worker(std::uint32_t worker, std::uint64_t sequence);
    void ask_to_stop(std::uint32_t worker, std::uint64_t sequence);
    void end_the_deaf();
    void end(Phase phase, std::exception_ptr verdict);
    bool ends_by_plan(std::uint32_t worker, const DeathNotice& notice) const;

    const PoolOptions options_;
    JobTable<Lazy> table_;
    const bool has_bulk_ = BulkArea::is_usable();
    std::thread supervisor_;
    std::atomic<std::thread::id> supervisor_id_{};
    std::atomic<std::thread::id> helper_id_{};  // of who receives in its place
    std::atomic<bool> lingers_{false};
    typename Finalizers<Lazy>::Token finalizer_ = 0;
    std::mutex join_mutex_;  // one thread joins, the others wait for it

    std::uint32_t helped_seen_ = 0;  // the supervisor's: `helped_` when it looked last

    mutable std::mutex mutex_;  // guards what follows
    Phase phase_ = Phase::running;
    std::exception_ptr verdict_;           // of every task, once the phase is broken or terminated
    std::deque<Outstanding> outstanding_;  // by sequence, from first_outstanding_ on
    std::uint64_t first_outstanding_ = 0;
    std::size_t open_ = 0;  // how many of them have no verdict
    // Results that were taken, and are not being handled yet.
    std::atomic<std::size_t> undelivered_{0};
    std::uint64_t open_bytes_ = 0;  // that their arguments take
    std::size_t submissions_ = 0;   // under way, of chunks that are accepted
    std::condition_variable room_;  // something has its verdict, where there is a bound
    bool is_ring_closed_ = false;
    std::size_t repeatable_ = 0;   // how many of these may be put once more
    bool watches_memory_ = false;  // the nursery does
    std::vector<Place> places_;
    std::vector<Stopping> stopping_;
    std::shared_ptr<ForkedChild<Lazy>> nursery_;
    NurseryLine line_;
    bool rests_ = false;  // the supervisor does, until this is false or the others stop receiving
    std::condition_variable rested_;

    // How often somebody else has received, or would have.
    std::atomic<std::uint32_t> helped_{0};
    std::atomic<bool> is_receiver_asleep_{false};  // one that is not the supervisor
    std::atomic<bool> must_hand_over_{false};      // the supervisor wants to receive

    std::mutex receiving_;  // held by who receives; guards what follows
    InitializerBreaker breaker_;
    std::exception_ptr last_failed_start_;  // null: the last worker that was started got through
    int trace_number_ = 0;
    bool given_up_ = false;        // too many starts in a row failed, though others work
    unsigned nursery_deaths_ = 0;  // since the last result
    // What was taken out of the ring and not handled yet, from `next_` on.
    std::vector<News> backlog_;
    std::size_t next_ = 0;
};

// -------------------------------------------------------------------------------------------------

template <class Lazy>
ProcessPool<Lazy>::ProcessPool(PoolOptions options)
    : options_(std::move(options)),
      table_(static_cast<std::size_t>(options_.processes), options_.name),
      places_(static_cast<std::size_t>(options_.processes)),
      breaker_(options_.processes) {}

template <class Lazy>
void ProcessPool<Lazy>::start() {
    // Before the first fork: its flag is shared by all that come from here.
    trace_number_ = Trace<Lazy>::instance().pool(options_.name);
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
            self->lingers_ ? self->close() : self->terminate();
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
    if (watches_memory_) { line_.send(NurseryCommand{.what = NurseryCommand::What::watch_memory}); }
    std::fill(places_.begin(), places_.end(), Place{.taken = true});
}

template <class Lazy>
void ProcessPool<Lazy>::submit(const std::shared_ptr<Job>& job, std::size_t first,
                               std::size_t count) {
    // Only once: chunks that were submitted before may be under way.
    if (first == 0 && Trace<Lazy>::instance().flag().load(std::memory_order_relaxed) != 0) {
        job->trace_name = job->name.empty() ? job->function_name() : job->name;
    }
    std::optional<Submission> accepted;
    if (count > 1 || is_bounded()) { accepted.emplace(*this); }
    std::atomic<std::uint64_t> unnoted{0};  // should this process die, the file goes with it
    BulkWriter bulk(table_.bulk, unnoted);
    Writer arguments;
    if (has_bulk_) { arguments.overflow = &bulk; }
    Batch batch(*this, *job, accepted.has_value());
    for (std::size_t chunk = first; chunk < first + count; ++chunk) {
        Outstanding task{.job = job, .chunk = chunk, .retries = job->retries};
        BulkMessage message{};
        try {
            arguments.clear();
            if (job->limits.any()) { arguments.raw(job->limits); }
            job->encode(chunk, arguments);
            if (arguments.has_overflowed()) {
                arguments.spill();
                message = bulk.message();
                task.bulk = std::make_shared<BulkRange>(table_.bulk, message);
                bulk.let_go();
            }
        } catch (...) {
            bulk.restart();
            job->failed(chunk, 0, std::current_exception());
            continue;
        }
        task.bytes = arguments.size();
        batch.add(std::move(task),
                  task.bulk ? std::as_bytes(std::span(&message, 1)) : arguments.view());
    }
    batch.submit();
}

// Small tasks of one call, which are put together.
template <class Lazy>
class ProcessPool<Lazy>::Batch {
  public:
    Batch(ProcessPool& pool, const Job& job, bool is_accepted)
        : pool_(pool), job_(&job), is_accepted_(is_accepted) {}

    void add(Outstanding task, std::span<const std::byte> record) {
        const bool is_alone =
            !is_accepted_ || pool_.is_bounded() || record.size() > most_bytes / 16;
        if (is_alone || tasks_.size() == most || used_ + record.size() > most_bytes) { submit(); }
        if (is_alone) {
            Prepared alone{std::move(task), record};
            return pool_.submit({&alone, 1}, is_accepted_);
        }
        if (bytes_.empty()) {
            bytes_.resize(most_bytes);
            tasks_.reserve(most);
        }
        const std::span<std::byte> place = std::span(bytes_).subspan(used_, record.size());
        std::copy(record.begin(), record.end(), place.begin());
        used_ += record.size();
        tasks_.push_back({std::move(task), place});
    }
    void submit() {
        if (!tasks_.empty()) {
            pool_.submit(tasks_, is_accepted_);
            if (job_->is_awaited) { pool_.receive_what_is_there(*job_); }
        }
        tasks_.clear();
        used_ = 0;
    }

  private:
    static constexpr std::size_t most = 32;
    static constexpr std::size_t most_bytes = 16 * 1024;

    ProcessPool& pool_;
    const Job* job_;
    const bool is_accepted_;
    std::vector<Prepared> tasks_;
    std::vector<std::byte> bytes_;  // of their records
    std::size_t used_ = 0;
};

// With the mutex held.
template <class Lazy>
void ProcessPool<Lazy>::check_running() const {
    if (phase_ == Phase::broken) { std::rethrow_exception(verdict_); }
    if (phase_ != Phase::running) { throw_not_running(); }
}

// Puts tasks when there is room for them; they fail with what prevented that.
template <class Lazy>
void ProcessPool<Lazy>::submit(std::span<Prepared> tasks, bool is_accepted) {
    std::size_t done = 0;
    std::exception_ptr error;
    {
        std::unique_lock lock(mutex_);
        if (!is_accepted) { check_running(); }
        const Job& job = *tasks.front().task.job;
        if (!job.is_paced) { await_room(lock, tasks.front().task.bytes); }
        if (phase_ == Phase::broken || phase_ == Phase::terminated) {
            // It ended between two chunks: those that were put have their verdict already.
            error = verdict_;
        } else {
            if (job.limits.memory != 0 && !std::exchange(watches_memory_, true)) {
                line_.send(NurseryCommand{.what = NurseryCommand::What::watch_memory});
            }
            if (!job.is_awaited) { wake_supervisor(); }
            error = put(tasks, done);
        }
    }
    for (const Prepared& each : tasks.subspan(done)) {
        each.task.job->failed(each.task.chunk, 0, error);
    }
}

// Sleeps until what waits and runs leaves room for one more of that size. Not in the supervisor:
// that is who makes the room.
template <class Lazy>
void ProcessPool<Lazy>::await_room(std::unique_lock<std::mutex>& lock, std::uint64_t bytes) {
    if (!is_bounded() || in_supervisor()) { return; }
    room_.wait(lock, [&] {
        const auto fits = [](std::uint64_t sum, std::uint64_t bound) {
            return bound == 0 || sum <= bound;
        };
        return phase_ == Phase::broken || phase_ == Phase::terminated || open_ == 0 ||
               (fits(open_ + 1, options_.max_pending) &&
                fits(open_bytes_ + bytes, options_.max_pending_bytes));
    });
}

// Gives the tasks the next sequences, and to whichever worker comes first; moves from those that
// were put, and returns what prevented the others. With the mutex held.
template <class Lazy>
std::exception_ptr ProcessPool<Lazy>::put(std::span<Prepared> tasks, std::size_t& done) noexcept {
    const std::size_t place = outstanding_.size();
    const std::uint64_t sequence = first_outstanding_ + place;
    const auto header_of = [&](std::size_t i) {
        const Outstanding& task = tasks[i].task;
        return TaskHeader{.sequence = sequence + i,
                          .code = task.job->code(),
                          .seed = task.job->seed,
                          .first_item = task.job->first_item(task.chunk),
                          .taken_back = 0,
                          .is_limited = static_cast<std::uint16_t>(task.job->limits.any()),
                          .is_bulk = static_cast<std::uint16_t>(task.bulk != nullptr)};
    };
    std::exception_ptr error;
    const std::uint32_t puts = table_.tasks.puts();
    try {
        for (Prepared& each : tasks) {
            if (each.task.retries > 0) {
                each.task.arguments.assign(each.record.begin(), each.record.end());
            }
        }
        outstanding_.resize(place + tasks.size());
        const RingProgress progress = table_.tasks.put_many(
            tasks.size(),
            [&](std::size_t i) { return sizeof(TaskHeader) + tasks[i].record.size(); },
            [&](std::size_t i, std::span<std::byte> to) {
                const TaskHeader header = header_of(i);
                const std::span<const std::byte> record = tasks[i].record;
                std::memcpy(to.data(), &header, sizeof header);
                if (!record.empty()) {
                    std::memcpy(to.data() + sizeof header, record.data(), record.size());
                }
            },
            forever);
        if (progress.status != RingStatus::ok) { throw_not_running(); }
    } catch (...) { error = std::current_exception(); }
    // Nobody else puts tasks.
    done = RingEnd{table_.tasks.puts()}.records_since(RingEnd{puts});
    for (std::size_t i = 0; i < done; ++i) {
        Outstanding& task = outstanding_[place + i];
        task = std::move(tasks[i].task);
        ++open_;
        open_bytes_ += task.bytes;
        if (task.retries > 0) { ++repeatable_; }
    }
    while (outstanding_.size() > place + done) { outstanding_.pop_back(); }
    return error;
}

// Its verdict is about to be given; `close_ring` is to follow. With the mutex held.
template <class Lazy>
void ProcessPool<Lazy>::forget(const Outstanding& task) {
    --open_;
    open_bytes_ -= task.bytes;
    if (task.retries > 0) { --repeatable_; }
    if (is_bounded()) { room_.notify_all(); }
}

// Puts a task whose worker died once more; false when it has been tried often enough.
template <class Lazy>
bool ProcessPool<Lazy>::run_again(Outstanding& task) {
    if (task.retries == 0) { return false; }
    const std::scoped_lock lock(mutex_);
    if (phase_ == Phase::broken || phase_ == Phase::terminated) { return false; }
    const std::vector<std::byte> record = std::move(task.arguments);
    Prepared again{{.job = task.job,
                    .chunk = task.chunk,
                    .retries = task.retries - 1,
                    .arguments = {},
                    .bulk = task.bulk,
                    .bytes = task.bytes},
                   record};
    std::size_t done = 0;
    put({&again, 1}, done);
    return done == 1;  // or there is no memory for it: its worker's death is what is told
}

template <class Lazy>
std::size_t ProcessPool<Lazy>::cancel(const Job* job, Engine::Reach reach) {
    std::vector<Outstanding> taken;
    std::exception_ptr error;
    {
        const std::scoped_lock lock(mutex_);
        try {
            take_waiting(job, taken);
            if (reach == Engine::Reach::running_too) { take_running(*job, taken); }
        } catch (...) { error = std::current_exception(); }  // no memory; what was taken is
        close_ring();
    }
    for (const Outstanding& task : taken) {
        task.job->failed(task.chunk, 0, std::make_exception_ptr(CancelledError()));
    }
    wake_receiver();
    if (error != nullptr) { std::rethrow_exception(error); }
    return taken.size();
}

// What is still in the ring has not begun, and with the mark it never will. With the mutex held.
template <class Lazy>
void ProcessPool<Lazy>::take_waiting(const Job* job, std::vector<Outstanding>& taken) {
    table_.tasks.for_each([&](std::span<std::byte> record) {
        TaskHeader header;
        std::memcpy(&header, record.data(), sizeof header);
        // Those that were taken back before may have left the list already.
        if (header.taken_back != 0) { return; }
        Outstanding& task =
            outstanding_[static_cast<std::size_t>(header.sequence - first_outstanding_)];
        if (job != nullptr && task.job.get() != job) { return; }
        taken.push_back(task);
        header.taken_back = 1;
        std::memcpy(record.data(), &header, sizeof header);
        forget(std::exchange(task, {}));
    });
}

// What runs is given up, and its worker killed. With the mutex held.
template <class Lazy>
void ProcessPool<Lazy>::take_running(const Job& job, std::vector<Outstanding>& taken) {
    std::vector<std::uint64_t> claimed;
    for_each_claim(job, [&](const WorkerSlot&, std::uint64_t sequence) {
        if (std::find(claimed.begin(), claimed.end(), sequence) == claimed.end()) {
            claimed.push_back(sequence);
        }
    });
    for (const std::uint64_t sequence : claimed) {
        Outstanding& task = outstanding_[static_cast<std::size_t>(sequence - first_outstanding_)];
        // Two may have noted it: one who died before he had taken it, and who took it then.
        bool has_ended = false;
        for (std::uint32_t worker = 0; worker < table_.workers(); ++worker) {
            WorkerSlot& slot = table_.slot(worker);
            if (slot.claim.load() != sequence + 1) { continue; }
            places_[worker].given_up = task.bulk;
            if (job.takes_stop_token && !slot.run.has_finished(sequence)) {
                ask_to_stop(worker, sequence);
            } else {
                has_ended = !kill_worker(worker, sequence) || has_ended;
            }
        }
        if (has_ended) { continue; }  // its result is on the way
        taken.push_back(task);
        forget(std::exchange(task, {}));
    }
}

template <class Lazy>
bool ProcessPool<Lazy>::is_running(const Job& job) const {
    const std::scoped_lock lock(mutex_);
    bool is_running = false;
    for_each_claim(job, [&](const WorkerSlot&, std::uint64_t) { is_running = true; });
    return is_running;
}

template <class Lazy>
std::optional<Progress> ProcessPool<Lazy>::reported(const Job& job) const {
    const std::scoped_lock lock(mutex_);
    std::optional<Progress> said;
    for_each_claim(job, [&](const WorkerSlot& slot, std::uint64_t) {
        const std::size_t total = slot.progress_total.load(std::memory_order_relaxed);
        if (total != 0) { said = {slot.progress_done.load(std::memory_order_relaxed), total}; }
    });
    return said;
}

template <class Lazy>
double ProcessPool<Lazy>::under_way(const Job& job) const {
    const std::scoped_lock lock(mutex_);
    double items = 0;
    for_each_claim(job, [&](const WorkerSlot& slot, std::uint64_t) {
        if (!slot.run.is_running()) { return; }
        items += static_cast<double>(slot.item.load(std::memory_order_relaxed));
        const std::size_t total = slot.progress_total.load(std::memory_order_relaxed);
        if (total == 0) { return; }
        const std::size_t done = slot.progress_done.load(std::memory_order_relaxed);
        items += std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
    });
    return items;
}

// Calls `f(slot, sequence)` for each worker that has taken a task of the job. With the mutex held.
template <class Lazy>
template <class F>
void ProcessPool<Lazy>::for_each_claim(const Job& job, F f) const {
    for (std::uint32_t worker = 0; worker < table_.workers(); ++worker) {
        const WorkerSlot& slot = table_.slot(worker);
        const std::uint64_t claim = slot.claim.load();
        if (claim <= first_outstanding_ || claim > first_outstanding_ + outstanding_.size()) {
            continue;
        }
        const auto index = static_cast<std::size_t>(claim - 1 - first_outstanding_);
        if (outstanding_[index].job.get() == &job) { f(slot, claim - 1); }
    }
}

template <class Lazy>
void ProcessPool<Lazy>::break_off(bool at_once) {
    cancel(nullptr, Engine::Reach::waiting);
    if (at_once) {
        const std::scoped_lock lock(mutex_);
        for (std::uint32_t worker = 0; worker < table_.workers(); ++worker) {
            const MemberId member = table_.slot(worker).member.load();
            line_.send(NurseryCommand{.what = NurseryCommand::What::kill,
                                      .worker = worker,
                                      .pid = Family::pid(member).value_or(0)});
        }
    }
    end(Phase::terminated,
        std::make_exception_ptr(BrokenProcessPool("the workers were ended while it ran")));
}

// Has the worker killed that is at the task; false when it has ended that. With the mutex held.
template <class Lazy>
bool ProcessPool<Lazy>::kill_worker(std::uint32_t worker, std::uint64_t sequence) {
    WorkerSlot& slot = table_.slot(worker);
    if (!slot.run.give_up(sequence)) { return false; }
    line_.send(NurseryCommand{.what = NurseryCommand::What::kill,
                              .worker = worker,
                              .pid = Family::pid(slot.member.load()).value_or(0)});
    return true;
}

// With the mutex held.
template <class Lazy>
void ProcessPool<Lazy>::ask_to_stop(std::uint32_t worker, std::uint64_t sequence) {
    wake_supervisor();
    stopping_.push_back({.worker = worker, .sequence = sequence, .until = Deadline(stop_grace)});
    WorkerSlot& slot = table_.slot(worker);
    slot.stop.store(stop_number(sequence));
    os::futex_wake(slot.stop, std::numeric_limits<int>::max());
}

// Who was asked to stop and has not done so in time is killed.
template <class Lazy>
void ProcessPool<Lazy>::end_the_deaf() {
    const std::scoped_lock lock(mutex_);
    std::erase_if(stopping_, [this](const Stopping& each) {
        const WorkerSlot& slot = table_.slot(each.worker);
        if (slot.claim.load() != each.sequence + 1 || slot.run.has_finished(each.sequence)) {
            return true;
        }
        return each.until.has_passed() && (kill_worker(each.worker, each.sequence), true);
    });
}

template <class Lazy>
bool ProcessPool<Lazy>::wait(Job& job, Predicate there, const Deadline& deadline) {
    if (!in_supervisor()) {
        receive_own(job, there, deadline);
        return there() || job.sleep_until(there, deadline);
    }
    // In a callback: nobody else would bring what it waits for.
    while (!there() && !deadline.has_passed()) { step(deadline.left(os::wait_slice)); }
    return there();
}

template <class Lazy>
void ProcessPool<Lazy>::close() {
    const std::scoped_lock lock(mutex_);
    if (phase_ != Phase::running) { return; }
    phase_ = Phase::closed;
    close_ring();
    wake_supervisor();
}

// Lets the workers of a closed pool end when there is nothing left. What may be put once more keeps
// the ring open. With the mutex held.
template <class Lazy>
void ProcessPool<Lazy>::close_ring() {
    if (phase_ != Phase::closed || repeatable_ != 0 || submissions_ != 0 || is_ring_closed_) {
        return;
    }
    is_ring_closed_ = true;
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
        // Sequences go on meaning what they meant.
        first_outstanding_ += outstanding_.size();
        unfinished.swap(outstanding_);
        open_ = 0;
        open_bytes_ = 0;
        repeatable_ = 0;
        room_.notify_all();
        wake_supervisor();
        table_.tasks.shut_down(/*immediate=*/true);
        line_.send(NurseryCommand{.what = NurseryCommand::What::quit});
    }
    for (const Outstanding& task : unfinished) {
        if (task.job != nullptr) { task.job->failed(task.chunk, 0, verdict); }
    }
    wake_receiver();
}

template <class Lazy>
void ProcessPool<Lazy>::join() {
    if (in_supervisor()) {
        // From a callback: all that can be waited for here is that every task has its verdict.
        while (!is_done()) { step(os::wait_slice); }
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
    // Results that nobody has read: other processes may have the file for longer.
    table_.bulk.free_all();
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
                                  : slot.run.is_running() ? WorkerState::busy
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
        rest();
        must_hand_over_.store(true, std::memory_order_relaxed);
        const std::scoped_lock role(receiving_);
        must_hand_over_.store(false, std::memory_order_relaxed);
        try {
            step(os::wait_slice);
        } catch (...) {
            // Without memory or descriptors: nothing further can be promised to anybody.
            end(Phase::broken, std::current_exception());
        }
    }
    const std::scoped_lock role(receiving_);
    while (next_ != backlog_.size()) {
        if (const News news = next_news(); news.is_taken) { handle(news); }
    }
}

// As long as nothing is under way and others receive what they wait for. They wake it for what is
// not theirs; what comes meanwhile from the nursery waits for two milliseconds.
template <class Lazy>
void ProcessPool<Lazy>::rest() {
    constexpr auto rest_time = std::chrono::milliseconds(2);
    std::unique_lock lock(mutex_);
    std::uint32_t seen = helped_.load(std::memory_order_relaxed);
    if (seen == helped_seen_ || phase_ != Phase::running || open_ != 0 || undelivered_ != 0 ||
        !stopping_.empty()) {
        return;
    }
    rests_ = true;
    do {
        helped_seen_ = helped_.load(std::memory_order_relaxed);
        rested_.wait_for(lock, rest_time, [this] { return !rests_; });
    } while (rests_ && helped_.load(std::memory_order_relaxed) != helped_seen_);
    rests_ = false;
}

template <class Lazy>
void ProcessPool<Lazy>::wake_supervisor() noexcept {
    if (std::exchange(rests_, false)) { rested_.notify_one(); }
}

// Has who sleeps in the ring look again at what it waits for.
template <class Lazy>
void ProcessPool<Lazy>::wake_receiver() noexcept {
    if (!is_receiver_asleep_.load()) { return; }
    try {
        table_.tell({NewsKind::nothing, 0, 0}, {}, std::chrono::seconds(0));
    } catch (const std::exception&) {
        // Without memory for a few bytes. It looks again in a moment anyway.
    }
}

// Receives results of the job until all is there that the caller waits for.
template <class Lazy>
void ProcessPool<Lazy>::receive_own(const Job& job, Predicate there, const Deadline& deadline) {
    receive_if_free([&] {
        while (!there() && !deadline.has_passed() &&
               !must_hand_over_.load(std::memory_order_relaxed)) {
            if (next_ == backlog_.size()) { look_out(there, deadline); }
            if (next_ == backlog_.size() || !may_receive(job)) { return; }
            handle_result(next_news());
            helped_.fetch_add(1, std::memory_order_relaxed);
        }
    });
    const std::scoped_lock lock(mutex_);
    // What is still to come is not what this thread waits for.
    if (open_ != 0 || undelivered_ != 0 || !there()) { wake_supervisor(); }
}

// The same of those that have come, while more of the job is being submitted: the supervisor would
// do it, and be in the way.
template <class Lazy>
void ProcessPool<Lazy>::receive_what_is_there(const Job& job) {
    receive_if_free([&] {
        if (must_hand_over_.load(std::memory_order_relaxed)) { return; }
        if (next_ == backlog_.size() && !table_.news.empty()) {
            fetch(std::chrono::nanoseconds(0));
        }
        while (next_ != backlog_.size()) {
            if (!may_receive(job)) {
                const std::scoped_lock lock(mutex_);
                return wake_supervisor();
            }
            handle_result(next_news());
        }
    });
}

// Calls `receive` unless somebody else receives.
template <class Lazy>
template <class Receive>
void ProcessPool<Lazy>::receive_if_free(Receive&& receive) noexcept {
    if (in_supervisor()) { return; }
    helped_.fetch_add(1, std::memory_order_relaxed);
    const std::unique_lock role(receiving_, std::try_to_lock);
    if (!role) { return; }
    helper_id_.store(std::this_thread::get_id());
    const auto is_over = [this] { helper_id_.store({}); };
    const AtEnd<decltype(is_over)> at_end{is_over};
    try {
        receive();
    } catch (const std::exception&) {
        // Without memory or descriptors. The supervisor will meet that too, and tell it to
        // everybody.
        const std::scoped_lock lock(mutex_);
        wake_supervisor();
    }
}

// Whether the next news may be handled by a thread that waits for the job.
template <class Lazy>
bool ProcessPool<Lazy>::may_receive(const Job& job) const {
    const News& news = backlog_[next_];
    if (news.header.kind == NewsKind::nothing) { return true; }
    if (!news.is_taken) { return false; }
    return news.task.job == nullptr || (news.task.job.get() == &job && job.is_quiet());
}

// Waits for news, or until there is no need for them.
template <class Lazy>
void ProcessPool<Lazy>::look_out(Predicate there, const Deadline& deadline) {
    if (fetch(std::chrono::nanoseconds(0))) { return; }
    if (spin([&] { return !table_.news.empty() || there(); })) {
        if (!there()) { fetch(std::chrono::nanoseconds(0)); }
        return;
    }
    is_receiver_asleep_.store(true);
    const auto is_awake = [this] { is_receiver_asleep_.store(false); };
    const AtEnd<decltype(is_awake)> at_end{is_awake};
    if (!there()) { fetch(deadline.left(os::wait_slice)); }
}

// All that the supervisor does, once; also where a callback waits for something.
template <class Lazy>
void ProcessPool<Lazy>::step(std::chrono::nanoseconds patience) {
    if (!receive(patience)) { check_nursery(); }
    // What was received together is handled without looking at anything else.
    for (std::size_t left = backlog_.size() - next_; left > 0; --left) {
        if (!receive(std::chrono::nanoseconds(0))) { break; }
    }
    end_the_deaf();
}

template <class Lazy>
bool ProcessPool<Lazy>::is_done() {
    const std::scoped_lock lock(mutex_);
    if (phase_ == Phase::terminated || phase_ == Phase::broken) { return true; }
    return phase_ == Phase::closed && open_ == 0 && undelivered_ == 0 && submissions_ == 0 &&
           stopping_.empty();
}

template <class Lazy>
bool ProcessPool<Lazy>::receive(std::chrono::nanoseconds patience) {
    if (next_ == backlog_.size() && !fetch(patience)) { return false; }
    handle(next_news());
    return true;
}

template <class Lazy>
ProcessPool<Lazy>::News::News(std::span<const std::byte> record) {
    std::memcpy(&header, record.data(), sizeof header);
    record = record.subspan(sizeof header);
    size_ = record.size();
    if (size_ <= small_.size()) {
        std::copy(record.begin(), record.end(), small_.begin());
    } else {
        large_.assign(record.begin(), record.end());
    }
}

// Takes what is in the ring, up to a number.
template <class Lazy>
bool ProcessPool<Lazy>::fetch(std::chrono::nanoseconds patience) {
    constexpr std::size_t at_a_time = 64;
    const RingProgress progress = table_.news.get_many(
        at_a_time,
        [this](std::size_t, std::span<const std::byte> record) { backlog_.emplace_back(record); },
        patience);
    if (progress.done == 0) { return false; }
    take_results();
    return true;
}

// Looks up whose the results are that have come.
template <class Lazy>
void ProcessPool<Lazy>::take_results() {
    const std::scoped_lock lock(mutex_);
    std::size_t taken = 0;
    for (News& news : std::span(backlog_).subspan(next_)) {
        if (!news.is_result() || news.is_taken) { continue; }
        news.task = take(news.header.sequence);
        news.is_taken = true;
        if (news.task.job != nullptr) { ++taken; }
    }
    undelivered_ += taken;
    close_ring();
}

template <class Lazy>
typename ProcessPool<Lazy>::News ProcessPool<Lazy>::next_news() {
    News news = std::move(backlog_[next_++]);
    if (next_ == backlog_.size()) {
        backlog_.clear();
        next_ = 0;
    }
    return news;
}

template <class Lazy>
void ProcessPool<Lazy>::handle(const News& news) {
    Reader body(news.body());
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
            handle_result(news);
            break;
        case NewsKind::nothing:
            break;
        case NewsKind::died: {
            const auto notice = body.raw<DeathNotice>();
            const auto tail = body.take(body.remaining());
            handle_death(news.header.worker, notice,
                         {reinterpret_cast<const char*>(tail.data()), tail.size()});
            break;
        }
    }
}

template <class Lazy>
void ProcessPool<Lazy>::handle_result(const News& news) {
    const NewsHeader& header = news.header;
    if (header.kind == NewsKind::nothing) { return; }
    nursery_deaths_ = 0;
    std::optional<BulkRange> bulk;  // freed when it has been read, or if nobody wants it
    if (header.is_bulk != 0) { bulk.emplace(table_.bulk, Reader(news.body()).raw<BulkMessage>()); }
    if (news.task.job == nullptr) {
        // It was terminated or cancelled meanwhile.
        std::shared_ptr<BulkRange> given_up;
        const std::scoped_lock lock(mutex_);
        given_up.swap(places_[header.worker].given_up);
        return;
    }
    // Now already: a callback may join the pool, and is itself what would be waited for.
    --undelivered_;
    try {
        deliver(news);
    } catch (...) {
        news.task.job->failed(news.task.chunk, table_.slot(header.worker).item.load(),
                              std::current_exception());
    }
}

template <class Lazy>
void ProcessPool<Lazy>::deliver(const News& news) {
    const NewsHeader& header = news.header;
    const Outstanding& task = news.task;
    os::Mapping mapping;
    Reader body(header.is_bulk != 0 ? table_.bulk.view(news.body(), mapping) : news.body());
    if (header.began != 0) {
        trace_task(header.worker, task, header.began, header.ended,
                   header.kind == NewsKind::result ? "with a result" : "with an error");
    }
    if (header.kind == NewsKind::result) {
        task.job->completed(task.chunk, body);
    } else {
        task.job->failed(task.chunk, table_.slot(header.worker).item.load(), load_exception(body));
    }
}

// Gives out a task that has its verdict; one without a job when it has had one already.
template <class Lazy>
typename ProcessPool<Lazy>::Outstanding ProcessPool<Lazy>::take(std::uint64_t sequence) {
    if (sequence < first_outstanding_ || sequence >= first_outstanding_ + outstanding_.size()) {
        return {};
    }
    Outstanding& entry = outstanding_[static_cast<std::size_t>(sequence - first_outstanding_)];
    Outstanding task;
    if (entry.job != nullptr) {
        task = std::move(entry);
        forget(task);
    }
    while (!outstanding_.empty() && outstanding_.front().job == nullptr) {
        outstanding_.pop_front();
        ++first_outstanding_;
    }
    return task;
}

template <class Lazy>
void ProcessPool<Lazy>::trace_task(std::uint32_t worker, const Outstanding& task,
                                   std::int64_t began, std::int64_t ended, std::string_view how) {
    const std::string& name = task.job->trace_name;
    Trace<Lazy>::instance().task(trace_number_, worker, name.empty() ? "task" : name,
                                 task.job->first_item(task.chunk), task.job->chunk_size(task.chunk),
                                 began, ended, how);
}

template <class Lazy>
void ProcessPool<Lazy>::handle_ready(std::uint32_t worker) {
    Trace<Lazy>::instance().worker(trace_number_, worker, table_.slot(worker).pid.load());
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
        others_work = std::any_of(places_.begin(), places_.end(),
                                  [](const Place& place) { return place.ready; });
    }
    if (others_work) {
        given_up_ = true;
    } else {
        end(Phase::broken, broken_pool_error(why));
    }
}

template <class Lazy>
void ProcessPool<Lazy>::handle_death(std::uint32_t worker, const DeathNotice& notice,
                                     std::string stderr_tail) {
    if (options_.on_worker_death == break_pool && !ends_by_plan(worker, notice)) {
        end(Phase::broken, std::make_exception_ptr(BrokenProcessPool(text_of(
                               "worker process {} {}", {notice.pid, manner_of(notice.exitcode)}))));
        return;
    }
    const Place place = bury(worker, notice, std::move(stderr_tail));
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

// Tells whether the worker has done what it was to do, or what is told otherwise.
template <class Lazy>
bool ProcessPool<Lazy>::ends_by_plan(std::uint32_t worker, const DeathNotice& notice) const {
    const WorkerSlot& slot = table_.slot(worker);
    const std::uint64_t claim = slot.claim.load();
    const bool at_rest = claim == 0 || slot.run.has_finished(claim - 1);
    const std::scoped_lock lock(mutex_);
    return !places_[worker].ready || (notice.exitcode == 0 && at_rest);
}

template <class Lazy>
std::string ProcessPool<Lazy>::manner_of(int exitcode) {
    return exitcode < 0 ? "was ended by " + signal_name(-exitcode)
                        : text_of("exited with code {}", {exitcode});
}

// Where the worker was when a fault ended it, down to where the task begins. Its image is ours.
template <class Lazy>
std::string ProcessPool<Lazy>::traceback_of(std::uint32_t worker) {
    const os::FaultNote& note = table_.fault(worker);
    std::string text;
    os::Symbols<Lazy>& symbols = os::Symbols<Lazy>::shared();
    for (std::uint32_t i = 0; i < note.depth.load() && i < os::FaultNote::most_frames; ++i) {
        // But for the first they are where a call returns to: perhaps behind the function's end.
        std::string place = symbols.describe(note.frames[i].load() - (i == 0 ? 0 : 1));
        const std::size_t name_end = place.find('+');
        if (place.starts_with("_Z")) {
            place = demangle(place.substr(0, name_end).c_str()) + place.substr(name_end);
        }
        if (place.find("multiprocessing::detail::Worker<") != place.npos) { break; }
        text += text_of("#{} {}\n", {i, place});
    }
    return text;
}

template <class Lazy>
std::string ProcessPool<Lazy>::last_line(const std::string& text) {
    const std::size_t end = text.find_last_not_of('\n') + 1;
    const std::size_t newline = end == 0 ? text.npos : text.rfind('\n', end - 1);
    const std::size_t begin = newline == text.npos ? 0 : newline + 1;
    return text.substr(begin, end - begin);
}

// Gives the dead worker's task its verdict, if it had one in hand, and clears the place; returns
// what the place was.
template <class Lazy>
typename ProcessPool<Lazy>::Place ProcessPool<Lazy>::bury(std::uint32_t worker,
                                                          const DeathNotice& notice,
                                                          std::string stderr_tail) {
    WorkerSlot& slot = table_.slot(worker);
    const std::uint64_t item = slot.item.load();
    Outstanding task;
    std::exception_ptr verdict;
    if (const std::uint64_t claim = slot.claim.load(); claim != 0 && has_lost(worker, claim - 1)) {
        const Submission perhaps(*this, /*must_run=*/false);
        {
            const std::scoped_lock lock(mutex_);
            task = take(claim - 1);
        }
        try {
            if (task.job != nullptr) {
                verdict = verdict_on(task, worker, notice, std::move(stderr_tail));
            }
        } catch (...) { verdict = std::current_exception(); }
    }
    slot.claim.store(0);
    slot.member.store(0);
    slot.pid.store(0);
    slot.done.store(0);
    slot.run.clear();
    table_.fault(worker).clear();
    if (const std::uint64_t begun = slot.bulk.exchange(0); begun != 0) { table_.bulk.free(begun); }
    slot.run_until.store(0);
    slot.cpu_until.store(0);
    slot.most_memory.store(0);
    Place place;
    {
        const std::scoped_lock lock(mutex_);
        place = std::exchange(places_[worker], {});
    }
    // Last, since a callback may wait for something: somebody else has the place then.
    if (verdict != nullptr) { task.job->failed(task.chunk, item, verdict); }
    return place;
}

// Why the worker is dead that had the task in hand: by its bounds, then that is the error; else the
// task is run once more if it may be, and there is none.
template <class Lazy>
std::exception_ptr ProcessPool<Lazy>::verdict_on(Outstanding& task, std::uint32_t worker,
                                                 const DeathNotice& notice,
                                                 std::string stderr_tail) {
    const WorkerSlot& slot = table_.slot(worker);
    const TaskLimits& limits = task.job->limits;
    const std::uint64_t item = slot.item.load();
    const std::size_t index = task.job->first_item(task.chunk) + item;
    const bool killed = notice.exitcode == -SIGKILL;
    const auto milliseconds = [](std::chrono::nanoseconds time) {
        return std::chrono::duration_cast<std::chrono::milliseconds>(time).count();
    };
    const std::string named = task.job->name.empty() ? "" : " of " + task.job->name;
    const auto run_until = slot.run_until.load();
    if (killed && run_until != 0 && os::time_of(CLOCK_MONOTONIC).count() >= run_until) {
        if (const std::int64_t began = slot.began.load(); began != 0) {
            trace_task(worker, task, began, Trace<Lazy>::now(), "by its time-out");
        }
        return std::make_exception_ptr(
            TimeoutError(text_of("item {}{} ran longer than {} ms; worker process {} was ended",
                                 {index, named, milliseconds(limits.run_time), notice.pid})));
    }
    std::string why = manner_of(notice.exitcode);
    bool by_bound = true;
    if (const auto cpu_until = slot.cpu_until.load();
        killed && cpu_until != 0 && notice.cpu_time >= cpu_until) {
        why = text_of("used more than {} ms of the processors, and was ended",
                      {milliseconds(limits.cpu_time)});
    } else if (notice.held_too_much != 0) {
        why = text_of("held {} bytes, more than it may, and was ended", {notice.peak_memory});
    } else {
        by_bound = false;
        if (notice.oom_killed != 0) { why += " by the kernel, which was out of memory,"; }
    }
    if (const std::int64_t began = slot.began.load(); began != 0) {
        trace_task(worker, task, began, Trace<Lazy>::now(), why);
        Trace<Lazy>::instance().death(trace_number_, worker, why);
    }
    if (!by_bound && run_again(task)) { return nullptr; }
    Death death{.pid = notice.pid,
                .exitcode = notice.exitcode,
                .task_index = index,
                .core_dumped = notice.core_dumped != 0,
                .oom_killed = notice.oom_killed != 0,
                .stderr_tail = std::move(stderr_tail),
                .peak_memory = notice.peak_memory,
                .traceback = traceback_of(worker)};
    std::string text =
        text_of("worker process {} {} while it ran item {}{}", {notice.pid, why, index, named});
    if (!death.stderr_tail.empty()) {
        text += "; the last that it wrote: " + last_line(death.stderr_tail);
    }
    return std::make_exception_ptr(WorkerDiedError(text, std::move(death)));
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
    while (fetch(std::chrono::nanoseconds(0))) {}
    const auto waiting = std::span(backlog_).subspan(next_);
    return std::none_of(waiting.begin(), waiting.end(), [&](const News& news) {
        return news.is_result() && news.header.sequence == sequence;
    });
}

// Starts a worker for every empty place, where that makes sense.
template <class Lazy>
void ProcessPool<Lazy>::fill_up() {
    std::exception_ptr broken;
    {
        const std::scoped_lock lock(mutex_);
        if (phase_ == Phase::broken || phase_ == Phase::terminated) { return; }
        // Those that find the ring closed and empty end; so would others.
        if (is_ring_closed_ && table_.tasks.empty()) { return; }
        const bool any_ready = std::any_of(places_.begin(), places_.end(),
                                           [](const Place& place) { return place.ready; });
        const bool any_undecided = std::any_of(
            places_.begin(), places_.end(),
            [](const Place& place) { return place.taken && !place.ready && !place.failed; });
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
    const std::shared_ptr<ForkedChild<Lazy>> dead = nursery_;
    if (dead->is_alive()) { return; }
    await_orphans();
    while (receive(std::chrono::nanoseconds(0))) {}
    // In a callback that waits this may have been done already.
    if (nursery_ != dead || is_done()) { return; }
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
        bury(i, {.pid = pid, .exitcode = -SIGKILL}, {});
        if (nursery_ != dead) { return; }
    }
    start_nursery();
}

}  // namespace multiprocessing::detail

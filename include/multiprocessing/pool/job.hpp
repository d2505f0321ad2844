// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What all jobs of the front have in common, without their types: who waits, what is settled, whom
/// to call when all is there, and what to say when nobody looked at a failure.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/fork.hpp>
#include <multiprocessing/os/standard_error.hpp>
#include <multiprocessing/pool/engine.hpp>
#include <multiprocessing/process/report.hpp>

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// Knows which process made it, so that a forked child does not use what is its parent's.
class Owner {
  public:
    bool is_here() const { return os::process_token() == token_; }
    /// \throws AssertionError in any other process.
    void check(const char* what) const {
        if (is_here()) { return; }
        throw AssertionError(text_of("this {} belongs to process {}, and this is process {}",
                                     {what, os::pid_of_token(token_), ::getpid()}));
    }

  private:
    std::uint64_t token_ = os::process_token();
};

/// Where the arguments are read, and with it what an engine needs of a job.
enum class Passing {
    here,     ///< in this process, where they are (threads)
    bytes,    ///< in another process, from bytes
    address,  ///< in a process forked since the job was made, where they were then (`parallel_map`)
};

/// Part of every job: its mutex and whoever waits for it.
/// \safety threads. No user code runs under `mutex_`, and `mutex_` is the last to be taken.
class JobBase : public Job {
  public:
    /// Gives it the engine that it was made without.
    void attach(std::shared_ptr<Engine> engine) {
        const std::scoped_lock lock(mutex_);
        engine_ = std::move(engine);
    }

    /// Waits with the engine's help.
    bool wait_until(Predicate there, const Deadline& deadline);
    bool sleep_until(Predicate there, const Deadline& deadline) override;

    /// Destroys the callable and the arguments; called when nobody uses them any more.
    virtual void release_arguments() noexcept = 0;

    const Owner& owner() const noexcept { return owner_; }
    /// Returns what runs it; null once nothing can be expected of it.
    std::shared_ptr<Engine> engine() const {
        const std::scoped_lock lock(mutex_);
        return engine_;
    }

  protected:
    JobBase(std::shared_ptr<Engine> engine, Passing passing)
        : engine_(std::move(engine)), passing_(passing) {}

    mutable std::mutex mutex_;
    std::condition_variable changed_;  // with `mutex_`
    std::shared_ptr<Engine> engine_;   // under `mutex_`; null once nothing can be expected of it
    const Passing passing_;
    const Owner owner_;
};

template <class Lazy = void>
class ResultJob;

/// What is to be done with a result; a list, in the order in which they were added.
class Callback {
  public:
    virtual ~Callback() = default;
    virtual void run(ResultJob<>& job) = 0;
    /// Tells whether it is called when waiters may see the result too, not before.
    virtual bool is_last() const noexcept { return false; }
};

/// A job that ends with one result or one error (a template as the engines are, see `Engine`), once
/// all of its chunks have been settled: `apply`, `map`.
template <class Lazy>
class ResultJob : public JobBase {
  public:
    ~ResultJob() override;

    bool done() const noexcept { return done_.load(std::memory_order_acquire); }
    /// Waits for the end; false when the deadline came first.
    bool wait(const Deadline& deadline);
    /// Waits for the end, and until no thread uses the callable and the arguments any more: a pool
    /// that is terminated cannot stop a running thread, and these may be the caller's own.
    void wait_until_unused();

    /// Returns the error of a job that is done; null when it has a value.
    const std::exception_ptr& error() const noexcept { return error_; }
    /// Somebody knows of the error, or will.
    void set_observed() noexcept { observed_.store(true, std::memory_order_relaxed); }

    bool is_quiet() const noexcept override {
        const std::scoped_lock lock(mutex_);
        return callbacks_.empty();
    }
    /// Calls `callback` before waiters see the result; at once, in the calling thread, when they
    /// do.
    void add_callback(std::unique_ptr<Callback> callback);
    /// Takes it back, if it has not been called yet and is not just being called.
    void remove_callback(const Callback* callback) noexcept;

    bool cancel(Engine::Reach reach = Engine::Reach::running_too);
    bool cancelled() const;
    /// Tells whether some of it runs at the moment.
    bool running() const;
    Progress progress() const;
    /// Returns how many items have failed, as far as it is known.
    std::size_t failures() const noexcept { return items_failed_.load(std::memory_order_relaxed); }
    /// Returns how much has been done of what is not counted as done yet, in items.
    double under_way() const;

    /// Tells whether the caller is where the result may be read already: after the end or in a
    /// callback.
    bool readable_here() const noexcept {
        return done() || settler_.load(std::memory_order_relaxed) == std::this_thread::get_id();
    }

    std::size_t chunk_size(std::size_t chunk) const override {
        return std::min(chunk_length_, item_count_ - chunk * chunk_length_);
    }
    std::size_t first_item(std::size_t chunk) const override { return chunk * chunk_length_; }
    std::size_t chunk_count() const noexcept { return settled_.size(); }

    bool failed(std::size_t chunk, std::size_t item, std::exception_ptr error) noexcept override;

    /// Ends a job that has no chunks.
    void finish_empty() { finish(); }

  protected:
    ResultJob(std::shared_ptr<Engine> engine, Passing passing, std::size_t items,
              std::size_t chunk_length)
        : JobBase(std::move(engine), passing),
          item_count_(items),
          chunk_length_(chunk_length),
          settled_((items + chunk_length - 1) / chunk_length, 0),
          remaining_(settled_.size()) {}

    /// Begins a chunk in this process; false when it was settled meanwhile and must not run.
    bool begin_here(std::size_t chunk) noexcept;
    /// The arguments are not used any more by who called `begin_here`; before the chunk is settled.
    void end_here() noexcept;
    /// Claims the right to settle the chunk; false when somebody else has it.
    bool claim(std::size_t chunk) noexcept;
    /// The chunk whose settling was claimed has an error (or none): the first one becomes the
    /// job's.
    void settle(std::size_t chunk, std::exception_ptr error) noexcept;
    /// Counts items that have an error of their own.
    void note_failures(std::size_t count) noexcept {
        items_failed_.fetch_add(count, std::memory_order_relaxed);
    }

    /// Puts the result together from those of the chunks; by whoever settled the last one.
    virtual void assemble() = 0;
    /// Keeps the error where the result wants it, an outcome say, and returns what is the job's.
    virtual std::exception_ptr absorb(std::size_t /*chunk*/, std::exception_ptr error) {
        return error;
    }

  private:
    void finish() noexcept;
    void release_when_unused() noexcept;
    void run_reporting(Callback& callback) noexcept;
    void report_unobserved() const noexcept;

    const std::size_t item_count_;
    const std::size_t chunk_length_;
    std::vector<std::uint8_t> settled_;   // atomically: 1 once somebody settles the chunk
    std::atomic<std::size_t> remaining_;  // chunks whose settling has not ended
    std::atomic<std::size_t> items_done_{0};
    std::atomic<std::size_t> items_failed_{0};
    std::size_t running_here_ = 0;     // under `mutex_`: between `begin_here` and `end_here`
    bool releasing_ = false;           // under `mutex_`: somebody releases the arguments
    std::atomic<bool> unused_{false};  // set under `mutex_`: the arguments are released
    std::exception_ptr error_;         // under `mutex_` until the last chunk, then the settler's,
                                       // and constant once `done_`
    std::vector<std::unique_ptr<Callback>> callbacks_;  // under `mutex_`; taken by the settler
    std::atomic<std::thread::id>
        settler_{};                  // who puts the result together and calls the callbacks
    std::atomic<bool> done_{false};  // set under `mutex_`
    std::atomic<bool> observed_{false};
};

// -------------------------------------------------------------------------------------------------

inline bool JobBase::wait_until(Predicate there, const Deadline& deadline) {
    if (there()) { return true; }
    owner_.check("result");
    const std::shared_ptr<Engine> engine = this->engine();
    return engine ? engine->wait(*this, there, deadline) : sleep_until(there, deadline);
}

inline bool JobBase::sleep_until(Predicate there, const Deadline& deadline) {
    std::unique_lock lock(mutex_);
    while (!there()) {
        if (deadline.is_infinite()) {
            changed_.wait(lock);
        } else if (changed_.wait_until(lock, deadline.at()) == std::cv_status::timeout) {
            return there();
        }
    }
    return true;
}

template <class Lazy>
ResultJob<Lazy>::~ResultJob() {
    if (done() && error_ && !observed_.load(std::memory_order_relaxed) && owner_.is_here()) {
        report_unobserved();
    }
}

template <class Lazy>
void ResultJob<Lazy>::report_unobserved() const noexcept {
    try {
        std::string text;
        try {
            std::rethrow_exception(error_);
        } catch (const CancelledError&) {
            return;  // somebody wanted it
        } catch (...) { text = describe_exception(error_); }
        // One line: the report of a nested exception has several.
        text.erase(0, text.find_first_not_of(' '));
        while (!text.empty() && text.back() == '\n') { text.pop_back(); }
        for (char& each : text) {
            if (each == '\n') { each = ' '; }
        }
        os::write_to_stderr(
            text_of("multiprocessing: a task{}{} failed and nobody asked for its result: {}\n",
                    {name.empty() ? "" : " ", name, text}));
    } catch (const std::exception&) {
        // No memory for the text; there is nobody to tell of it.
    }
}

template <class Lazy>
bool ResultJob<Lazy>::wait(const Deadline& deadline) {
    auto there = [this] { return done(); };
    return wait_until(Predicate(there), deadline);
}

template <class Lazy>
void ResultJob<Lazy>::wait_until_unused() {
    auto there = [this] { return done() && unused_.load(std::memory_order_acquire); };
    wait_until(Predicate(there), Deadline(forever));
}

template <class Lazy>
bool ResultJob<Lazy>::running() const {
    if (done()) { return false; }
    owner_.check("result");
    const std::shared_ptr<Engine> engine = this->engine();
    return engine && engine->is_running(*this);
}

template <class Lazy>
void ResultJob<Lazy>::remove_callback(const Callback* callback) noexcept {
    std::unique_ptr<Callback> removed;  // destroyed without the mutex
    const std::scoped_lock lock(mutex_);
    for (auto each = callbacks_.begin(); each != callbacks_.end(); ++each) {
        if (each->get() != callback) { continue; }
        removed = std::move(*each);
        callbacks_.erase(each);
        return;
    }
}

template <class Lazy>
bool ResultJob<Lazy>::cancel(Engine::Reach reach) {
    if (done()) { return false; }
    owner_.check("result");
    const std::shared_ptr<Engine> engine = this->engine();
    return engine && engine->cancel(*this, reach) != 0;
}

template <class Lazy>
bool ResultJob<Lazy>::cancelled() const {
    if (!done() || !error_) { return false; }
    try {
        std::rethrow_exception(error_);
    } catch (const CancelledError&) { return true; } catch (...) {
        return false;
    }
}

template <class Lazy>
Progress ResultJob<Lazy>::progress() const {
    const std::size_t done = items_done_.load(std::memory_order_relaxed);
    // Of a single task it is what the task says.
    if (item_count_ == 1 && done == 0 && owner_.is_here()) {
        const std::shared_ptr<Engine> engine = this->engine();
        if (const auto said = engine ? engine->reported(*this) : std::nullopt) { return *said; }
    }
    return {done, item_count_};
}

template <class Lazy>
double ResultJob<Lazy>::under_way() const {
    const std::shared_ptr<Engine> engine = this->engine();
    return engine ? engine->under_way(*this) : 0;
}

template <class Lazy>
bool ResultJob<Lazy>::begin_here(std::size_t chunk) noexcept {
    const std::scoped_lock lock(mutex_);
    if (std::atomic_ref(settled_[chunk]).load() != 0) { return false; }
    ++running_here_;
    return true;
}

template <class Lazy>
void ResultJob<Lazy>::end_here() noexcept {
    {
        const std::scoped_lock lock(mutex_);
        --running_here_;
    }
    release_when_unused();
}

template <class Lazy>
void ResultJob<Lazy>::release_when_unused() noexcept {
    {
        const std::scoped_lock lock(mutex_);
        if (running_here_ != 0 || remaining_ != 0 || std::exchange(releasing_, true)) { return; }
    }
    release_arguments();
    const std::scoped_lock lock(mutex_);
    unused_.store(true, std::memory_order_release);
    changed_.notify_all();
}

template <class Lazy>
bool ResultJob<Lazy>::claim(std::size_t chunk) noexcept {
    return std::atomic_ref(settled_[chunk]).exchange(1) == 0;
}

template <class Lazy>
void ResultJob<Lazy>::settle(std::size_t chunk, std::exception_ptr error) noexcept {
    if (error) { note_failures(chunk_size(chunk)); }
    items_done_.fetch_add(chunk_size(chunk), std::memory_order_relaxed);
    if (error) {
        const std::scoped_lock lock(mutex_);
        if (!error_) { std::swap(error_, error); }
    }
    if (--remaining_ == 0) { finish(); }
}

template <class Lazy>
bool ResultJob<Lazy>::failed(std::size_t chunk, std::size_t, std::exception_ptr error) noexcept {
    if (!claim(chunk)) { return false; }
    try {
        error = absorb(chunk, std::move(error));
    } catch (...) { error = std::current_exception(); }
    settle(chunk, std::move(error));
    return true;
}

template <class Lazy>
void ResultJob<Lazy>::finish() noexcept {
    settler_.store(std::this_thread::get_id(), std::memory_order_relaxed);
    if (passing_ == Passing::here) { release_when_unused(); }
    if (!error_) {
        try {
            assemble();
        } catch (...) { error_ = std::current_exception(); }
    }
    std::vector<std::unique_ptr<Callback>> last;
    for (;;) {
        std::vector<std::unique_ptr<Callback>> callbacks;
        std::shared_ptr<Engine> engine;  // let go of outside the mutex
        {
            const std::scoped_lock lock(mutex_);
            if (callbacks_.empty()) {
                engine.swap(engine_);
                done_.store(true, std::memory_order_release);
                changed_.notify_all();
                break;
            }
            callbacks.swap(callbacks_);
        }
        for (auto& callback : callbacks) {
            if (callback->is_last()) {
                last.push_back(std::move(callback));
                continue;
            }
            try {
                callback->run(*this);
            } catch (...) {
                if (!error_) { error_ = std::current_exception(); }
            }
        }
    }
    for (auto& callback : last) { run_reporting(*callback); }
}

template <class Lazy>
void ResultJob<Lazy>::run_reporting(Callback& callback) noexcept {
    try {
        callback.run(*this);
    } catch (...) {
        // The result has been seen and cannot become an error any more. It does not reach the
        // caller of `then` either: whether it did would depend on how fast the task was.
        os::write_to_stderr("multiprocessing: a callback of a result failed:\n" +
                            describe_exception(std::current_exception()));
    }
}

template <class Lazy>
void ResultJob<Lazy>::add_callback(std::unique_ptr<Callback> callback) {
    if (!done()) {
        owner_.check("result");
        const std::scoped_lock lock(mutex_);
        if (!done()) {
            callbacks_.push_back(std::move(callback));
            return;
        }
    }
    run_reporting(*callback);
}

}  // namespace multiprocessing::detail

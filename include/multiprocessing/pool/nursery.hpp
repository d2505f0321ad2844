// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The nursery: the process that forks a pool's workers, and their replacements.
///
/// It is forked when the pool is made and has one thread for ever. So workers never come from a
/// parent full of threads, and replacing one costs the same however large the parent has grown. It
/// is their parent to the kernel and therefore knows how each of them ends.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/cpu.hpp>
#include <multiprocessing/os/kill_point.hpp>
#include <multiprocessing/os/oom.hpp>
#include <multiprocessing/os/poll.hpp>
#include <multiprocessing/os/process.hpp>
#include <multiprocessing/os/signals.hpp>
#include <multiprocessing/os/socket.hpp>
#include <multiprocessing/pool/job_table.hpp>
#include <multiprocessing/pool/options.hpp>
#include <multiprocessing/pool/stderr_taps.hpp>
#include <multiprocessing/pool/thread_share.hpp>
#include <multiprocessing/pool/worker.hpp>
#include <multiprocessing/process/current.hpp>
#include <multiprocessing/process/fork_child.hpp>

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// What the parent asks of its nursery, and what it answers to the first `start_all`.
struct NurseryCommand {
    enum class What : std::uint32_t {
        start_all,
        start,
        kill,          // the worker, if it is the one with that pid
        watch_memory,  // of workers whose slots have a bound
        finish,        // end when the last worker has ended of its own accord
        quit,          // end the workers and yourself
    };
    What what;
    std::uint32_t worker = 0;
    pid_t pid = 0;
};
struct NurseryAnswer {
    int error;  // errno of the fork that failed, 0 = all are there
    std::uint32_t started;
};

/// One side of the line between them; a message is one of the structs above.
class NurseryLine {
  public:
    NurseryLine() = default;
    explicit NurseryLine(os::UniqueFd socket) : socket_(std::move(socket)) {}

    int fd() const noexcept { return socket_.get(); }
    void close() { socket_.reset(); }

    /// False when the other side is gone.
    template <class Message>
    bool send(const Message& message) {
        std::span<const std::byte> rest = std::as_bytes(std::span(&message, 1));
        return transfer(rest,
                        [&] { return os::send(fd(), os::Transport::local, std::span(&rest, 1)); });
    }

    /// False when the other side is gone; `message` is as it was.
    template <class Message>
    bool receive(Message& message) {
        Message received{};
        std::span<std::byte> rest = std::as_writable_bytes(std::span(&received, 1));
        if (!transfer(rest, [&] { return os::receive(fd(), os::Transport::local, rest); })) {
            return false;
        }
        message = received;
        return true;
    }

  private:
    // Calls `part` until nothing is left of `rest`. The other side's end shows in each of three
    // ways, one of them when it went without having read what we sent.
    template <class Bytes, class Part>
    static bool transfer(Bytes& rest, Part part) {
        try {
            while (!rest.empty()) {
                const std::size_t size = part();
                if (size == 0) { return false; }
                rest = rest.subspan(size);
            }
        } catch (const OSError& error) {
            if (error.code().value() == EPIPE || error.code().value() == ECONNRESET) {
                return false;
            }
            throw;
        }
        return true;
    }

    os::UniqueFd socket_;
};

/// The nursery's own work.
template <class Lazy = void>
class Nursery {
  public:
    Nursery(JobTable<Lazy>& table, NurseryLine line, const PoolOptions& options,
            ParentRecord pool_owner)
        : table_(table),
          line_(std::move(line)),
          options_(options),
          owner_(std::move(pool_owner)),
          workers_(table.workers()),
          greedy_(table.workers()),
          watches_memory_(options.max_memory != 0) {}

    /// Serves until it is told to quit or the parent is gone.
    void run() {
        os::take_signals_of_a_worker();
        if (options_.limit_threads) {
            limit_numeric_threads(process_cpu_count() / static_cast<int>(workers_.size()));
        }
        std::vector<pollfd> watched;
        for (;;) {
            watched.assign(1, {.fd = line_.fd(), .events = POLLIN, .revents = 0});
            for (const auto& worker : workers_) {
                if (worker != nullptr) {
                    watched.push_back({.fd = worker->sentinel(), .events = POLLIN, .revents = 0});
                }
            }
            taps_.watch(watched);
            constexpr auto look = std::chrono::milliseconds(10);
            const Deadline wake = watches_memory_ ? Deadline(look) : Deadline(forever);
            if (os::poll(watched, wake) == 0 || wake.has_passed()) { end_the_greedy(); }
            taps_.pass_on();
            report_deaths();
            if (watched.front().revents != 0 && !obey()) { break; }
            if (finishing_ && std::all_of(workers_.begin(), workers_.end(),
                                          [](const auto& worker) { return worker == nullptr; })) {
                break;
            }
        }
        end_workers();
        taps_.finish();
    }

  private:
    bool obey() {
        NurseryCommand command{.what = NurseryCommand::What::quit};
        if (!line_.receive(command) || command.what == NurseryCommand::What::quit) { return false; }
        MULTIPROCESSING_KILL_POINT("nursery.obey.received");
        if (command.what == NurseryCommand::What::finish) {
            finishing_ = true;
            return true;
        }
        if (command.what == NurseryCommand::What::kill) {
            const auto& worker = workers_[command.worker];
            if (worker != nullptr && worker->pid() == command.pid) { worker->signal(SIGKILL); }
            return true;
        }
        if (command.what == NurseryCommand::What::watch_memory) {
            watches_memory_ = true;
            return true;
        }
        if (command.what == NurseryCommand::What::start) {
            // Reported like a worker that ended at once: the parent decides whether to try again.
            if (const int error = start(command.worker); error != 0) {
                tell_death(command.worker, {.pid = 0, .exitcode = 1});
            }
            return true;
        }
        NurseryAnswer answer{.error = 0, .started = 0};
        for (std::uint32_t i = 0; i < workers_.size() && answer.error == 0; ++i) {
            answer.error = start(i);
            if (answer.error == 0) { ++answer.started; }
        }
        return line_.send(answer) && answer.error == 0;
    }

    // Returns the errno of a fork that failed.
    int start(std::uint32_t index) {
        const std::string prefix = options_.name.empty() ? "ForkPoolWorker" : options_.name;
        const std::string number = std::to_string(++made_);
        ChildOptions child{.name = prefix + "-" + number,
                           .identity = LocalProcess::instance().next_child_identity(),
                           .daemon = true,
                           .dies_with_parent = true,
                           .authkey = LocalProcess::instance().authkey(),
                           .parent = owner_};
        try {
            os::UniqueFd error = taps_.open(index);
            workers_[index] = fork_child(std::move(child), [this, index, &error] {
                exit_codes_.undo();
                taps_.attach(std::move(error));
                line_.close();
                workers_.clear();
                if (options_.pin_cpus) { os::pin_to_cpu(static_cast<int>(index)); }
                Worker<Lazy>(table_, index, options_).run();
            });
            MULTIPROCESSING_KILL_POINT("nursery.start.forked");
            table_.slot(index).pid.store(workers_[index]->pid());
            MULTIPROCESSING_KILL_POINT("nursery.start.noted");
        } catch (const OSError& error) { return error.code().value(); }
        return 0;
    }

    void report_deaths() {
        for (std::uint32_t i = 0; i < workers_.size(); ++i) {
            if (workers_[i] == nullptr || workers_[i]->is_alive()) { continue; }
            const std::shared_ptr<ForkedChild<Lazy>> dead = std::exchange(workers_[i], nullptr);
            const auto status = dead->status();
            MULTIPROCESSING_KILL_POINT("nursery.deaths.learned");
            DeathNotice notice{.pid = dead->pid()};
            notice.held_too_much = std::exchange(greedy_[i], 0) != 0 ? 1 : 0;
            if (status && status->exitcode == -SIGKILL && notice.held_too_much == 0) {
                notice.oom_killed = oom_count_.now() > oom_before_ ? 1 : 0;
                oom_before_ = oom_count_.now();
            }
            if (status) {
                notice.exitcode = status->exitcode;
                notice.core_dumped = status->core_dumped ? 1 : 0;
                notice.cpu_time = status->cpu_time.count();
                notice.peak_memory = status->peak_memory;
            }
            tell_death(i, notice);
            MULTIPROCESSING_KILL_POINT("nursery.deaths.told");
        }
    }

    // Nobody else looks at the memory of a worker that is in the middle of a task.
    void end_the_greedy() {
        for (std::uint32_t i = 0; i < workers_.size(); ++i) {
            if (workers_[i] == nullptr || greedy_[i] != 0) { continue; }
            std::uint64_t most = table_.slot(i).most_memory.load();
            if (most == 0 || (options_.max_memory != 0 && options_.max_memory < most)) {
                most = options_.max_memory;
            }
            if (most == 0 || os::resident_bytes(workers_[i]->pid()) <= most) { continue; }
            greedy_[i] = 1;
            workers_[i]->signal(SIGKILL);
        }
    }

    void tell_death(std::uint32_t worker, const DeathNotice& notice) {
        const std::string tail = taps_.tail_of(worker);
        std::vector<std::byte> body(sizeof notice + tail.size());
        std::memcpy(body.data(), &notice, sizeof notice);
        std::memcpy(body.data() + sizeof notice, tail.data(), tail.size());
        table_.tell({NewsKind::died, worker, 0}, body);
    }

    // All of them, and their descendants with them; who does not go at SIGTERM goes at SIGKILL.
    void end_workers() {
        const Deadline grace(std::chrono::milliseconds(500));
        for (const auto& worker : workers_) {
            if (worker != nullptr) { worker->signal(SIGTERM); }
        }
        MULTIPROCESSING_KILL_POINT("nursery.end.signalled");
        for (const auto& worker : workers_) {
            if (worker != nullptr && !worker->join(grace.left())) { worker->signal(SIGKILL); }
        }
        for (const auto& worker : workers_) {
            if (worker != nullptr) { worker->join(forever); }
        }
    }

    JobTable<Lazy>& table_;
    NurseryLine line_;
    const PoolOptions& options_;
    const ParentRecord owner_;
    const os::KeptExitCodes exit_codes_;
    std::vector<std::shared_ptr<ForkedChild<Lazy>>> workers_;  // null: none at the moment
    unsigned made_ = 0;
    StderrTaps<Lazy> taps_;
    os::OomCount oom_count_;
    std::uint64_t oom_before_ = oom_count_.now();
    std::vector<char> greedy_;  // that it was killed for its memory
    bool watches_memory_;
    bool finishing_ = false;
};

}  // namespace multiprocessing::detail

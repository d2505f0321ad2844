// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A child that does one thing and says by its exit code how that went.
///
///     Child child([&] { return lock.acquire(false) ? 1 : 0; });
///     CHECK(child.join() == 0);

#include <multiprocessing/os/process.hpp>
#include <multiprocessing/process.hpp>

#include <signal.h>

#include <chrono>
#include <utility>

namespace support {

/// Runs `f` in a child, which ends of its own accord with what `f` returns. Killed with this
/// object.
class Child {
  public:
    template <class F>
    explicit Child(F f)
        : process_({.daemon = true}, [f] { throw multiprocessing::SystemExit(f()); }) {
        process_.start();
    }
    Child(Child&&) = default;
    ~Child() {
        if (process_.pid() && process_.is_alive()) { kill(); }
    }

    pid_t pid() const { return *process_.pid(); }
    bool is_alive() const { return process_.is_alive(); }
    /// Tells whether it sleeps, which a child that only computes and waits does in that wait.
    bool sleeps() const {
        const auto stat = multiprocessing::detail::os::proc_stat(pid());
        return stat && stat->state == 'S';
    }

    /// Returns its exit code, -SIGNAL when a signal ended it; 1000 when it did not end in time.
    int join(multiprocessing::Timeout bound = std::chrono::seconds(60)) {
        if (!process_.join(bound)) { return 1000; }
        return process_.exitcode().value_or(1001);
    }
    /// Ends it by SIGKILL, and waits until it has gone.
    void kill() {
        process_.kill();
        process_.join();
    }
    void stop() const { ::kill(pid(), SIGSTOP); }
    void resume() const { ::kill(pid(), SIGCONT); }

  private:
    multiprocessing::Process process_;
};

}  // namespace support

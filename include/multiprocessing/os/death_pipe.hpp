// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A child that ends when its parent does, whatever ends the parent.
///
/// The parent holds the write end of a pipe. The child asks the kernel to send it SIGKILL when the
/// read end becomes ready (`O_ASYNC` with `F_SETSIG`), which happens when the last write end is
/// gone: at the parent's death, by any signal, from any thread, without a thread or a handler in
/// the child. `PR_SET_PDEATHSIG` would not do alone: it fires at the death of the parent *thread*.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/fork.hpp>
#include <multiprocessing/os/unique_fd.hpp>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace multiprocessing::detail::os {

/// The two ends, made before the fork.
///
/// All write ends that a process holds are closed in every child that it forks, by a fork handler:
/// a sibling that kept one would keep the parent "alive".
/// \safety threads may make pipes and fork at the same time.
template <class Lazy = void>
class DeathPipe {
  public:
    /// The parent's side: as long as this lives (and this process does), the child may.
    class Holder {
      public:
        Holder() = default;
        explicit Holder(int fd) noexcept : fd_(fd) {}
        Holder(Holder&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
        Holder& operator=(Holder&& other) noexcept {
            std::swap(fd_, other.fd_);
            return *this;
        }
        ~Holder();

      private:
        int fd_ = -1;
    };

    /// \throws OSError when there are no descriptors left.
    DeathPipe();
    /// The child's side, where it was not inherited.
    explicit DeathPipe(UniqueFd read) noexcept : read_(std::move(read)) {}

    /// Returns the child's end, to be sent to a child that does not inherit it.
    int read_end() const noexcept { return read_.get(); }

    /// In the parent, after the fork: what keeps the child alive.
    Holder hold() {
        read_.reset();
        return std::move(write_);
    }

    /// In the child, first thing: from here on the parent's death is ours. Ends the process at once
    /// when the parent is gone already. `forked_by_main_thread` adds PDEATHSIG, which is quicker.
    void arm(pid_t parent, bool forked_by_main_thread);

  private:
    UniqueFd read_;
    Holder write_;
};

// -------------------------------------------------------------------------------------------------

/// The write ends that this process holds; what a child of its has to close.
template <class Lazy = void>
class DeathPipeEnds {
  public:
    static DeathPipeEnds& instance() {
        // Never destroyed: fork handlers outlive statics.
        static constinit std::atomic<DeathPipeEnds*> ends{nullptr};
        return made_once(ends, [] { return new DeathPipeEnds; });
    }

    /// Makes a pipe; returns its read and write end. No fork comes between the pipe and its note.
    std::pair<int, int> make() {
        const std::scoped_lock lock(mutex_);
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) { throw_os_error(errno, "pipe2", "death pipe"); }
        try {
            fds_.push_back(ends[1]);
        } catch (const std::bad_alloc&) {
            ::close(ends[0]);
            ::close(ends[1]);
            throw;
        }
        return {ends[0], ends[1]};
    }

    void close(int fd) {
        const std::scoped_lock lock(mutex_);
        // Absent in a child, where the handler has closed it and the number may be another file's.
        for (int& known : fds_) {
            if (known != fd) { continue; }
            known = fds_.back();
            fds_.pop_back();
            ::close(fd);
            return;
        }
    }

  private:
    DeathPipeEnds() {
        at_fork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                [] {
                    for (const int fd : instance().fds_) { ::close(fd); }
                    instance().fds_.clear();
                    instance().mutex_.unlock();
                });
    }

    std::mutex mutex_;
    std::vector<int> fds_;
};

template <class Lazy>
DeathPipe<Lazy>::DeathPipe() {
    const auto [read, write] = DeathPipeEnds<Lazy>::instance().make();
    read_.reset(read);
    write_ = Holder(write);
}

template <class Lazy>
DeathPipe<Lazy>::Holder::~Holder() {
    if (fd_ >= 0) { DeathPipeEnds<Lazy>::instance().close(fd_); }
}

template <class Lazy>
void DeathPipe<Lazy>::arm(pid_t parent, bool forked_by_main_thread) {
    // The end stays open for the life of the process, hence release().
    const int fd = read_.release();
    if (::fcntl(fd, F_SETOWN, ::getpid()) != 0 || ::fcntl(fd, F_SETSIG, SIGKILL) != 0 ||
        ::fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK) != 0) {
        throw_os_error(errno, "fcntl", "death pipe");
    }
    if (forked_by_main_thread) { ::prctl(PR_SET_PDEATHSIG, SIGKILL); }
    // What happened before the arming sends no signal: look once.
    pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
    if (::poll(&entry, 1, 0) != 0 || ::getppid() != parent) { ::kill(::getpid(), SIGKILL); }
}

}  // namespace multiprocessing::detail::os

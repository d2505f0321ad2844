// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Plain forks for tests of what stands in shared memory: no `Process` is needed, or trusted, here.

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <new>
#include <utility>

namespace observe {

/// An object that plain forks share; zeroed, and made by its default constructor.
template <class T>
class Shared {
  public:
    Shared() {
        void* const memory =
            ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        object_ = ::new (memory) T();
    }
    Shared(const Shared&) = delete;
    Shared& operator=(const Shared&) = delete;
    ~Shared() { ::munmap(object_, sizeof(T)); }

    T& operator*() const { return *object_; }
    T* operator->() const { return object_; }

  private:
    T* object_;
};

/// A plain fork that runs `f` and leaves by `_exit(0)`; killed and reaped at the end of the scope.
class Fork {
  public:
    template <class F>
    explicit Fork(F f) : pid_(::fork()) {
        if (pid_ == 0) {
            f();
            ::_exit(0);
        }
    }
    Fork(Fork&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
    Fork& operator=(Fork&&) = delete;
    ~Fork() {
        if (pid_ > 0) { kill(); }
    }

    pid_t pid() const { return pid_; }
    /// Waits for the end and returns what `waitpid` says of it.
    int end() {
        int status = -1;
        ::waitpid(std::exchange(pid_, -1), &status, 0);
        return status;
    }
    int kill(int signal = SIGKILL) {
        ::kill(pid_, signal);
        return end();
    }

  private:
    pid_t pid_;
};

}  // namespace observe

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A process that goes as far as one says, to the machine instruction.

#include "stage.hpp"
#include "survivor.hpp"

#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <exception>
#include <string>

namespace step {

/// The beginning and the end of what is stepped: an instruction that nothing else has.
inline void mark() { asm volatile("ud2" ::: "memory"); }

/// Tells whether a process may trace its child here; says why not on stdout.
inline bool can_trace() {
    const pid_t child = ::fork();
    if (child == 0) { ::_exit(::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0 ? 0 : errno); }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) { return true; }
    std::printf("ptrace is refused here: %s\n",
                WIFEXITED(status) ? std::strerror(WEXITSTATUS(status)) : "the child was ended");
    return false;
}

/// \safety one thread; is its tracer. Killed and reaped at the end of the scope.
class Tracee {
  public:
    using Address = std::uintptr_t;

    /// Forks a process that runs `body`, and stops it at the first mark in it.
    template <class Body>
    explicit Tracee(Body body) : pid_(::fork()) {
        if (pid_ < 0) { throw std::runtime_error("fork failed"); }
        if (pid_ == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) { ::_exit(1); }
            stage().victim = ::getpid();
            try {
                body();
            } catch (const std::exception& error) { complain(error.what()); }
            ::_exit(2);
        }
        if (!wait()) { skip_mark(); }
    }
    Tracee(const Tracee&) = delete;
    Tracee& operator=(const Tracee&) = delete;
    ~Tracee() { kill(); }

    pid_t pid() const { return pid_; }
    /// Tells whether it is at the second mark.
    bool at_end() const { return at_end_; }
    /// Returns where the next instruction is.
    Address at() const {
        user_regs_struct registers;
        ::ptrace(PTRACE_GETREGS, pid_, nullptr, &registers);
        return registers.rip;
    }

    /// Lets it run one instruction; false when that was the mark.
    bool step() {
        begin_step();
        return wait();
    }
    /// The same in two parts, for an instruction that sleeps in the kernel.
    void begin_step() { ::ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr); }

    /// Lets it run until it comes to `address` for the `count`th time, where it is now included;
    /// false when it came to the end before, or nothing can be written there.
    bool run_to(Address address, std::size_t count) {
        if (at() == address && --count == 0) { return true; }
        const long text = ::ptrace(PTRACE_PEEKTEXT, pid_, address, nullptr);
        const long trap = (text & ~0xffL) | 0xcc;
        for (;;) {
            if (at() == address && !step()) { return false; }
            if (at() != address) {
                if (::ptrace(PTRACE_POKETEXT, pid_, address, trap) != 0) { return false; }
                ::ptrace(PTRACE_CONT, pid_, nullptr, nullptr);
                const bool there = wait();
                ::ptrace(PTRACE_POKETEXT, pid_, address, text);
                if (!there) { return false; }
                set_at(address);
            }
            if (--count == 0) { return true; }
        }
    }

    /// Lets it run to the second mark.
    void run_to_end() {
        if (at_end_) { return; }
        ::ptrace(PTRACE_CONT, pid_, nullptr, nullptr);
        if (wait()) { throw BadPoint("the victim trapped"); }
    }

    void kill() {
        if (pid_ <= 0) { return; }
        ::kill(pid_, SIGKILL);
        while (::waitpid(pid_, nullptr, __WALL) < 0 && errno == EINTR) {}
        pid_ = 0;
    }

  private:
    // True when it has trapped, false when it is at a mark.
    bool wait() {
        int status = 0;
        while (::waitpid(pid_, &status, __WALL) < 0 && errno == EINTR) {}
        if (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP) { return true; }
        if (WIFSTOPPED(status) && WSTOPSIG(status) == SIGILL) {
            at_end_ = true;
            return false;
        }
        if (WIFSTOPPED(status)) {
            kill();
            throw BadPoint("the victim got signal " + std::to_string(WSTOPSIG(status)));
        }
        pid_ = 0;
        throw BadPoint(std::string("the victim ended: ") +
                       (WIFSIGNALED(status) ? std::to_string(WTERMSIG(status)) : stage().text));
    }
    void set_at(Address address) {
        user_regs_struct registers;
        ::ptrace(PTRACE_GETREGS, pid_, nullptr, &registers);
        registers.rip = address;
        ::ptrace(PTRACE_SETREGS, pid_, nullptr, &registers);
    }
    void skip_mark() {
        set_at(at() + 2);
        at_end_ = false;
    }

    pid_t pid_;
    bool at_end_ = false;
};

}  // namespace step

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Limits of the kernel's that a test reaches, each in a child of its own.

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <vector>

namespace resources {

/// Leaves so many descriptors and no more, for as long as it lives.
class DescriptorsLeft {
  public:
    explicit DescriptorsLeft(int spare) {
        ::getrlimit(RLIMIT_NOFILE, &before_);
        rlimit few = before_;
        few.rlim_cur = 128;
        ::setrlimit(RLIMIT_NOFILE, &few);
        for (int fd; (fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) { fds_.push_back(fd); }
        for (; spare > 0 && !fds_.empty(); --spare) {
            ::close(fds_.back());
            fds_.pop_back();
        }
    }
    DescriptorsLeft(const DescriptorsLeft&) = delete;
    DescriptorsLeft& operator=(const DescriptorsLeft&) = delete;
    ~DescriptorsLeft() {
        for (const int fd : fds_) { ::close(fd); }
        ::setrlimit(RLIMIT_NOFILE, &before_);
    }

  private:
    rlimit before_{};
    std::vector<int> fds_;
};

/// Sets a limit that can be raised again.
inline void limit(__rlimit_resource resource, rlim_t most) {
    rlimit limit{};
    ::getrlimit(resource, &limit);
    limit.rlim_cur = most;
    if (::setrlimit(resource, &limit) != 0) { std::abort(); }
}

/// Becomes a user to whom limits apply and who has no other process than this one.
inline void become_nobody() {
    if (::geteuid() == 0 && ::setuid(54321) != 0) { std::abort(); }
}

/// Leaves so much address space and no more, for as long as it lives.
class AddressSpaceLeft {
  public:
    explicit AddressSpaceLeft(std::size_t bytes) {
        std::size_t pages = 0;
        std::ifstream("/proc/self/statm") >> pages;
        limit(RLIMIT_AS, pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) + bytes);
    }
    AddressSpaceLeft(const AddressSpaceLeft&) = delete;
    AddressSpaceLeft& operator=(const AddressSpaceLeft&) = delete;
    ~AddressSpaceLeft() { limit(RLIMIT_AS, RLIM_INFINITY); }
};

/// Has the kernel refuse this thread, and what it starts, new processes; threads it may start.
/// False where it cannot be done.
inline bool refuse_fork(unsigned error) {
    sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        // clone3 hides its flags; without it the C library uses clone.
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args)),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter{.len = static_cast<unsigned short>(std::size(program)),
                            .filter = program};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

}  // namespace resources

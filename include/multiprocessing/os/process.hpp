// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Processes as the kernel sees them: descriptors instead of numbers.
///
/// A pid is a number that is given away again; a pidfd is one process for good. `kill(pid, 0)`
/// succeeds on a zombie, a pidfd is readable on one, which is what "has ended" means here.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/text_file.hpp>
#include <multiprocessing/os/unique_fd.hpp>
#include <multiprocessing/timeout.hpp>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>

namespace multiprocessing::detail::os {

/// Opens a descriptor of the process; empty when there is no such process (any more).
/// \throws OSError when the kernel refuses for another reason (no descriptors left, say).
UniqueFd pidfd_open(pid_t pid);

/// Tells whether the process has ended; a zombie has.
bool has_ended(const UniqueFd& pidfd);

/// Waits until the process has ended or the deadline is over; true when it has ended.
bool wait_ended(int pidfd, const Deadline& deadline);

/// Sends a signal; false when the process has been reaped already.
/// \throws OSError when the kernel refuses.
bool send_signal(int pidfd, int signal);

/// Tells whether the process has ended and its parent knows: its number may then be another's.
bool is_reaped(const UniqueFd& pidfd);
/// Tells whether there is no process of this number; the little that can be known without a
/// descriptor.
bool is_reaped(pid_t pid) noexcept;

/// How a child ended, from `waitid`.
struct ExitStatus {
    int exitcode;  ///< -SIGNAL when a signal ended it
    bool core_dumped = false;
    std::chrono::nanoseconds cpu_time{0};
    std::uint64_t peak_memory = 0;  ///< bytes that were resident
};

/// Reaps the child, which has ended; nothing when somebody else did, or SIGCHLD is ignored.
std::optional<ExitStatus> reap(int pidfd);

/// Waits for the end of a child of which there is no descriptor, and reaps it.
void reap_by_pid(pid_t pid) noexcept;

/// Returns a number that tells two processes with one pid apart: the pidfd's inode where the kernel
/// has pidfs (6.9), else the start time; 0 when neither can be read.
std::uint64_t birth_of(const UniqueFd& pidfd, pid_t pid);

/// Returns the fields of /proc/PID/stat that we use; empty when it cannot be read.
struct ProcStat {
    char state;
    pid_t ppid;
    int threads;
    std::uint64_t start_time;
};
std::optional<ProcStat> proc_stat(pid_t pid);

/// Returns how much memory of the process is resident, in bytes; 0 when it cannot be read.
std::uint64_t resident_bytes(pid_t pid);

/// Returns a number that tells pid namespaces apart; 0 when it cannot be read.
std::uint64_t pid_namespace();

/// Returns the calling thread's kernel id.
pid_t thread_id();

/// Runs `handler(status, argument)` at `exit`, before every handler that was registered earlier.
void on_exit(void (*handler)(int, void*), void* argument = nullptr);

/// Fills `bytes` with random bytes.
void random_bytes(void* bytes, std::size_t size);

/// Makes `fd` what `/dev/null` is; the process's standard input at its end.
void redirect_to_null(int fd);

// -------------------------------------------------------------------------------------------------

inline UniqueFd pidfd_open(pid_t pid) {
    const long fd = ::syscall(SYS_pidfd_open, pid, 0);  // close-on-exec by definition
    // The number may be that of a process's other thread by now: EINVAL, ENOENT since Linux 6.15.
    if (fd < 0 && errno != ESRCH && errno != EINVAL && errno != ENOENT) {
        throw_os_error(errno, "pidfd_open", text_of("process {}", {pid}));
    }
    return UniqueFd(static_cast<int>(fd));
}

inline bool wait_ended(int pidfd, const Deadline& deadline) {
    for (;;) {
        pollfd entry{.fd = pidfd, .events = POLLIN, .revents = 0};
        // One second at most a time, so that the conversion to milliseconds cannot overflow.
        const auto left = deadline.left(std::chrono::seconds(1));
        const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(left).count();
        const int ready = ::poll(&entry, 1, static_cast<int>(milliseconds));
        if (ready > 0) { return true; }
        if (ready < 0 && errno != EINTR) { throw_os_error(errno, "poll", "a process"); }
        if (deadline.has_passed()) { return false; }
    }
}

inline bool has_ended(const UniqueFd& pidfd) {
    return !pidfd || wait_ended(pidfd.get(), Deadline(std::chrono::seconds(0)));
}

inline bool send_signal(int pidfd, int signal) {
    if (::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) == 0) { return true; }
    if (errno == ESRCH) { return false; }
    throw_os_error(errno, "pidfd_send_signal", signal_name(signal));
}

inline bool is_reaped(const UniqueFd& pidfd) {
    return ::syscall(SYS_pidfd_send_signal, pidfd.get(), 0, nullptr, 0) != 0 && errno == ESRCH;
}

inline bool is_reaped(pid_t pid) noexcept {
    // Not kill(), which takes the number of any thread.
    return ::syscall(SYS_tgkill, pid, pid, 0) != 0 && errno == ESRCH;
}

inline std::optional<ExitStatus> reap(int pidfd) {
    siginfo_t info{};
    ::rusage usage{};
    long result;
    do {
        // The C library's waitid leaves out what the child used. P_PIDFD is 3 everywhere.
        result = ::syscall(SYS_waitid, 3, pidfd, &info, WEXITED, &usage);
    } while (result < 0 && errno == EINTR);
    if (result < 0) { return std::nullopt; }  // ECHILD: it was somebody else's to reap
    const auto time_of = [](const ::timeval& time) {
        return std::chrono::seconds(time.tv_sec) + std::chrono::microseconds(time.tv_usec);
    };
    return ExitStatus{.exitcode = info.si_code == CLD_EXITED ? info.si_status : -info.si_status,
                      .core_dumped = info.si_code == CLD_DUMPED,
                      .cpu_time = time_of(usage.ru_utime) + time_of(usage.ru_stime),
                      .peak_memory = static_cast<std::uint64_t>(usage.ru_maxrss) * 1024};
}

inline void reap_by_pid(pid_t pid) noexcept {
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {}
}

inline std::optional<ProcStat> proc_stat(pid_t pid) {
    const std::string text = read_text(text_of("/proc/{}/stat", {pid}));
    // The second field is the program's name in brackets and may hold anything, brackets included.
    const std::size_t name_end = text.rfind(')');
    if (name_end == text.npos) { return std::nullopt; }
    ProcStat stat{};
    unsigned long long start = 0;
    const int fields = std::sscanf(text.c_str() + name_end + 1,
                                   " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u"
                                   " %*d %*d %*d %*d %d %*d %llu",
                                   &stat.state, &stat.ppid, &stat.threads, &start);
    if (fields != 4) { return std::nullopt; }
    stat.start_time = start;
    return stat;
}

inline std::uint64_t birth_of(const UniqueFd& pidfd, pid_t pid) {
    constexpr long pidfs_magic = 0x50494446;
    struct statfs filesystem {};
    struct stat file {};
    if (pidfd && ::fstatfs(pidfd.get(), &filesystem) == 0 && filesystem.f_type == pidfs_magic &&
        ::fstat(pidfd.get(), &file) == 0) {
        return file.st_ino;
    }
    const std::optional<ProcStat> stat = proc_stat(pid);
    return stat ? stat->start_time : 0;
}

inline std::uint64_t resident_bytes(pid_t pid) {
    unsigned long long pages = 0;
    std::sscanf(read_text(text_of("/proc/{}/statm", {pid})).c_str(), "%*u %llu", &pages);
    return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

inline std::uint64_t pid_namespace() {
    struct stat file {};
    return ::stat("/proc/self/ns/pid", &file) == 0 ? file.st_ino : 0;
}

inline pid_t thread_id() { return static_cast<pid_t>(::syscall(SYS_gettid)); }

inline void on_exit(void (*handler)(int, void*), void* argument) {
    if (::on_exit(handler, argument) != 0) { throw_os_error(ENOMEM, "on_exit", "handler"); }
}

inline void random_bytes(void* bytes, std::size_t size) {
    auto* to = static_cast<char*>(bytes);
    while (size > 0) {
        const long got = ::syscall(SYS_getrandom, to, size, 0);
        if (got < 0 && errno == EINTR) { continue; }
        if (got < 0) { throw_os_error(errno, "getrandom", text_of("{} bytes", {size})); }
        to += got;
        size -= static_cast<std::size_t>(got);
    }
}

inline void redirect_to_null(int fd) {
    // Closed first: it may be the last descriptor that there is, and what is opened next may get
    // its number. Without /dev it stays closed: reading it fails, which is the next best thing.
    ::close(fd);
    UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (null.get() == fd) {
        ::fcntl(null.release(), F_SETFD, 0);  // a standard stream is there after an exec as well
    } else if (null) {
        ::dup2(null.get(), fd);
    }
}

}  // namespace multiprocessing::detail::os

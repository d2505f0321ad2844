// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// How a test sees what other processes do: what they say on a pipe, what they write to their
/// standard streams, how a whole program ends, and in which state the kernel has them.

#include "support/bounds.hpp"

#include <multiprocessing/os/process.hpp>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <initializer_list>
#include <iostream>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

extern char** environ;

namespace observe {

/// A pipe from the processes of a test to the test.
/// A child that is forked while this lives can `say`; it is closed in a program that is executed.
class Report {
  public:
    Report() {
        if (::pipe2(ends_, O_CLOEXEC) != 0) { std::abort(); }
    }
    Report(const Report&) = delete;
    Report& operator=(const Report&) = delete;
    ~Report() {
        ::close(ends_[0]);
        stop_saying();
    }

    /// Says a line, whole.
    void say(const std::string& line) const {
        const std::string text = line + "\n";
        if (::write(ends_[1], text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
            ::_exit(98);
        }
    }
    void say(long long number) const { say(std::to_string(number)); }

    /// Closes this process's end for saying; the report ends when every other process's is closed
    /// too.
    void stop_saying() {
        if (ends_[1] >= 0) { ::close(ends_[1]); }
        ends_[1] = -1;
    }

    /// Returns the next line; nothing at the end of the report or when the bound is over.
    std::optional<std::string> hear(std::chrono::milliseconds bound = std::chrono::seconds(20)) {
        for (;;) {
            if (const auto end = text_.find('\n'); end != text_.npos) {
                std::string line = text_.substr(0, end);
                text_.erase(0, end + 1);
                return line;
            }
            if (!fetch(bound)) { return std::nullopt; }
        }
    }
    /// The same as a number; -1 for nothing.
    long long hear_number() { return std::atoll(hear().value_or("-1").c_str()); }

    /// Returns all that is said from now to the end of the report.
    std::string hear_all() {
        stop_saying();
        while (fetch(std::chrono::seconds(20))) {}
        return std::exchange(text_, {}) + (ended_ ? "" : "(somebody still holds the report)");
    }

    /// Tells whether the report ends within the bound: nobody is there any more who could say
    /// something.
    bool ends_within(std::chrono::milliseconds bound) {
        stop_saying();
        const auto end = std::chrono::steady_clock::now() + bound * support::slowness;
        while (!ended_ && std::chrono::steady_clock::now() < end) {
            fetch(std::chrono::ceil<std::chrono::milliseconds>(end -
                                                               std::chrono::steady_clock::now()));
        }
        return ended_;
    }

    int fd() const { return ends_[0]; }

  private:
    bool fetch(std::chrono::milliseconds bound) {
        pollfd entry{.fd = ends_[0], .events = POLLIN, .revents = 0};
        if (ended_ || ::poll(&entry, 1, static_cast<int>(bound.count() * support::slowness)) <= 0) {
            return false;
        }
        char part[4096];
        const ssize_t size = ::read(ends_[0], part, sizeof part);
        ended_ = size <= 0;
        if (!ended_) { text_.append(part, static_cast<std::size_t>(size)); }
        return !ended_;
    }

    int ends_[2];
    std::string text_;
    bool ended_ = false;
};

/// A door that processes stop at until their test opens it.
class Door {
  public:
    Door() {
        if (::pipe2(ends_, O_CLOEXEC) != 0) { std::abort(); }
    }
    Door(const Door&) = delete;
    Door& operator=(const Door&) = delete;
    ~Door() {
        ::close(ends_[0]);
        open();
    }

    void open() {
        if (ends_[1] >= 0) { ::close(ends_[1]); }
        ends_[1] = -1;
    }

    int fd() const { return ends_[0]; }

    /// In a child: waits until the test has opened the door, or is gone.
    void pass() {
        open();  // this process's own copy would keep it shut
        char byte;
        while (::read(ends_[0], &byte, 1) < 0) {}
    }

  private:
    int ends_[2];
};

inline std::string contents_of(int fd) {
    std::string text;
    char part[4096];
    for (off_t at = 0;;) {
        const ssize_t size = ::pread(fd, part, sizeof part, at);
        if (size <= 0) { return text; }
        text.append(part, static_cast<std::size_t>(size));
        at += size;
    }
}

/// Returns what this process and its children write to descriptor `fd` while `f` runs.
template <class F>
std::string written_to(int fd, F f) {
    std::fflush(nullptr);
    std::cout.flush();
    const int file = ::memfd_create("captured", MFD_CLOEXEC);
    const int saved = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
    ::dup2(file, fd);
    f();
    std::fflush(nullptr);
    std::cout.flush();
    ::dup2(saved, fd);
    ::close(saved);
    std::string text = contents_of(file);
    ::close(file);
    return text;
}

/// How a program's life went.
struct Life {
    int exitcode;  ///< -SIGNAL when a signal ended it
    std::string out;
    std::string err;
};

/// Runs the program `name`, which stands beside this test program, to its end.
/// It bounds itself in time; what it has as standard input is `input`.
inline Life run_program(const std::string& name, std::initializer_list<std::string> arguments,
                        const std::string& input = {}) {
    const auto path =
        (std::filesystem::read_symlink("/proc/self/exe").parent_path() / name).string();
    std::vector<std::string> texts = {path};
    texts.insert(texts.end(), arguments);
    std::vector<char*> argv;
    for (auto& text : texts) { argv.push_back(text.data()); }
    argv.push_back(nullptr);

    const int files[3] = {::memfd_create("in", MFD_CLOEXEC), ::memfd_create("out", MFD_CLOEXEC),
                          ::memfd_create("err", MFD_CLOEXEC)};
    if (::pwrite(files[0], input.data(), input.size(), 0) < 0) { std::abort(); }
    // Several processes write: each at the end.
    for (const int file : {files[1], files[2]}) { ::fcntl(file, F_SETFL, O_APPEND); }
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    for (int fd = 0; fd < 3; ++fd) { ::posix_spawn_file_actions_adddup2(&actions, files[fd], fd); }
    pid_t pid = -1;
    const int error = ::posix_spawn(&pid, path.c_str(), &actions, nullptr, argv.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    Life life{.exitcode = 1000 + error, .out = {}, .err = {}};
    if (error == 0) {
        int status = 0;
        while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
        life.exitcode = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }
    life.out = contents_of(files[1]);
    life.err = contents_of(files[2]);
    for (const int file : files) { ::close(file); }
    return life;
}

/// Returns how often `part` stands in `text`.
inline int count(const std::string& text, const std::string& part) {
    int found = 0;
    for (auto at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) {
        ++found;
    }
    return found;
}

/// Tells whether the kernel has no such process any more, or has it as a zombie.
inline bool is_gone(pid_t pid) {
    const auto stat = multiprocessing::detail::os::proc_stat(pid);
    return !stat || stat->state == 'Z' || stat->state == 'X';
}

/// Returns the workers of the pool.
template <class Pool>
std::set<pid_t> pids_of(const Pool& pool) {
    std::set<pid_t> pids;
    for (const auto& worker : pool.workers()) { pids.insert(worker.pid); }
    return pids;
}

/// Returns the process that starts the workers of the pool: their parent, as far as the kernel
/// knows. 0 when none has shown up in time.
template <class Pool>
pid_t nursery_of(const Pool& pool) {
    pid_t nursery = 0;
    static_cast<void>(support::eventually([&] {
        const auto workers = pool.workers();
        if (workers.empty()) { return false; }
        // A worker whose nursery has been killed is somebody else's child for a moment.
        const auto worker = multiprocessing::detail::os::proc_stat(workers.front().pid);
        const auto parent = multiprocessing::detail::os::proc_stat(worker ? worker->ppid : 0);
        if (parent && parent->ppid == ::getpid() && parent->state != 'Z') {
            nursery = worker->ppid;
        }
        return nursery != 0;
    }));
    return nursery;
}

}  // namespace observe

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Starting an image of a program in a process of its own.

#include <multiprocessing/errors.hpp>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace multiprocessing::detail::os {

/// Returns a path by which this program's file can be executed, also when it has been replaced or
/// removed since.
std::string own_executable();

/// Returns what this program was called as.
inline std::string program_name() { return program_invocation_name; }
/// Has tools that list processes show this one by that name, as far as it fits.
inline void name_this_process(const std::string& name) noexcept {
    ::prctl(PR_SET_NAME, name.c_str());
}

/// Executes `program` with these arguments, and `socket` open in it as the one descriptor besides
/// the standard ones; its environment is ours, with `variable=socket`. \throws OSError when there
/// is no such program, or no process to be had.
template <class Lazy = void>
pid_t execute(const std::string& program, const std::vector<std::string>& arguments,
              const std::string& variable, int socket);

/// Returns the socket that this process was given by `execute`, once; -1 when it was not.
int take_child_socket(const char* variable) noexcept;

/// Makes those of the three standard descriptors that are closed what `/dev/null` is, so that no
/// other file gets their numbers.
void open_standard_streams() noexcept;

// -------------------------------------------------------------------------------------------------

inline std::string own_executable() {
    constexpr const char* self = "/proc/self/exe";
    if (::access(self, X_OK) == 0) { return self; }
    const auto* const path = reinterpret_cast<const char*>(::getauxval(AT_EXECFN));
    return path != nullptr ? path : "";
}

inline int take_child_socket(const char* variable) noexcept {
    const char* const value = ::getenv(variable);
    if (value == nullptr) { return -1; }
    const int socket = std::atoi(value);
    // A process that this one executes in turn is nobody's child.
    ::unsetenv(variable);
    return socket;
}

inline void open_standard_streams() noexcept {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
        // The lowest that is free is this one.
        if (::fcntl(fd, F_GETFD) < 0) { static_cast<void>(::open("/dev/null", O_RDWR)); }
    }
}

template <class Lazy>
pid_t execute(const std::string& program, const std::vector<std::string>& arguments,
              const std::string& variable, int socket) {
    const std::string setting = variable + "=" + std::to_string(socket);
    const std::string_view name = std::string_view(setting).substr(0, variable.size() + 1);
    std::vector<char*> environment;
    for (char** each = environ; each != nullptr && *each != nullptr; ++each) {
        if (!std::string_view(*each).starts_with(name)) { environment.push_back(*each); }
    }
    environment.push_back(const_cast<char*>(setting.c_str()));
    environment.push_back(nullptr);
    std::vector<char*> words;
    for (const std::string& each : arguments) { words.push_back(const_cast<char*>(each.c_str())); }
    words.push_back(nullptr);

    posix_spawn_file_actions_t actions;
    if (const int error = ::posix_spawn_file_actions_init(&actions); error != 0) {
        throw_os_error(error, "posix_spawn", program);
    }
    posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    // A thread of the library's has all signals blocked; a fresh image begins with none.
    sigset_t none;
    ::sigemptyset(&none);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    // Onto itself: that is how it stays open.
    int error = ::posix_spawn_file_actions_adddup2(&actions, socket, socket);
    pid_t pid = 0;
    if (error == 0) {
        error = ::posix_spawn(&pid, program.c_str(), &actions, &attributes, words.data(),
                              environment.data());
    }
    ::posix_spawnattr_destroy(&attributes);
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) { throw_os_error(error, "posix_spawn", program); }
    return pid;
}

}  // namespace multiprocessing::detail::os

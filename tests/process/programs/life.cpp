// SPDX-License-Identifier: BSL-1.0

// Programs whose whole life is watched from outside, by test_local.cpp and test_streams.cpp; which
// of them is the first argument.

#include <multiprocessing/process.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

void say(const std::string& line) {
    const std::string text = line + "\n";
    if (::write(STDOUT_FILENO, text.data(), text.size()) < 0) { ::_exit(97); }
}

struct Announced {
    explicit Announced(const char* what) : text(what) {}
    ~Announced() { say(text); }
    const char* text;
};

// Two children that wait for the end of the program's main: one dropped at once, one kept in a
// static.
int ends[2];

void child_after_main() {
    ::close(ends[1]);
    char byte;
    if (::read(ends[0], &byte, 1) == 0) { say("child ends"); }
}

void start_child_and_drop_it() {
    if (::pipe(ends) != 0) { std::abort(); }
    mp::Process(child_after_main).start();
}

int dropped_process_and_return() {
    start_child_and_drop_it();
    say("main ends");
    ::close(ends[1]);
    return 3;
}

int dropped_process_and_exit() {
    start_child_and_drop_it();
    say("main ends");
    ::close(ends[1]);
    std::exit(4);
}

int process_in_a_static() {
    static mp::Process process(child_after_main);
    if (::pipe(ends) != 0) { std::abort(); }
    process.start();
    say("main ends");
    ::close(ends[1]);
    return 0;
}

void report_sigterm(int) {
    say("daemon gets SIGTERM");
    ::_exit(0);
}

// The daemon would run for ever; main leaves once it is ready for the signal.
int daemon() {
    int ready[2];
    if (::pipe(ready) != 0) { std::abort(); }
    mp::Process({.daemon = true}, [&] {
        std::signal(SIGTERM, report_sigterm);
        ::close(ready[1]);
        for (;;) { ::pause(); }
    }).start();
    ::close(ready[1]);
    char byte;
    if (::read(ready[0], &byte, 1) != 0) { return 1; }
    say("main ends");
    return 0;
}

// A daemon that is there, and a child that waits for it: the daemon is ended first, then both are
// joined.
int daemon_before_others() {
    int life_of_daemon[2];
    if (::pipe(life_of_daemon) != 0) { std::abort(); }
    mp::Process({.daemon = true}, [] {
        for (;;) { ::pause(); }
    }).start();
    mp::Process([&] {
        ::close(life_of_daemon[1]);
        char byte;
        if (::read(life_of_daemon[0], &byte, 1) == 0) { say("child sees the daemon gone"); }
    }).start();
    ::close(life_of_daemon[1]);
    say("main ends");
    return 0;
}

const Announced global("a static of the parent is destroyed");

int exit_handlers(const std::function<void()>& end_of_child) {
    std::atexit([] { say("a handler of the parent, registered before"); });
    mp::Process process([&] {
        static const Announced in_child("a static of the child is destroyed");
        std::atexit([] { say("a handler of the child"); });
        end_of_child();
    });
    process.start();
    std::atexit([] { say("a handler of the parent, registered after"); });
    process.join();
    say("exit code " + std::to_string(process.exitcode().value_or(-1000)));
    return 0;
}

// Text in every buffer that stdio and iostreams have, before the fork and in the child.
int buffers(const std::string& path, const std::function<void()>& end_of_child) {
    std::ios::sync_with_stdio(false);
    std::FILE* const file = std::fopen(path.c_str(), "a");
    std::printf("printf before\n");
    std::cout << "cout before\n";
    std::clog << "clog before\n";
    std::fprintf(file, "file before\n");
    mp::Process process([&] {
        std::printf("printf in the child\n");
        std::cout << "cout in the child\n";
        std::clog << "clog in the child\n";
        std::fprintf(file, "file in the child\n");
        std::FILE* const own = std::fopen(path.c_str(), "a");
        std::fprintf(own, "own file of the child\n");
        end_of_child();
    });
    process.start();
    process.join();
    std::printf("printf after\n");
    std::cout << "cout after\n";
    std::fprintf(file, "file after\n");
    std::fclose(file);
    return process.exitcode().value_or(100);
}

// A string stream of stdio has no descriptor: what is in it is this process's own, after a fork
// too.
int memory_stream() {
    char* text = nullptr;
    std::size_t size = 0;
    std::FILE* const stream = ::open_memstream(&text, &size);
    std::fprintf(stream, "before, ");
    mp::Process process([&] {
        std::fprintf(stream, "in the child");
        std::fclose(stream);
        say(text);
    });
    process.start();
    process.join();
    std::fclose(stream);
    std::free(text);
    return process.exitcode().value_or(100);
}

// One thread waits for a line of input, and with it holds the lock of stdin.
int start_while_a_thread_reads() {
    int never[2];
    if (::pipe(never) != 0) { std::abort(); }
    ::dup2(never[0], STDIN_FILENO);
    std::thread([] { std::getchar(); }).detach();
    while (::ftrylockfile(stdin) == 0) {
        ::funlockfile(stdin);
        std::this_thread::yield();
    }
    mp::Process process([] {
        if (std::getchar() == EOF) { say("the child's input is at its end"); }
    });
    process.start();
    process.join();
    say("joined");
    ::_exit(process.exitcode().value_or(100));
}

// More than a line is in the buffer when the child begins.
int input_read_ahead(bool by_stdio) {
    if (!by_stdio) { std::ios::sync_with_stdio(false); }
    const auto line = [&] {
        std::string text(100, '\0');
        if (by_stdio) {
            if (std::fgets(text.data(), 100, stdin) == nullptr) { return std::string("END"); }
            return text.substr(0, text.find('\n'));
        }
        return std::getline(std::cin, text) ? text : std::string("END");
    };
    say("main reads " + line());
    mp::Process process([&] { say("child reads " + line()); });
    process.start();
    process.join();
    say("main reads " + line());
    return process.exitcode().value_or(100);
}

// Whatever descriptor 0 was in the parent, in the child it is /dev/null and stays over an exec.
int standard_input_closed() {
    ::close(STDIN_FILENO);
    mp::Process process([] {
        struct stat null {};
        struct stat input {};
        const bool same = ::stat("/dev/null", &null) == 0 && ::fstat(STDIN_FILENO, &input) == 0 &&
                          null.st_rdev == input.st_rdev;
        const bool kept = (::fcntl(STDIN_FILENO, F_GETFD) & FD_CLOEXEC) == 0;
        mp::Process inner([] { throw mp::SystemExit(std::getchar() == EOF ? 0 : 1); });
        inner.start();
        inner.join();
        throw mp::SystemExit(same && kept ? inner.exitcode().value_or(2) : 3);
    });
    process.start();
    process.join();
    return process.exitcode().value_or(100);
}

int closed_descriptor(int fd, bool in_child) {
    if (!in_child) { ::close(fd); }
    mp::Process process([&] {
        if (in_child) { ::close(fd); }
        std::printf("to stdout\n");
        std::fprintf(stderr, "to stderr\n");
        std::cout << "to cout\n";
    });
    process.start();
    process.join();
    return process.exitcode().value_or(100);
}

int throwing_cout() {
    mp::Process process([] {
        ::close(STDOUT_FILENO);
        std::ios::sync_with_stdio(false);
        std::cout << "lost";
        std::cout.exceptions(std::ios::badbit);
    });
    process.start();
    process.join();
    return process.exitcode().value_or(100);
}

// A child of a plain fork that calls exit() has no children to join or to terminate.
int plain_fork_exits() {
    mp::Process process({.daemon = true}, [] {
        for (;;) { ::pause(); }
    });
    process.start();
    const pid_t plain = ::fork();
    if (plain == 0) { std::exit(0); }
    int status = -1;
    ::waitpid(plain, &status, 0);
    say(process.is_alive() ? "alive" : "gone");
    process.kill();
    process.join();
    return status;
}

// What the library makes at its first use is made by one thread while another forks.
int first_use_while_forking() {
    std::atomic<bool> begin{false};
    std::thread other([&] {
        while (!begin) {}
        static_cast<void>(mp::current_process().name());
        const mp::Process process([] {});
    });
    begin = true;
    for (int i = 0; i < 100; ++i) { static_cast<void>(::getppid()); }
    const pid_t plain = ::fork();
    if (plain == 0) {
        ::alarm(10);
        mp::Process inner({.daemon = true}, [] {});
        inner.start();
        inner.join();
        ::_exit(inner.exitcode().value_or(100));
    }
    int status = -1;
    ::waitpid(plain, &status, 0);
    other.join();
    return WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
}

// exit() from a nested process: its own child is joined by it, nobody else's.
int child_joins_its_children() {
    mp::Process process([] {
        start_child_and_drop_it();
        say("outer child ends");
        ::close(ends[1]);
    });
    process.start();
    process.join();
    say("joined");
    return process.exitcode().value_or(100);
}

void nested_error() {
    try {
        try {
            throw std::out_of_range("no such row");
        } catch (...) { std::throw_with_nested(std::runtime_error("cannot read the table")); }
    } catch (...) { std::throw_with_nested(std::logic_error("no report")); }
}

int run(const std::string& which, const std::string& argument) {
    const std::map<std::string, std::function<int()>> programs = {
        {"dropped_process_and_return", dropped_process_and_return},
        {"dropped_process_and_exit", dropped_process_and_exit},
        {"process_in_a_static", process_in_a_static},
        {"daemon", daemon},
        {"daemon_before_others", daemon_before_others},
        {"exit_handlers_return", [] { return exit_handlers([] {}); }},
        {"exit_handlers_exit", [] { return exit_handlers([] { std::exit(5); }); }},
        {"exit_handlers_system_exit",
         [] { return exit_handlers([] { throw mp::SystemExit(6); }); }},
        {"exit_handlers_throw", [] { return exit_handlers(nested_error); }},
        {"buffers_return", [&] { return buffers(argument, [] {}); }},
        {"buffers_exit", [&] { return buffers(argument, [] { std::exit(5); }); }},
        {"buffers_throw",
         [&] { return buffers(argument, [] { throw std::runtime_error("thrown"); }); }},
        {"memory_stream", memory_stream},
        {"start_while_a_thread_reads", start_while_a_thread_reads},
        {"input_read_ahead_stdio", [] { return input_read_ahead(true); }},
        {"input_read_ahead_cin", [] { return input_read_ahead(false); }},
        {"standard_input_closed", standard_input_closed},
        {"closed_in_parent", [&] { return closed_descriptor(std::stoi(argument), false); }},
        {"closed_in_child", [&] { return closed_descriptor(std::stoi(argument), true); }},
        {"throwing_cout", throwing_cout},
        {"plain_fork_exits", plain_fork_exits},
        {"first_use_while_forking", first_use_while_forking},
        {"child_joins_its_children", child_joins_its_children},
    };
    const auto program = programs.find(which);
    return program != programs.end() ? program->second() : 99;
}

}  // namespace

int main(int argc, char** argv) {
    ::alarm(60);
    return run(argc > 1 ? argv[1] : "", argc > 2 ? argv[2] : "");
}

// SPDX-License-Identifier: BSL-1.0

// What is told of a worker that died.

#include "process/observe.hpp"
#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/forked.hpp"
#include "support/pools.hpp"

#include <multiprocessing/pool.hpp>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;
using support::Cell;
using support::cell;

namespace {

const auto bound = 20s * support::slowness;

int square(int number) { return number * number; }

template <class F, class... Args>
mp::Death death_of(mp::Pool& pool, F f, Args... args) {
    try {
        pool.apply_async(f, args...).get(bound);
    } catch (const mp::WorkerDiedError& error) {
        return {.pid = error.pid(),
                .exitcode = error.exitcode(),
                .task_index = error.task_index(),
                .core_dumped = error.core_dumped(),
                .oom_killed = error.oom_killed(),
                .stderr_tail = error.stderr_tail(),
                .peak_memory = error.peak_memory(),
                .traceback = error.traceback()};
    }
    FAIL("nobody died");
    return {};
}

[[gnu::noinline]] int read_from(std::uintptr_t address) {
    return *reinterpret_cast<volatile int*>(address) + 1;
}
int fault(std::uintptr_t address) { return read_from(address) + 1; }
int abort_now(int) { std::abort(); }
[[gnu::noinline]] int recurse(int depth) {  // NOLINT: for ever, on purpose
    volatile char block[4096];
    block[0] = static_cast<char>(depth);
    return depth < 0 ? block[0] : recurse(depth + 1) + block[0];
}
int write_and_die(std::string text) {
    std::cerr << text;
    ::raise(SIGKILL);
    return 0;
}

// This process's standard error is a file as long as this lives.
class StderrFile {
  public:
    StderrFile() : kept_(::dup(STDERR_FILENO)) { ::dup2(::fileno(file_.get()), STDERR_FILENO); }
    StderrFile(const StderrFile&) = delete;
    StderrFile& operator=(const StderrFile&) = delete;
    ~StderrFile() {
        ::dup2(kept_, STDERR_FILENO);
        ::close(kept_);
    }
    std::string text() const {
        std::string all;
        char part[4096];
        for (ssize_t size; (size = ::pread(::fileno(file_.get()), part, sizeof part,
                                           static_cast<off_t>(all.size()))) > 0;) {
            all.append(part, static_cast<std::size_t>(size));
        }
        return all;
    }

  private:
    std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_{std::tmpfile(), &std::fclose};
    int kept_;
};

}  // namespace

// A sanitizer handles faults itself, and its allocator makes everything larger.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("a fault is told with the functions it happened in", "[pool]") {
    mp::Pool pool(1);
    {
        const mp::Death death = death_of(pool, fault, std::uintptr_t{16});
        CHECK(death.exitcode == -SIGSEGV);
        CHECK_THAT(death.traceback, support::contains("#0 "));
        CHECK_THAT(death.traceback, support::contains("read_from(unsigned long)"));
        CHECK_THAT(death.traceback, support::contains("test_pool+0x"));
        CHECK_THAT(death.traceback, !support::contains("Worker<"));
    }
    {
        const mp::Death death = death_of(pool, abort_now, 0);
        CHECK(death.exitcode == -SIGABRT);
        CHECK_THAT(death.traceback, support::contains("abort_now(int)"));
    }
    {
        const mp::Death death = death_of(pool, recurse, 0);
        CHECK(death.exitcode == -SIGSEGV);
        CHECK_THAT(death.traceback, support::contains("recurse(int)"));
    }
    const mp::Death killed = death_of(pool, write_and_die, std::string());
    CHECK(killed.exitcode == -SIGKILL);
    CHECK(killed.traceback.empty());
}

TEST_CASE("a handler of the program's for faults stays", "[pool]") {
    support::reset_cells();
    mp::Pool pool(
        {.processes = 1, .initializer = [] { ::signal(SIGSEGV, [](int) { ::_exit(77); }); }});
    const mp::Death death = death_of(pool, fault, std::uintptr_t{16});
    CHECK(death.exitcode == 77);
}

TEST_CASE("a worker that the kernel kills for memory is told so", "[pool]") {
    // A control group of our own, version 1 or 2, where we may make one.
    const auto group = [] {
        std::ifstream groups("/proc/self/cgroup");
        for (std::string line; std::getline(groups, line);) {
            const std::size_t second = line.find(':', line.find(':') + 1);
            const std::string path = line.substr(second + 1);
            if (line.find(":memory:") != line.npos) { return "/sys/fs/cgroup/memory" + path; }
            if (line.starts_with("0::") &&
                std::filesystem::exists("/sys/fs/cgroup/cgroup.controllers")) {
                return "/sys/fs/cgroup" + path;
            }
        }
        return std::string();
    }();
    const std::filesystem::path own = group + "/multiprocessing-" + std::to_string(::getpid());
    std::error_code refused;
    if (group.empty() || !std::filesystem::create_directory(own, refused)) {
        WARN("no control group can be made here: " << refused.message());
        return;
    }
    const bool first = std::filesystem::exists(own / "memory.limit_in_bytes");
    std::ofstream(own / (first ? "memory.limit_in_bytes" : "memory.max")) << 200 * 1024 * 1024;
    support::Forked child([&] {
        std::ofstream(own / "cgroup.procs") << ::getpid();
        mp::Pool pool(1);
        const mp::Death death = death_of(
            pool,
            +[](int) {
                std::vector<std::string> held;
                for (;;) { held.emplace_back(1024 * 1024, 'x'); }
                return 0;
            },
            0);
        return death.exitcode != -SIGKILL                    ? 1
               : !death.oom_killed                           ? 2
               : death.peak_memory < 50 * 1024 * 1024        ? 3
               : pool.apply_async(square, 3).get(bound) != 9 ? 4
                                                             : 0;
    });
    const int code = child.join();
    CHECK(support::eventually([&] { return std::filesystem::remove(own, refused); }));
    CHECK(code == 0);
}
#endif

TEST_CASE("what a worker wrote last is told with its death, and appears where it belongs",
          "[pool]") {
    const StderrFile file;
    {
        mp::Pool pool(2);
        const mp::Death death =
            death_of(pool, write_and_die, std::string("reading\nline 7 is broken\n"));
        CHECK(death.stderr_tail == "reading\nline 7 is broken\n");
        CHECK(death.peak_memory > 100'000);
        CHECK_FALSE(death.oom_killed);
        // The end of much.
        const std::string much = std::string(300'000, 'a') + "the end\n";
        const mp::Death wordy = death_of(pool, write_and_die, much);
        CHECK(wordy.stderr_tail.size() == 4096);
        CHECK(wordy.stderr_tail.ends_with("aaathe end\n"));
        // Nothing of it is another's.
        CHECK(death_of(pool, write_and_die, std::string()).stderr_tail.empty());
        // Living ones as well.
        pool.apply_async(
                +[](int) { std::cerr << "alive\n"; }, 0)
            .get(bound);
        pool.close();
        pool.join();
    }
    const std::string text = file.text();
    CHECK_THAT(text, support::contains("reading\nline 7 is broken\n"));
    CHECK_THAT(text, support::contains("aaathe end\n"));
    CHECK_THAT(text, support::contains("alive\n"));
    CHECK(text.size() >= 300'000);
}

TEST_CASE("standard error that nobody reads does not hold up the replacement of workers",
          "[pool]") {
    support::reset_cells();
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const int kept = ::dup(STDERR_FILENO);
    ::dup2(ends[1], STDERR_FILENO);
    {
        mp::Pool pool(2);
        // One waits for a reader, as it would with the pipe in its own hands.
        auto wordy = pool.apply_async(
            +[](int) {
                ++cell(Cell::started);
                const std::string text(1'000'000, 'x');
                return static_cast<int>(::write(STDERR_FILENO, text.data(), text.size()));
            },
            0);
        CHECK(support::have_started(1));
        std::this_thread::sleep_for(50ms);
        for (int i = 0; i < 5; ++i) {
            CHECK(death_of(pool, write_and_die, std::string("short\n")).exitcode == -SIGKILL);
        }
        CHECK(pool.apply_async(square, 3).get(bound) == 9);
        CHECK_FALSE(wordy.ready());
        std::jthread reader([&] {
            char part[65536];
            std::size_t all = 0;
            while (all < 1'000'000) {
                const ssize_t size = ::read(ends[0], part, sizeof part);
                if (size <= 0) { break; }
                all += static_cast<std::size_t>(size);
            }
        });
        CHECK(wordy.get(bound) == 1'000'000);
    }
    ::dup2(kept, STDERR_FILENO);
    ::close(kept);
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST_CASE("what a worker started may write to standard error after the worker's end", "[pool]") {
    support::reset_cells();
    const StderrFile file;
    mp::Pool pool(1);
    death_of(
        pool,
        +[](int) {
            if (::fork() == 0) {
                while (cell(Cell::release) == 0) { ::usleep(1000); }
                const ssize_t size = ::write(STDERR_FILENO, "after\n", 6);
                cell(Cell::finished) = size == 6 ? 1 : 2;
                ::_exit(0);
            }
            ::raise(SIGKILL);
            return 0;
        },
        0);
    cell(Cell::release) = 1;
    CHECK(support::eventually([] { return cell(Cell::finished) == 1; }));
    CHECK(support::eventually([&] { return file.text().find("after\n") != std::string::npos; }));
}

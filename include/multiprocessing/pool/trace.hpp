// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A record of what every worker did when, for https://ui.perfetto.dev and chrome://tracing.
///
///     mp::trace::start("run.json");
///     pool.map(render, tiles);
///     mp::trace::stop();
///
/// or, without touching the program, `MULTIPROCESSING_TRACE=run.json program`. One row a worker; a
/// task is a box with its name, its index and how it ended. The file can be opened at any time,
/// also when the program did not come to its end.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/fork.hpp>
#include <multiprocessing/os/memory.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <utility>

namespace multiprocessing {

namespace detail {

/// The one trace of a process. \safety threads; a forked child has none.
template <class Lazy = void>
class Trace {
  public:
    /// Never destroyed: pools may outlive whatever would destroy it.
    static Trace& instance() {
        static Trace* const trace = new Trace;
        return *trace;
    }

    /// Returns whether times are to be taken: a word in shared memory, which workers that were
    /// forked earlier see as well.
    const std::atomic<std::uint32_t>& flag() const noexcept { return *flag_; }

    /// \throws OSError when the file cannot be written.
    void start(const std::string& path) {
        const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (file < 0) { throw_os_error(errno, "open", path); }
        {
            const std::scoped_lock lock(mutex_);
            if (file_ >= 0) { ::close(file_); }
            file_ = file;
            owner_ = os::process_token();
            // No closing bracket is needed, so that the file is whole at any time.
            write("[");
        }
        flag_->store(1);
    }
    void stop() {
        flag_->store(0);
        if (owner_.load() != os::process_token()) { return; }
        const std::scoped_lock lock(mutex_);
        if (file_ < 0) { return; }
        write("{}]\n");
        ::close(std::exchange(file_, -1));
    }

    /// Returns the number of a new pool, and says what it is called.
    int pool(std::string_view name) {
        const int number = pools_.fetch_add(1) + 1;
        event({{"ph", "M"}, {"name", "process_name"}}, number, 0, {},
              {{"name", name.empty() ? "pool " + std::to_string(number) : std::string(name)}});
        return number;
    }
    void worker(int pool, std::uint32_t worker, pid_t pid) {
        event({{"ph", "M"}, {"name", "thread_name"}}, pool, worker + 1, {},
              {{"name", text_of("worker {} (pid {})", {worker + 1, pid})}});
        event({{"ph", "i"}, {"s", "t"}, {"name", text_of("start of process {}", {pid})}}, pool,
              worker + 1, {now(), -1}, {});
    }
    void task(int pool, std::uint32_t worker, std::string_view name, std::size_t first_item,
              std::size_t items, std::int64_t began, std::int64_t ended, std::string_view how) {
        event({{"ph", "X"}, {"cat", "task"}, {"name", std::string(name)}}, pool, worker + 1,
              {began, ended - began},
              {{"first item", std::to_string(first_item)},
               {"items", std::to_string(items)},
               {"ended", std::string(how)}});
    }
    void death(int pool, std::uint32_t worker, std::string_view how) {
        event({{"ph", "i"}, {"s", "t"}, {"name", "worker " + std::string(how)}}, pool, worker + 1,
              {now(), -1}, {});
    }

    static std::int64_t now() noexcept {
        return std::chrono::steady_clock::now().time_since_epoch().count();
    }

  private:
    using Pairs = std::initializer_list<std::pair<std::string_view, std::string>>;
    struct Span {
        std::int64_t begin = -1;  // nanoseconds; -1: no time
        std::int64_t length = -1;
    };

    Trace() {
        flag_ = ::new (os::shared_page()) std::atomic<std::uint32_t>(0);
        if (const char* const path = std::getenv("MULTIPROCESSING_TRACE")) {
            if (*path != '\0') { start(path); }
        }
    }

    static std::string quoted(std::string_view text) {
        std::string json = "\"";
        for (const char each : text) {
            if (each == '"' || each == '\\') {
                json += '\\';
                json += each;
            } else if (static_cast<unsigned char>(each) < 0x20) {
                json += ' ';
            } else {
                json += each;
            }
        }
        return json + '"';
    }
    static std::string microseconds(std::int64_t nanoseconds) {
        const std::string rest = std::to_string(1000 + nanoseconds % 1000);
        return std::to_string(nanoseconds / 1000) + "." + rest.substr(1);
    }

    void event(Pairs fields, int pool, std::uint32_t row, Span span, Pairs arguments) {
        if (flag_->load(std::memory_order_relaxed) == 0) { return; }
        std::string json = "{";
        for (const auto& [key, value] : fields) { json += quoted(key) + ":" + quoted(value) + ","; }
        json += "\"pid\":" + std::to_string(pool) + ",\"tid\":" + std::to_string(row);
        // A child has the mutex as somebody held it.
        if (owner_.load() != os::process_token()) { return; }
        const std::scoped_lock lock(mutex_);
        if (file_ < 0) { return; }
        if (span.begin >= 0) { json += ",\"ts\":" + microseconds(span.begin - origin_); }
        if (span.length >= 0) { json += ",\"dur\":" + microseconds(span.length); }
        json += ",\"args\":{";
        bool first = true;
        for (const auto& [key, value] : arguments) {
            json += (std::exchange(first, false) ? "" : ",") + quoted(key) + ":" + quoted(value);
        }
        write(json + "}},\n");
    }
    // With the mutex held. A full disk loses the rest, not the program.
    void write(std::string_view text) noexcept {
        while (!text.empty()) {
            const ssize_t size = ::write(file_, text.data(), text.size());
            if (size < 0 && errno == EINTR) { continue; }
            if (size <= 0) { return; }
            text.remove_prefix(static_cast<std::size_t>(size));
        }
    }

    std::atomic<std::uint32_t>* flag_;
    std::atomic<int> pools_{0};
    std::atomic<std::uint64_t> owner_{0};  // the process whose trace it is
    std::mutex mutex_;                     // guards what follows
    int file_ = -1;
    const std::int64_t origin_ = now();
};

}  // namespace detail

/// Records of what workers do.
namespace trace {

/// Writes from here on what the workers of this process's pools do; a trace that runs is ended.
/// \throws OSError when the file cannot be written. \safety threads.
/// \cost about 2 us a task, in the thread that receives results.
template <class Lazy = void>
void start(const std::string& path) {
    detail::Trace<Lazy>::instance().start(path);
}
/// Ends the trace, if there is one.
template <class Lazy = void>
void stop() {
    detail::Trace<Lazy>::instance().stop();
}

}  // namespace trace
}  // namespace multiprocessing

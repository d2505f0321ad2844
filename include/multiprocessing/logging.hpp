// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The library's own log: off by default.
///
///     mp::log_to_stderr(mp::LogLevel::info);
///     mp::get_logger().warning("queue {} is filling up", name);   // [WARNING/Process-1] queue ...
///
/// Mirrors `multiprocessing.get_logger` and `log_to_stderr`; levels and format are Python's. A line
/// is written in one piece, so lines of several processes do not mix. Costs one comparison while it
/// is off.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/standard_error.hpp>

#include <fmt/core.h>

#include <atomic>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace multiprocessing {

/// How much a line matters; Python's numbers.
enum class LogLevel : int {
    notset = 0,
    subdebug = 5,
    debug = 10,
    info = 20,
    subwarning = 25,
    warning = 30,
    error = 40,
    critical = 50,
};

/// One line of the log, as a handler gets it.
struct LogRecord {
    LogLevel level;
    std::string process_name;
    std::string message;
    /// Returns "[LEVEL/ProcessName] message".
    std::string text() const;
};

/// The library's logger.
/// \safety threads. A child begins with its parent's level and handler.
class Logger {
  public:
    /// Lines below this level are dropped. While no handler is set all are.
    LogLevel level() const noexcept { return level_.load(std::memory_order_relaxed); }
    void set_level(LogLevel level) noexcept { level_.store(level, std::memory_order_relaxed); }
    bool is_enabled_for(LogLevel level) const noexcept {
        return enabled_.load(std::memory_order_relaxed) && level >= this->level();
    }

    template <class... Args>
    void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
        if (is_enabled_for(level)) {
            hand_over(level, fmt::format(format, std::forward<Args>(args)...));
        }
    }
    /// Logs `message` as it is.
    void log_line(LogLevel level, std::string message) {
        if (is_enabled_for(level)) { hand_over(level, std::move(message)); }
    }
    template <class... Args>
    void debug(fmt::format_string<Args...> format, Args&&... args) {
        log(LogLevel::debug, format, std::forward<Args>(args)...);
    }
    template <class... Args>
    void info(fmt::format_string<Args...> format, Args&&... args) {
        log(LogLevel::info, format, std::forward<Args>(args)...);
    }
    template <class... Args>
    void warning(fmt::format_string<Args...> format, Args&&... args) {
        log(LogLevel::warning, format, std::forward<Args>(args)...);
    }
    template <class... Args>
    void error(fmt::format_string<Args...> format, Args&&... args) {
        log(LogLevel::error, format, std::forward<Args>(args)...);
    }
    template <class... Args>
    void critical(fmt::format_string<Args...> format, Args&&... args) {
        log(LogLevel::critical, format, std::forward<Args>(args)...);
    }

  private:
    friend void set_log_handler(std::function<void(const LogRecord&)> handler);

    struct Handler {
        std::function<void(const LogRecord&)> call;  // may be empty
        const Handler* replaced;                     // the one before it
    };

    void hand_over(LogLevel level, std::string message);

    std::atomic<LogLevel> level_{LogLevel::warning};
    std::atomic<bool> enabled_{false};
    // Read without a lock: a child that is forked while another thread logs must find nothing
    // locked. One that was replaced is kept, since another thread may be calling it.
    std::atomic<const Handler*> handler_{nullptr};
};

/// Returns the library's logger.
Logger& get_logger();

/// Writes lines of at least this level to stderr.
void log_to_stderr(LogLevel level = LogLevel::notset);

/// Hands every line to `handler` from now on; an empty one turns the log off.
///
/// \cost keeps the former handler until the program ends.
void set_log_handler(std::function<void(const LogRecord&)> handler);

/// Returns "INFO" and the like; "Level 17" for what has no name.
std::string log_level_name(LogLevel level);

// -------------------------------------------------------------------------------------------------

namespace detail {

/// Who tells the process's name; the processes' own floor is above this one.
inline std::atomic<std::string (*)()>& log_process_name() {
    static constinit std::atomic<std::string (*)()> teller{
        [] { return std::string("MainProcess"); }};
    return teller;
}

}  // namespace detail

inline Logger& get_logger() {
    // Made before main and with nothing to destroy: logged to until the very end of the program.
    static constinit Logger logger;
    return logger;
}

inline std::string log_level_name(LogLevel level) {
    switch (level) {
        case LogLevel::notset:
            return "NOTSET";
        case LogLevel::subdebug:
            return "SUBDEBUG";
        case LogLevel::debug:
            return "DEBUG";
        case LogLevel::info:
            return "INFO";
        case LogLevel::subwarning:
            return "SUBWARNING";
        case LogLevel::warning:
            return "WARNING";
        case LogLevel::error:
            return "ERROR";
        case LogLevel::critical:
            return "CRITICAL";
    }
    return detail::text_of("Level {}", {static_cast<int>(level)});
}

inline std::string LogRecord::text() const {
    return detail::text_of("[{}/{}] {}", {log_level_name(level), process_name, message});
}

inline void Logger::hand_over(LogLevel level, std::string message) {
    if (const Handler* const handler = handler_.load(std::memory_order_acquire);
        handler != nullptr && handler->call) {
        handler->call({level, detail::log_process_name().load()(), std::move(message)});
    }
}

inline void set_log_handler(std::function<void(const LogRecord&)> handler) {
    Logger& logger = get_logger();
    logger.enabled_.store(static_cast<bool>(handler));
    auto* const entry = new Logger::Handler{std::move(handler), logger.handler_.load()};
    while (!logger.handler_.compare_exchange_weak(entry->replaced, entry)) {}
}

inline void log_to_stderr(LogLevel level) {
    get_logger().set_level(level);
    set_log_handler(
        [](const LogRecord& record) { detail::os::write_to_stderr(record.text() + "\n"); });
}

}  // namespace multiprocessing

// SPDX-License-Identifier: BSL-1.0

// Shows the pools and queues of running programs, as `top` shows processes.
//
//     mp-top [--once] [--interval SECONDS] [PID]
//
// The programs need to do nothing for it, and do not notice: what they share stands in files that
// are opened through /proc, for reading only. Who may debug a process may look into it.

#include "page.hpp"
#include "screen.hpp"

#include <fmt/core.h>

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <exception>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace mp_top {

constexpr std::string_view usage =
    "usage: mp-top [--once] [--interval SECONDS] [PID]\n"
    "Shows pools and queues of the program PID and its descendants; without PID, of all programs\n"
    "of this user. --once: one picture after one interval, as text.\n";

enum ExitCode { good = 0, failed = 1, misused = 2 };

struct Options {
    std::optional<pid_t> pid = {};
    bool once = false;
    double interval = 1;  // seconds
    bool help = false;
};

template <class Number>
bool parse(std::string_view text, Number& number) {
    const auto [end, error] = std::from_chars(text.begin(), text.end(), number);
    return error == std::errc() && end == text.end();
}

/// Returns nothing when it was called in another way than it can be.
std::optional<Options> options_of(int count, char** arguments) {
    Options options;
    for (int i = 1; i < count; ++i) {
        const std::string_view word = arguments[i];
        pid_t pid = 0;
        if (word == "--once") {
            options.once = true;
        } else if (word == "--help") {
            options.help = true;
        } else if (word == "--interval" && i + 1 < count) {
            const bool is_number = parse(std::string_view(arguments[++i]), options.interval);
            // A day at most, so that no conversion overflows; false for what is not a number, too.
            if (!is_number || !(options.interval >= 0.01 && options.interval <= 86'400)) {
                return std::nullopt;
            }
        } else if (!options.pid && parse(word, pid) && pid > 0) {
            options.pid = pid;
        } else {
            return std::nullopt;
        }
    }
    return options;
}

/// Looks again and again, and makes each picture.
class Watch {
  public:
    /// \throws std::runtime_error when there is no such process, or it may not be looked at.
    explicit Watch(std::optional<pid_t> root) : root_(root) {
        if (!root) { return; }
        const auto process = find_process(*root);
        if (!process || process->has_ended()) {
            throw std::runtime_error(fmt::format("there is no process {}", *root));
        }
        birth_ = process->start_time;
        if (!numbers_in(fmt::format("/proc/{}/fd", *root))) {
            throw std::runtime_error(
                fmt::format("cannot look into process {}: {}", *root, std::strerror(errno)));
        }
    }

    /// False when the process has ended that all this is about.
    bool look() {
        Processes all = all_processes();
        if (root_) {
            const auto root = all.find(*root_);
            if (root == all.end() || root->second.has_ended() ||
                root->second.start_time != birth_) {
                return false;
            }
        }
        const auto pids = root_ ? descendants(all, *root_) : processes_of_user(all);
        before_ = std::move(now_);
        now_ = std::make_unique<Snapshot>(mp_top::look(std::move(all), pids));
        times_.update(*now_);
        return true;
    }
    Page page() const { return draw({before_.get(), *now_, times_}, root_); }

  private:
    std::optional<pid_t> root_;
    std::uint64_t birth_ = 0;
    std::unique_ptr<Snapshot> before_, now_;  // null: not yet
    TaskTimes times_;
};

/// The signals that are waited for instead of being handled: so none comes between two lines.
class Signals {
  public:
    Signals() {
        ::sigemptyset(&set_);
        for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGWINCH}) {
            // Whoever started us may have had it ignored; nohup does.
            struct sigaction action {};
            ::sigaction(number, nullptr, &action);
            if (action.sa_handler != SIG_IGN) { ::sigaddset(&set_, number); }
        }
        ::sigprocmask(SIG_BLOCK, &set_, nullptr);
    }
    /// Waits until `end` or for a signal; returns its number, or 0.
    int wait(Clock::time_point end) const {
        const auto left = std::max(end - Clock::now(), Clock::duration(0));
        const auto whole = std::chrono::duration_cast<std::chrono::seconds>(left);
        const timespec time{.tv_sec = whole.count(), .tv_nsec = (left - whole).count()};
        return std::max(::sigtimedwait(&set_, nullptr, &time), 0);
    }

  private:
    sigset_t set_{};
};

/// Shows the page until `end`; false when the user has had enough, or cannot see it any more.
bool show_until(Clock::time_point end, const Page& page, std::optional<Screen>& screen,
                const Signals& signals) {
    if (!screen && !print(page)) { return false; }
    for (;;) {
        if (screen && !screen->show(page)) { return false; }
        const int number = signals.wait(end);
        if (number == SIGTSTP) {
            const bool had_screen = screen.has_value();
            screen.reset();
            ::raise(SIGSTOP);  // returns when we are to go on
            if (had_screen) { screen.emplace(); }
        } else if (number != SIGWINCH) {
            return number == 0;
        }
    }
}

void show_for_ever(Watch& watch, Clock::duration interval) {
    const Signals signals;
    std::optional<Screen> screen;
    if (terminal_size()) { screen.emplace(); }
    while (watch.look()) {
        const auto end = Clock::now() + interval;
        if (!show_until(end, watch.page(), screen, signals)) { return; }
    }
    screen.reset();
    fmt::print("the process has ended\n");
}

void show_once(Watch& watch, Clock::duration interval) {
    bool is_there = watch.look();
    std::this_thread::sleep_for(interval);
    is_there = is_there && watch.look();
    if (!is_there) { throw std::runtime_error("the process has ended"); }
    print(watch.page());
}

int run(int count, char** arguments) try {
    const auto options = options_of(count, arguments);
    if (!options || options->help) {
        fmt::print(options ? stdout : stderr, "{}", usage);
        return options ? good : misused;
    }
    const auto interval = std::chrono::duration_cast<Clock::duration>(Seconds(options->interval));
    Watch watch(options->pid);
    options->once ? show_once(watch, interval) : show_for_ever(watch, interval);
    return good;
} catch (const std::exception& error) {
    fmt::print(stderr, "mp-top: {}\n", error.what());
    return failed;
}

}  // namespace mp_top

int main(int argc, char** argv) { return mp_top::run(argc, argv); }

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A progress bar on standard error; plain lines where that is no terminal.
///
///     for (const Tile& tile : mp::progress(pool.imap(render, places), {.total = 400})) {
///     draw(tile); } auto words = pool.map({.progress = true}, count_words, files);
///
///     render:  43%|####3     | 172/400 [00:12<00:16, 14.2/s, 2 failed]

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/standard_error.hpp>
#include <multiprocessing/os/terminal.hpp>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <iterator>
#include <optional>
#include <ranges>
#include <string>
#include <type_traits>
#include <utility>

namespace multiprocessing {

/// What `progress` shows.
struct ProgressOptions {
    std::size_t total = 0;  ///< how many there are; 0: what the range says, if it knows
    std::string desc = {};  ///< stands before the bar
};

namespace detail {

/// How far something has come.
struct ProgressState {
    double done = 0;        ///< items; parts of those under way may be in it
    std::size_t total = 0;  ///< 0: nobody knows
    std::size_t failed = 0;
    std::chrono::duration<double> elapsed{0};
};

/// Returns the line that shows it, in so many columns. A template, as what follows: what it takes
/// to compile it is spent where there is a bar.
template <class Lazy = void>
std::string progress_line(const std::string& desc, const ProgressState& state, int width) {
    const auto clock = [](double seconds) {
        const auto whole = static_cast<long>(std::min(seconds, 359'999.0));
        const auto two = [](long number) {
            return std::string(number < 10 ? "0" : "") + std::to_string(number);
        };
        const std::string minutes = two(whole / 60 % 60) + ":" + two(whole % 60);
        return whole < 3600 ? minutes : std::to_string(whole / 3600) + ":" + minutes;
    };
    const auto decimal = [](double number) {
        if (number >= 100) { return std::to_string(static_cast<long>(number + 0.5)); }
        std::string text = std::to_string(number);
        return text.substr(0, text.find('.') + (number >= 10 ? 2 : 3));
    };
    const double rate = state.elapsed.count() > 0 ? state.done / state.elapsed.count() : 0;
    const std::string speed = rate <= 0   ? "?/s"
                              : rate >= 1 ? decimal(rate) + "/s"
                                          : decimal(1 / rate) + " s each";
    const std::string failed =
        state.failed == 0 ? "" : ", " + std::to_string(state.failed) + " failed";
    const std::string head = desc.empty() ? "" : desc + ": ";
    const std::string count = std::to_string(static_cast<std::size_t>(state.done));
    const std::string elapsed = clock(state.elapsed.count());
    if (state.total == 0) { return head + count + " [" + elapsed + ", " + speed + failed + "]"; }

    const double part = std::clamp(state.done / static_cast<double>(state.total), 0.0, 1.0);
    const std::string left =
        rate <= 0 ? "?" : clock((static_cast<double>(state.total) - state.done) / rate);
    std::string percent = std::to_string(static_cast<int>(part * 100));
    percent.insert(0, 3 - percent.size(), ' ');
    const std::string tail = "| " + count + "/" + std::to_string(state.total) + " [" + elapsed +
                             "<" + left + ", " + speed + failed + "]";
    const int room = width - static_cast<int>(head.size() + percent.size() + 2 + tail.size()) - 1;
    const auto length = static_cast<std::size_t>(std::clamp(room, 4, 40));
    const double filled = part * static_cast<double>(length);
    std::string bar(static_cast<std::size_t>(filled), '#');
    if (bar.size() < length) {
        const int tenth = static_cast<int>((filled - static_cast<int>(filled)) * 10);
        bar += tenth == 0 ? ' ' : static_cast<char>('0' + tenth);
    }
    bar.resize(length, ' ');
    return head + percent + "%|" + bar + tail;
}

/// Draws on standard error, as often as somebody can look.
/// \safety one thread.
template <class Lazy = void>
class ProgressBar {
    using Clock = std::chrono::steady_clock;

  public:
    ProgressBar(std::string desc, std::size_t total)
        : desc_(std::move(desc)), width_(os::terminal_width(STDERR_FILENO)) {
        state_.total = total;
    }
    ProgressBar(const ProgressBar&) = delete;
    ProgressBar& operator=(const ProgressBar&) = delete;
    /// Leaves the last state on a line of its own.
    ~ProgressBar() { finish(); }

    void update(double done, std::size_t failed = 0) {
        state_.done = done;
        state_.failed = failed;
        const auto now = Clock::now();
        state_.elapsed = now - begin_;
        if (now < next_) { return; }
        draw(width_ ? "" : "\n");
        next_ = now + (width_ ? Clock::duration(std::chrono::milliseconds(100))
                              : Clock::duration(std::chrono::seconds(10)));
    }
    void finish() {
        if (std::exchange(finished_, true)) { return; }
        state_.elapsed = Clock::now() - begin_;
        draw("\n");
    }

  private:
    void draw(const char* end) {
        try {
            std::string text = progress_line(desc_, state_, width_.value_or(80));
            // One call, so that lines of others stand before or behind it.
            os::write_to_stderr((width_ ? "\r" + text + "\x1b[K" : text) + end);
        } catch (const std::exception&) {
            // No memory for a line.
        }
    }

    std::string desc_;
    std::optional<int> width_;  // nothing: no terminal
    ProgressState state_;
    Clock::time_point begin_ = Clock::now();
    Clock::time_point next_ = begin_ + std::chrono::milliseconds(100);
    bool finished_ = false;
};

}  // namespace detail

/// What `progress` gives: the range's items, and a bar that moves with them.
/// \safety one thread.
template <std::ranges::view View>
class ProgressRange {
  public:
    ProgressRange(View view, ProgressOptions options) : view_(std::move(view)) {
        std::size_t total = options.total;
        if constexpr (std::ranges::sized_range<View>) {
            if (total == 0) { total = static_cast<std::size_t>(std::ranges::size(view_)); }
        }
        total_ = total;
        desc_ = std::move(options.desc);
    }

    class iterator {
      public:
        using iterator_concept = std::input_iterator_tag;
        using value_type = std::ranges::range_value_t<View>;
        using difference_type = std::ptrdiff_t;

        explicit iterator(ProgressRange* range)
            : range_(range), position_(std::ranges::begin(range->view_)) {}
        decltype(auto) operator*() const { return *position_; }
        iterator& operator++() {
            range_->bar_->update(static_cast<double>(++range_->done_));
            ++position_;
            return *this;
        }
        void operator++(int) { ++*this; }
        friend bool operator==(const iterator& it, std::default_sentinel_t) { return it.at_end(); }

      private:
        bool at_end() const {
            if (position_ != std::ranges::end(range_->view_)) { return false; }
            range_->bar_->finish();
            return true;
        }

        ProgressRange* range_;
        std::ranges::iterator_t<View> position_;
    };

    iterator begin() {
        bar_.emplace(desc_, total_);
        return iterator(this);
    }
    std::default_sentinel_t end() const noexcept { return {}; }

  private:
    View view_;
    std::size_t total_ = 0;
    std::string desc_;
    std::size_t done_ = 0;
    std::optional<detail::ProgressBar<std::void_t<View>>> bar_;
};

/// Returns the items of `range`, and shows on standard error how many of them have been gone
/// through: a bar on a terminal, else a line every ten seconds and one at the end.
template <std::ranges::input_range Range>
auto progress(Range&& range, ProgressOptions options = {}) {
    return ProgressRange<std::views::all_t<Range>>(std::views::all(std::forward<Range>(range)),
                                                   std::move(options));
}

}  // namespace multiprocessing

// SPDX-License-Identifier: BSL-1.0

// Progress bars: the line, when it is drawn and where, and what tasks say of themselves.

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/pools.hpp"

#include <multiprocessing/pool.hpp>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <ranges>
#include <string>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using mp::detail::progress_line;
using mp::detail::ProgressState;
using namespace std::chrono_literals;
using support::Cell;
using support::cell;
using support::numbers;

namespace {

const auto bound = 20s * support::slowness;

int square(int number) { return number * number; }
int even_only(int number) {
    if (number % 2 != 0) { throw mp::ValueError("odd"); }
    return number;
}
// Says that it is half done, and waits.
int half(int number) {
    mp::report_progress(5, 10);
    return support::held(number);
}

// Standard error is `fd` as long as this lives.
class StderrTo {
  public:
    explicit StderrTo(int fd) : kept_(::dup(STDERR_FILENO)) { ::dup2(fd, STDERR_FILENO); }
    StderrTo(const StderrTo&) = delete;
    StderrTo& operator=(const StderrTo&) = delete;
    ~StderrTo() {
        ::dup2(kept_, STDERR_FILENO);
        ::close(kept_);
    }

  private:
    int kept_;
};

// What `f` writes to standard error, which is a file.
template <class F>
std::string written(F f) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), &std::fclose);
    {
        const StderrTo redirected(::fileno(file.get()));
        f();
    }
    std::string text;
    char part[4096];
    for (ssize_t size; (size = ::pread(::fileno(file.get()), part, sizeof part,
                                       static_cast<off_t>(text.size()))) > 0;) {
        text.append(part, static_cast<std::size_t>(size));
    }
    return text;
}

// What `f` writes to standard error, which is a terminal of 100 columns.
template <class F>
std::string written_to_terminal(F f) {
    const int master = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    REQUIRE(master >= 0);
    REQUIRE(::grantpt(master) == 0);
    REQUIRE(::unlockpt(master) == 0);
    const int terminal = ::open(::ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    REQUIRE(terminal >= 0);
    struct winsize size {};
    size.ws_col = 100;
    ::ioctl(terminal, TIOCSWINSZ, &size);
    std::string text;
    std::jthread reader([&] {
        char part[4096];
        for (ssize_t count; (count = ::read(master, part, sizeof part)) > 0;) {
            text.append(part, static_cast<std::size_t>(count));
        }
    });
    {
        const StderrTo redirected(terminal);
        f();
    }
    ::close(terminal);
    reader.join();
    ::close(master);
    return text;
}

}  // namespace

TEST_CASE("the line shows part, count, times, rate and failures", "[pool]") {
    CHECK(progress_line("load", {.done = 50, .total = 100, .failed = 0, .elapsed = 10s}, 80) ==
          "load:  50%|###################                   | 50/100 [00:10<00:10, 5.00/s]");
    CHECK(progress_line("", {.done = 0, .total = 4, .failed = 0, .elapsed = 0s}, 60) ==
          "  0%|                                  | 0/4 [00:00<?, ?/s]");
    CHECK(progress_line("", {.done = 4, .total = 4, .failed = 1, .elapsed = 3725s}, 70) ==
          "100%|#####################| 4/4 [1:02:05<00:00, 931 s each, 1 failed]");
    CHECK(progress_line("x", {.done = 12, .total = 0, .failed = 0, .elapsed = 2s}, 80) ==
          "x: 12 [00:02, 6.00/s]");
    for (const int width : {1, 20, 40, 80, 200, 1000}) {
        const auto line =
            progress_line("", {.done = 3.7, .total = 9, .failed = 0, .elapsed = 1s}, width);
        CAPTURE(width, line);
        CHECK(line.size() <= static_cast<std::size_t>(std::max(width, 45)));
        CHECK(line.size() < 90);
    }
}

POOL_TEST_CASE("map draws a bar, and gives what it gives without", "[pool]") {
    Pool pool(2);
    std::vector<int> squares;
    const std::string text =
        written([&] { squares = pool.map({.progress = true}, square, numbers(10)); });
    CHECK(squares.back() == 81);
    CHECK_THAT(text, support::contains("100%|"));
    CHECK_THAT(text, support::contains("10/10"));
    CHECK(text.ends_with("]\n"));
    CHECK(text.find('\r') == std::string::npos);
    // Failures are counted, of each item where there are outcomes.
    const std::string failures = written(
        [&] { static_cast<void>(pool.map_outcome({.progress = true}, even_only, numbers(10))); });
    CHECK_THAT(failures, support::contains("5 failed"));
    const std::string thrown = written([&] {
        CHECK_THROWS_AS(pool.map({.progress = true, .chunksize = 1}, even_only, numbers(4)),
                        mp::ValueError);
    });
    CHECK_THAT(thrown, support::contains("2 failed"));
}

TEST_CASE("on a terminal the bar stays on its line, as wide as that is", "[pool]") {
    mp::Pool pool(2);
    const std::string text = written_to_terminal([&] {
        pool.map(
            {.progress = true, .chunksize = 1},
            +[](int number) {
                std::this_thread::sleep_for(20ms);
                return number;
            },
            numbers(30));
    });
    CHECK_THAT(text, support::contains("\r"));
    CHECK_THAT(text, support::contains("\x1b[K"));
    CHECK_THAT(text, support::contains("30/30"));
    const std::size_t last = text.rfind('\r', text.size() - 3);
    CHECK(text.size() - last <= 106);
    CHECK(std::count(text.begin(), text.end(), '%') >= 3);
}

TEST_CASE("progress goes through any range", "[pool]") {
    int sum = 0;
    std::string text = written([&] {
        for (const int number : mp::progress(numbers(5), {.desc = "sum"})) { sum += number; }
    });
    CHECK(sum == 10);
    CHECK_THAT(text, support::contains("sum: 100%|"));
    mp::Pool pool(2);
    sum = 0;
    text = written([&] {
        for (const int each : mp::progress(pool.imap_unordered(square, numbers(5)), {.total = 5})) {
            sum += each;
        }
    });
    CHECK(sum == 30);
    CHECK_THAT(text, support::contains("5/5"));
    text = written([&] {
        for (const int number : mp::progress(std::views::iota(0), {.desc = "endless"})) {
            if (number == 3) { break; }
        }
    });
    CHECK_THAT(text, support::contains("endless: 3 ["));
}

TEST_CASE("a task says how far it has come", "[pool]") {
    support::reset_cells();
    mp::Pool pool(1);
    const auto result = pool.apply_async(half, 1);
    REQUIRE(support::have_started(1));
    CHECK(result.progress().done == 5);
    CHECK(result.progress().total == 10);
    cell(Cell::release) = 1;
    CHECK(result.get(bound) == 1);
    CHECK(result.progress().done == 1);
    CHECK(result.progress().total == 1);
    // The next one says nothing of itself.
    support::reset_cells();
    const auto silent = pool.apply_async(support::held, 1);
    REQUIRE(support::have_started(1));
    CHECK(silent.progress().done == 0);
    CHECK(silent.progress().total == 1);
    cell(Cell::release) = 1;
}

// SPDX-License-Identifier: BSL-1.0

// Traces: what is written, and that it is what Perfetto and chrome://tracing read.

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/forked.hpp"
#include "support/pools.hpp"

#include <multiprocessing/pool.hpp>

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

int render(int number) { return number; }
int fail(int) { throw mp::ValueError("wrong"); }
int die(int) {
    ::raise(SIGKILL);
    return 0;
}

std::string text_of_file(const std::filesystem::path& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}
std::size_t count(const std::string& text, const std::string& part) {
    std::size_t found = 0;
    for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1)) { ++found; }
    return found;
}

// A path for a file that goes with this.
class File {
  public:
    File()
        : path_(std::filesystem::temp_directory_path() /
                ("mp-trace-" + std::to_string(::getpid()) + ".json")) {}
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File() { std::filesystem::remove(path_); }
    std::string path() const { return path_.string(); }
    std::string text() const { return text_of_file(path_); }
    // Tells whether Python reads it as JSON, which is what the viewers do.
    bool is_json() const {
        return std::system(
                   ("python3 -c 'import json,sys; json.load(open(sys.argv[1]))' " + path_.string())
                       .c_str()) == 0;
    }

  private:
    std::filesystem::path path_;
};

}  // namespace

TEST_CASE("a trace has each task, its worker and its end", "[pool]") {
    const File file;
    mp::Pool earlier(1);
    mp::trace::start(file.path());
    CHECK(earlier.apply(render, 1) == 1);
    {
        mp::Pool pool({.processes = 2, .name = "tiles \"quoted\""});
        std::vector<int> numbers(20);
        pool.map(render, numbers, 2);
        CHECK_THROWS_AS(pool.apply({.name = "the named one"}, fail, 1), mp::ValueError);
        CHECK_THROWS_AS(pool.apply(die, 1), mp::WorkerDiedError);
        CHECK_THROWS_AS(pool.apply(
                            {.timeout = 50ms},
                            +[](int) {
                                std::this_thread::sleep_for(60s);
                                return 0;
                            },
                            1),
                        mp::TimeoutError);
    }
    mp::trace::stop();
    CHECK(earlier.apply(render, 1) == 1);
    const std::string text = file.text();
    CHECK(file.is_json());
    CHECK(count(text, "::render(int)\"") == 11);
    CHECK(count(text, "\"items\":\"2\"") == 10);
    CHECK_THAT(text, support::contains("tiles \\\"quoted\\\""));
    CHECK_THAT(text, support::contains("\"the named one\""));
    CHECK_THAT(text, support::contains("with an error"));
    CHECK_THAT(text, support::contains("was ended by SIGKILL"));
    CHECK_THAT(text, support::contains("by its time-out"));
    CHECK_THAT(text, support::contains("worker 2 (pid "));
    // Each pool is a group of rows.
    CHECK_THAT(text, support::contains("\"tid\":2"));
}

TEST_CASE("a trace that cannot be written is an error", "[pool]") {
    CHECK_THROWS_AS(mp::trace::start("/nowhere/run.json"), mp::OSError);
    mp::trace::stop();
}

TEST_CASE("a trace is there although the program did not come to its end", "[pool]") {
    const File file;
    support::Forked program([&] {
        mp::trace::start(file.path());
        mp::Pool pool(1);
        pool.apply(render, 1);
        ::_exit(3);
        return 0;
    });
    CHECK(program.join() == 3);
    const std::string text = file.text();
    CHECK(text.starts_with("["));
    CHECK_THAT(text, support::contains("::render(int)\""));
    CHECK(text.ends_with(",\n"));  // the viewers do without the end
}

TEST_CASE("without a trace nothing is written", "[pool]") {
    const File file;
    mp::Pool pool(1);
    pool.apply(render, 1);
    CHECK(file.text().empty());
}

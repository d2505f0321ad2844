// SPDX-License-Identifier: BSL-1.0

// What becomes of text in buffers, seen from outside: programs/life.cpp.

#include "observe.hpp"
#include "support/catch.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace {

const std::string program = "process_life";
const std::string statics = "a static of the parent is destroyed\n";

// A file that goes with the test.
class TemporaryFile {
  public:
    TemporaryFile() {
        char name[] = "/tmp/multiprocessing-test-XXXXXX";
        ::close(::mkstemp(name));
        path_ = name;
    }
    ~TemporaryFile() { std::filesystem::remove(path_); }

    const std::string& path() const { return path_; }
    std::string contents() const {
        std::ifstream file(path_);
        return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    }

  private:
    std::string path_;
};

}  // namespace

TEST_CASE("what parent and child wrote comes out once, whatever buffer held it", "[process]") {
    const auto [how, code] =
        GENERATE(table<std::string, int>({{"return", 0}, {"exit", 5}, {"throw", 1}}));
    const TemporaryFile file;
    const auto life = observe::run_program(program, {"buffers_" + how, file.path()});
    CHECK(life.exitcode == code);
    for (const std::string stream : {"printf", "cout"}) {
        for (const std::string when : {" before\n", " in the child\n", " after\n"}) {
            CAPTURE(stream + when, life.out);
            CHECK(observe::count(life.out, stream + when) == 1);
        }
        CHECK(life.out.find(stream + " before") < life.out.find(stream + " in the child"));
        CHECK(life.out.find(stream + " in the child") < life.out.find(stream + " after"));
    }
    CHECK(observe::count(life.err, "clog before\n") == 1);
    CHECK(observe::count(life.err, "clog in the child\n") == 1);
    CHECK(observe::count(life.err, "std::runtime_error: thrown\n") == (how == "throw" ? 1 : 0));
    // The parent's own file is flushed at its end; what the child wrote is there before.
    const std::string text = file.contents();
    CAPTURE(text);
    CHECK(text.size() == std::string("file in the child\n"
                                     "own file of the child\n"
                                     "file before\n"
                                     "file after\n")
                             .size());
    for (const std::string line :
         {"file in the child\n", "own file of the child\n", "file before\nfile after\n"}) {
        CHECK(observe::count(text, line) == 1);
    }
}

TEST_CASE("a stream in memory goes on in the child with what it held", "[process]") {
    const auto life = observe::run_program(program, {"memory_stream"});
    CHECK(life.exitcode == 0);
    CHECK(life.out == "before, in the child\n" + statics);
}

TEST_CASE("a start does not wait for a thread that reads standard input", "[process]") {
    const auto life = observe::run_program(program, {"start_while_a_thread_reads"});
    CHECK(life.exitcode == 0);
    CHECK(life.out == "the child's input is at its end\njoined\n");
}

TEST_CASE("the child's standard input is at its end, whatever its parent had read ahead",
          "[process]") {
    const std::string by = GENERATE("stdio", "cin");
    const auto life =
        observe::run_program(program, {"input_read_ahead_" + by}, "one\ntwo\nthree\n");
    CHECK(life.exitcode == 0);
    CHECK(life.out == "main reads one\nchild reads END\nmain reads two\n" + statics);
}

TEST_CASE("the child's standard input is /dev/null also when the parent has none", "[process]") {
    const auto life = observe::run_program(program, {"standard_input_closed"});
    CHECK(life.exitcode == 0);
    CHECK(life.err == "");
}

TEST_CASE("a closed standard stream is no failure", "[process]") {
    const std::string fd = GENERATE("1", "2");
    const std::string where = GENERATE("closed_in_parent", "closed_in_child");
    const auto life = observe::run_program(program, {where, fd});
    CHECK(life.exitcode == 0);
    CHECK(life.out.find("to stdout\n") == (fd == "1" ? life.out.npos : 0U));
    CHECK(observe::count(life.err, "to stderr\n") == (fd == "2" ? 0 : 1));
}

TEST_CASE("a stream that throws when it cannot be flushed does not change the exit code",
          "[process]") {
    CHECK(observe::run_program(program, {"throwing_cout"}).exitcode == 0);
}

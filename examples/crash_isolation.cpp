// SPDX-License-Identifier: BSL-1.0

// Parses a set of files with a parser that is not up to some of them: it fails, it runs into memory
// that is not there, it never ends, it calls abort(). Each costs its own file and nothing else.
//
// Prints a table: the file, and what came of it.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

struct File {
    std::string name;
    std::string text;
};

struct Node {
    Node* next = nullptr;
    int value = 0;
};

// What the parser does with a letter that it was not made for.
Node* find_node(char letter) { return letter == '*' ? nullptr : new Node; }

// Adds up the numbers in a file: a parser like many, which takes its input on trust.
int parse(const File& file) {
    int sum = 0;
    for (std::size_t at = 0; at < file.text.size(); ++at) {
        const char letter = file.text[at];
        if (letter >= '0' && letter <= '9') { sum += letter - '0'; }
        if (letter == '?') { throw std::invalid_argument("a question mark in " + file.name); }
        if (letter == '!') {
            std::cerr << "parser: assertion failed: no exclamation marks\n";
            std::abort();
        }
        if (letter == '*') { sum += find_node(letter)->value; }
        if (letter == '~') { at = 0; }  // and so for ever
    }
    return sum;
}

std::string describe(std::exception_ptr error) {
    try {
        std::rethrow_exception(error);
    } catch (const mp::WorkerDiedError& death) {
        std::string text = "crashed: " + death.signal_name();
        if (!death.stderr_tail().empty()) { text += ", having said: " + death.stderr_tail(); }
        while (text.back() == '\n') { text.pop_back(); }
        return text;
    } catch (const mp::TimeoutError&) {
        return "did not end in time";
    } catch (const std::exception& other) {
        return std::string("failed: ") + dynamic_cast<const mp::RemoteError&>(other).message();
    }
}

int main() {
    const std::vector<File> files = {
        {"good.txt", "1 2 3"},    {"question.txt", "4 5 ?"}, {"wild.txt", "6 * 7"},
        {"empty.txt", ""},        {"endless.txt", "8 ~ 9"},  {"shouting.txt", "1 ! 2"},
        {"long.txt", "99 99 99"},
    };
    mp::Pool pool(2);
    const auto outcomes = pool.map_outcome({.timeout = 500ms}, parse, files);
    for (std::size_t i = 0; i < files.size(); ++i) {
        fmt::print(
            "{:14} {}\n", files[i].name,
            outcomes[i] ? fmt::format("sum {}", *outcomes[i]) : describe(outcomes[i].error()));
    }
    fmt::print("the pool has {} workers and goes on: {}\n", pool.processes(),
               pool.apply(parse, files[0]));
}

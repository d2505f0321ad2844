// SPDX-License-Identifier: BSL-1.0

// A pipe between two processes: both can send and receive, and both see the other one go.
//
// Prints what the child received, what the parent received, and that the child has hung up.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <cstdio>
#include <string>
#include <vector>

namespace mp = multiprocessing;

struct Greeting {  // any plain struct can be sent
    int number;
    std::string text;
};

void child_main(mp::Connection connection) {
    const auto [number, text] = connection.recv<Greeting>();
    fmt::print("child: received {} and {}\n", number, text);
    std::fflush(stdout);
    connection.send(std::vector{number, number + 1, number + 2});
    connection.close();
}

int main() {
    auto [parent_end, child_end] = mp::Pipe();
    mp::Process child(child_main, child_end);
    child.start();
    child_end.close();  // the child has its own; with this one open there would be no end of file

    parent_end.send(Greeting{42, "hello"});
    fmt::print("parent: received");
    for (const int number : parent_end.recv<std::vector<int>>()) { fmt::print(" {}", number); }
    fmt::print("\n");
    try {
        parent_end.recv<int>();
    } catch (const mp::EOFError&) { fmt::print("parent: the child has hung up\n"); }
    child.join();
}

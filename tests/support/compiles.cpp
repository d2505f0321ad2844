// SPDX-License-Identifier: BSL-1.0

// The control of compile_fail/: with the same command, what is right compiles.

#include <multiprocessing.hpp>

#include <string>
#include <vector>

struct Ticket {
    int id = 0;
    std::string who;
};

int main() {
    const std::vector<Ticket> tickets = {{1, "Ada"}};
    const auto bytes = multiprocessing::dumps(tickets);
    return static_cast<int>(multiprocessing::loads<std::vector<Ticket>>(bytes).size()) - 1;
}

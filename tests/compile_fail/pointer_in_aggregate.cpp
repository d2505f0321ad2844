// expect: (?s)(?=.*a raw pointer cannot be sent to another process)(?=.*explain.*Ticket)(?=.*explain.*const char ?\*)
// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing/serialize.hpp>

#include <vector>

struct Ticket {
    int id;
    const char* who;
};

int main() { multiprocessing::dumps(std::vector<Ticket>{{1, "Ada"}}); }

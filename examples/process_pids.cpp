// SPDX-License-Identifier: BSL-1.0

// Who is who: process ids, names, the parent and the children.
//
// Prints the main process, one line for each child with its own id and its parent's, and what the
// main process knows of its children while they run and when they have ended.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <cstddef>
#include <vector>

namespace mp = multiprocessing;

void introduce(mp::Event may_leave) {
    const auto me = mp::current_process();
    const auto parent = mp::parent_process().value();
    fmt::print("{}: pid {}, a child of {}, pid {}\n",  //
               me.name(), me.pid(), parent.name(), parent.pid());
    may_leave.wait();
}

int main() {
    const auto me = mp::current_process();
    fmt::print("{}: pid {}, started by this library: {}\n",  //
               me.name(), me.pid(), mp::parent_process() ? "yes" : "no");

    mp::Event may_leave;
    std::vector<mp::Process> children;
    for (int i = 0; i < 2; ++i) { children.emplace_back(introduce, may_leave); }
    for (mp::Process& child : children) { child.start(); }
    const std::size_t running = mp::active_children().size();
    may_leave.set();
    for (mp::Process& child : children) { child.join(); }

    for (const mp::Process& child : children) {
        fmt::print("{} was pid {}, is alive: {}\n",  //
                   child.name(), child.pid().value(), child.is_alive() ? "yes" : "no");
    }
    fmt::print("active children: {}, and {} when all were joined\n",  //
               running, mp::active_children().size());
}

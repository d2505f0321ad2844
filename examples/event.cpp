// SPDX-License-Identifier: BSL-1.0

// An event that processes wait for: one gives up after a while, the other waits until it is set.
//
// Prints that the first one went without, then that the event is set, then that the second one
// goes.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <chrono>
#include <cstdio>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

void impatient(mp::Event event) {
    fmt::print("impatient: the event is set: {}\n", event.wait(100ms) ? "yes" : "no");
}

void patient(mp::Event event) {
    event.wait();
    fmt::print("patient: the event is set: {}\n", event.is_set() ? "yes" : "no");
}

int main() {
    mp::Event event;
    mp::Process waiting(patient, event);
    waiting.start();
    mp::Process leaving(impatient, event);
    leaving.start();
    leaving.join();
    fmt::print("main: sets the event\n");
    std::fflush(stdout);
    event.set();
    waiting.join();
}

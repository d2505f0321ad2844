// SPDX-License-Identifier: BSL-1.0

// A class that is a process: derive from Process and override run().
//
// Prints a countdown from the child, then the exit code that the child chose.

#include <multiprocessing.hpp>

#include <fmt/core.h>

namespace mp = multiprocessing;

class Countdown : public mp::Process {
  public:
    explicit Countdown(int first) : mp::Process({.name = "countdown"}), first_(first) {}

    void run() override {
        for (int number = first_; number > 0; --number) { fmt::print("{}: {}\n", name(), number); }
        throw mp::SystemExit(first_);
    }

  private:
    int first_;
};

int main() {
    Countdown countdown(3);
    countdown.start();
    countdown.join();
    fmt::print("exit code {}\n", countdown.exitcode().value());
}

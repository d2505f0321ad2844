// SPDX-License-Identifier: BSL-1.0

// Starting a process that does nothing, and joining it.
//
//     bench_start ours|fork ROUNDS      prints microseconds a round

#include "harness.hpp"

#include <multiprocessing.hpp>

#include <sys/wait.h>

#include <string_view>

namespace mp = multiprocessing;

int main(int argc, char** argv) {
    if (argc != 3) { return 2; }
    const int rounds = std::atoi(argv[2]);
    const bool ours = std::string_view(argv[1]) == "ours";
    const auto begin = bench::clock::now();
    for (int i = 0; i < rounds; ++i) {
        if (ours) {
            mp::Process process([] {});
            process.start();
            process.join();
        } else {
            const pid_t pid = fork();
            if (pid == 0) { _exit(0); }
            waitpid(pid, nullptr, 0);
        }
    }
    bench::report(bench::seconds_since(begin) / rounds * 1e6, "us");
}

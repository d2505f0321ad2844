// SPDX-License-Identifier: BSL-1.0

// One of the six cases, or with no argument their names and what they are; for tools/six_hangs.

#include "lifetime/six_hangs.hpp"

#include <cstdio>
#include <string>

int main(int argc, char** argv) {
    for (const lifetime::Hang& each : lifetime::six_hangs) {
        if (argc < 2) {
            std::printf("%s\t%s\n", each.name, each.what);
        } else if (argv[1] == std::string(each.name)) {
            each.run();
            return 0;
        }
    }
    return argc < 2 ? 0 : 2;
}

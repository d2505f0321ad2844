// expect: only classes derived from std::exception can be registered
// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing/serialize/exception.hpp>

struct Oversold {
    int seats;
};

MULTIPROCESSING_EXCEPTION(Oversold);

int main() {}

// SPDX-License-Identifier: BSL-1.0

// A pool of two workers, one call at a time: `apply` waits for the result.
//
// Prints what each call returned, and that it ran in another process.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <unistd.h>

namespace mp = multiprocessing;

int power(int base, int exponent) {
    int result = 1;
    for (int i = 0; i < exponent; ++i) { result *= base; }
    return result;
}

int main() {
    mp::Pool pool(2);
    for (int exponent = 1; exponent <= 4; ++exponent) {
        fmt::print("3 to the power of {}: {}\n", exponent, pool.apply(power, 3, exponent));
    }
    fmt::print("ran here: {}\n", pool.apply(getpid) == getpid() ? "yes" : "no");
}

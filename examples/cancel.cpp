// SPDX-License-Identifier: BSL-1.0

// Several ways to an answer are tried at once; the first that has it ends the others.
//
// The searchers take a std::stop_token: they hear that they are cancelled, and tidy up. One does
// not listen, and is ended all the same.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <chrono>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

// How many searchers have tidied up. Made before the pool, whose workers then have it too.
mp::Value<int>& tidied() {
    static mp::Value<int> count(0);
    return count;
}

// Looks for a divisor in steps of its own.
long search(long number, long first, long step, std::stop_token stop) {
    for (long divisor = first; !stop.stop_requested(); divisor += step) {
        if (number % divisor == 0) { return divisor; }
        std::this_thread::sleep_for(20us);
    }
    tidied() += 1;
    return 0;
}

long never_listens(long, long, long, std::stop_token) {
    for (;;) { std::this_thread::sleep_for(1h); }
}

int main() {
    const long number = 1'000'003L * 10'007;
    tidied();
    mp::Pool pool(4);
    std::vector<mp::AsyncResult<long>> searches = {
        // Only the first can come to 10,007 soon.
        pool.apply_async(search, number, 10'007L - 200 * 2, 2L),
        pool.apply_async(search, number, 2L, 1'000'003L),
        pool.apply_async(search, number, 4L, 1'000'003L * 2),
        pool.apply_async(never_listens, number, 0L, 0L),
    };
    fmt::print("the first has found {}\n", searches[0].get());
    for (std::size_t i = 1; i < searches.size(); ++i) { searches[i].cancel(); }
    for (std::size_t i = 1; i < searches.size(); ++i) {
        try {
            searches[i].get();
        } catch (const mp::CancelledError&) { fmt::print("search {} is cancelled\n", i); }
    }
    pool.close();
    pool.join();  // who does not listen is ended after a second
    fmt::print("{} have tidied up\n", tidied().value());
}

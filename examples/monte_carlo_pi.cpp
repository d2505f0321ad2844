// SPDX-License-Identifier: BSL-1.0

// Estimates pi by throwing points at a square, with random numbers that are the same in every run:
// each task has a seed of its own, whichever worker runs it and however many there are.
//
//     monte_carlo_pi [POINTS]

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <random>
#include <vector>

namespace mp = multiprocessing;

std::int64_t points_in_circle(std::int64_t points) {
    std::mt19937_64 random(mp::task_seed());
    std::uniform_real_distribution<double> coordinate(-1, 1);
    std::int64_t inside = 0;
    for (std::int64_t i = 0; i < points; ++i) {
        const double x = coordinate(random);
        const double y = coordinate(random);
        inside += x * x + y * y < 1 ? 1 : 0;
    }
    return inside;
}

double estimate(int workers, std::int64_t points) {
    mp::Pool pool({.processes = workers, .seed = 2026});
    const std::vector<std::int64_t> parts(64, points / 64);
    const auto inside = pool.map(points_in_circle, parts);
    return 4.0 *
           static_cast<double>(std::accumulate(inside.begin(), inside.end(), std::int64_t{0})) /
           static_cast<double>(points / 64 * 64);
}

int main(int argc, char** argv) {
    const std::int64_t points = argc > 1 ? std::atoll(argv[1]) : 2'000'000;
    const double alone = estimate(1, points);
    fmt::print("pi is about {:.6f}\n", alone);
    for (const int workers : {2, 3, 4}) {
        fmt::print("with {} workers: {}\n", workers,
                   estimate(workers, points) == alone ? "the same" : "another");
    }
}

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Numerical libraries start a thread for every processor, in every worker: a pool of eight on
/// eight processors would have sixty-four. A worker's libraries get the worker's share instead.

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <initializer_list>
#include <string>

namespace multiprocessing::detail {

/// Tells the numerical libraries of this process, and of those that it will fork, to use so many
/// threads each. What the environment says already stands. For a process with one thread.
/// \returns the variables that were set, for tests.
inline int limit_numeric_threads(int threads) {
    const std::string number = std::to_string(std::max(1, threads));
    int set = 0;
    for (const char* const name : {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
                                   "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS"}) {
        if (std::getenv(name) == nullptr && ::setenv(name, number.c_str(), 0) == 0) { ++set; }
    }
    // A library that is loaded has read its variable already.
    if (set != 0) {
        for (const char* const name : {"omp_set_num_threads", "openblas_set_num_threads"}) {
            if (void* const function = ::dlsym(RTLD_DEFAULT, name)) {
                reinterpret_cast<void (*)(int)>(function)(std::max(1, threads));
            }
        }
    }
    return set;
}

}  // namespace multiprocessing::detail

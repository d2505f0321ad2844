// expect: (?s)(?=.*a reference cannot be sent to another process)(?=.*Send the object by value)(?=.*explain.*long( int)? ?&)
// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing/serialize.hpp>

#include <tuple>

int main() {
    long number = 5;
    multiprocessing::dumps(std::tuple<int, long&>(1, number));
}

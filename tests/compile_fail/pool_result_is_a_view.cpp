// expect: a view \(std::string_view, std::span\) cannot be sent to another process
// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing/pool.hpp>

#include <string_view>

std::string_view name(int) { return "name"; }

int main() {
    multiprocessing::Pool pool(1);
    pool.apply(name, 1);
}

// expect: the function cannot be called with an item of the range
// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing/pool.hpp>

#include <string>

int length(const std::string& text) { return static_cast<int>(text.size()); }

int main() {
    multiprocessing::Pool pool(1);
    pool.map(length, {1, 2});
}

// expect: (?s)(?=.*a lambda with captures cannot be sent)(?=.*as an argument)(?=.*parallel_map)
// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing/pool.hpp>

int main() {
    int factor = 2;
    multiprocessing::Pool pool(1);
    pool.map([factor](int x) { return factor * x; }, {1, 2});
}

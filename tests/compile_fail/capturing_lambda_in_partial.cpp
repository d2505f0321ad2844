// expect: (?s)(?=.*a lambda with captures cannot be sent)(?=.*mp::by_value)(?=.*explain.*lambda)
// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing/serialize.hpp>

int main() {
    int factor = 3;
    auto scale = multiprocessing::partial([factor](int x) { return factor * x; }, 2);
    multiprocessing::dumps(scale);
}

// expect: (?s)(?=.*a lambda with captures cannot be sent)(?=.*mp::partial)(?=.*mp::by_value)(?=.*mp::parallel_map)(?=.*explain.*lambda)
// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing/serialize.hpp>

int main() {
    int factor = 3;
    auto scale = [factor](int x) { return factor * x; };
    multiprocessing::detail::check_sendable_callable<decltype(scale)>();
}

// expect: (?s)(?=.*a pointer to a function or member cannot be sent as a value)(?=.*explain.*int ?\(\*\)\(int\))
// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing/serialize.hpp>

#include <vector>

int twice(int x) { return 2 * x; }

int main() { multiprocessing::dumps(std::vector<int (*)(int)>{twice}); }

// expect: (?s)(?=.*a raw pointer cannot be sent to another process)(?=.*explain.*double ?\*)
// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing/serialize.hpp>

#include <optional>

int main() { multiprocessing::loads<std::optional<double*>>({}); }

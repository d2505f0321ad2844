// expect: (?s)(?=.*by_value)(?=.*is_trivially_copyable)
// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing/serialize.hpp>

#include <string>

int main() {
    std::string text = "text";
    multiprocessing::by_value([text] { return text; });
}

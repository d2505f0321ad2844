// expect: (?s)(?=.*a view \(std::string_view, std::span\) cannot be sent)(?=.*std::vector or std::array)(?=.*explain.*std::span<int)
// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing/serialize.hpp>

#include <map>
#include <span>

int main() {
    std::map<int, std::span<int>> views;
    multiprocessing::dumps(views);
}

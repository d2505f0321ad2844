// expect: (?s)(?=.*a view \(std::string_view, std::span\) cannot be sent)(?=.*Send a std::string)(?=.*explain.*basic_string_view)
// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing/serialize.hpp>

#include <string_view>

int main() { multiprocessing::dumps(std::string_view("text")); }

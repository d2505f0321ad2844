// expect: (?s)(?=.*must be trivially copyable)(?=.*through a Queue)
// SPDX-License-Identifier: BSL-1.0
#include <multiprocessing/sharedctypes.hpp>

#include <string>

int main() { const multiprocessing::Value<std::string> name; }

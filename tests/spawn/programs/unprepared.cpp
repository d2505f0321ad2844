// SPDX-License-Identifier: BSL-1.0

// A program that does not begin as it should: `plain` never calls freeze_support(), `late` starts a
// process before it does, in every image.

#include <multiprocessing.hpp>

#include <cstdio>
#include <exception>
#include <string_view>

namespace mp = multiprocessing;

namespace {

void start() {
    try {
        mp::Process child({.start_method = "spawn"}, [] { std::puts("two levels"); });
        child.start();
        child.join();
    } catch (const std::exception& error) { std::printf("%s\n", error.what()); }
}

}  // namespace

int main(int argc, char** argv) {
    const std::string_view what = argc > 1 ? argv[1] : "";
    if (what == "plain") {
        start();
        return 0;
    }
    if (what != "late") { start(); }  // the image of a child, which has arguments of its own
    mp::freeze_support();
    start();
    return 0;
}

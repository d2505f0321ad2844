// SPDX-License-Identifier: BSL-1.0

// The same function in children that come to be in three ways. A copy of this process sees what its
// global variable is by now; a fresh image sees what the program starts with.

#include <multiprocessing.hpp>

#include <cstdio>
#include <string>
#include <vector>

namespace mp = multiprocessing;

namespace {

std::string greeting = "as the program starts";

void tell(mp::Queue<std::string> to, const std::vector<int>& numbers) {
    to.put(greeting + ", " + std::to_string(numbers.size()) + " numbers");
}

}  // namespace

int main() {
    mp::freeze_support();
    greeting = "as it is now";
    for (const std::string& method : mp::get_all_start_methods()) {
        const auto ctx = mp::get_context(method);
        auto queue = ctx.Queue<std::string>();
        auto process = ctx.Process(tell, queue, std::vector{1, 2, 3});
        process.start();
        std::printf("%s: %s\n", method.c_str(), queue.get().c_str());
        process.join();
    }
    return 0;
}

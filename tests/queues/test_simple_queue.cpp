// SPDX-License-Identifier: BSL-1.0

#include "support/bounds.hpp"
#include "support/catch.hpp"

#include <multiprocessing/process.hpp>
#include <multiprocessing/queues.hpp>

#include <chrono>
#include <string>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

TEST_CASE("a simple queue puts and gets") {
    const mp::SimpleQueue<std::string> queue;
    const mp::SimpleQueue<int> lengths;
    mp::Process child([=] {
        for (;;) {
            const std::string text = queue.get();
            lengths.put(static_cast<int>(text.size()));
            if (text.empty()) { return; }
        }
    });
    child.start();
    queue.put("abc");
    CHECK(lengths.get() == 3);
    queue.put(std::string(10'000'000, 'x'));
    CHECK(lengths.get() == 10'000'000);
    queue.put("");
    CHECK(lengths.get() == 0);
    CHECK(child.join(20s));
    CHECK(queue.empty());
    queue.close();
    queue.close();
    CHECK_THROWS_AS(queue.put("x"), mp::ValueError);
    CHECK_THROWS_AS(queue.get(), mp::ValueError);
    CHECK_THROWS_AS(queue.empty(), mp::ValueError);
}

// SPDX-License-Identifier: BSL-1.0

// Where Python waits for ever this library goes on. tools/six_hangs shows both side by side.

#include "six_hangs.hpp"

#include "support/bounds.hpp"
#include "support/catch.hpp"

using namespace std::chrono_literals;

TEST_CASE("the six cases in which Python hangs are got over in a moment", "[lifetime]") {
    for (const lifetime::Hang& each : lifetime::six_hangs) {
        CAPTURE(each.name);
        CHECK(support::timed([&] {
                  REQUIRE_NOTHROW(each.run());
                  return 0;
              }) < 2s * support::slowness);
    }
}

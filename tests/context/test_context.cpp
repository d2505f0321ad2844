// SPDX-License-Identifier: BSL-1.0

// Start methods: the one that is here, and clear words for those that are not.

#include <multiprocessing/context.hpp>

#include <string>
#include <vector>

#include <support/catch.hpp>

namespace mp = multiprocessing;

TEST_CASE("fork is the start method; another is refused by name") {
    mp::freeze_support();
    CHECK(mp::get_all_start_methods() == std::vector<std::string>{"fork"});
    mp::set_start_method("fork", true);
    CHECK(mp::get_start_method() == "fork");
    CHECK_THROWS_AS(mp::set_start_method("fork"), mp::ProcessError);
    CHECK_THROWS_AS(mp::set_start_method("spawn", true), mp::ProcessError);
    CHECK_THROWS_AS(mp::set_start_method("forkserver", true), mp::ProcessError);
    CHECK_THROWS_AS(mp::set_start_method("vfork", true), mp::ValueError);
    CHECK(mp::get_start_method() == "fork");
}

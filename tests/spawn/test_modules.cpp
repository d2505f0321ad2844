// SPDX-License-Identifier: BSL-1.0

// Places in modules: found again in any process of the program, and never somewhere else.

#include "support/catch.hpp"

#include <multiprocessing/os/modules.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

namespace os = multiprocessing::detail::os;

namespace {

int function_here() { return 1; }
const int number_here = 5;
int variable_here = 6;

std::uintptr_t address(int (*function)()) { return reinterpret_cast<std::uintptr_t>(function); }

}  // namespace

TEST_CASE("a place is found again", "[spawn]") {
    const os::ModulePlace place = os::place_of(address(function_here));
    CHECK(place.module != 0);
    CHECK(os::place_of(address(function_here)) == place);
    CHECK(os::address_of(place, os::PlaceKind::code) == address(function_here));
    CHECK(os::address_of(place, os::PlaceKind::code) == address(function_here));
    const auto data = reinterpret_cast<std::uintptr_t>(&number_here);
    const os::ModulePlace data_place = os::place_of(data);
    CHECK(data_place.module == place.module);
    CHECK(os::address_of(data_place, os::PlaceKind::data, sizeof number_here) == data);
    // Of a library.
    const auto library = reinterpret_cast<std::uintptr_t>(&std::getenv);
    const os::ModulePlace library_place = os::place_of(library);
    CHECK(library_place.module != 0);
    CHECK(os::address_of(library_place, os::PlaceKind::code) == library);
}

TEST_CASE("what is in no module has no place", "[spawn]") {
    int here = 0;
    CHECK(os::place_of(reinterpret_cast<std::uintptr_t>(&here)) == os::ModulePlace{});
    CHECK(os::place_of(0) == os::ModulePlace{});
    const std::string heap(1000, 'x');
    CHECK(os::place_of(reinterpret_cast<std::uintptr_t>(heap.data())) == os::ModulePlace{});
}

TEST_CASE("a place that is not there is not found", "[spawn]") {
    const os::ModulePlace place = os::place_of(address(function_here));
    CHECK(os::address_of({place.module + 1, place.offset}, os::PlaceKind::code) == 0);
    CHECK(os::address_of({place.module, ~std::uint64_t{0}}, os::PlaceKind::code) == 0);
    CHECK(os::address_of({place.module, std::uint64_t{1} << 40}, os::PlaceKind::data) == 0);
    CHECK(os::address_of(place, os::PlaceKind::code, std::size_t{1} << 40) == 0);
    // Data are no code.
    const os::ModulePlace data = os::place_of(reinterpret_cast<std::uintptr_t>(&variable_here));
    CHECK(os::address_of(data, os::PlaceKind::data) != 0);
    CHECK(os::address_of(data, os::PlaceKind::code) == 0);
}

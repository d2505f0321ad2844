#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Plants faults in a small house of headers; tools/check_headers must report each of them."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "check_headers"
OPENING = "// SPDX-License-Identifier: BSL-1.0\n#pragma once\n\n/// \\file\n/// A page.\n\n"

# A sound house: name below include/ and what it includes.
SOUND = {
    "multiprocessing.hpp": [
        "<multiprocessing/errors.hpp>",
        "<multiprocessing/pool.hpp>",
        "<multiprocessing/synchronize.hpp>",
    ],
    "multiprocessing/asio.hpp": ["<multiprocessing/errors.hpp>", "<boost/asio.hpp>"],
    "multiprocessing/errors.hpp": ["<fmt/core.h>", "<string>"],
    "multiprocessing/os/memory.hpp": [
        "<multiprocessing/errors.hpp>",
        "<sys/mman.h>",
        "<boost/interprocess/mapped_region.hpp>",
    ],
    "multiprocessing/pool.hpp": ["<multiprocessing/pool/engine.hpp>"],
    "multiprocessing/pool/engine.hpp": ["<multiprocessing/pool/worker.hpp>"],
    "multiprocessing/pool/worker.hpp": ["<multiprocessing/synchronize.hpp>", "<unistd.h>"],
    "multiprocessing/shm/guard.hpp": ["<multiprocessing/os/memory.hpp>", "<pthread.h>"],
    "multiprocessing/synchronize.hpp": ["<multiprocessing/synchronize/lock.hpp>"],
    "multiprocessing/synchronize/lock.hpp": ["<multiprocessing/shm/guard.hpp>"],
}


class House:
    """A copy of the sound house in a temporary folder."""

    def __init__(self, folder):
        self.root = Path(folder)
        for name, includes in SOUND.items():
            self.write(name, OPENING + "".join(f"#include {what}\n" for what in includes))
        self.list_headers()

    def write(self, name, text):
        path = self.root / "include" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def append(self, name, text):
        with open(self.root / "include" / name, "a", encoding="utf-8") as file:
            file.write(text)

    def list_headers(self):
        include = self.root / "include"
        names = sorted(path.relative_to(include).as_posix() for path in include.rglob("*.hpp"))
        (self.root / "cmake").mkdir(exist_ok=True)
        text = "set(MULTIPROCESSING_HEADERS\n" + "".join(f"    include/{n}\n" for n in names) + ")\n"
        (self.root / "cmake" / "headers.cmake").write_text(text, encoding="utf-8")

    def check(self):
        done = subprocess.run(
            [sys.executable, "-B", str(TOOL), str(self.root)], capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout + done.stderr


class CheckHeaders(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.house = House(folder.name)

    def expect(self, *reports):
        """Each of the texts is reported, and there are no other faults."""
        code, said = self.house.check()
        self.assertEqual(code, 1, said)
        for report in reports:
            self.assertIn(report, said)
        self.assertEqual(len(said.splitlines()), len(reports) + 1, said)

    def test_sound_house_has_no_faults(self):
        code, said = self.house.check()
        self.assertEqual((code, said), (0, "10 headers, 0 faults\n"))

    def test_include_that_goes_up(self):
        self.house.append("multiprocessing/shm/guard.hpp", "#include <multiprocessing/pool.hpp>\n")
        self.house.write("multiprocessing/synchronize/lock.hpp", OPENING)
        self.expect("shm/guard.hpp:9: floor 3 includes multiprocessing/pool.hpp of floor 7: goes up")

    def test_include_that_goes_up_by_a_relative_name(self):
        self.house.append("multiprocessing/errors.hpp", '#include "os/fork.hpp"\n')
        self.house.write("multiprocessing/os/fork.hpp", OPENING)
        self.house.list_headers()
        self.expect("errors.hpp:9: floor 1 includes multiprocessing/os/fork.hpp of floor 2")

    def test_other_wing_on_the_same_floor(self):
        self.house.append(
            "multiprocessing/synchronize/lock.hpp", "#include <multiprocessing/process/child.hpp>\n"
        )
        self.house.write("multiprocessing/process/child.hpp", OPENING)
        self.house.list_headers()
        self.expect(
            "synchronize/lock.hpp:8: wing synchronize includes"
            " multiprocessing/process/child.hpp of wing process on the same floor 4"
        )

    def test_circle_within_a_wing(self):
        self.house.append("multiprocessing/pool/worker.hpp", "#include <multiprocessing/pool/engine.hpp>\n")
        self.expect(
            "goes in a circle: multiprocessing/pool/engine.hpp -> "
            "multiprocessing/pool/worker.hpp -> multiprocessing/pool/engine.hpp"
        )

    def test_header_that_includes_itself(self):
        self.house.append("multiprocessing/errors.hpp", "#include <multiprocessing/errors.hpp>\n")
        self.expect("goes in a circle: multiprocessing/errors.hpp -> multiprocessing/errors.hpp")

    def test_opening_lines(self):
        good = OPENING.splitlines()
        for number, report in [
            (0, "errors.hpp:1: must read `// SPDX-License-Identifier: BSL-1.0`"),
            (1, "errors.hpp:2: must read `#pragma once`"),
            (3, "errors.hpp:4: must read `/// \\file`"),
        ]:
            lines = good[:number] + ["// something else"] + good[number + 1:]
            self.house.write("multiprocessing/errors.hpp", "\n".join(lines) + "\n")
            self.expect(report)
        self.house.write("multiprocessing/errors.hpp", "")
        self.expect("errors.hpp:1: must read")

    def test_header_without_a_floor(self):
        self.house.write("multiprocessing/utils/helpers.hpp", OPENING)
        self.house.list_headers()
        self.expect("utils/helpers.hpp:1: stands on no floor")

    def test_umbrella_that_is_missing(self):
        (self.house.root / "include" / "multiprocessing.hpp").unlink()
        self.house.list_headers()
        self.expect("include/multiprocessing.hpp:1: is missing")

    def test_umbrella_that_lacks_a_module(self):
        self.house.write("multiprocessing/process.hpp", OPENING)
        self.house.list_headers()
        self.expect("multiprocessing.hpp:1: does not include multiprocessing/process.hpp")

    def test_umbrella_that_is_not_sorted(self):
        includes = reversed(SOUND["multiprocessing.hpp"])
        self.house.write("multiprocessing.hpp", OPENING + "".join(f"#include {i}\n" for i in includes))
        self.expect("multiprocessing.hpp:1: its includes are not sorted")

    def test_umbrella_with_an_optional_header(self):
        text = OPENING + "#include <multiprocessing/asio.hpp>\n"
        text += "".join(f"#include {what}\n" for what in SOUND["multiprocessing.hpp"])
        self.house.write("multiprocessing.hpp", text)
        self.expect("includes multiprocessing/asio.hpp, which is not for everybody")

    def test_umbrella_that_does_something(self):
        self.house.append("multiprocessing.hpp", "namespace mp = multiprocessing;\n")
        self.expect("multiprocessing.hpp:10: is more than includes")

    def test_boost_elsewhere(self):
        self.house.append("multiprocessing/pool.hpp", "#include <boost/container/vector.hpp>\n")
        self.expect("pool.hpp:8: <boost/container/vector.hpp>: Boost only in")

    def test_system_headers_elsewhere(self):
        for header in ("sys/wait.h", "linux/futex.h"):
            self.house.write("multiprocessing/pool/worker.hpp", OPENING + f"#  include <{header}>\n")
            self.expect(f"pool/worker.hpp:7: <{header}>: the system's headers only in os/")

    def test_heavy_header_of_fmt(self):
        self.house.append("multiprocessing/os/memory.hpp", "#include <fmt/format.h>\n")
        self.expect("os/memory.hpp:10: <fmt/format.h>: of fmt only <fmt/core.h>")

    def test_header_that_does_not_exist(self):
        self.house.append("multiprocessing/pool.hpp", "#include <multiprocessing/pool/gone.hpp>\n")
        self.expect("pool.hpp:8: includes multiprocessing/pool/gone.hpp, which does not exist")

    def test_the_same_twice(self):
        self.house.append("multiprocessing/pool.hpp", "#include <multiprocessing/pool/engine.hpp>\n")
        self.expect("pool.hpp:8: includes multiprocessing/pool/engine.hpp twice")

    def test_long_line(self):
        (self.house.root / "tests").mkdir()
        (self.house.root / "tests" / "test_x.cpp").write_text("//" + "x" * 98 + "\n//" + "x" * 99 + "\n")
        self.expect("tests/test_x.cpp:2: 101 columns, 100 at most")

    def test_list_that_lacks_a_header(self):
        self.house.write("multiprocessing/os/fork.hpp", OPENING)
        self.expect("cmake/headers.cmake:1: does not list include/multiprocessing/os/fork.hpp")

    def test_list_that_names_what_is_gone(self):
        (self.house.root / "include" / "multiprocessing" / "asio.hpp").unlink()
        self.expect("cmake/headers.cmake:3: lists include/multiprocessing/asio.hpp, which does not exist")

    def test_list_that_is_not_sorted(self):
        path = self.house.root / "cmake" / "headers.cmake"
        first, *middle, last = path.read_text().splitlines()
        path.write_text("\n".join([first, *reversed(middle), last]) + "\n")
        self.expect("cmake/headers.cmake:1: its list is not sorted")


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""tools/check_samples accepts compiled samples and reports all others."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "check_samples"
PROGRAM = "#include <cstdio>\n\nint main() {\n    if (true) {\n        std::puts(\"x\");\n    }\n}\n"


class CheckSamples(unittest.TestCase):
    def check(self, page, lists="add(hello)\n"):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "examples").mkdir()
            (root / "examples" / "hello.cpp").write_text(PROGRAM)
            (root / "examples" / "CMakeLists.txt").write_text(lists)
            (root / "docs").mkdir()
            (root / "docs" / "page.md").write_text(page)
            (root / "README.md").write_text("Nothing here.\n")
            line = [sys.executable, "-B", str(TOOL), folder]
            done = subprocess.run(line, capture_output=True, text=True, timeout=60)
            return done.returncode, done.stdout

    def expect(self, report, page, **more):
        code, said = self.check(page, **more)
        self.assertEqual(code, 1, said)
        self.assertIn(report, said)
        self.assertIn("1 samples, 1 faults", said)

    def test_part_of_a_program_at_another_indentation(self):
        page = '<!-- sample: examples/hello.cpp -->\n```cpp\nif (true) {\n  std::puts("x");\n}\n```\n'
        self.assertEqual(self.check(page), (0, "1 samples, 0 faults\n"))

    def test_fragment(self):
        page = "<!-- fragment -->\n\n```cpp\nclass X;\n```\n\n```sh\nls\n```\n"
        self.assertEqual(self.check(page), (0, "1 samples, 0 faults\n"))

    def test_no_comment(self):
        self.expect("page.md:2: no `<!-- sample", "Text\n```cpp\nint main() {\n```\n")

    def test_no_such_file(self):
        page = "<!-- sample: examples/gone.cpp -->\n```cpp\nint main() {\n```\n"
        self.expect("examples/gone.cpp does not exist", page)

    def test_line_that_differs(self):
        page = '<!-- sample: examples/hello.cpp -->\n```cpp\nstd::puts("y");\n```\n'
        self.expect("does not contain the block's lines", page)

    def test_lines_that_do_not_follow_each_other(self):
        page = '<!-- sample: examples/hello.cpp -->\n```cpp\nint main() {\nstd::puts("x");\n```\n'
        self.expect("does not contain the block's lines", page)

    def test_file_that_nobody_compiles(self):
        page = "<!-- sample: examples/hello.cpp -->\n```cpp\nint main() {\n```\n"
        self.expect("not listed in a CMakeLists.txt", page, lists="add(other)\n")

    def test_block_without_an_end(self):
        self.expect("the block does not end", "<!-- fragment -->\n```cpp\nint main() {\n")


if __name__ == "__main__":
    unittest.main()

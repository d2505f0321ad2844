#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""The runner of tests/compile_fail/ accepts the expected error, and nothing else."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

RUNNER = Path(__file__).resolve().parents[1] / "support" / "compile_fail.py"
BROKEN = 'static_assert(sizeof(int) == 0, "an int has a size");\n'


class CompileFail(unittest.TestCase):
    def run_on(self, text, *options):
        with tempfile.TemporaryDirectory() as folder:
            command = Path(folder) / "command"
            command.write_text("c++\n-std=c++20\n")
            source = Path(folder) / "source.cpp"
            source.write_text(text)
            line = [sys.executable, "-B", str(RUNNER), *options, str(command), str(source)]
            done = subprocess.run(line, capture_output=True, text=True, timeout=60)
            return done.returncode, done.stdout

    def test_expected_error(self):
        self.assertEqual(self.run_on("// expect: an int has .* size\n" + BROKEN), (0, ""))

    def test_other_error(self):
        code, said = self.run_on("// expect: a pointer cannot be sent\n" + BROKEN)
        self.assertEqual(code, 1)
        self.assertIn("without saying /a pointer cannot be sent/", said)
        self.assertIn("an int has a size", said)

    def test_it_compiles(self):
        code, said = self.run_on("// expect: .\nint main() {}\n")
        self.assertEqual(code, 1)
        self.assertIn("compiles, and must not", said)

    def test_nothing_is_expected(self):
        code, said = self.run_on(BROKEN)
        self.assertEqual(code, 1)
        self.assertIn("the first line is not", said)

    def test_control(self):
        self.assertEqual(self.run_on("int main() {}\n", "--control"), (0, ""))
        code, said = self.run_on(BROKEN, "--control")
        self.assertEqual(code, 1)
        self.assertIn("does not compile", said)


if __name__ == "__main__":
    unittest.main()

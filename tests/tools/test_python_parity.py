#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""tools/python_parity joins rows and tests, and reports whatever does not fit."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "python_parity"
ROWS = [
    "# a comment",
    "since\tclass\ttest\tkind\tstatus\tdepartures",
    "3.11\t_TestLock\ttest_lock\tD\t\tnone | to speak of",
    "3.11\t_TestLogging\ttest_level\tA\tmissing: logging\t",
    "3.13\tMisc\ttest__all__\tN\tnot portable: lists of exports\t",
]
TESTS = """
TEST_CASE("_TestLock.test_lock: a held lock "
          "is not had", "[parity][threads]") {}
TEST_CASE("something else", "[unit]") {}
"""


class PythonParity(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        (self.root / "docs").mkdir()
        (self.root / "tests" / "parity").mkdir(parents=True)
        self.write(ROWS, TESTS)

    def write(self, rows, tests):
        (self.root / "tests" / "parity" / "rows.tsv").write_text("\n".join(rows) + "\n")
        (self.root / "tests" / "parity" / "test_lock.cpp").write_text(tests)

    def run_tool(self, *options):
        line = [sys.executable, "-B", str(TOOL), *options, str(self.root)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def expect(self, report):
        code, said = self.run_tool()
        self.assertEqual(code, 1, said)
        self.assertIn(report, said)
        self.assertIn(" 1 faults", said)

    def test_page(self):
        self.assertEqual(self.run_tool(), (0, "3 rows, 1 tested, 0 faults\n"))
        page = (self.root / "docs" / "python-parity.md").read_text()
        self.assertIn(
            "| _TestLock.test_lock | D | tested | a held lock is not had "
            "([test_lock.cpp](../tests/parity/test_lock.cpp)) | none \\| to speak of |",
            page,
        )
        self.assertIn("| _TestLogging.test_level | A | missing: logging |  |  |", page)
        self.assertIn("| all | 1 | 1 | 1 | 3 |", page)
        self.assertEqual(self.run_tool("--check")[0], 0)

    def test_page_out_of_date(self):
        code, said = self.run_tool("--check")
        self.assertEqual(code, 1)
        self.assertIn("not up to date", said)
        self.run_tool()
        self.write(ROWS, TESTS.replace("held", "taken"))
        self.assertEqual(self.run_tool("--check")[0], 1)

    def test_row_without_test_or_reason(self):
        self.write(ROWS, TESTS.replace("_TestLock.test_lock: ", "").replace("[parity]", ""))
        self.expect("_TestLock.test_lock has no test and no status")

    def test_row_with_both(self):
        self.write(ROWS, TESTS + 'TEST_CASE("_TestLogging.test_level: x", "[parity]") {}\n')
        self.expect("_TestLogging.test_level is tested, yet its status is `missing: logging`")

    def test_test_of_an_unknown_row(self):
        self.write(ROWS, TESTS + 'TEST_CASE("_TestLock.test_lok: x", "[parity]") {}\n')
        self.expect("_TestLock.test_lok is no row")

    def test_test_with_another_name(self):
        self.write(ROWS, TESTS + 'TEST_CASE("a lock locks", "[parity]") {}\n')
        self.expect('"a lock locks" is not named')

    def test_unknown_status(self):
        self.write(ROWS[:3] + [ROWS[3].replace("missing: logging", "later"), ROWS[4]], TESTS)
        self.expect("unknown status `later`")

    def test_row_twice(self):
        self.write(ROWS + [ROWS[3]], TESTS)
        self.expect("_TestLogging.test_level stands there 2 times")


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""tools/trace_picture and tools/terminal_picture draw what they are given."""

import json
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[2] / "tools"
SVG = "{http://www.w3.org/2000/svg}"


def run(tool, *arguments):
    return subprocess.run([sys.executable, "-B", str(TOOLS / tool), *map(str, arguments)],
                          capture_output=True, text=True, timeout=60, check=False)


def task(worker, begin, length, ended, item="7"):
    return {"ph": "X", "name": "render", "pid": 1, "tid": worker, "ts": begin, "dur": length,
            "args": {"first item": item, "items": "1", "ended": ended}}


class TracePicture(unittest.TestCase):
    EVENTS = [
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": {"name": "worker 1"}},
        task(1, 0.0, 5000.0, "with a result"),
        task(2, 0.0, 20000.0, "was ended by SIGSEGV"),
        task(1, 5000.0, 15000.0, "with a result"),
    ]

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.trace = Path(self.folder.name) / "trace.json"
        self.picture = Path(self.folder.name) / "trace.svg"

    def draw(self, text):
        self.trace.write_text(text, encoding="utf-8")
        result = run("trace_picture", self.trace, self.picture)
        self.assertEqual(result.returncode, 0, result.stderr)
        return xml.parse(self.picture).getroot()

    def tasks(self, picture):
        return [box for box in picture.iter(f"{SVG}rect") if box.find(f"{SVG}title") is not None]

    def test_a_box_a_task_in_its_worker_s_row(self):
        boxes = self.tasks(self.draw(json.dumps(self.EVENTS + [{}])))
        self.assertEqual(len(boxes), 3)
        first, lost, second = boxes
        self.assertEqual(first.get("y"), second.get("y"))
        self.assertNotEqual(first.get("y"), lost.get("y"))
        self.assertAlmostEqual(float(lost.get("width")), 4 * float(first.get("width")), delta=1)
        self.assertNotEqual(first.get("fill"), lost.get("fill"))
        self.assertEqual(first.get("fill"), second.get("fill"))

    def test_a_trace_without_an_end(self):
        whole = "[" + ",\n".join(map(json.dumps, self.EVENTS)) + ",\n"
        self.assertEqual(len(self.tasks(self.draw(whole))), 3)
        self.assertEqual(len(self.tasks(self.draw(whole[:-40]))), 2)

    def test_nothing_to_draw(self):
        self.trace.write_text("[{}]", encoding="utf-8")
        result = run("trace_picture", self.trace, self.picture)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("no events", result.stderr)


class TerminalPicture(unittest.TestCase):
    def shown(self, script, seconds=20):
        with tempfile.TemporaryDirectory() as folder:
            picture = Path(folder) / "screen.svg"
            result = run("terminal_picture", picture, seconds, "sh", "-c", script)
            self.assertEqual(result.returncode, 0, result.stderr)
            return [line.text for line in xml.parse(picture).getroot().iter(f"{SVG}text")]

    def test_what_was_overwritten_is_gone(self):
        self.assertEqual(self.shown(r"printf 'one two\rsix'; printf '\nlast\r\033[K'; echo end"),
                         ["six two", "end"])

    def test_a_screen_that_is_drawn_anew(self):
        self.assertEqual(self.shown(r"printf 'a\nb\nc\n\033[H\033[Jx < y\n'"), ["x < y"])

    def test_a_program_that_goes_on_is_ended(self):
        self.assertEqual(self.shown("echo there; exec sleep 60", seconds=1), ["there"])

    def test_it_is_a_terminal(self):
        self.assertEqual(self.shown("test -t 1 && stty size"), ["40 100"])


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""tools/mp-top shows the right numbers of a program at rest, and is not brought down by any file.

    test_mp_top.py MP_TOP WATCHED

WATCHED is programs/watched.cpp, which says what it has.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import unittest

MP_TOP = WATCHED = None
BOUND = 60  # seconds, for what takes milliseconds


def run(*arguments):
    """Returns exit code, output and errors of mp-top."""
    done = subprocess.run([MP_TOP, *arguments], capture_output=True, text=True, timeout=BOUND)
    return done.returncode, done.stdout, done.stderr


def picture_of(pid):
    code, said, errors = run("--once", "--interval", "0.2", str(pid))
    assert code == 0, (code, errors)
    return Picture(said)


def number_of(text):
    """Returns a speed; None for one that is not known."""
    if text == "-":
        return None
    return float(text.rstrip("kM")) * {"k": 1e3, "M": 1e6}.get(text[-1], 1)


class Picture:
    """What a picture says, taken apart."""

    def __init__(self, text):
        self.text = text
        self.pools, self.queues, self.roots = {}, {}, []
        pool = None
        for line in text.splitlines():
            if match := re.match(r"program (\d+), (\d+) process", line):
                self.roots.append(int(match[1]))
            if match := re.match(r'  pool(?: "(.*)")? of process (\d+), (\d+) workers?$', line):
                pool = {"parent": int(match[2]), "size": int(match[3]), "workers": []}
                self.pools[match[1]] = pool
            if line.startswith("  tasks waiting"):
                pool.update(re.findall(r"([a-z ]+) ([^,()]+)(?: \([^)]*\))?(?:, |$)", line.strip()))
                pool["speed"] = number_of(re.search(r"\((\S+)/s\)", line)[1])
            if match := re.match(r" +(-|\d+) (starting|idle|busy|gone)\b(.*)", line):
                pool["workers"].append((match[2], match[1], match[3].split()))
            if match := re.match(r"  (\S+) +(open|shut) +(.*)", line):
                items, limit, puts, gets, *pids = match[3].split()
                self.queues[match[1]] = {
                    "state": match[2], "items": int(items), "limit": limit,
                    "puts": number_of(puts), "gets": number_of(gets), "pids": [int(pid) for pid in pids],
                }  # fmt: skip

    def interval(self):
        return float(re.search(r"^mp-top: over ([\d.]+) s$", self.text, re.M)[1])


class Program:
    """The watched program, obeying words."""

    def __init__(self):
        self.process = subprocess.Popen(
            [WATCHED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.pid = self.process.pid
        self.expect("ready")

    def expect(self, word):
        # It has an alarm of its own, so that this ends.
        said = self.process.stdout.readline().strip()
        assert said == word, f"{said!r} instead of {word!r}"

    def do(self, word):
        self.process.stdin.write(word + "\n")
        self.expect(word)

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(BOUND)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process.stdout.close()


def eventually(look, is_right):
    """Looks again and again until what is seen is right, and returns that."""
    end = time.monotonic() + BOUND
    while not is_right(seen := look()):
        assert time.monotonic() < end, seen
        time.sleep(0.02)
    return seen


class Watching(unittest.TestCase):
    """What is seen of the program."""

    def setUp(self):
        self.program = Program()
        self.addCleanup(self.program.end)
        self.pid = self.program.pid

    def test_pools(self):
        seen = picture_of(self.pid)
        self.assertEqual(sorted(seen.pools), ["slow", "watched"], seen.text)
        pool = seen.pools["watched"]
        self.assertEqual((pool["parent"], pool["size"], pool["speed"]), (self.pid, 2, 0))
        figures = (pool["tasks waiting"], pool["done"], pool["results waiting"])
        self.assertEqual(figures, ("3", "0", "0"), seen.text)
        states = [state for state, _, _ in pool["workers"]]
        self.assertEqual(states, ["busy", "busy"], seen.text)
        # Whichever worker took it: one reports 3 of 10, the other is at the chunk's second item.
        rows = sorted(fields for _, _, fields in pool["workers"])
        self.assertEqual(rows[0][:2] + rows[0][5:7], ["1", "1", "[#-----]", "30%"], seen.text)
        self.assertEqual(rows[1][:2], ["2", "2"], seen.text)
        for row in rows:
            self.assertEqual((row[2], row[4]), (">=", "s"))
            self.assertGreaterEqual(float(row[3]), 0.2)
            self.assertRegex(row[-3] + row[-2] + row[-1], r"^\d+%[\d.]+[KM]iB$")
        for _, pid, _ in pool["workers"]:
            self.assertTrue(os.path.exists(f"/proc/{pid}"), pid)

    def test_worker_that_is_in_its_initializer(self):
        seen = picture_of(self.pid)
        self.assertEqual(seen.pools["slow"]["tasks waiting"], "1")
        self.assertEqual([state for state, _, _ in seen.pools["slow"]["workers"]], ["starting"])
        self.program.do("go")
        seen = picture_of(self.pid)
        self.assertEqual([state for state, _, _ in seen.pools["slow"]["workers"]], ["idle"])

    def watched(self):
        return picture_of(self.pid).pools["watched"]

    def states(self):
        return [state for state, _, _ in self.watched()["workers"]]

    def test_pool_that_has_done_its_work(self):
        self.program.do("go")
        # A worker counts what it has done a moment after it has told the result.
        pool = eventually(
            self.watched,
            lambda pool: sum(int(fields[0]) for _, _, fields in pool["workers"]) == 5,
        )
        self.assertEqual([state for state, _, _ in pool["workers"]], ["idle", "idle"])
        self.assertEqual((pool["tasks waiting"], pool["done"]), ("0", "5"))
        self.assertNotIn("large messages", pool)

    def test_large_messages(self):
        self.program.do("go")
        self.program.do("large")
        pool = self.watched()
        self.assertEqual(pool["large messages"], "8.0 MiB")
        self.assertEqual(sorted(state for state, _, _ in pool["workers"]), ["busy", "idle"])

    def test_worker_that_is_gone(self):
        victim = self.watched()["workers"][0][1]
        os.kill(self.pid, signal.SIGSTOP)  # it would put another in its place
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)  # all of its threads
        try:
            os.kill(int(victim), signal.SIGKILL)
            eventually(self.states, lambda states: states == ["gone", "busy"])
        finally:
            os.kill(self.pid, signal.SIGCONT)
        # The other one does what waits.
        workers = eventually(
            lambda: self.watched()["workers"], lambda workers: workers[0][0] == "idle"
        )
        self.assertNotEqual(workers[0][1], victim)

    def test_queues(self):
        seen = picture_of(self.pid)
        self.assertEqual(sorted(seen.queues), ["JoinableQueue", "Queue", "SimpleQueue"], seen.text)
        queue = seen.queues["Queue"]
        self.assertEqual((queue["state"], queue["items"], queue["limit"]), ("open", 5, "10"))
        self.assertEqual((queue["puts"], queue["gets"]), (0, 0))
        self.assertIn(self.pid, queue["pids"])
        workers = seen.pools["watched"]["workers"] + seen.pools["slow"]["workers"]
        self.assertLessEqual({int(pid) for _, pid, _ in workers}, set(queue["pids"]))
        # Made in a child, which alone has it.
        own = seen.queues["JoinableQueue"]
        self.assertEqual((own["items"], own["limit"], len(own["pids"])), (2, "-", 1))
        self.assertNotEqual(own["pids"], [self.pid])
        self.program.do("shut")
        self.assertEqual(picture_of(self.pid).queues["Queue"]["state"], "shut")

    def test_throughput(self):
        """However long the intervals were, they add up to what was done in them."""
        process = subprocess.Popen(
            [MP_TOP, "--interval", "0.5", str(self.pid)], stdout=subprocess.PIPE, text=True
        )
        try:
            pictures = self.pictures(process.stdout)
            self.assertIn("the first look", next(pictures).text)
            self.program.do("feed")
            self.program.do("go")
            sums = [0, 0, 0]

            def add_next():
                seen = next(pictures)
                queue = seen.queues["SimpleQueue"]
                speeds = queue["puts"], queue["gets"], seen.pools["watched"]["speed"]
                for i, speed in enumerate(speeds):
                    sums[i] += speed * seen.interval()
                return seen

            eventually(add_next, lambda _: sums[0] > 6 and sums[1] > 3 and sums[2] > 4)
            seen = add_next()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        for measured, was in zip(sums, [7, 4, 5]):
            self.assertAlmostEqual(measured, was, delta=0.4, msg=sums)
        self.assertEqual(seen.queues["SimpleQueue"]["items"], 3)

    def pictures(self, stream):
        """Yields each picture, once the next one begins."""
        text = stream.readline()
        for line in stream:
            if line.startswith("mp-top:"):
                yield Picture(text)
                text = ""
            text += line

    def test_all_programs(self):
        code, said, _ = run("--once", "--interval", "0.05")
        self.assertEqual(code, 0)
        seen = Picture(said)
        self.assertEqual(seen.roots.count(self.pid), 1, said)
        # Its processes are no programs of their own.
        workers = {int(pid) for _, pid, _ in picture_of(self.pid).pools["watched"]["workers"]}
        self.assertFalse(workers & set(seen.roots), said)

    def test_end_of_the_program(self):
        process = subprocess.Popen(
            [MP_TOP, "--interval", "0.05", str(self.pid)], stdout=subprocess.PIPE, text=True
        )
        next(self.pictures(process.stdout))
        os.kill(self.pid, signal.SIGKILL)
        said, _ = process.communicate(timeout=BOUND)
        self.assertTrue(said.endswith("the process has ended\n"), said[-500:])
        self.assertEqual(process.returncode, 0)


class Terminal(unittest.TestCase):
    """How it behaves on a terminal of 60 columns and 9 rows."""

    def setUp(self):
        self.program = Program()
        self.addCleanup(self.program.end)
        self.ours, theirs = pty.openpty()
        self.addCleanup(os.close, self.ours)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 9, 60, 0, 0))
        self.process = subprocess.Popen(
            [MP_TOP, "--interval", "0.05", str(self.program.pid)], stdin=theirs, stdout=theirs,
            stderr=theirs,
        )  # fmt: skip
        os.close(theirs)
        self.addCleanup(self.process.wait)
        self.addCleanup(self.process.kill)
        self.said = ""

    def read_until(self, *parts):
        """Reads until all of the parts have come, each behind the one before."""
        end = time.monotonic() + BOUND
        while not re.search(".*".join(map(re.escape, parts)), self.said, re.S):
            left = end - time.monotonic()
            self.assertTrue(left > 0 and select.select([self.ours], [], [], left)[0], self.said)
            self.said += os.read(self.ours, 65536).decode()

    def test_pictures(self):
        self.read_until("\x1b[?25l", "\x1b[H", "\x1b[J", "\x1b[H", "mp-top: over", "\x1b[J")
        frame = self.said.split("\x1b[H")[-1].split("\x1b[J")[0].replace("\r\n", "\n")
        lines = re.sub(r"\x1b\[[0-9;]*[mK]", "", frame).splitlines()
        self.assertEqual(len(lines), 8, frame)
        self.assertTrue(all(len(line) <= 60 for line in lines), frame)
        self.assertRegex(lines[-1], r"^\.\.\. \d+ more lines$")
        # Erased before it is written: behind the last column that would take the last letter.
        self.assertRegex(frame, r"\x1b\[K\x1b\[7m      PID STATE [^\n]{41}\.\.\.\x1b\[0m\n")

    def test_interrupt(self):
        self.read_until("\x1b[?25l", "\x1b[J")
        self.process.send_signal(signal.SIGINT)
        self.assertEqual(self.process.wait(BOUND), 0)
        self.read_until("\x1b[?25l", "\x1b[?25h")
        self.assertTrue(self.said.endswith("\x1b[J\x1b[?25h"), self.said[-200:])

    def test_stop(self):
        self.read_until("\x1b[?25l", "\x1b[J")
        self.process.send_signal(signal.SIGTSTP)
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        self.assertTrue(os.WIFSTOPPED(status))
        self.read_until("\x1b[?25l", "\x1b[?25h")
        self.process.send_signal(signal.SIGCONT)
        self.read_until("\x1b[?25l", "\x1b[?25h", "\x1b[?25l", "\x1b[J")


class Nothing(unittest.TestCase):
    """Where there is nothing to show, or nothing that is what it says."""

    def test_process_that_is_not_there(self):
        number = 4_999_999  # larger than any can be
        code, said, errors = run("--once", str(number))
        self.assertEqual((code, said), (1, ""))
        self.assertEqual(errors, f"mp-top: there is no process {number}\n")

    def test_process_that_has_ended(self):
        process = subprocess.Popen(["true"])
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        code, _, errors = run("--once", str(process.pid))
        process.wait()
        self.assertEqual((code, errors), (1, f"mp-top: there is no process {process.pid}\n"))

    def test_program_without_any(self):
        process = subprocess.Popen(["sleep", "600"])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        code, said, _ = run("--once", "--interval", "0.05", str(process.pid))
        self.assertEqual(code, 0)
        self.assertIn(f"process {process.pid} has no pool or queue: nothing to show", said)

    def test_wrong_calls(self):
        for arguments in (["x"], ["-1"], ["1", "2"], ["--interval"], ["--interval", "0"],
                          ["--interval", "nan"], ["--interval", "1s"], ["--often"]):  # fmt: skip
            code, said, errors = run(*arguments)
            self.assertEqual((code, said), (2, ""), arguments)
            self.assertIn("usage: mp-top", errors)
        self.assertEqual(run("--help")[0], 0)

    def memfd(self, name, content, size=None):
        fd = os.memfd_create(f"multiprocessing:{name}")
        self.addCleanup(os.close, fd)
        os.write(fd, content)
        if size is not None:
            os.truncate(fd, size)
        return fd

    def test_files_that_are_not_ours(self):
        many = struct.pack("<4sIIi", b"POOL", 1, 2**32 - 1, os.getpid())
        some = struct.pack("<4sIIiQQ", b"POOL", 1, 100, os.getpid(), 1, 2)
        for content, size in [
            (b"", None), (b"POO", None), (b"nonsense" * 100, None), (os.urandom(8192), None),
            (many, None), (many, 1 << 42), (some, None), (some, 200), (some, 1 << 42),
            (b"POOL" + b"\1\0\0\0" + b"\xff" * 8192, 1 << 20),
            (b"RING" + b"\1\0\0\0" + b"\xff" * 8192, 1 << 20),
            (b"RING" + b"\1\0\0\0", None), (b"RING" + b"\1\0\0\0", 1 << 42),
        ]:  # fmt: skip
            self.memfd("pool", content, size)
        seen = picture_of(os.getpid())
        self.assertIn("nothing to show", seen.text)
        self.assertNotIn("pool of", seen.text)

    def test_file_of_another_version(self):
        self.memfd("pool", b"POOL" + struct.pack("<I", 2) + bytes(8192))
        seen = picture_of(os.getpid())
        self.assertIn("files of another version of the library: 1", seen.text)

    def test_ring_of_a_stranger(self):
        """It is shown as what it says; what it is called does not reach the terminal as it is."""
        ring = b"RING" + struct.pack("<IQIIIII", 1, 0, 5, 2**32 - 1, 0, 1, 0)
        self.memfd("\x1b[31mred\n", ring + bytes(range(256)) * 20)
        seen = picture_of(os.getpid())
        self.assertIn("?[31mred?", seen.text)
        self.assertNotIn("\x1b", seen.text)

    def test_file_that_changes(self):
        fd = self.memfd("pool", b"")
        over = threading.Event()

        def change():
            header = struct.pack("<4sIIi", b"POOL", 1, 2, os.getpid())
            while not over.is_set():
                for content in (header, b"RING" + header[4:], b""):
                    os.truncate(fd, 0)
                    os.pwrite(fd, content + bytes(4096 if content else 0), 0)

        thread = threading.Thread(target=change)
        thread.start()
        try:
            for _ in range(10):
                self.assertEqual(run("--once", "--interval", "0.01", str(os.getpid()))[0], 0)
        finally:
            over.set()
            thread.join()


if __name__ == "__main__":
    MP_TOP, WATCHED = sys.argv[1:3]
    signal.alarm(240)
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])

# SPDX-License-Identifier: BSL-1.0
"""The pool's figures beside its peers' and its goals.

    pool.py PROGRAMS     the directory of the benchmark programs

A ratio is between figures of one run on one machine. Two workers, but for the memory of a pool.
"""

import sys
from pathlib import Path

from compare import OURS, Goal, compare


class Commands:
    """The commands that measure a subject, here and in CPython."""

    def __init__(self, programs):
        self.program = str(programs / "bench_pool")
        self.peers = [sys.executable, str(Path(__file__).with_name("peers.py"))]

    def here(self, subject, competitor, *numbers):
        return [self.program, subject, competitor, *map(str, numbers)]

    def ours(self, subject, *numbers):
        return self.here(subject, "ours", *numbers)

    def tbb(self, subject, *numbers):
        return self.here(subject, "tbb", *numbers)

    def cpython(self, subject, *numbers):
        return [*self.peers, subject, *map(str, numbers)]


def compare_maps(commands):
    tbb = "oneTBB parallel_for (threads)"
    for chunksize, how, limit in ((1, "chunks of one", 150), (0, "default chunks", 3)):
        compare(f"map of 100,000 no-ops, {how}: an item", {
            OURS: commands.ours("map", 100_000, chunksize),
            tbb: commands.tbb("map", 100_000, chunksize),
            "CPython": commands.cpython("map", 100_000, chunksize),
        }, goal=Goal(limit))
    compare("map of 2,000 tasks of 1 ms, chunks of one: all of them", {
        OURS: commands.ours("tasks", 2000),
        tbb: commands.tbb("tasks", 2000),
        "CPython": commands.cpython("tasks", 2000),
    }, goal=Goal(1.03, tbb))


def compare_calls(commands):
    compare("apply of a no-op, one after the other: a round trip", {
        OURS: commands.ours("apply", 10_000),
        "CPython": commands.cpython("apply", 10_000),
    }, goal=Goal(3))
    compare("10,000 apply_async of a no-op, then get: a task", {
        OURS: commands.ours("async", 10_000),
        "oneTBB task_group (threads)": commands.tbb("async", 10_000),
        "CPython": commands.cpython("async", 10_000),
    }, goal=Goal(400))
    compare("apply with 64 MiB of doubles there and back: a round trip", {
        OURS: commands.ours("large", 5),
        "memcpy, each way four times": commands.here("large", "memcpy", 5),
        "CPython (bytes)": commands.cpython("large_bytes", 5),
        "CPython (array)": commands.cpython("large_array", 5),
    })


def compare_memory(commands):
    for tasks in (100, 10_000):
        compare(f"Memory of the parent for a pool of 4, after {tasks:,} no-ops, chunks of one", {
            OURS: commands.ours("memory", 10, tasks),
            "CPython": commands.cpython("memory", 10, tasks),
        }, goal=Goal(1024))


def main():
    commands = Commands(Path(sys.argv[1]))
    compare_maps(commands)
    compare_calls(commands)
    compare_memory(commands)


if __name__ == "__main__":
    main()

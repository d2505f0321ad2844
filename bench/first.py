# SPDX-License-Identifier: BSL-1.0
"""Runs each subject's competitors in turn (A B C A B C ...) and prints medians, spreads and ratios."""

import statistics
import subprocess
import sys
from pathlib import Path

REPETITIONS = 5


def run(command):
    output = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    value, unit = output.split()
    return float(value), unit


def compare(title, competitors, more_is_better):
    print(f"\n{title}")
    figures = {name: [] for name in competitors}
    for _ in range(REPETITIONS):
        for name, command in competitors.items():
            value, unit = run(command)
            figures[name].append(value)
    ours = statistics.median(figures["multiprocessing for C++"])
    for name, values in figures.items():
        median = statistics.median(values)
        ratio = ours / median if more_is_better else median / ours
        note = "" if name == "multiprocessing for C++" else f"   ours is {ratio:.2f} times as good"
        print(f"  {name:28} {median:14,.1f} {unit:11} ({min(values):,.1f} to {max(values):,.1f}){note}")


def main():
    programs = Path(sys.argv[1])
    peers = [sys.executable, str(Path(__file__).with_name("peers.py"))]
    ours = "multiprocessing for C++"
    queue, start, pool = (str(programs / f"bench_{name}") for name in ("queue", "start", "pool"))
    compare("Queue, 64 bytes, one to one, two CPUs", {
        ours: [queue, "ours", "2000000"],
        "Boost message_queue": [queue, "boost", "1000000"],
        "CPython Queue": [*peers, "queue", "100000"],
    }, more_is_better=True)
    compare("Start and join of a process that does nothing", {
        ours: [start, "ours", "500"],
        "fork + waitpid": [start, "fork", "500"],
        "CPython (fork)": [*peers, "start", "200"],
    }, more_is_better=False)
    for chunksize, how in ((1, "chunks of one"), (0, "default chunks")):
        compare(f"Pool.map of 100,000 no-ops, 2 workers, {how}", {
            ours: [pool, "ours", str(chunksize), "100000"],
            "oneTBB parallel_for (threads)": [pool, "tbb", str(chunksize), "100000"],
            "CPython": [*peers, "pool", str(chunksize), "100000"],
        }, more_is_better=False)


if __name__ == "__main__":
    main()

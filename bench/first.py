# SPDX-License-Identifier: BSL-1.0
"""The first figures: queue, start and pool beside their peers.

    first.py PROGRAMS     the directory of the benchmark programs
"""

import sys
from pathlib import Path

from compare import OURS, compare


def main():
    programs = Path(sys.argv[1])
    peers = [sys.executable, str(Path(__file__).with_name("peers.py"))]
    queue, start, pool = (str(programs / f"bench_{name}") for name in ("queue", "start", "pool"))
    compare("Queue, 64 bytes, one to one, two CPUs", {
        OURS: [queue, "ours", "2000000"],
        "Boost message_queue": [queue, "boost", "1000000"],
        "CPython Queue": [*peers, "queue", "100000"],
    }, more_is_better=True)
    compare("Start and join of a process that does nothing", {
        OURS: [start, "ours", "500"],
        "fork + waitpid": [start, "fork", "500"],
        "CPython (fork)": [*peers, "start", "200"],
    })
    for chunksize, how in (("1", "chunks of one"), ("0", "default chunks")):
        compare(f"Pool.map of 100,000 no-ops, 2 workers, {how}", {
            OURS: [pool, "map", "ours", "100000", chunksize],
            "oneTBB parallel_for (threads)": [pool, "map", "tbb", "100000", chunksize],
            "CPython": [*peers, "map", "100000", chunksize],
        })


if __name__ == "__main__":
    main()

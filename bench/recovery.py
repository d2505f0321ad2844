#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""What recovery costs: each operation here and in a copy of the headers without it, in turn.

usage: recovery.py FOLDER    where to put the copy and the two programs
"""

import pathlib
import shutil
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
REPETITIONS = 9

# What is left out: header, piece, what stands there instead. A guard that nobody inherits, a
# semaphore that does not know who holds its units, a value that is written in place. What remains
# waits for ever behind a dead holder. A lock's word names its holder instead of being 1, which is
# the same instruction, and the rest of a lock's recovery is behind a wait: nothing to leave out.
LEFT_OUT = [
    ("shm/guard.hpp", "PTHREAD_MUTEX_ROBUST", "PTHREAD_MUTEX_STALLED"),
    ("synchronize/semaphore_state.hpp",
     "    const std::uint32_t index = find_place(self);\n",
     "    static_cast<void>(self);\n    const std::uint32_t index = nothing;\n"),
    ("synchronize/semaphore_state.hpp",
     "        const std::uint32_t own = find_own(self);\n"
     "        const bool is_own = own != nothing && held(ledger()[own]) >= n;\n"
     "        if (!is_own && !preferred && find_other(0) != nothing) { continue; }\n"
     "        give(self, own, n, preferred.value_or(0));\n",
     "        static_cast<void>(self);\n"
     "        base_.store(base_ + n, std::memory_order_release);\n"
     "        value_.store(value_ + n, std::memory_order_release);\n"),
    ("sharedctypes/cells.hpp",
     "        std::memcpy(spare(), &value, sizeof(T));\n"
     "        MULTIPROCESSING_KILL_POINT(\"value.store.spare\");\n"
     "        commit_spare(index);\n",
     "        std::memcpy(data_ + index, &value, sizeof(T));\n"),
]


def headers_without_recovery(folder: pathlib.Path) -> pathlib.Path:
    copy = folder / "include"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT / "include", copy)
    for name, piece, instead in LEFT_OUT:
        header = copy / "multiprocessing" / name
        text = header.read_text()
        if text.count(piece) != 1:
            raise SystemExit(f"{name} has {text.count(piece)} times, not once: {piece}")
        header.write_text(text.replace(piece, instead))
    return copy


def build(include: pathlib.Path, program: pathlib.Path) -> str:
    subprocess.run(["g++", "-std=c++20", "-O2", "-DNDEBUG", f"-I{include}", str(HERE / "recovery.cpp"),
                    "-o", str(program), "-lfmt", "-pthread"], check=True)
    return str(program)


def table(command: list[str]) -> dict[str, list[float]]:
    output = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    rows = (line.split("\t") for line in output.splitlines())
    return {name: [float(value) for value in values] for name, *values in rows}


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with_recovery = build(ROOT / "include", folder / "recovery")
    without = build(headers_without_recovery(folder), folder / "recovery_left_out")

    figures: dict[str, list[tuple[float, float]]] = {}
    for _ in range(REPETITIONS):
        ours = table([with_recovery, "ordinary"])
        bare = table([without, "ordinary"])
        for name in ours:
            figures.setdefault(name, []).append((ours[name][0], bare[name][0]))
    print(f"{'nobody dies, nobody waits':40} {'with, ns':>9} {'without':>9} {'ratio':>7}")
    for name, pairs in figures.items():
        ours = statistics.median(pair[0] for pair in pairs)
        bare = statistics.median(pair[1] for pair in pairs)
        ratio = statistics.median(pair[0] / pair[1] for pair in pairs)
        print(f"{name:40} {ours:9.1f} {bare:9.1f} {ratio:7.3f}")

    print(f"\n{'from the death to the heir, us':40} {'median':>9} {'worst':>9}")
    for name, (median, worst) in table([with_recovery, "inherit"]).items():
        print(f"{name:40} {median:9.0f} {worst:9.0f}")


if __name__ == "__main__":
    main()

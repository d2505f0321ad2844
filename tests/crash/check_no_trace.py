#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Fails if a normally built program holds a trace of the kill points.

usage: check_no_trace.py INCLUDE_DIR NORMAL_PROGRAM PROGRAM_WITH_KILL_POINTS

The names are looked for in the file itself, debug information and symbols included. The program
that has them shows that they would be found; those of the nursery, which is not stepped, are in a test
of their own, which must name each.
"""

import pathlib
import re
import sys


def names_in_headers(include: pathlib.Path) -> set[str]:
    """Returns the names of all kill points."""
    pattern = re.compile(r'MULTIPROCESSING_KILL_POINT\("([^"]+)"\)')
    names: set[str] = set()
    for header in include.rglob("*.hpp"):
        if header.name != "kill_point.hpp":
            names.update(pattern.findall(header.read_text()))
    return names


def main() -> int:
    include, normal, with_points = map(pathlib.Path, sys.argv[1:])
    names = names_in_headers(include)
    normal_bytes, points_bytes = normal.read_bytes(), with_points.read_bytes()
    # A row's name is no trace.
    found = [name for name in names if name.encode() in normal_bytes]
    if b"step5reach" in normal_bytes:
        found.append("step::reach")
    nursery_test = (pathlib.Path(__file__).parent / "test_nursery.cpp").read_text()
    unseen = [name for name in names if name.encode() not in points_bytes
              and f'"{name}"' not in nursery_test]
    if len(names) < 50:
        print(f"only {len(names)} kill points in {include}")
        return 1
    for name in sorted(found):
        print(f"{normal.name} holds {name}")
    for name in sorted(unseen):
        print(f"{with_points.name} does not hold {name}: no row comes there")
    print(f"{len(names)} names, {len(found)} found in {normal.name}")
    return 1 if found or unseen else 0


if __name__ == "__main__":
    sys.exit(main())

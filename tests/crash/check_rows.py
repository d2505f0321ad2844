#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Fails if an operation has no row, or a row is not in the table of points or in no test.

usage: check_rows.py STEP_KILL POINTS_TSV OPERATIONS_TSV INCLUDE_DIR PREFIX...

OPERATIONS_TSV names every public member function of every shared class, with `row`, or with the
reason why there is none. A class's public functions are read from its header.
"""

import pathlib
import re
import subprocess
import sys

MODES_OF_KILL_POINTS = ["pairs"]


def read_table(path: pathlib.Path) -> list[list[str]]:
    """Returns the fields of each line that is no comment."""
    lines = path.read_text().splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


def public_functions(header: pathlib.Path, name: str) -> set[str]:
    """Returns the names of the public member functions that the class itself declares."""
    text = re.sub(r"//[^\n]*", "", header.read_text())
    begin = re.search(rf"\nclass {name}\b[^;{{]*\{{", text)
    if begin is None:
        raise SystemExit(f"{header} has no class {name}")
    body, depth, access = "", 1, "private"
    flat = ""  # what stands directly in the class, and is public
    for token in re.finditer(r"[{}]|\b(?:public|private|protected):|[^{}]+?(?=[{}]|\b(?:public|"
                             r"private|protected):)", text[begin.end():]):
        piece = token.group()
        if piece == "{":
            depth += 1
        elif piece == "}":
            depth -= 1
            if depth == 0:
                break
            flat += ";" if depth == 1 and access == "public:" else ""
        elif piece.endswith(":") and depth == 1 and piece[:-1] in ("public", "private",
                                                                   "protected"):
            access = piece
        elif depth == 1 and access == "public:":
            flat += piece
    found: set[str] = set()
    for declaration in re.split(r";", flat):
        declaration = re.sub(r"\brequires\s*(\((?:[^()]|\([^()]*\))*\)|[\w:<>]+(<[^>]*>)?)", " ",
                             declaration)
        declaration = re.sub(r"\btemplate\s*<[^{};]*?>\s*(?=[\w\[:~])", " ", declaration)
        if re.search(r"=\s*(delete|default)\s*$", declaration):
            continue
        names = re.findall(r"(operator\s*[^\s(]+|[A-Za-z_]\w*)\s*\(", declaration)
        names = [function for function in names if function not in ("decltype", "explicit")]
        if names and names[0] != name and not names[0].endswith("_"):
            found.add(re.sub(r"\s+", " ", names[0]))
    return found


def main() -> int:
    program, points, operations, include = map(pathlib.Path, sys.argv[1:5])
    prefixes = sys.argv[5:]
    listed = subprocess.run([program, "--list"], check=True, capture_output=True, text=True)
    rows = [line.split("\t") for line in listed.stdout.splitlines()]
    wrong = []

    expected = set()
    for name, covers, modes in rows:
        for mode in modes.split() + MODES_OF_KILL_POINTS:
            expected.add((name, mode))
        if not any(name.startswith(prefix) for prefix in prefixes):
            wrong.append(f"{name}: no test runs it")
    in_table = {(fields[0], fields[1]) for fields in read_table(points)}
    wrong += [f"{row}, {mode}: not in {points.name}" for row, mode in sorted(expected - in_table)]
    wrong += [f"{row}, {mode}: in {points.name}, and no row" for row, mode in
              sorted(in_table - expected)]

    covered = {operation for _, covers, _ in rows for operation in covers.split()}
    known: dict[tuple[str, str], dict[str, str]] = {}
    for header, cls, function, why in read_table(operations):
        known.setdefault((header, cls), {})[function] = why
    for (header, cls), functions in known.items():
        if header != "-":
            declared = public_functions(include / header, cls)
            wrong += [f"{cls}::{function} of {header}: not in {operations.name}" for function in
                      sorted(declared - set(functions))]
            wrong += [f"{cls}::{function}: in {operations.name}, and not in {header}" for function
                      in sorted(set(functions) - declared)]
        for function, why in functions.items():
            if why == "row" and f"{cls}::{function}" not in covered:
                wrong.append(f"{cls}::{function} has no row")
    named = {f"{cls}::{function}" for (_, cls), functions in known.items() for function in functions}
    wrong += [f"{operation}: covered by a row, and not in {operations.name}" for operation in
              sorted(covered - named)]

    for line in wrong:
        print(line)
    print(f"{len(rows)} rows, {len(named)} operations, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Runs an example and its Python twin, and compares what they print.

    compare.py PROGRAM [--timeout SECONDS]

PROGRAM is the built example; its twin is the file of the same name with `.py` in this directory,
run by the interpreter that runs this script. Both must end with exit code 0 within the timeout,
leave nothing in the directory for temporary files, and print the same on stdout once what is free
in it has been normalised by the rules below: the order in which processes run, process ids,
times. Exit code 0 if so; 1, with the difference on stderr, if not.
"""

import argparse
import difflib
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

# What a rule does to the text. Rules are applied in the order in which they are listed.


def replace(pattern, by):
    """Replaces what is free within a line."""
    return lambda text: re.sub(pattern, by, text, flags=re.MULTILINE)


def race(pattern):
    """Sorts neighbouring lines that match: they come from processes that run side by side.

    If the pattern has a group, the lines are sorted by what it matches and lines for which that is
    the same keep their order: what one process prints is in order, whatever the others do.
    """

    def rule(text):
        result, run = [], []

        def end_run():
            result.extend(line for _, line in sorted(run, key=lambda entry: entry[0]))
            run.clear()

        for line in text.splitlines(keepends=True):
            match = re.match(pattern, line)
            if match:
                run.append((match.group(1) if match.groups() else line, line))
            else:
                end_run()
                result.append(line)
        end_run()
        return "".join(result)

    return rule


def number_pids(text):
    """Numbers process ids in the order of their appearance: who is whose parent stays visible."""
    numbers = {}
    return re.sub(r"\bpid (\d+)", lambda m: f"pid #{numbers.setdefault(m[1], len(numbers))}", text)


# An indented line belongs to the line above it; anything that gets in between shows.
join_indented = replace(r"\n {4}", " / ")

times = replace(r"\d+\.\d+ s$", "TIME")

RULES = {
    "barrier": [race(r"\w+ arrives$"), race(r"\w+ goes on$")],
    "condition": [race(r"stage 2, ")],
    "joinable_queue": [race(r"\d+ squared is \d+$")],
    "lock_output": [join_indented, race(r"process \d+ / ")],
    "mandelbrot": [times, replace(r"^with \d+ process(es)?:", "with N processes:")],
    "process_join": [times],
    "process_pids": [race(r"Process-\d+: "), number_pids],
    "producer_consumer": [replace(r"^(Ann|Bob) eats:", "eaten:"), race(r"(?:made|eaten): \w+ \d$")],
    "queue_writer_reader": [race(r"(write|read):")],
    "semaphore": [race(r"worker \d+ has had")],
    "ticket_booking": [replace(r"^  buyer \d+:", "  buyer N:"), race(r"  buyer N: ")],
    "word_count": [times],
}


def make_texts(directory):
    """Makes files to count words in, among them what must not be counted; returns the arguments."""
    texts = directory / "texts"
    (texts / "deep" / "deeper").mkdir(parents=True)
    for number in range(40):
        lines = [f"{'the' * (i % 2)} Word{number % 7} is_the i{i} x{number}\n" for i in range(99)]
        folder = texts / ("deep" if number % 3 else ".") / ("deeper" if number % 6 == 1 else ".")
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.txt").write_text("".join(lines))
    (texts / "empty.txt").write_text("")
    (texts / "latin1.txt").write_bytes(b"na\xefve fa\xe7ade THE The the\xff")
    (texts / "binary").write_bytes(b"the the the\0the the the")
    (texts / "link.txt").symlink_to("latin1.txt")
    (texts / "loop").symlink_to(".")
    return [str(texts), "3"]


ARGUMENTS = {
    "mandelbrot": lambda directory: [str(directory / "picture.png"), "150", "90"],
    "word_count": make_texts,
}

PICTURE = {"mandelbrot": "picture.png"}  # both must write it, with the same size and format

WRITES_TO_STDERR = {"mandelbrot"}  # the progress


class Failure(Exception):
    pass


def run(command, directory, timeout):
    """Returns the standard output of a command that must succeed and leave no temporary file."""
    temporary = directory / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONUNBUFFERED", None)  # it splits the writing of a line
    process = subprocess.Popen(
        command,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its children too, they hold the pipes
        out, err = process.communicate()
        raise Failure(f"{command[0]} did not end within {timeout} s; so far:\n{out}{err}") from None
    if process.returncode != 0:
        raise Failure(f"{command[0]} ended with {process.returncode}:\n{out}{err}")
    left = sorted(path.name for path in temporary.iterdir())
    if left:
        raise Failure(f"{command[0]} left behind: {', '.join(left)}")
    temporary.rmdir()
    return out, err


def take_picture(name, directory):
    """Removes the picture that the example wrote, if it does; returns its signature and header."""
    if name not in PICTURE:
        return b""
    picture = directory / PICTURE[name]
    if not picture.exists():
        return b""
    head = picture.read_bytes()[:33]
    picture.unlink()
    return head


def normalise(name, text):
    for rule in RULES.get(name, []):
        text = rule(text)
    return text


def compare(program, timeout):
    name = program.stem
    twin = Path(__file__).resolve().with_name(f"{name}.py")
    with tempfile.TemporaryDirectory(prefix="compare-") as made:
        directory = Path(made)
        arguments = ARGUMENTS.get(name, lambda _: [])(directory)
        expected, _ = run([sys.executable, str(twin), *arguments], directory, timeout)
        expected_head = take_picture(name, directory)
        got, err = run([str(program), *arguments], directory, timeout)
        if take_picture(name, directory) != expected_head:
            raise Failure(f"{program} wrote no such picture as {twin}")
    if err and name not in WRITES_TO_STDERR:
        raise Failure(f"{program} wrote to stderr:\n{err}")
    expected_lines = normalise(name, expected).splitlines()
    got_lines = normalise(name, got).splitlines()
    if not expected_lines:
        raise Failure(f"{twin} printed nothing")
    if got_lines != expected_lines:
        diff = difflib.unified_diff(expected_lines, got_lines, str(twin), str(program), lineterm="")
        raise Failure("\n".join(diff))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--timeout", type=float, default=30, help="bound on each run, in seconds")
    options = parser.parse_args()
    try:
        compare(options.program.resolve(), options.timeout)
    except (Failure, OSError) as failure:
        print(failure, file=sys.stderr)
        sys.exit(1)
    print(f"{options.program.stem}: the C++ program and its twin print the same")


if __name__ == "__main__":
    main()

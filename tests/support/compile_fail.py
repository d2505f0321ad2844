#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Compiles a file that must not compile, and looks for the words that the user is to read.

    compile_fail.py [--control] COMMAND_FILE SOURCE

COMMAND_FILE holds the compiler and its flags, one a line. The first line of SOURCE is
`// expect: REGEX`; with --control the file must compile instead.
"""

import os
import re
import subprocess
import sys


def compile_only(command_file, source):
    """Returns the compiler's exit code and messages."""
    with open(command_file, encoding="utf-8") as file:
        command = [line for line in file.read().splitlines() if line]
    # As a -I these would come before the compiler's own headers.
    command = [word for word in command if word not in ("-I/usr/include", "-I/usr/local/include")]
    result = subprocess.run(
        command + ["-fsyntax-only", "-fdiagnostics-color=never", source],
        env=dict(os.environ, LC_ALL="C"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=280,
    )
    return result.returncode, result.stdout


def judge(command_file, source):
    """Returns what is wrong, or None."""
    with open(source, encoding="utf-8") as file:
        first = file.readline().rstrip("\n")
    expected = re.fullmatch(r"// expect: (.+)", first)
    if not expected:
        return f"{source}: the first line is not `// expect: REGEX`"
    code, messages = compile_only(command_file, source)
    if code == 0:
        return f"{source}: compiles, and must not"
    if not re.search(expected[1], messages):
        shown = messages if len(messages) < 6000 else messages[:6000] + "\n..."
        return f"{source}: fails to compile without saying /{expected[1]}/ but\n{shown}"
    return None


def main(arguments):
    control = arguments[:1] == ["--control"]
    command_file, source = arguments[1:] if control else arguments
    if control:
        code, messages = compile_only(command_file, source)
        wrong = f"{source} does not compile:\n{messages}" if code else None
    else:
        wrong = judge(command_file, source)
    if wrong:
        print(wrong)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

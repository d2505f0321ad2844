"""Counts the words in all text files below a directory, with more and more processes.

    word_count.py [DIRECTORY [PROCESSES]]

The directory is /usr/include if none is given, the number of processes that of the CPUs.
Prints the number of files, the ten most frequent words, the time that it takes serially and with
1, 2 and PROCESSES processes, and whether all of them counted the same.
"""

import os
import re
import sys
import time
from collections import Counter
from multiprocessing import Pool
from pathlib import Path


def text_files(directory):
    """Lists the files without a NUL byte, the largest first.

    Reads each of them whole: then all the runs that are timed find them in the system's cache.
    """
    sized = []
    for folder, _, names in os.walk(directory):
        for path in (Path(folder, name) for name in names):
            try:
                if path.is_symlink() or not path.is_file():
                    continue
                text = path.read_bytes()
                if b"\0" not in text:
                    sized.append((-len(text), path))
            except OSError:
                pass  # a file that may not be read does not count
    return [path for _, path in sorted(sized)]


def count_words(paths):
    """Counts the runs of three or more ASCII letters, large and small ones being the same."""
    counts = Counter()
    for path in paths:
        counts.update(re.findall(rb"[a-z]{3,}", path.read_bytes().lower()))
    return counts


def merge(parts):
    counts = Counter()
    for part in parts:
        counts.update(part)
    return counts


def count_in_parallel(batches, processes):
    with Pool(processes) as pool:
        return merge(pool.map(count_words, batches, chunksize=1))


def timed(what, count):
    begin = time.perf_counter()
    counts = count()
    print(f"{what}: {time.perf_counter() - begin:.2f} s", flush=True)
    return counts


def main():
    directory = sys.argv[1] if len(sys.argv) > 1 else "/usr/include"
    most = int(sys.argv[2]) if len(sys.argv) > 2 else len(os.sched_getaffinity(0))

    files = text_files(directory)
    print(f"text files: {len(files)}")
    # Few, large tasks: each sends back a table. Dealt out like cards they are about equally long.
    batches = [files[first::32] for first in range(32)]

    counts = timed("serially", lambda: merge(map(count_words, batches)))
    agree = True
    for processes in sorted({1, 2, most}):
        parallel = timed(
            f"with {processes} process{'' if processes == 1 else 'es'}",
            lambda: count_in_parallel(batches, processes),
        )
        agree = agree and parallel == counts
    print("all counted the same:", "yes" if agree else "no")

    for word, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:10]:
        print(f"{number:9} {word.decode()}")
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()

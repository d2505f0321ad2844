#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Breaks the library on purpose, and fails if step_kill does not notice.

usage: mutants.py NUMBER COMPILE_COMMAND_FILE WORK_DIR MUTANTS_TSV [--update]
       mutants.py --table MUTANTS_TSV

Each mutant is a piece of a header and what stands there instead. A copy of the headers is made in
which both stand, told apart by the macro MULTIPROCESSING_MUTANT; the headers themselves know
nothing of it. A piece that is not found any more is a failure: the mutant must follow the code.
MUTANTS_TSV says which rows catch which; the first of them is what is run.
"""

import dataclasses
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


@dataclasses.dataclass
class Mutant:
    """One fault: `original` in `header` becomes `mutated`."""

    name: str
    header: str
    original: str
    mutated: str
    rows: str  # the source of the rows that can see it
    run: list[str]  # arguments of step_kill


MUTANTS = [
    Mutant("the tail is moved before the record is written", "shm/ring_put.hpp",
           "        std::memcpy(record, &begin, sizeof begin);\n        write(index,",
           "        header_.tail.store(tail.after(units).word);\n"
           "        std::memcpy(record, &begin, sizeof begin);\n        write(index,",
           "queue", ["--mode", "kill", "queue.put/empty"]),
    Mutant("the head is moved before the record is read", "shm/ring_get.hpp",
           "                read(done, payload);",
           "                header_.head.store(head.after(units).word);\n"
           "                read(done, payload);",
           "pool", ["--mode", "kill", "pool.worker/takes"]),
    Mutant("what a dead holder left is not rebuilt", "shm/guard.hpp",
           "        recover();\n", "        static_cast<void>(recover);\n",
           "semaphore", ["--mode", "kill", "semaphore.acquire/free"]),
    Mutant("the guard is not robust", "shm/guard.hpp",
           "PTHREAD_MUTEX_ROBUST", "PTHREAD_MUTEX_STALLED",
           "queue", ["--mode", "kill", "queue.put/empty"]),
    Mutant("the guard is not made consistent", "shm/guard.hpp",
           "        ::pthread_mutex_consistent(&mutex_);\n", "",
           "queue", ["--mode", "kill", "queue.put/empty"]),
    Mutant("a sleep has no bound", "os/futex.hpp",
           "wait_slice = std::chrono::milliseconds(50)", "wait_slice = std::chrono::hours(1)",
           "queue", ["--mode", "kill", "queue.put/somebody"]),
    Mutant("the owner is written after the lock is taken", "shm/owner_word.hpp",
           "    return word_.compare_exchange_strong(expected, Family::self(), "
           "std::memory_order_acquire,\n"
           "                                         std::memory_order_relaxed);",
           "    constexpr MemberId first_member = 1 | 1 << 12;  // the driver, which lives\n"
           "    if (!word_.compare_exchange_strong(expected, first_member)) { return false; }\n"
           "    word_.store(Family::self());\n    return true;",
           "lock", ["--mode", "kill", "lock.acquire/free"]),
    Mutant("who waits in vain takes over", "shm/owner_word.hpp",
           "        if (is_late && waiters == 0) { return Result::timeout; }\n",
           "        if (is_late) {\n"
           "            word_.store(self | inherited_bit);\n"
           "            return Result::inherited;\n        }\n",
           "lock", ["--mode", "stopped", "lock.acquire/free", "lock.release/own"]),
    Mutant("a dead waiter's notification is dropped", "synchronize/condition_state.hpp",
           "    grant_oldest(ticket_of(entry), wakes);\n    entries_[place]",
           "    static_cast<void>(wakes);\n    entries_[place]",
           "condition", ["--mode", "kill", "condition.wait/notified"]),
    Mutant("a slot is used again though a child sees it", "shm/slab.hpp",
           "    if (epoch != os::fork_epoch()) { return; }  // retired\n",
           "    static_cast<void>(epoch);\n",
           "shm", ["--mode", "kill", "slab.free/a child"]),
    Mutant("a change is committed before it is described", "synchronize/semaphore_state.hpp",
           "    change_.entry.store(entry);\n    change_.base.store(base);\n",
           "    change_.index.store(index);\n"
           "    change_.entry.store(entry);\n    change_.base.store(base);\n",
           "semaphore", ["--mode", "kill", "semaphore.release/several", "semaphore.acquire/dead"]),
    Mutant("a value is copied into place before that is noted", "sharedctypes/cells.hpp",
           "    state_->pending.store(index + 1, std::memory_order_release);\n",
           "    std::memcpy(data_ + index, spare(), sizeof(T));\n"
           "    state_->pending.store(index + 1, std::memory_order_release);\n",
           "value", ["--mode", "kill", "value.set_value/large"]),
    Mutant("a dead party does not break the barrier", "synchronize/barrier_state.hpp",
           "        if (Family::has_died(id)) { return true; }\n        // A party", "        // A party",
           "barrier", ["--mode", "kill", "barrier.wait/first"]),
    Mutant("a member is ready before it has said when it was born", "shm/family.hpp",
           "        own.history.store(next_history(own, generation));\n",
           "        own.ready.store(generation);\n"
           "        own.history.store(next_history(own, generation));\n",
           "shm", ["--mode", "stopped", "family.join"]),
]

GROUPS = ["lock", "semaphore", "condition", "event", "barrier", "value", "shm", "queue",
          "connection", "pool"]


def pieces(mutant: Mutant) -> int:
    """Returns how often what is to be replaced stands in its header."""
    header = ROOT / "include/multiprocessing" / mutant.header
    return header.read_text().count(mutant.original)


def mutate(number: int, work: pathlib.Path) -> None:
    """Makes a copy of the headers in `work`/include."""
    mutant = MUTANTS[number - 1]
    copy = work / "include"
    if copy.exists():
        shutil.rmtree(copy)
    shutil.copytree(ROOT / "include", copy)
    header = copy / "multiprocessing" / mutant.header
    text = header.read_text()
    if pieces(mutant) != 1:
        raise SystemExit(f"mutant {number}: its piece stands {pieces(mutant)} times "
                         f"in {mutant.header}, not once")
    # Whole lines, so that the preprocessor can tell them apart.
    begin = text.rindex("\n", 0, text.index(mutant.original) + 1) + 1
    end = text.index(mutant.original) + len(mutant.original)
    if text[end - 1] != "\n":
        end = text.index("\n", end) + 1
    lines = text[begin:end]
    changed = lines.replace(mutant.original, mutant.mutated)
    header.write_text(f"{text[:begin]}#if MULTIPROCESSING_MUTANT == {number}\n{changed}"
                      f"{'' if changed.endswith(chr(10)) or not changed else chr(10)}"
                      f"#else\n{lines}#endif\n{text[end:]}")


def build(number: int, command: list[str], work: pathlib.Path) -> pathlib.Path:
    """Compiles step_kill with the rows of one group and no others."""
    rows = MUTANTS[number - 1].rows
    stubs = work / "stubs.cpp"
    stubs.write_text("namespace step {\n" + "".join(f"void add_{group}_rows() {{}}\n"
                     for group in GROUPS if group != rows) + "}\n")
    step = HERE / "step"
    program = work / "step_kill"
    subprocess.run([*command[:1], f"-I{work}/include", *command[1:], f"-I{HERE.parent}", "-O2",
                    "-g1", f"-DMULTIPROCESSING_MUTANT={number}", str(step / "step_kill.cpp"),
                    str(step / f"{rows}_rows.cpp"), str(stubs), "-Wl,-z,now", "-DFMT_HEADER_ONLY", "-pthread",
                    "-o", str(program)], check=True)
    return program


def table(path: pathlib.Path) -> dict[int, list[str]]:
    """Returns number, name and rows of each line."""
    lines = [line.split("\t") for line in path.read_text().splitlines() if line[:1].isdigit()]
    return {int(fields[0]): fields for fields in lines}


def main() -> int:
    if sys.argv[1] == "--table":
        known = table(pathlib.Path(sys.argv[2]))
        wrong = [number for number, mutant in enumerate(MUTANTS, 1)
                 if known.get(number, ["", ""])[1] != mutant.name]
        wrong += [number for number in known if number > len(MUTANTS)]
        astray = [number for number, mutant in enumerate(MUTANTS, 1) if pieces(mutant) != 1]
        print(f"{len(MUTANTS)} mutants, not in the table: {wrong}, not in the headers: {astray}")
        return 1 if wrong or astray else 0

    number = int(sys.argv[1])
    command = pathlib.Path(sys.argv[2]).read_text().split()
    work = pathlib.Path(sys.argv[3]) / str(number)
    points = pathlib.Path(sys.argv[4])
    work.mkdir(parents=True, exist_ok=True)
    mutant = MUTANTS[number - 1]
    mutate(number, work)
    program = build(number, command, work)
    run = subprocess.run([program, *mutant.run], capture_output=True, text=True, timeout=500)
    if run.returncode == 77:
        print(run.stdout)
        return 77
    caught = sorted(set(re.findall(r"^BAD ([^\n]*?), (\w+)(?: at|:)", run.stdout, re.MULTILINE)))
    print("\n".join(line[:300] for line in run.stdout.splitlines()[-8:]))
    print(f"mutant {number}, {mutant.name}: caught by {caught}")
    if "--update" in sys.argv:
        known = table(points) if points.exists() else {}
        known[number] = [str(number), mutant.name, "; ".join(f"{row} ({mode})"
                                                             for row, mode in caught)]
        points.write_text("# SPDX-License-Identifier: BSL-1.0\n# mutant\twhat is broken\tcaught by "
                          "(of the rows that are run, see mutants.py)\n" + "".join(
                              "\t".join(known[key]) + "\n" for key in sorted(known)))
    return 0 if caught else 1


if __name__ == "__main__":
    sys.exit(main())

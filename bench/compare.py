# SPDX-License-Identifier: BSL-1.0
"""Runs a subject's competitors in turn (A B C A B C ...) and prints medians, spreads and ratios."""

import statistics
import subprocess
from dataclasses import dataclass

OURS = "multiprocessing for C++"
REPETITIONS = 5


@dataclass(frozen=True)
class Goal:
    """The most that ours may need: a figure, or so many times what the competitor `peer` needs.

    A figure says something of one machine only, so it stands beside the ratios and not instead.
    """

    limit: float
    peer: str | None = None

    def verdict(self, medians, unit):
        """Returns the goal, and whether ours keeps it."""
        if self.peer is None:
            most, what = self.limit, f"{self.limit:,g} {unit}"
        else:
            most, what = self.limit * medians[self.peer], f"{self.limit:g} times {self.peer}"
        return f"goal {what}: {'held' if medians[OURS] <= most else 'missed'}"


def run(command):
    """Returns the number and the unit that a command prints."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    value, unit = done.stdout.split()
    return float(value), unit


def figure(value):
    """Writes large figures without digits that mean nothing, and small ones with some that do."""
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.3f}"


def measure(competitors):
    """Returns all figures of each competitor, and their unit."""
    figures = {name: [] for name in competitors}
    units = set()
    for _ in range(REPETITIONS):
        for name, command in competitors.items():
            value, unit = run(command)
            figures[name].append(value)
            units.add(unit)
    (unit,) = units
    return figures, unit


def compare(title, competitors, *, more_is_better=False, goal=None):
    """Prints a table of the competitors, ours first; `goal` is for what is better when less."""
    print(f"\n{title}")
    figures, unit = measure(competitors)
    medians = {name: statistics.median(values) for name, values in figures.items()}
    for name, median in medians.items():
        spread = f"({figure(min(figures[name]))} to {figure(max(figures[name]))})"
        if name == OURS:
            note = goal.verdict(medians, unit) if goal else ""
        else:
            ratio = medians[OURS] / median if more_is_better else median / medians[OURS]
            note = f"ours is {ratio:.3g} times as good"
        print(f"  {name:30} {figure(median):>12} {unit:11} {spread:26} {note}".rstrip(), flush=True)

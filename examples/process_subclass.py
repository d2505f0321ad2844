"""A class that is a process: derive from Process and override run().

Prints a countdown from the child, then the exit code that the child chose.
"""

import sys
from multiprocessing import Process


class Countdown(Process):
    def __init__(self, first):
        super().__init__(name="countdown")
        self.first = first

    def run(self):
        for number in range(self.first, 0, -1):
            print(f"{self.name}: {number}")
        sys.exit(self.first)


if __name__ == "__main__":
    countdown = Countdown(3)
    countdown.start()
    countdown.join()
    print(f"exit code {countdown.exitcode}")

"""A lock around printing, so that what belongs together stays together.

Prints three lines for each of five processes; the order of the processes is free, but no process
gets in between the lines of another.
"""

import time
from multiprocessing import Lock, Process


def report(lock, number):
    with lock:
        print(f"process {number}", flush=True)
        for step in ("one", "two"):
            time.sleep(0.01)
            print(f"    step {step} of process {number}", flush=True)


if __name__ == "__main__":
    lock = Lock()
    processes = [Process(target=report, args=(lock, number)) for number in range(5)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

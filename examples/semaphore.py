"""Two machines for five workers: a semaphore lets two in at a time.

Prints one line a worker, in any order, and whether there were ever more than two at work.
"""

import time
from multiprocessing import Process, Semaphore, Value


def work(machines, busy, most, number):
    with machines:
        with busy.get_lock():
            busy.value += 1
            most.value = max(most.value, busy.value)
        time.sleep(0.05)
        print(f"worker {number} has had a machine")
        with busy.get_lock():
            busy.value -= 1


if __name__ == "__main__":
    machines = Semaphore(2)
    busy = Value("i", 0)
    most = Value("i", 0)
    workers = [Process(target=work, args=(machines, busy, most, n)) for n in range(1, 6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print("never more than two at work:", "yes" if most.value <= 2 else "no")

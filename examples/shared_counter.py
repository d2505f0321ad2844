"""A counter in shared memory that several processes add to.

Prints the sum of 4 times 1000 steps; with the value's lock held none gets lost.
"""

from multiprocessing import Process, Value


def count(counter, steps):
    for _ in range(steps):
        with counter.get_lock():  # += alone is a read and a write, and others may come in between
            counter.value += 1


if __name__ == "__main__":
    counter = Value("i", 0)
    processes = [Process(target=count, args=(counter, 1000)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    print(f"counter: {counter.value}")

"""An array in shared memory: two processes work on its halves, the parent sees the result.

Prints the array before and after.
"""

from multiprocessing import Array, Process


def square(numbers, first, last):
    for i in range(first, last):  # nobody else touches this half: no lock is needed
        numbers[i] = numbers[i] * numbers[i]


if __name__ == "__main__":
    numbers = Array("i", range(10))
    print("before:", *numbers)
    halves = [Process(target=square, args=(numbers, first, first + 5)) for first in (0, 5)]
    for process in halves:
        process.start()
    for process in halves:
        process.join()
    print("after:", *numbers)

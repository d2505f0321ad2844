"""`apply_async` does not wait: all tasks are handed over first, then their results are asked for.

Prints the results in the order of the tasks, then the error of a task that failed, then that one
task was not ready in time.
"""

import time
from multiprocessing import Pool, TimeoutError


def half(number):
    if number % 2 != 0:
        raise ValueError(f"{number} is odd")
    time.sleep(0.05)
    return number // 2


if __name__ == "__main__":
    with Pool(4) as pool:
        results = [pool.apply_async(half, (number,)) for number in (2, 4, 6, 8)]
        for result in results:
            print(f"half: {result.get()}")

        try:
            pool.apply_async(half, (7,)).get()
        except ValueError as error:
            print(f"error: {error}")

        slow = pool.apply_async(time.sleep, (60,))
        try:
            slow.get(timeout=0.1)
        except TimeoutError:
            print("too slow")
        # leaving the block terminates the pool: nobody waits for the slow task

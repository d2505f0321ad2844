"""A pool of two workers, one call at a time: `apply` waits for the result.

Prints what each call returned, and that it ran in another process.
"""

import os
from multiprocessing import Pool


def power(base, exponent):
    return base**exponent


def worker_pid():
    return os.getpid()


if __name__ == "__main__":
    with Pool(2) as pool:
        for exponent in range(1, 5):
            print(f"3 to the power of {exponent}: {pool.apply(power, (3, exponent))}")
        print("ran here:", "yes" if pool.apply(worker_pid) == os.getpid() else "no")

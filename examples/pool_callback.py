"""Callbacks: the main process is told of each result and each error as soon as it is there.

Prints the sum of what the tasks returned, and how many of them failed.
"""

from multiprocessing import Pool

returned = []
failed = []


def root(square):
    for number in range(square + 1):
        if number * number == square:
            return number
    raise ValueError(f"{square} is no square")


if __name__ == "__main__":
    with Pool(3) as pool:
        for n in range(1, 26):
            pool.apply_async(root, (n,), callback=returned.append, error_callback=failed.append)
        pool.close()
        pool.join()
    print(f"{len(returned)} squares, the sum of their roots is {sum(returned)}")
    print(f"{len(failed)} failed, one of them because {min(map(str, failed))}")

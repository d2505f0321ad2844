"""A barrier: three processes wait for each other, one announces that all are there, all go on.

Prints three arrivals in any order, the announcement, and three departures in any order.
"""

from multiprocessing import Barrier, Process


def announce():
    print("everybody is here", flush=True)


def walk(barrier, name):
    print(f"{name} arrives", flush=True)
    barrier.wait()
    print(f"{name} goes on", flush=True)


if __name__ == "__main__":
    barrier = Barrier(3, action=announce)
    walkers = [Process(target=walk, args=(barrier, name)) for name in ("Ann", "Bob", "Cy")]
    for walker in walkers:
        walker.start()
    for walker in walkers:
        walker.join()

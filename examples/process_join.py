"""Start all, then join all: the children run at the same time. Joined one by one, they do not.

Prints how long four children that sleep for 0.4 s take either way, and which way is faster.
"""

import time
from multiprocessing import Process


def work():
    time.sleep(0.4)


def one_by_one():
    for _ in range(4):
        process = Process(target=work)
        process.start()
        process.join()  # waits before the next one is started


def all_together():
    processes = [Process(target=work) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def seconds(run):
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


if __name__ == "__main__":
    slow = seconds(one_by_one)
    fast = seconds(all_together)
    print(f"started and joined one by one: {slow:.2f} s")
    print(f"all started, then all joined: {fast:.2f} s")
    print("faster:", "start all, then join all" if fast < slow else "one by one")

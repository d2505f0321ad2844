# SPDX-License-Identifier: BSL-1.0
"""The same measurements with CPython's multiprocessing.

    peers.py queue MESSAGES | start ROUNDS | pool CHUNKSIZE ITEMS     prints one number and its unit
"""

import os
import sys
import time
from multiprocessing import Event, Pool, Process, Queue, set_start_method

MESSAGE = bytes(64)


def pin(cpu):
    os.sched_setaffinity(0, {cpu % os.cpu_count()})


def consume(queue, ready, result, messages):
    pin(1)
    ready.set()
    queue.get()
    begin = time.perf_counter()
    for _ in range(messages - 1):
        queue.get()
    result.put(time.perf_counter() - begin)


def measure_queue(messages):
    queue, result, ready = Queue(), Queue(), Event()
    consumer = Process(target=consume, args=(queue, ready, result, messages))
    consumer.start()
    ready.wait()
    pin(0)
    for _ in range(messages):
        queue.put(MESSAGE)
    seconds = result.get()
    consumer.join()
    print((messages - 1) / seconds, "messages/s")


def nothing(item=None):
    return item


def measure_start(rounds):
    begin = time.perf_counter()
    for _ in range(rounds):
        process = Process(target=nothing)
        process.start()
        process.join()
    print((time.perf_counter() - begin) / rounds * 1e6, "us")


def measure_pool(chunksize, items):
    with Pool(2) as pool:
        pool.map(nothing, range(1000), 1)
        begin = time.perf_counter()
        pool.map(nothing, range(items), chunksize or None)
        print((time.perf_counter() - begin) / items * 1e9, "ns")


if __name__ == "__main__":
    set_start_method("fork")
    subject, *numbers = sys.argv[1:]
    {"queue": measure_queue, "start": measure_start, "pool": measure_pool}[subject](*map(int, numbers))

# SPDX-License-Identifier: BSL-1.0
"""The same measurements with CPython's multiprocessing; each run prints one number and its unit.

    peers.py queue MESSAGES
    peers.py start ROUNDS
    peers.py map ITEMS CHUNKSIZE | tasks TASKS | apply CALLS | async TASKS | memory POOLS TASKS
    peers.py large_bytes CALLS | large_array CALLS
"""

import os
import re
import sys
import time
from array import array
from multiprocessing import Event, Pool, Process, Queue, set_start_method
from pathlib import Path

MESSAGE = bytes(64)
LARGE_SIZE = 64 * 1024 * 1024  # bytes


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


def work(item):
    end = time.perf_counter() + 1e-3
    while time.perf_counter() < end:
        pass
    return item


def change_array(values):
    values[0] += 1
    return values


def measure_start(rounds):
    begin = time.perf_counter()
    for _ in range(rounds):
        process = Process(target=nothing)
        process.start()
        process.join()
    print((time.perf_counter() - begin) / rounds * 1e6, "us")


def warm_pool():
    pool = Pool(2)
    pool.map(nothing, range(1000), 1)
    return pool


def seconds_of_map(function, items, chunksize):
    with warm_pool() as pool:
        begin = time.perf_counter()
        pool.map(function, range(items), chunksize or None)
        return time.perf_counter() - begin


def measure_map(items, chunksize):
    print(seconds_of_map(nothing, items, chunksize) / items * 1e9, "ns")


def measure_tasks(tasks):
    print(seconds_of_map(work, tasks, 1), "s")


def measure_apply(calls):
    with warm_pool() as pool:
        begin = time.perf_counter()
        for i in range(calls):
            pool.apply(nothing, (i,))
        print((time.perf_counter() - begin) / calls * 1e6, "us")


def measure_async(tasks):
    with warm_pool() as pool:
        begin = time.perf_counter()
        results = [pool.apply_async(nothing, (i,)) for i in range(tasks)]
        for result in results:
            result.get()
        print((time.perf_counter() - begin) / tasks * 1e9, "ns")


def measure_large(function, values, calls):
    with Pool(2) as pool:
        values = pool.apply(function, (values,))
        begin = time.perf_counter()
        for _ in range(calls):
            values = pool.apply(function, (values,))
        print((time.perf_counter() - begin) / calls * 1e3, "ms")


def measure_large_bytes(calls):
    measure_large(nothing, bytes(LARGE_SIZE), calls)


def measure_large_array(calls):
    values = array("d", [1.5])
    measure_large(change_array, values * (LARGE_SIZE // values.itemsize), calls)


def resident_kib():
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return int(re.search(r"^Rss: *(\d+) kB", rollup, re.MULTILINE)[1])


def measure_memory(pools, tasks):
    kept = []

    def add():
        kept.append(Pool(4))
        kept[-1].map(nothing, range(tasks), 1)

    add()
    before = resident_kib()
    for _ in range(pools):
        add()
    print((resident_kib() - before) / pools, "KiB")
    for pool in kept:
        pool.terminate()


MEASUREMENTS = {
    "queue": measure_queue,
    "start": measure_start,
    "map": measure_map,
    "tasks": measure_tasks,
    "apply": measure_apply,
    "async": measure_async,
    "large_bytes": measure_large_bytes,
    "large_array": measure_large_array,
    "memory": measure_memory,
}

if __name__ == "__main__":
    set_start_method("fork")
    subject, *numbers = sys.argv[1:]
    MEASUREMENTS[subject](*map(int, numbers))

#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""One of the six cases in which Python's multiprocessing waits for ever; `six_hangs.cpp` is its twin.

    six_hangs.py CASE

Ends with 0 when the case is got over. The tool `tools/six_hangs` runs both side by side.
"""

import multiprocessing as mp
import os
import signal
import sys


def started(f, *args):
    """Starts a process that says when it is about to block, and returns it asleep in there."""
    ready = mp.Event()
    process = mp.Process(target=f, args=(ready, *args), daemon=True)
    process.start()
    ready.wait()
    while state_of(process.pid) != "S":
        pass
    return process


def state_of(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        return stat.read().rpartition(")")[2].split()[0]


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def wait_for_notification(ready, condition):
    with condition:
        ready.set()
        condition.wait()


def condition_notify():
    condition = mp.Condition()
    kill(started(wait_for_notification, condition))
    with condition:
        condition.notify()


def wait_for_event(ready, event):
    ready.set()
    event.wait()


def event_set():
    event = mp.Event()
    kill(started(wait_for_event, event))
    event.set()


def get_item(ready, queue):
    ready.set()
    queue.get()


def queue_get():
    queue = mp.Queue()
    kill(started(get_item, queue))
    queue.put(1)
    assert queue.get() == 1


def simple_queue_get():
    queue = mp.SimpleQueue()
    kill(started(get_item, queue))
    queue.put(1)
    assert queue.get() == 1


def hold(ready, lock, never):
    lock.acquire()
    ready.set()
    never.wait()


def lock_acquire():
    lock = mp.Lock()
    kill(started(hold, lock, mp.Event()))
    lock.acquire()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def pool_apply():
    with mp.Pool(2) as pool:
        pool.apply(die)


if __name__ == "__main__":
    mp.set_start_method("fork")
    globals()[sys.argv[1]]()

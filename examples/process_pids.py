"""Who is who: process ids, names, the parent and the children.

Prints the main process, one line for each child with its own id and its parent's, and what the
main process knows of its children while they run and when they have ended.
"""

import os
from multiprocessing import Event, Process, active_children, current_process, parent_process


def introduce(may_leave):
    me = current_process()
    parent = parent_process()
    print(f"{me.name}: pid {os.getpid()}, a child of {parent.name}, pid {parent.pid}")
    may_leave.wait()


if __name__ == "__main__":
    has_parent = "yes" if parent_process() is not None else "no"
    print(f"{current_process().name}: pid {os.getpid()}, started by this library: {has_parent}")

    may_leave = Event()
    children = [Process(target=introduce, args=(may_leave,)) for _ in range(2)]
    for child in children:
        child.start()
    running = len(active_children())
    may_leave.set()
    for child in children:
        child.join()

    for child in children:
        print(f"{child.name} was pid {child.pid}, is alive: {'yes' if child.is_alive() else 'no'}")
    print(f"active children: {running}, and {len(active_children())} when all were joined")

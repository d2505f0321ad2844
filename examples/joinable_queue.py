"""A queue that can be joined: it knows when everything that was put has also been done.

Prints one line a task, in any order, and then, when `join` has returned, the sum of the results.
The workers wait for more until the program ends; they are daemons, so it ends them.
"""

from multiprocessing import JoinableQueue, Process, Value


def work(tasks, total):
    while True:
        number = tasks.get()
        with total.get_lock():
            total.value += number * number
        print(f"{number} squared is {number * number}", flush=True)  # a daemon loses its buffers
        tasks.task_done()


if __name__ == "__main__":
    tasks = JoinableQueue()
    total = Value("i", 0)
    for _ in range(2):
        Process(target=work, args=(tasks, total), daemon=True).start()
    for number in range(1, 7):
        tasks.put(number)
    tasks.join()  # until task_done() was called for each
    print(f"sum: {total.value}")

"""Waiting until something is so: two processes wait on a condition for a third to finish.

Prints that stage 1 is done and then, in any order, that each process of stage 2 runs.
"""

from multiprocessing import Condition, Process, Value


def stage_1(condition, done):
    with condition:
        print("stage 1: done", flush=True)
        done.value = 1
        condition.notify_all()


def stage_2(condition, done, number):
    with condition:
        condition.wait_for(lambda: done.value)  # returns at once if stage 1 was faster
        print(f"stage 2, process {number}: running", flush=True)


if __name__ == "__main__":
    condition = Condition()
    done = Value("i", 0)
    processes = [Process(target=stage_2, args=(condition, done, number)) for number in (1, 2)]
    processes.append(Process(target=stage_1, args=(condition, done)))
    for process in processes:
        process.start()
    for process in processes:
        process.join()

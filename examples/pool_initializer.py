"""What every worker needs once: the initializer runs in each worker before its first task.

Prints the results of tasks that look things up in a table which each worker has made for itself,
and the number of tasks, which the workers counted in a value that they share.
"""

from multiprocessing import Pool, Value


def prepare(shared_count):
    global count, squares
    count = shared_count
    squares = {number: number * number for number in range(100)}


def look_up(number):
    with count.get_lock():
        count.value += 1
    return squares[number]


if __name__ == "__main__":
    task_count = Value("i", 0)
    with Pool(2, initializer=prepare, initargs=(task_count,)) as pool:
        print("looked up:", *pool.map(look_up, [3, 14, 15, 92]))
    print(f"tasks: {task_count.value}")

"""A writer that ends and a reader that never does: it is terminated when it is no longer needed.

Prints what is written, what is read (the two side by side), and how the two processes ended.
"""

from multiprocessing import Process, Queue, Semaphore


def write_letters(queue):
    for letter in ("A", "B", "C"):
        print(f"write: {letter}", flush=True)
        queue.put(letter)


def read_letters(queue, was_read):
    while True:
        letter = queue.get()
        print(f"read: {letter}", flush=True)  # what is still in a buffer dies with the process
        was_read.release()


if __name__ == "__main__":
    queue = Queue()
    was_read = Semaphore(0)
    writer = Process(target=write_letters, args=(queue,))
    reader = Process(target=read_letters, args=(queue, was_read))
    writer.start()
    reader.start()
    writer.join()
    for _ in range(3):
        was_read.acquire()
    reader.terminate()  # it would wait for ever
    reader.join()
    print(f"the writer's exit code: {writer.exitcode}")
    print(f"the reader's exit code: {reader.exitcode}")

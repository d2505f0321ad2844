"""A function that runs in a process of its own.

Prints two greetings from the child, then the child's exit code.
"""

from multiprocessing import Process


def greet(name, times):
    for _ in range(times):
        print(f"hello, {name}")


if __name__ == "__main__":
    process = Process(target=greet, args=("world", 2), name="greeter")
    process.start()
    process.join()
    print(f"{process.name} ended with exit code {process.exitcode}")

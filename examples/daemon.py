"""What becomes of children when the program ends: with and without join, daemonic or not.

Prints a line from the daemon that was joined and from the ordinary child, for which the program
waits at its end. The daemon that nobody joined is terminated there and never prints its line.
"""

import time
from multiprocessing import Process


def work(what, seconds):
    time.sleep(seconds)
    print(f"{what}: finished")


if __name__ == "__main__":
    joined = Process(target=work, args=("daemon, joined", 0.1), daemon=True)
    joined.start()
    joined.join()

    forgotten = Process(target=work, args=("daemon, not joined", 60), daemon=True)
    forgotten.start()
    ordinary = Process(target=work, args=("no daemon, not joined", 1))
    ordinary.start()

    print("main: the end of the program", flush=True)

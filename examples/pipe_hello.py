"""A pipe between two processes: both can send and receive, and both see the other one go.

Prints what the child received, what the parent received, and that the child has hung up.
"""

from multiprocessing import Pipe, Process


def child_main(connection):
    number, text = connection.recv()
    print(f"child: received {number} and {text}", flush=True)
    connection.send([number, number + 1, number + 2])
    connection.close()


if __name__ == "__main__":
    parent_end, child_end = Pipe()
    child = Process(target=child_main, args=(child_end,))
    child.start()
    child_end.close()  # the child has its own; with this one open there would be no end of file

    parent_end.send((42, "hello"))
    print("parent: received", *parent_end.recv(), flush=True)
    try:
        parent_end.recv()
    except EOFError:
        print("parent: the child has hung up", flush=True)
    child.join()

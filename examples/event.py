"""An event that processes wait for: one gives up after a while, the other waits until it is set.

Prints that the first one went without, then that the event is set, then that the second one goes.
"""

from multiprocessing import Event, Process


def impatient(event):
    print("impatient: the event is set:", "yes" if event.wait(0.1) else "no")


def patient(event):
    event.wait()
    print("patient: the event is set:", "yes" if event.is_set() else "no")


if __name__ == "__main__":
    event = Event()
    waiting = Process(target=patient, args=(event,))
    waiting.start()
    leaving = Process(target=impatient, args=(event,))
    leaving.start()
    leaving.join()
    print("main: sets the event", flush=True)
    event.set()
    waiting.join()

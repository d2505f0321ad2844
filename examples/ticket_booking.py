"""Five buyers and one ticket, which is kept in a JSON file.

Without a lock all of them see the ticket before the first has taken it, and all of them book it:
"without the lock: 5 buyers". With a lock around reading and writing: "with the lock: 1 buyer".
"""

import json
import tempfile
from multiprocessing import Barrier, Lock, Process, Value
from pathlib import Path

BUYERS = 5


def read_tickets(office):
    return json.loads(office.read_text())["tickets"]


def write_tickets(office, tickets):
    office.write_text(json.dumps({"tickets": tickets}))


def book(office, buyer, tickets, booked):
    if tickets > 0:
        write_tickets(office, tickets - 1)
        with booked.get_lock():
            booked.value += 1
        print(f"  buyer {buyer}: booked")
    else:
        print(f"  buyer {buyer}: sold out")


def buy_without_lock(office, buyer, looked, booked):
    tickets = read_tickets(office)
    looked.wait()  # the time in which the buyer thinks: everybody looks before anybody books
    book(office, buyer, tickets, booked)


def buy_with_lock(office, buyer, lock, booked):
    with lock:
        tickets = read_tickets(office)
        book(office, buyer, tickets, booked)


def sell(office, buy, guard):
    """Sells one ticket to everybody who gets it; returns how many that were."""
    write_tickets(office, 1)
    booked = Value("i", 0)
    buyers = [Process(target=buy, args=(office, n, guard, booked)) for n in range(1, BUYERS + 1)]
    for buyer in buyers:
        buyer.start()
    for buyer in buyers:
        buyer.join()
    return booked.value


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        office = Path(directory, "office.json")
        buyers = sell(office, buy_without_lock, Barrier(BUYERS))
        print(f"without the lock: {buyers} buyer{'' if buyers == 1 else 's'}")
        buyers = sell(office, buy_with_lock, Lock())
        print(f"with the lock: {buyers} buyer{'' if buyers == 1 else 's'}")

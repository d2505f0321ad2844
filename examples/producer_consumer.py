"""Three producers and two consumers on one queue; one None for each consumer says "no more".

Prints who made what and who ate what; the order is free. Nothing is lost: 9 made, 9 eaten.
"""

from multiprocessing import Process, Queue, Value


def produce(queue, dish):
    for number in range(1, 4):
        item = f"{dish} {number}"
        print(f"made: {item}")
        queue.put(item)


def consume(queue, name, eaten):
    while (item := queue.get()) is not None:
        print(f"{name} eats: {item}")
        with eaten.get_lock():
            eaten.value += 1


if __name__ == "__main__":
    queue = Queue()
    eaten = Value("i", 0)
    producers = [Process(target=produce, args=(queue, dish)) for dish in ("bun", "noodle", "rice")]
    consumers = [Process(target=consume, args=(queue, name, eaten)) for name in ("Ann", "Bob")]
    for process in producers + consumers:
        process.start()
    for producer in producers:
        producer.join()
    for _ in consumers:  # after everything that was produced: a queue is first in, first out
        queue.put(None)
    for consumer in consumers:
        consumer.join()
    print(f"eaten: {eaten.value}")

"""One function over many items: map, starmap, imap and imap_unordered.

Prints the results of each; all of them in the items' order, except the last, which are sorted.
"""

from multiprocessing import Pool


def square(number):
    return number * number


def add(left, right):
    return left + right


if __name__ == "__main__":
    with Pool(4) as pool:
        print("map:", *pool.map(square, range(10)))
        print("starmap:", *pool.starmap(add, [(1, 10), (2, 20), (3, 30)]))

        print("imap:", end="")
        for result in pool.imap(square, range(10)):  # each one as soon as those before it are there
            print(f" {result}", end="")
        print()

        results = list(pool.imap_unordered(square, range(10)))  # each one as soon as it is there
        print("imap_unordered:", *sorted(results))

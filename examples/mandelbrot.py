"""Draws the Mandelbrot set tile by tile, the tiles in several processes, into a PNG file.

    mandelbrot.py [FILE [WIDTH HEIGHT]]

The file is mandelbrot.png in the directory for temporary files if none is given; the picture is
smaller than the C++ program's by default, since Python takes some thirty times as long for it.
Prints the time serially and in parallel, whether the two pictures are the same, and a checksum
of the pixels. Shows the progress on stderr.
"""

import os
import struct
import sys
import tempfile
import time
import zlib
from multiprocessing import Pool

TILE = 64
LIMIT = 200  # iterations after which a point counts as one that never escapes


def colour(iterations):
    if iterations == LIMIT:
        return bytes((0, 0, 0))
    shades = (3 * iterations, 7 * iterations, 48 + 11 * iterations)
    return bytes(min(255, shade) for shade in shades)


def escape(cx, cy):
    x = y = 0.0
    for iteration in range(LIMIT):
        if x * x + y * y > 4.0:
            return iteration
        x, y = x * x - y * y + cx, 2.0 * x * y + cy
    return LIMIT


def draw(tile):
    """Returns the tile with its pixels, row by row."""
    width, height, left, top, right, bottom = tile
    pixels = bytearray()
    for row in range(top, bottom):
        for column in range(left, right):
            pixels += colour(escape(-2.25 + 3.0 * column / width, -1.0 + 2.0 * row / height))
    return tile, bytes(pixels)


def paste(picture, drawn):
    (width, _, left, top, right, bottom), pixels = drawn
    length = 3 * (right - left)
    for row in range(top, bottom):
        begin = 3 * (row * width + left)
        picture[begin : begin + length] = pixels[(row - top) * length : (row - top + 1) * length]


def write_png(path, width, height, picture):
    def chunk(kind, data):
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    length = 3 * width
    rows = b"".join(b"\0" + picture[row * length : (row + 1) * length] for row in range(height))
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.write(chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)))
        file.write(chunk(b"IDAT", zlib.compress(rows)))
        file.write(chunk(b"IEND", b""))


def main():
    default = os.path.join(tempfile.gettempdir(), "mandelbrot.png")
    path = sys.argv[1] if len(sys.argv) > 1 else default
    width, height = map(int, sys.argv[2:4]) if len(sys.argv) > 3 else (300, 200)
    tiles = [
        (width, height, left, top, min(left + TILE, width), min(top + TILE, height))
        for top in range(0, height, TILE)
        for left in range(0, width, TILE)
    ]
    print(f"{width} x {height} pixels, {len(tiles)} tiles")

    begin = time.perf_counter()
    expected = bytearray(3 * width * height)
    for tile in tiles:
        paste(expected, draw(tile))
    print(f"serially: {time.perf_counter() - begin:.2f} s", flush=True)

    processes = len(os.sched_getaffinity(0))
    begin = time.perf_counter()
    picture = bytearray(3 * width * height)
    with Pool(processes) as pool:
        for done, drawn in enumerate(pool.imap_unordered(draw, tiles), start=1):
            paste(picture, drawn)
            print(f"\r{done} of {len(tiles)} tiles", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(f"with {processes} processes: {time.perf_counter() - begin:.2f} s")

    print("the pictures are the same:", "yes" if picture == expected else "no")
    print(f"checksum: {zlib.crc32(picture):08x}")
    write_png(path, width, height, picture)
    print(f"written: {path}")
    sys.exit(0 if picture == expected else 1)


if __name__ == "__main__":
    main()

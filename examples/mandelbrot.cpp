// SPDX-License-Identifier: BSL-1.0

// Draws the Mandelbrot set tile by tile, the tiles in several processes, into a PNG file.
//
//     mandelbrot [FILE [WIDTH HEIGHT]]
//
// The file is mandelbrot.png in the directory for temporary files if none is given.
// Prints the time serially and in parallel, whether the two pictures are the same, and a checksum
// of the pixels. Shows the progress on stderr.

#include <multiprocessing.hpp>

#include <fmt/core.h>
#include <png.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

namespace mp = multiprocessing;

constexpr int tile_size = 64;
constexpr int limit = 200;  // iterations after which a point counts as one that never escapes

using Colour = std::array<std::uint8_t, 3>;

struct Tile {
    int width, height;  // of the whole picture
    int left, top, right, bottom;
};

struct Drawn {
    Tile tile;
    std::vector<Colour> pixels;  // row by row
};

struct Picture {
    int width, height;
    std::vector<Colour> pixels = std::vector<Colour>(static_cast<std::size_t>(width * height));
};

Colour colour(int iterations) {
    if (iterations == limit) { return {0, 0, 0}; }
    const auto byte = [](int value) { return static_cast<std::uint8_t>(std::min(255, value)); };
    return {byte(3 * iterations), byte(7 * iterations), byte(48 + 11 * iterations)};
}

int escape(double cx, double cy) {
    double x = 0;
    double y = 0;
    for (int iteration = 0; iteration < limit; ++iteration) {
        if (x * x + y * y > 4.0) { return iteration; }
        const double next = x * x - y * y + cx;
        y = 2.0 * x * y + cy;
        x = next;
    }
    return limit;
}

Drawn draw(const Tile& tile) {
    Drawn drawn{tile, {}};
    for (int row = tile.top; row < tile.bottom; ++row) {
        for (int column = tile.left; column < tile.right; ++column) {
            drawn.pixels.push_back(colour(escape(-2.25 + 3.0 * column / tile.width,  //
                                                 -1.0 + 2.0 * row / tile.height)));
        }
    }
    return drawn;
}

void paste(Picture& picture, const Drawn& drawn) {
    const Tile& tile = drawn.tile;
    auto from = drawn.pixels.begin();
    for (int row = tile.top; row < tile.bottom; ++row) {
        std::copy_n(from, tile.right - tile.left,
                    picture.pixels.begin() + row * picture.width + tile.left);
        from += tile.right - tile.left;
    }
}

std::vector<Tile> tiles_of(int width, int height) {
    std::vector<Tile> tiles;
    for (int top = 0; top < height; top += tile_size) {
        for (int left = 0; left < width; left += tile_size) {
            tiles.push_back({width, height, left, top,  //
                             std::min(left + tile_size, width), std::min(top + tile_size, height)});
        }
    }
    return tiles;
}

void write_png(const std::string& path, const Picture& picture) {
    png_image image{};
    image.version = PNG_IMAGE_VERSION;
    image.format = PNG_FORMAT_RGB;
    image.width = static_cast<png_uint_32>(picture.width);
    image.height = static_cast<png_uint_32>(picture.height);
    if (png_image_write_to_file(&image, path.c_str(), 0, picture.pixels.data(), 0, nullptr) == 0) {
        throw std::runtime_error(fmt::format("cannot write {}: {}", path, image.message));
    }
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// One line that is written over on a terminal; a line a tenth in a file or a pipe.
void show_progress(std::size_t done, std::size_t count) {
    static const bool is_terminal = ::isatty(STDERR_FILENO) == 1;
    const std::size_t tenth = std::max<std::size_t>(count / 10, 1);
    if (is_terminal) {
        fmt::print(stderr, "\r{} of {} tiles{}", done, count, done == count ? "\n" : "");
    } else if (done % tenth == 0 || done == count) {
        fmt::print(stderr, "{} of {} tiles\n", done, count);
    }
}

int main(int argc, char** argv) {
    const std::string path =
        argc > 1 ? argv[1] : std::filesystem::temp_directory_path() / "mandelbrot.png";
    const int width = argc > 3 ? std::stoi(argv[2]) : 3000;
    const int height = argc > 3 ? std::stoi(argv[3]) : 2000;
    const std::vector<Tile> tiles = tiles_of(width, height);
    fmt::print("{} x {} pixels, {} tiles\n", width, height, tiles.size());

    auto begin = std::chrono::steady_clock::now();
    Picture expected{width, height};
    for (const Tile& tile : tiles) { paste(expected, draw(tile)); }
    fmt::print("serially: {:.2f} s\n", seconds_since(begin));

    begin = std::chrono::steady_clock::now();
    Picture picture{width, height};
    mp::Pool pool;
    std::size_t done = 0;
    for (const Drawn& drawn : pool.imap_unordered(draw, tiles)) {
        paste(picture, drawn);
        show_progress(++done, tiles.size());
    }
    fmt::print("with {} processes: {:.2f} s\n", pool.processes(), seconds_since(begin));

    const bool same = picture.pixels == expected.pixels;
    fmt::print("the pictures are the same: {}\n", same ? "yes" : "no");
    const auto* bytes = reinterpret_cast<const Bytef*>(picture.pixels.data());
    fmt::print("checksum: {:08x}\n", crc32_z(0, bytes, picture.pixels.size() * sizeof(Colour)));
    write_png(path, picture);
    fmt::print("written: {}\n", path);
    return same ? 0 : 1;
}

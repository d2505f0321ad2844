// SPDX-License-Identifier: BSL-1.0

// Pictures through a pool: tiles of the Mandelbrot set are drawn in workers, made smaller in
// workers, and put together here, with a progress bar and never more than a few of them in memory.
//
//     image_pipeline [FILE.ppm]

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <ranges>
#include <string>
#include <vector>

namespace mp = multiprocessing;

constexpr int tiles_a_side = 12;
constexpr int tile_size = 128;  // drawn
constexpr int small_size = 32;  // and kept

using Pixel = std::array<std::uint8_t, 3>;

struct Tile {
    int column, row, size;
    std::vector<Pixel> pixels;
};

Pixel pixel_at(double cx, double cy) {
    double x = 0;
    double y = 0;
    int steps = 0;
    for (; steps < 200 && x * x + y * y < 4; ++steps) {
        const double next = x * x - y * y + cx;
        y = 2 * x * y + cy;
        x = next;
    }
    const auto shade = static_cast<std::uint8_t>(steps == 200 ? 0 : 55 + steps);
    return {shade, static_cast<std::uint8_t>(shade / 2), static_cast<std::uint8_t>(255 - shade)};
}

Tile draw(int number) {
    Tile tile{number % tiles_a_side, number / tiles_a_side, tile_size, {}};
    constexpr double all = tiles_a_side * tile_size;
    for (int y = 0; y < tile_size; ++y) {
        for (int x = 0; x < tile_size; ++x) {
            tile.pixels.push_back(pixel_at(-2.2 + 3.0 * (tile.column * tile_size + x) / all,
                                           -1.5 + 3.0 * (tile.row * tile_size + y) / all));
        }
    }
    return tile;
}

// The mean of each block of pixels.
Tile shrink(const Tile& large) {
    constexpr int block = tile_size / small_size;
    Tile small{large.column, large.row, small_size, {}};
    for (int y = 0; y < small_size; ++y) {
        for (int x = 0; x < small_size; ++x) {
            std::array<int, 3> sum{};
            for (int i = 0; i < block * block; ++i) {
                const auto at = static_cast<std::size_t>((y * block + i / block) * tile_size +
                                                         x * block + i % block);
                for (std::size_t c = 0; c < 3; ++c) { sum[c] += large.pixels[at][c]; }
            }
            Pixel mean;
            for (std::size_t c = 0; c < 3; ++c) {
                mean[c] = static_cast<std::uint8_t>(sum[c] / (block * block));
            }
            small.pixels.push_back(mean);
        }
    }
    return small;
}

int main(int argc, char** argv) {
    const std::string path = argc > 1 ? argv[1] : "/dev/null";
    constexpr int width = tiles_a_side * small_size;
    std::vector<Pixel> picture(static_cast<std::size_t>(width) * width);
    mp::Pool pool(mp::process_cpu_count());
    // One stage feeds the other: what is drawn is taken only as fast as it is made smaller.
    auto drawn = pool.imap(draw, std::views::iota(0, tiles_a_side * tiles_a_side));
    auto shrunk = pool.imap_unordered(shrink, std::move(drawn));
    int tiles = 0;
    for (const Tile& tile :
         mp::progress(std::move(shrunk), {.total = tiles_a_side * tiles_a_side, .desc = "tiles"})) {
        ++tiles;
        for (int y = 0; y < small_size; ++y) {
            for (int x = 0; x < small_size; ++x) {
                picture[static_cast<std::size_t>((tile.row * small_size + y) * width +
                                                 tile.column * small_size + x)] =
                    tile.pixels[static_cast<std::size_t>(y * small_size + x)];
            }
        }
    }
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "wb"),
                                                               &std::fclose);
    fmt::print(file.get(), "P6 {} {} 255\n", width, width);
    std::fwrite(picture.data(), sizeof(Pixel), picture.size(), file.get());
    std::uint64_t sum = 0;
    for (const Pixel& pixel : picture) { sum += pixel[0] + pixel[1] + pixel[2]; }
    fmt::print("{} tiles, {} x {} pixels, sum {}\n", tiles, width, width, sum);
}

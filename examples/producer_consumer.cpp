// SPDX-License-Identifier: BSL-1.0

// Three producers and two consumers on one queue; one nullopt for each consumer says "no more".
//
// Prints who made what and who ate what; the order is free. Nothing is lost: 9 made, 9 eaten.

#include <multiprocessing.hpp>

#include <fmt/core.h>

#include <optional>
#include <string>
#include <vector>

namespace mp = multiprocessing;

using Kitchen = mp::Queue<std::optional<std::string>>;

void produce(Kitchen queue, const std::string& dish) {
    for (int number = 1; number <= 3; ++number) {
        const std::string item = fmt::format("{} {}", dish, number);
        fmt::print("made: {}\n", item);
        queue.put(item);
    }
}

void consume(Kitchen queue, const std::string& name, mp::Value<int> eaten) {
    while (const auto item = queue.get()) {
        fmt::print("{} eats: {}\n", name, *item);
        eaten += 1;
    }
}

int main() {
    Kitchen queue;
    mp::Value<int> eaten(0);
    std::vector<mp::Process> producers;
    for (const char* dish : {"bun", "noodle", "rice"}) {
        producers.emplace_back(produce, queue, dish);
    }
    std::vector<mp::Process> consumers;
    for (const char* name : {"Ann", "Bob"}) { consumers.emplace_back(consume, queue, name, eaten); }

    for (mp::Process& producer : producers) { producer.start(); }
    for (mp::Process& consumer : consumers) { consumer.start(); }
    for (mp::Process& producer : producers) { producer.join(); }
    // After everything that was produced: a queue is first in, first out.
    for (std::size_t i = 0; i < consumers.size(); ++i) { queue.put(std::nullopt); }
    for (mp::Process& consumer : consumers) { consumer.join(); }
    fmt::print("eaten: {}\n", eaten.value());
}

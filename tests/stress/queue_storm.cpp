// SPDX-License-Identifier: BSL-1.0

// Four producers and four consumers of one queue. Every item is numbered and checksummed; who has
// put it and who has got it stands in an account that survives them.

#include "storm.hpp"

#include <multiprocessing/queues.hpp>

#include <unordered_map>

namespace storm {

namespace {

constexpr std::uint64_t most_items = 1 << 21;
constexpr std::size_t producers = 4;
constexpr std::size_t consumers = producers;

struct Account {
    std::atomic<std::uint64_t> next;  // number of the next item
    std::atomic<std::uint64_t> damaged, disordered;
    // By each consumer: how many items it may have in hand, from before the get until they stand in
    // `got`.
    std::atomic<std::uint64_t> in_hand[producers + consumers];
    std::atomic<std::uint8_t> put[most_items];  // 1: its put has returned
    std::atomic<std::uint8_t> got[most_items];  // how often it was got
};

struct Item {
    std::uint64_t number = 0;
    std::uint64_t producer = 0;
    std::vector<std::uint8_t> filler;
    std::uint64_t checksum = 0;
};

std::uint64_t checksum_of(const Item& item) {
    std::uint64_t sum = item.number * 0x9e37'79b9'7f4a'7c15U ^ item.producer;
    for (const std::uint8_t byte : item.filler) { sum = (sum ^ byte) * 0x100'0000'01b3U; }
    return sum;
}

Item make_item(std::uint64_t number, std::uint64_t producer, Random& random) {
    std::size_t size = random() % 300;
    if (random() % 100 == 0) { size = random() % 20'000; }
    // Larger than an area of the ring is at first, or ever.
    if (random() % 3000 == 0) { size = random() % 6'000'000; }
    Item item{number, producer, std::vector<std::uint8_t>(size), 0};
    for (std::size_t i = 0; i < size; ++i) {
        item.filler[i] = static_cast<std::uint8_t>(number * 31 + i * 7);
    }
    item.checksum = checksum_of(item);
    return item;
}

void produce(const mp::Queue<Item>& queue, Account& account, const Team::Member& self) {
    Random random(self.seed);
    try {
        std::vector<Item> items;
        while (account.next < most_items - 64) {
            const std::uint64_t count = random() % 8 == 0 ? 1 + random() % 8 : 1;
            const std::uint64_t first = account.next.fetch_add(count);
            items.clear();
            for (std::uint64_t number = first; number < first + count; ++number) {
                items.push_back(make_item(number, self.number, random));
            }
            if (count == 1) {
                queue.put(items.front());
            } else {
                queue.put_many(items);
            }
            for (const Item& item : items) { account.put[item.number] = 1; }
            ++self.progress;
        }
        queue.shutdown();
    } catch (const mp::ShutDown&) {}
}

void consume(const mp::Queue<Item>& queue, Account& account, const Team::Member& self) {
    Random random(self.seed);
    std::unordered_map<std::uint64_t, std::uint64_t> last_of;  // by producer
    std::vector<Item> items;
    try {
        for (;;) {
            items.clear();
            const auto way = random() % 8;
            account.in_hand[self.place] = way == 0 ? 4 : 1;
            if (way == 0) {
                items = queue.get_many(4);
            } else if (way == 1) {
                if (auto item = queue.try_get(200us)) { items.push_back(std::move(*item)); }
            } else {
                items.push_back(queue.get());
            }
            for (const Item& item : items) {
                if (item.number >= most_items || item.checksum != checksum_of(item)) {
                    ++account.damaged;
                    continue;
                }
                ++account.got[item.number];
                auto& last = last_of[item.producer];
                if (item.number + 1 <= last) { ++account.disordered; }
                last = item.number + 1;
            }
            account.in_hand[self.place] = 0;
            if (!items.empty()) { ++self.progress; }
        }
    } catch (const mp::ShutDown&) {}
}

}  // namespace

void queue_storm(std::uint64_t kills, Random& random, Figures& figures) {
    const std::size_t sizes[] = {0, 0, 1, 20};
    const mp::Queue<Item> queue(sizes[random() % std::size(sizes)]);
    const Shared<Account> account;
    std::uint64_t in_dead_hands = 0;
    const auto work = [&](const Team::Member& self) {
        if (self.place < producers) {
            produce(queue, *account, self);
        } else {
            consume(queue, *account, self);
        }
    };
    Team team(2, producers, work, random, figures);
    const std::uint64_t until = figures.kills + kills;
    // So few at a time that the account is looked at before it can be full.
    while (figures.kills < until && account->next < most_items / 2) {
        team.storm(
            std::min<std::uint64_t>(20, until - figures.kills), [](std::size_t) {},
            [&](std::size_t place) {
                in_dead_hands += account->in_hand[place].exchange(0);
                team.await_roles(place);
            });
    }
    team.await_progress();
    queue.shutdown();
    team.join();
    figures.items -= team.done();  // items are counted here

    expect_equal(account->damaged, 0, "damaged items");
    expect_equal(account->disordered, 0, "items before their producer's earlier ones");
    expect_equal(queue.qsize(), 0, "items left in the queue");
    std::uint64_t twice = 0;
    std::uint64_t missing = 0;
    for (std::uint64_t i = 0; i < account->next; ++i) {
        const int got = account->got[i];
        twice += got > 1 ? 1U : 0U;
        missing += got == 0 && account->put[i] != 0 ? 1U : 0U;
        figures.items += got == 1 ? 1U : 0U;
    }
    expect_equal(twice, 0, "items that were got twice");
    expect_at_most(missing, in_dead_hands, "missing items, though no victim had so many in hand");
}

}  // namespace storm

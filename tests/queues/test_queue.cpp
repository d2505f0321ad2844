// SPDX-License-Identifier: BSL-1.0

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/leak_check.hpp"

#include <multiprocessing/process.hpp>
#include <multiprocessing/queues.hpp>

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace mp = multiprocessing;
using namespace std::chrono_literals;

namespace {

struct Ticket {
    int id = 0;
    std::string who;
    bool operator==(const Ticket&) const = default;
};

/// Serialises itself, and fails at 13 when it is saved, at 14 when it is loaded.
class Moody {
  public:
    explicit Moody(int value = 0) : value_(value) {}
    int value() const { return value_; }
    template <class Archive>
    void save(Archive& archive) const {
        if (value_ == 13) { throw std::runtime_error("does not go out"); }
        archive(value_);
    }
    template <class Archive>
    void load(Archive& archive) {
        archive(value_);
        if (value_ == 14) { throw std::runtime_error("does not come in"); }
    }

  private:
    int value_;
};

/// Puts on another queue while it is saved.
struct Chatty {
    static inline std::optional<mp::Queue<int>> other;
    int value = 0;
    template <class Archive>
    void serialize(Archive& archive) {
        if (other) { other->put(1); }
        archive(value);
    }
};

template <class Queue, class Argument>
concept takes = requires(const Queue& queue, Argument argument) {
    queue.get(argument);
};

/// Ends the child and checks that it ended well.
void join(mp::Process& process) {
    CHECK(process.join(60s));
    CHECK(process.exitcode() == 0);
}

/// Puts bytes on the queue that no put would.
template <class T>
void put_bytes(mp::detail::ItemRing<T>& items, std::vector<unsigned char> bytes) {
    items.ring().put(bytes.size(), [&](std::span<std::byte> to) {
        std::transform(bytes.begin(), bytes.end(), to.begin(),
                       [](auto byte) { return std::byte{byte}; });
    });
}

}  // namespace

TEST_CASE("values of all kinds cross to another process and back") {
    const mp::Queue<Ticket> tickets;
    const mp::Queue<std::map<std::string, std::vector<int>>> maps;
    const mp::Queue<std::unique_ptr<int>> pointers;
    const mp::Queue<std::optional<std::string>> texts;
    mp::Process child([=] {
        tickets.put(tickets.get());
        maps.put(maps.get());
        pointers.put(pointers.get());
        texts.put(texts.get());
        texts.put(std::nullopt);
    });
    tickets.put({7, "Ada"});
    maps.put({{"a", {1, 2}}, {"b", {}}});
    pointers.put(std::make_unique<int>(5));
    texts.put("text");
    child.start();
    join(child);
    CHECK(tickets.get() == Ticket{7, "Ada"});
    CHECK(maps.get() == std::map<std::string, std::vector<int>>{{"a", {1, 2}}, {"b", {}}});
    CHECK(*pointers.get() == 5);
    CHECK(texts.get() == "text");
    CHECK(texts.get() == std::nullopt);
}

TEST_CASE("what has been put is there at once, exactly") {
    const mp::Queue<int> queue;
    int wrong = 0;
    for (int i = 0; i < 100'000; ++i) {
        queue.put(i);
        const bool there = !queue.empty() && queue.qsize() == 1;
        if (!there || queue.get_nowait() != i || !queue.empty()) { ++wrong; }
    }
    CHECK(wrong == 0);
}

TEST_CASE("the forms of put and get") {
    const mp::Queue<std::string> queue(2);
    queue.put("a");
    queue.put_nowait("b");
    CHECK(queue.full());
    CHECK_THROWS_AS(queue.put("c", false), mp::Full);
    CHECK_THROWS_AS(queue.put("c", true, 20ms), mp::Full);
    CHECK_THROWS_AS(queue.put_nowait("c"), mp::Full);
    CHECK(!queue.try_put("c"));
    CHECK(!queue.try_put("c", 20ms));
    CHECK(queue.get() == "a");
    CHECK(queue.get(true, 1s) == "b");
    queue.emplace(3U, 'x');
    CHECK(queue.get(1s) == "xxx");
    CHECK(queue.try_put("d"));
    CHECK(queue.get(false) == "d");
    CHECK(queue.try_get() == std::nullopt);
    CHECK(queue.try_get(20ms) == std::nullopt);
    CHECK_THROWS_AS(queue.get(20ms), mp::Empty);
    CHECK_THROWS_AS(queue.get(-1s), mp::Empty);
    CHECK_THROWS_AS(queue.get_nowait(), mp::Empty);
    // Without blocking the timeout does not count.
    CHECK(support::timed([&] { CHECK_THROWS_AS(queue.get(false, 20s), mp::Empty); }) < 10s);
    static_assert(!takes<mp::Queue<std::string>, int> && !takes<mp::Queue<std::string>, double>,
                  "a bare number says neither unit nor meaning");
}

TEST_CASE("a handle is copied, compared by what it refers to, and goes as an argument") {
    mp::Queue<int> queue;
    mp::Queue<int> copy = queue;
    mp::Queue<int> moved = std::move(queue);
    queue.put(1);  // moving copies
    CHECK(copy.get(1s) == 1);
    mp::Process child([](mp::Queue<int>& by_reference,
                         mp::Queue<int> by_value) { by_value.put(by_reference.get()); },
                      copy, moved);
    child.start();
    copy.put(2);
    join(child);
    CHECK(copy.get(1s) == 2);
    copy = mp::Queue<int>();
    CHECK(copy.empty());
}

TEST_CASE("bounds beyond what can be counted are none") {
    const mp::Queue<int> queue(static_cast<std::size_t>(-1));
    queue.put(1);
    CHECK(!queue.full());
    CHECK(queue.get() == 1);
}

TEST_CASE("many at once") {
    const mp::Queue<int> numbers;
    const mp::Queue<Moody> moody;
    SECTION("from a list in braces, a vector, a list, a view") {
        numbers.put_many({1, 2, 3});
        numbers.put_many(std::vector{4, 5});
        numbers.put_many(std::list{6});
        std::vector<long> longs{7, 8};
        numbers.put_many(longs);
        numbers.put_many(std::vector<int>());
        CHECK(numbers.qsize() == 8);
        CHECK(numbers.get_many(5) == std::vector{1, 2, 3, 4, 5});
        CHECK(numbers.get_many(100) == std::vector{6, 7, 8});
        CHECK(numbers.get_many(100, 20ms).empty());
        CHECK(numbers.get_many(0).empty());
    }
    SECTION("of a type with code of its own") {
        moody.put_many({Moody(1), Moody(2), Moody(3)});
        CHECK(moody.get_many(2).size() == 2);
        CHECK(moody.get_many(9, 1s).at(0).value() == 3);
        CHECK(moody.get_many(9, 20ms).empty());
        CHECK_THROWS_AS(moody.put_many({Moody(1), Moody(13)}), std::runtime_error);
    }
    SECTION("through a queue with a bound") {
        const mp::Queue<int> narrow(3);
        mp::Process child([=] {
            std::vector<int> all(1000);
            std::iota(all.begin(), all.end(), 0);
            narrow.put_many(all);
            narrow.shutdown();
        });
        child.start();
        std::vector<int> got;
        CHECK_THROWS_AS(
            [&] {
                for (;;) {
                    const std::vector<int> some = narrow.get_many(10);
                    REQUIRE((some.size() >= 1 && some.size() <= 3));
                    got.insert(got.end(), some.begin(), some.end());
                }
            }(),
            mp::ShutDown);
        join(child);
        CHECK(got.size() == 1000);
        CHECK(std::is_sorted(got.begin(), got.end()));
    }
}

TEST_CASE("what fails in saving or loading costs one item and no place") {
    const mp::Queue<Moody> queue(2);
    CHECK_THROWS_WITH(queue.put(Moody(13)), "does not go out");
    CHECK(queue.qsize() == 0);
    queue.put(Moody(14));
    queue.put(Moody(1));
    CHECK_THROWS_WITH(queue.get(), "does not come in");
    CHECK(queue.get().value() == 1);

    SECTION("and among many is reported after the others") {
        const mp::Queue<Moody> many;
        many.put_many({Moody(1), Moody(14), Moody(2)});
        CHECK(many.get_many(10).size() == 1);
        CHECK_THROWS_WITH(many.get_many(10), "does not come in");
        CHECK(many.get_many(10).size() == 1);
    }
    SECTION("user code may use queues") {
        const mp::Queue<Chatty> chatty;
        Chatty::other.emplace();
        chatty.put({5});
        CHECK(chatty.get().value == 5);
        CHECK(Chatty::other->qsize() == 2);
        Chatty::other.reset();
    }
}

TEST_CASE("bytes that are not a value are an error, once") {
    mp::detail::ItemRing<std::string> items("Queue", 0);
    put_bytes(items, {1, 2, 3});
    items.put("good", 1s);
    put_bytes(items, {255, 255, 255, 255, 255, 255, 255, 255, 1});
    items.put("better", 1s);
    SECTION("one by one") {
        CHECK_THROWS_AS(items.get(1s), mp::SerializationError);
        CHECK(items.get(1s) == "good");
        CHECK_THROWS_AS(items.get(1s), mp::SerializationError);
        CHECK(items.get(1s) == "better");
    }
    SECTION("or among many") {
        CHECK_THROWS_AS(items.get_many(9, 1s), mp::SerializationError);
        CHECK(items.get_many(9, 1s) == std::vector<std::string>{"good"});
        CHECK_THROWS_AS(items.get_many(9, 1s), mp::SerializationError);
        CHECK(items.get_many(9, 1s) == std::vector<std::string>{"better"});
    }
}

TEST_CASE("a handle cannot be put on a queue") {
    const mp::Queue<mp::Queue<int>> queue;
    CHECK_THROWS_AS(queue.put(mp::Queue<int>()), mp::SerializationError);
    CHECK(queue.empty());
}

TEST_CASE("closing ends this process's use of the queue") {
    const auto before = support::open_descriptors();
    const mp::Queue<int> queue;
    const mp::Queue<int> copy = queue;
    queue.put(1);
    queue.put(2);
    CHECK_THROWS_AS(queue.join_thread(), mp::AssertionError);
    mp::Process child([=] { return copy.get(20s) == 1 ? 0 : 1; });
    child.start();
    queue.close();
    queue.close();
    queue.join_thread();
    queue.cancel_join_thread();
    join(child);
    CHECK_THROWS_AS(queue.put(1), mp::ValueError);
    CHECK_THROWS_AS(copy.put_many({1}), mp::ValueError);
    CHECK_THROWS_AS(copy.try_put(1), mp::ValueError);
    CHECK_THROWS_AS(copy.get(), mp::ValueError);
    CHECK_THROWS_AS(copy.try_get(), mp::ValueError);
    CHECK_THROWS_AS(copy.get_many(3), mp::ValueError);
    CHECK_THROWS_AS(copy.fileno(), mp::ValueError);
    CHECK_THROWS_AS(copy.empty(), mp::ValueError);
    CHECK(copy.qsize() == 1);
    CHECK(!copy.full());
    queue.shutdown();
    child.close();
    CHECK(support::open_descriptors() == before);
}

TEST_CASE("closing wakes another thread of this process") {
    const mp::Queue<int> queue;
    std::atomic<bool> told{false};
    std::thread waiting([&] {
        try {
            queue.get(20s);
        } catch (const mp::ValueError&) { told = true; }
    });
    queue.close();
    waiting.join();
    CHECK(told);
}

TEST_CASE("shutting down ends the queue for everybody") {
    const mp::Queue<int> queue(2);
    SECTION("who waits for an item") {
        std::vector<std::unique_ptr<mp::Process>> waiting;
        for (int i = 0; i < 3; ++i) {
            waiting.push_back(std::make_unique<mp::Process>([=] {
                try {
                    queue.get();
                } catch (const mp::ShutDown&) { throw mp::SystemExit(5); }
            }));
            waiting.back()->start();
        }
        queue.shutdown();
        for (auto& process : waiting) {
            CHECK(process->join(20s));
            CHECK(process->exitcode() == 5);
        }
    }
    SECTION("who waits for a place; what is in it can still be had") {
        queue.put_many({1, 2});
        mp::Process waiting([=] {
            try {
                queue.put(3);
            } catch (const mp::ShutDown&) { throw mp::SystemExit(5); }
        });
        waiting.start();
        queue.shutdown();
        CHECK(waiting.join(20s));
        CHECK(waiting.exitcode() == 5);
        CHECK(queue.get() == 1);
        CHECK(queue.get_many(5) == std::vector{2});
        CHECK_THROWS_AS(queue.get_many(5), mp::ShutDown);
        CHECK_THROWS_AS(queue.try_get(), mp::ShutDown);
    }
    SECTION("at once") {
        queue.put_many({1, 2});
        queue.shutdown(true);
        CHECK(queue.empty());
        CHECK(queue.qsize() == 0);
    }
    CHECK_THROWS_AS(queue.get(), mp::ShutDown);
    CHECK_THROWS_AS(queue.put(1), mp::ShutDown);
    queue.shutdown();
    queue.shutdown(true);
}

TEST_CASE("a child that put and ended can be joined before anything is read") {
    const mp::Queue<std::vector<char>> queue;
    mp::Process child([=] {
        for (int i = 0; i < 100; ++i) {
            queue.put(std::vector<char>(1024 * 1024, static_cast<char>(i)));
        }
    });
    child.start();
    join(child);
    CHECK(queue.qsize() == 100);
    for (int i = 0; i < 100; ++i) {
        REQUIRE(queue.get() == std::vector<char>(1024 * 1024, static_cast<char>(i)));
    }
}

TEST_CASE("a queue's descriptor can be waited for") {
    const mp::Queue<int> queue;
    pollfd entry{.fd = queue.fileno(), .events = POLLIN, .revents = 0};
    CHECK(::poll(&entry, 1, 0) == 0);
    mp::Process child([=] { queue.put(1); });
    child.start();
    CHECK(::poll(&entry, 1, 20'000) == 1);
    CHECK(queue.get_nowait() == 1);
    CHECK(::poll(&entry, 1, 0) == 0);
    join(child);
    queue.shutdown();
    CHECK(::poll(&entry, 1, 0) == 1);
}

TEST_CASE("queues cost two descriptors and leave nothing") {
    const auto before = support::open_descriptors().size();
    for (int i = 0; i < 1000; ++i) {
        const mp::Queue<int> queue;
        if (i % 2 == 0) { queue.put(i); }
    }
    CHECK(support::open_descriptors().size() == before);
    const mp::Queue<int> queue;
    CHECK(support::open_descriptors().size() <= before + 2);
}

// SPDX-License-Identifier: BSL-1.0

// Handles cross to a process that is being started: what it loads is the same object, though it has
// inherited nothing.

#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/forked.hpp"
#include "support/parcel.hpp"

#include <multiprocessing/connection.hpp>
#include <multiprocessing/queues.hpp>
#include <multiprocessing/serialize.hpp>
#include <multiprocessing/sharedctypes.hpp>
#include <multiprocessing/shm/family.hpp>
#include <multiprocessing/synchronize.hpp>

#include <poll.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

namespace mp = multiprocessing;

using namespace std::chrono_literals;
using support::Forked;
using support::pack;
using support::Parcel;
using support::sent;
using support::unpack;

namespace {

/// More than one word, so that it has a spare.
struct Point {
    std::int64_t x, y, z;
    bool operator==(const Point&) const = default;
};

/// What a process may get as one argument.
struct Tools {
    mp::Lock lock;
    std::optional<mp::Event> ready;
    std::vector<mp::Value<int>> counters;
    mp::Queue<std::string> texts;
};

/// Without a default constructor and sent by nobody, but fit for shared memory.
class Opaque {
  public:
    explicit Opaque(int number) : number_(number) {}
    int number() const { return number_; }

  private:
    int number_;
};

bool is_readable(int fd) {
    pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
    return ::poll(&entry, 1, 0) == 1;
}

/// Runs `f` in another thread.
template <class F>
auto elsewhere(F f) {
    std::optional<decltype(f())> result;
    std::thread([&] { result = f(); }).join();
    return *result;
}

/// A process that exists before what it is sent, so that it inherits nothing but the family. It has
/// returned from `f(T)` when `join` returns.
template <class T>
class Stranger {
  public:
    template <class F>
    explicit Stranger(F f)
        : pipe_(mp::Pipe()),
          child_([&] { return static_cast<int>(f(unpack<T>(Parcel::receive(pipe_.second)))); }) {}

    void send(const T& value) { pack(value).send(pipe_.first); }
    int join() { return child_.join(); }
    const Forked& child() const { return child_; }

  private:
    const mp::detail::MemberId parent_ = mp::detail::Family::self();  // before the fork
    std::pair<mp::Connection, mp::Connection> pipe_;
    Forked child_;
};

template <class T>
void check_refused_elsewhere(const T& handle, const std::string& name) {
    const std::string text = "a " + name + " can be sent only to a process that is being started";
    CHECK_THROWS_WITH(mp::dumps(handle), text);
    CHECK_THROWS_AS(mp::loads<T>(pack(handle).bytes), mp::SerializationError);
    const auto [here, there] = mp::Pipe();
    CHECK_THROWS_WITH(here.send(handle), text);
}

/// Every part of what was sent, and every one of its bytes changed, is a handle or
/// SerializationError; what is loaded can be dropped.
template <class T>
void check_corruption(const T& handle) {
    const Parcel parcel = pack(handle);
    int loaded = 0;
    int refused = 0;
    for (std::size_t size = 0; size < parcel.bytes.size(); ++size) {
        CHECK_THROWS_AS(unpack<T>(std::span(parcel.bytes).first(size), parcel.sink),
                        mp::SerializationError);
    }
    for (std::size_t i = 0; i < parcel.bytes.size(); ++i) {
        for (int change = 1; change < 256; ++change) {
            std::vector<std::byte> bytes = parcel.bytes;
            bytes[i] ^= static_cast<std::byte>(change);
            try {
                static_cast<void>(unpack<T>(bytes, parcel.sink));
                ++loaded;
            } catch (const mp::SerializationError&) { ++refused; }
        }
    }
    CHECK(loaded + refused == static_cast<int>(255 * parcel.bytes.size()));
    CHECK(refused > loaded);
}

}  // namespace

TEST_CASE("a lock that was sent is the same lock", "[handles]") {
    const mp::Lock lock;
    const mp::Lock other = sent(lock);
    REQUIRE(lock.acquire());
    CHECK_FALSE(other.acquire(false));
    CHECK(other.owner() == ::getpid());
    other.release();
    CHECK(lock.acquire(false));
    lock.release();
}

TEST_CASE("an RLock that was sent is the same one, and its owner the same thread", "[handles]") {
    const mp::RLock lock;
    const mp::RLock other = sent(lock);
    REQUIRE(lock.acquire());
    CHECK(other.acquire(false));
    CHECK_FALSE(elsewhere([&] { return static_cast<bool>(other.acquire(false)); }));
    lock.release();
    CHECK_FALSE(elsewhere([&] { return static_cast<bool>(lock.acquire(false)); }));
    other.release();
    CHECK_FALSE(lock.locked());
}

TEST_CASE("what a lock does at a death crosses with it", "[handles]") {
    const mp::Lock lock({.on_owner_death = mp::OwnerDeath::poison});
    Forked child([other = sent(lock)] { return other.acquire() ? 0 : 1; });
    CHECK(child.join() == 0);
    CHECK_THROWS_AS(lock.acquire(), mp::OwnerDiedError);
    CHECK_THROWS_AS(sent(lock).acquire(), mp::OwnerDiedError);
    sent(lock).recover();
    CHECK(lock.acquire(false));
}

TEST_CASE("a semaphore that was sent has the same units", "[handles]") {
    const mp::Semaphore semaphore(2);
    const mp::Semaphore other = sent(semaphore);
    CHECK(other.get_value() == 2);
    CHECK(semaphore.acquire(false));
    CHECK(other.acquire(false));
    CHECK_FALSE(semaphore.acquire(false));
    other.release(3);
    CHECK(semaphore.get_value() == 3);

    const mp::Semaphore many(100'000);
    CHECK(sent(many).get_value() == 100'000);
}

TEST_CASE("a bounded semaphore stays bounded, and what a death costs stays", "[handles]") {
    const mp::BoundedSemaphore semaphore(1, {.on_death = mp::UnitDeath::lose});
    const mp::BoundedSemaphore other = sent(semaphore);
    CHECK_THROWS_AS(other.release(), mp::ValueError);
    Forked child([&] { return other.acquire() ? 0 : 1; });
    CHECK(child.join() == 0);
    CHECK_FALSE(semaphore.acquire(false));
    CHECK_THROWS_AS(unpack<mp::BoundedSemaphore>(pack(mp::Semaphore(1))), mp::SerializationError);
    const mp::Semaphore sliced = semaphore;
    sent(sliced).release();
    CHECK_THROWS_AS(sent(sliced).release(), mp::ValueError);
}

TEST_CASE("a condition that was sent has the same lock and the same waiters", "[handles]") {
    const auto check = [](const mp::Condition& condition) {
        const mp::Condition other = sent(condition);
        condition.acquire();
        CHECK_FALSE(elsewhere([&] { return static_cast<bool>(other.acquire(false)); }));
        Forked child([&] {
            const mp::Condition third = sent(other);
            third.acquire();
            third.notify();
            third.release();
            return 0;
        });
        CHECK(condition.wait(20s));
        condition.release();
        CHECK(child.join() == 0);
    };
    check(mp::Condition());
    check(mp::Condition(mp::Lock()));

    const mp::Lock lock;
    const mp::Condition condition(lock);
    REQUIRE(sent(condition).acquire());
    CHECK(lock.locked());
    lock.release();
}

TEST_CASE("an event that was sent is the same event", "[handles]") {
    const mp::Event event;
    const mp::Event other = sent(event);
    CHECK_FALSE(other.is_set());
    Forked child([&] {
        sent(other).set();
        return 0;
    });
    CHECK(event.wait(20s));
    CHECK(other.is_set());
    CHECK(child.join() == 0);
}

TEST_CASE("a barrier that was sent brings the same parties together", "[handles]") {
    const mp::Barrier barrier(2, {}, 20s);
    const mp::Barrier other = sent(barrier);
    CHECK(other.parties() == 2);
    Forked child([&] { return sent(other).wait(); });
    const int here = barrier.wait();
    CHECK(here + child.join() == 1);
    other.abort();
    CHECK(barrier.broken());
}

TEST_CASE("a barrier's own timeout crosses", "[handles]") {
    const mp::Barrier barrier(2, {}, 10ms);
    CHECK_THROWS_AS(sent(barrier).wait(), mp::BrokenBarrierError);
    CHECK(barrier.broken());
    const mp::Barrier endless(1);
    CHECK(sent(sent(endless)).wait() == 0);
}

TEST_CASE("a handle with a function is not sent, and says so", "[handles]") {
    const mp::LockOptions options{.on_owner_death = mp::OwnerDeath::repair, .repair = [] {}};
    CHECK_THROWS_WITH(pack(mp::Lock(options)),
                      support::contains("a Lock with a repair function cannot be sent"));
    CHECK_THROWS_WITH(pack(mp::RLock(options)),
                      support::contains("an RLock with a repair function cannot be sent"));
    CHECK_THROWS_WITH(pack(mp::Condition(mp::RLock(options))),
                      support::contains("an RLock with a repair function cannot be sent"));
    CHECK_THROWS_AS(pack(mp::Value<int>(1, mp::RLock(options))), mp::SerializationError);
    CHECK_THROWS_WITH(pack(mp::Barrier(2, [] {})),
                      support::contains("a Barrier with an action cannot be sent"));
}

TEST_CASE("values that were sent are the same objects", "[handles]") {
    const mp::RawValue<int> raw(1);
    const mp::RawValue<int> other_raw = sent(raw);
    other_raw.set_value(2);
    CHECK(raw.value() == 2);

    const mp::Value<Point> point(Point{1, 2, 3});
    const mp::Value<Point> other = sent(point);
    CHECK(other.value() == Point{1, 2, 3});
    other.update([](Point& p) { p.y = 20; });
    CHECK(point.value() == Point{1, 20, 3});
    REQUIRE(point.get_lock().acquire());
    CHECK(other.get_lock().locked());
    other.get_lock().release();

    const mp::Value<int> without(7, false);
    CHECK(sent(without).value() == 7);
    CHECK_THROWS_AS(sent(without).get_lock(), mp::AssertionError);
    CHECK(sent(mp::RawValue<Opaque>(Opaque(5))).get_obj().number() == 5);
}

TEST_CASE("arrays that were sent are the same elements", "[handles]") {
    const mp::Array<double> small(10);
    const mp::Array<Point> large(10'000);
    const mp::RawArray<std::uint8_t> none(std::size_t{0});
    const auto other_small = sent(small);
    const auto other_large = sent(large);
    other_small.set(9, 1.5);
    CHECK(small.get(9) == 1.5);
    REQUIRE(other_large.size() == 10'000);
    large.set(9'999, {1, 2, 3});
    CHECK(other_large.get(9'999) == Point{1, 2, 3});
    REQUIRE(small.get_lock().acquire());
    CHECK(other_small.get_lock().locked());
    small.get_lock().release();
    CHECK(sent(none).empty());
    CHECK_THROWS_AS(sent(mp::Array<int>(3, false)).get_lock(), mp::AssertionError);
}

TEST_CASE("a queue that was sent is the same queue", "[handles]") {
    const mp::Queue<std::string> queue(3);
    const auto other = sent(queue);
    queue.put("one");
    other.put("two");
    CHECK(other.qsize() == 2);
    CHECK(other.get(20s) == "one");
    CHECK(queue.get(20s) == "two");
    queue.put_many({"a", "b", "c"});
    CHECK(other.full());
    CHECK_FALSE(other.try_put("d"));
    CHECK(other.get_many(3).size() == 3);
    queue.shutdown();
    CHECK_THROWS_AS(other.get(), mp::ShutDown);
}

TEST_CASE("a queue that was sent goes on growing on either side", "[handles]") {
    const mp::Queue<std::vector<int>> queue;
    const auto other = sent(queue);
    for (int i = 0; i < 200; ++i) {
        queue.put(std::vector<int>(1000, i));
        other.put(std::vector<int>(1000, -i));
    }
    queue.put(std::vector<int>(4'000'000, 5));  // an extent
    bool right = true;
    for (int i = 0; i < 200; ++i) {
        right = right && other.get(20s) == std::vector<int>(1000, i);
        right = right && queue.get(20s) == std::vector<int>(1000, -i);
    }
    CHECK(right);
    CHECK(other.get(20s) == std::vector<int>(4'000'000, 5));
    CHECK(queue.empty());
}

TEST_CASE("a queue's descriptor is the same switch on either side", "[handles]") {
    const mp::Queue<int> queue;
    const auto other = sent(queue);
    const int fd = queue.fileno();
    CHECK_FALSE(is_readable(fd));
    other.put(1);
    CHECK(is_readable(fd));
    CHECK(is_readable(other.fileno()));
    CHECK(queue.get(20s) == 1);
    CHECK_THROWS_AS(other.get_nowait(), mp::Empty);
    CHECK_FALSE(is_readable(other.fileno()));
}

TEST_CASE("the other queues cross as well", "[handles]") {
    const mp::JoinableQueue<int> joinable;
    const auto other = sent(joinable);
    joinable.put(1);
    CHECK_FALSE(joinable.join(0s));
    CHECK(other.get() == 1);
    other.task_done();
    CHECK(joinable.join(20s));
    CHECK_THROWS_AS(other.task_done(), mp::ValueError);
    other.close();
    CHECK_THROWS_WITH(other.put(1), "the JoinableQueue is closed");
    joinable.put(2);

    const mp::SimpleQueue<Point> simple;
    sent(simple).put({1, 2, 3});
    CHECK(sent(simple).get() == Point{1, 2, 3});
}

TEST_CASE("a queue that this process has closed is not sent", "[handles]") {
    const mp::Queue<int> queue;
    queue.close();
    CHECK_THROWS_AS(pack(queue), mp::ValueError);
}

TEST_CASE("a connection is sent to a process that is being started", "[handles]") {
    auto [here, there] = mp::Pipe();
    here.set_max_message(1000);
    const mp::Connection other = sent(here);
    CHECK(other.max_message() == 1000);
    other.send(5);
    CHECK(there.recv<int>() == 5);
    there.send(6);
    CHECK(here.recv<int>() == 6);
    auto [reader, writer] = mp::Pipe(false);
    CHECK_FALSE(sent(reader).writable());
    CHECK_FALSE(sent(writer).readable());
    reader.close();
    CHECK_THROWS_AS(pack(reader), mp::OSError);
}

TEST_CASE("handles cross inside of other values", "[handles]") {
    const Tools tools{
        .lock = {}, .ready = mp::Event(), .counters = {}, .texts = mp::Queue<std::string>()};
    Tools more = tools;
    for (int i = 0; i < 50; ++i) { more.counters.emplace_back(i); }
    const Tools other = sent(more);
    REQUIRE(other.counters.size() == 50);
    other.counters[49] += 1;
    CHECK(more.counters[49].value() == 50);
    other.ready->set();
    CHECK(tools.ready->is_set());
    CHECK_FALSE(sent(std::optional<mp::Event>()).has_value());
    const auto [lock, number] = sent(std::tuple(tools.lock, 5));
    REQUIRE(lock.acquire());
    CHECK(other.lock.locked());
    lock.release();
    other.texts.put("text");
    CHECK(tools.texts.get(20s) == "text");
}

TEST_CASE("a process that has inherited nothing shares what it was sent", "[handles]") {
    Stranger<Tools> stranger([](const Tools& tools) {
        tools.texts.put(tools.texts.get(20s) + " back");
        tools.counters.at(0) += 5;
        if (!tools.lock.acquire(20s)) { return 1; }
        tools.ready->set();
        tools.lock.release();
        return 0;
    });
    const Tools tools{.lock = {},
                      .ready = mp::Event(),
                      .counters = {mp::Value<int>(1)},
                      .texts = mp::Queue<std::string>()};
    REQUIRE(tools.lock.acquire());
    tools.texts.put("there and");
    stranger.send(tools);
    CHECK_FALSE(tools.ready->wait(10ms));
    tools.lock.release();
    CHECK(tools.ready->wait(20s));
    CHECK(stranger.join() == 0);
    CHECK(tools.texts.get(20s) == "there and back");
    CHECK(tools.counters[0].value() == 6);
}

TEST_CASE("a lock that came with the start, and whose holder is killed, is taken over",
          "[handles]") {
    Stranger<std::tuple<mp::Lock, mp::Event>> stranger([](const auto& tools) {
        const auto& [lock, held] = tools;
        lock.acquire();
        held.set();
        for (;;) { ::pause(); }
        return 0;
    });
    const mp::Lock lock;
    const mp::Event held;
    stranger.send({lock, held});
    REQUIRE(held.wait(20s));
    CHECK_FALSE(lock.acquire(false));
    CHECK(lock.owner() == stranger.child().pid());
    stranger.child().kill();
    const auto result = lock.acquire(20s);
    CHECK(result);
    CHECK(result.owner_died());
    lock.release();
}

TEST_CASE("units and guards of a stranger that is killed come back", "[handles]") {
    using Things = std::tuple<mp::Semaphore, mp::Queue<int>, mp::Event>;
    Stranger<Things> stranger([](const Things& things) {
        const auto& [semaphore, queue, held] = things;
        semaphore.acquire();
        queue.put(1);
        held.set();
        for (;;) { queue.put(queue.get(20s)); }
        return 0;
    });
    const mp::Semaphore semaphore(1);
    const mp::Queue<int> queue;
    const mp::Event held;
    stranger.send({semaphore, queue, held});
    REQUIRE(held.wait(20s));
    stranger.child().kill();
    CHECK(semaphore.acquire(20s));
    queue.put(2);
    CHECK(queue.get_many(2, 20s).size() >= 1);
}

TEST_CASE("what was loaded can be sent on, also by a child", "[handles]") {
    const mp::Queue<int> queue;
    const mp::Value<int> value(1);
    const auto once = sent(std::tuple(queue, value));
    Forked child([&] {
        const auto [other_queue, other_value] = sent(sent(once));
        other_value += 1;
        other_queue.put(other_value.value());
        return 0;
    });
    CHECK(child.join() == 0);
    CHECK(queue.get(20s) == 2);
    CHECK(value.value() == 2);
}

TEST_CASE("what was sent is there when the sender has dropped it", "[handles]") {
    std::optional<Parcel> parcel = pack(std::tuple(mp::Value<int>(5), mp::Queue<int>()));
    std::vector<mp::Value<int>> later;
    for (int i = 0; i < 1000; ++i) { later.emplace_back(-1); }
    const auto [value, queue] = unpack<std::tuple<mp::Value<int>, mp::Queue<int>>>(*parcel);
    parcel.reset();
    CHECK(value.value() == 5);
    queue.put(1);
    CHECK(queue.get(20s) == 1);
}

TEST_CASE("elsewhere than to a start a handle is refused", "[handles]") {
    check_refused_elsewhere(mp::Lock(), "Lock");
    check_refused_elsewhere(mp::RLock(), "RLock");
    check_refused_elsewhere(mp::Semaphore(), "Semaphore");
    check_refused_elsewhere(mp::BoundedSemaphore(), "BoundedSemaphore");
    check_refused_elsewhere(mp::Condition(), "Condition");
    check_refused_elsewhere(mp::Event(), "Event");
    check_refused_elsewhere(mp::Barrier(2), "Barrier");
    check_refused_elsewhere(mp::Value<int>(), "Value<int>");
    check_refused_elsewhere(mp::RawValue<int>(), "RawValue<int>");
    check_refused_elsewhere(mp::Array<int>(2), "Array<int>");
    check_refused_elsewhere(mp::RawArray<int>(2), "RawArray<int>");
    check_refused_elsewhere(mp::Queue<int>(), "Queue<int>");
    check_refused_elsewhere(mp::JoinableQueue<int>(), "JoinableQueue<int>");
    check_refused_elsewhere(mp::SimpleQueue<int>(), "SimpleQueue<int>");
}

TEST_CASE("a handle of another kind or type is refused", "[handles]") {
    CHECK_THROWS_AS(unpack<mp::RLock>(pack(mp::Lock())), mp::SerializationError);
    CHECK_THROWS_AS(unpack<mp::Lock>(pack(mp::RLock())), mp::SerializationError);
    CHECK_THROWS_AS(unpack<mp::Event>(pack(mp::Lock())), mp::SerializationError);
    CHECK_THROWS_AS(unpack<mp::Semaphore>(pack(mp::Event())), mp::SerializationError);
    CHECK_THROWS_AS(unpack<mp::RawValue<unsigned>>(pack(mp::RawValue<int>())),
                    mp::SerializationError);
    CHECK_THROWS_AS(unpack<mp::RawValue<int>>(pack(mp::RawArray<int>(3))), mp::SerializationError);
    CHECK_THROWS_AS(unpack<mp::Value<int>>(pack(mp::RawValue<int>())), mp::SerializationError);
    CHECK_THROWS_AS(unpack<mp::Queue<long>>(pack(mp::Queue<int>())), mp::SerializationError);
    CHECK_THROWS_AS(unpack<mp::Queue<int>>(pack(mp::Lock())), mp::SerializationError);
    CHECK_THROWS_AS(unpack<mp::Lock>(pack(mp::Queue<int>())), mp::SerializationError);
}

TEST_CASE("a damaged handle is a handle or SerializationError, never a crash", "[handles]") {
    // In a slab among others, whose places wrong offsets hit.
    const std::tuple neighbours(mp::Array<int>(100), mp::Event(), mp::Condition(), mp::RLock());
    check_corruption(mp::Lock());
    check_corruption(mp::RLock());
    check_corruption(mp::Semaphore(3));
    check_corruption(mp::Event());
    check_corruption(mp::Condition(mp::Lock()));
    check_corruption(mp::Barrier(3, {}, 1s));
    check_corruption(mp::Value<Point>());
    check_corruption(mp::Array<int>(10'000));
    check_corruption(mp::Queue<int>());
    check_corruption(mp::JoinableQueue<std::string>());
}

TEST_CASE("the descriptors of two queues, mixed up, do no harm", "[handles]") {
    const mp::Queue<int> queue;
    Parcel parcel = pack(queue);
    std::swap(parcel.sink.fds.at(0), parcel.sink.fds.at(1));
    CHECK_THROWS_AS(unpack<mp::Queue<int>>(parcel), mp::SerializationError);
    parcel = pack(queue);
    parcel.sink.fds.at(1) = std::move(pack(mp::Lock()).sink.fds.at(0));
    CHECK_THROWS_AS(unpack<mp::Queue<int>>(parcel), mp::SerializationError);
}

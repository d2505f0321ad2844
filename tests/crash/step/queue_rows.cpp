// SPDX-License-Identifier: BSL-1.0

// Queue, JoinableQueue, SimpleQueue, and the ring in them.

#include "row.hpp"
#include "rows.hpp"
#include "stage.hpp"

#include <multiprocessing/errors.hpp>
#include <multiprocessing/queues.hpp>
#include <multiprocessing/shm/ring.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace step {

namespace {

using namespace std::chrono_literals;
using mp::detail::Ring;
using mp::detail::RingStatus;
using support::Forked;

// What a survivor puts; everything else is numbered from 0.
constexpr int survivors = 999;

// ------------------------------------------------------------------------------------ small items

/// A queue that says whether anything was ever put.
struct Counted : mp::JoinableQueue<int> {
    using mp::JoinableQueue<int>::JoinableQueue;
    bool was_put_to() const { return items().ring().puts() != 0; }
};

/// A queue that may have a limit, and somebody at its other end.
struct Small {
    Counted queue;
    int there = 0;  // items 0 .. there - 1 are in it before the operation
    std::optional<Forked> other = {};

    static Small with(int there, std::size_t maxsize = 0) {
        Small object{Counted(maxsize), there};
        for (int i = 0; i < there; ++i) { object.queue.put(i); }
        return object;
    }
};

std::vector<int> drain(const mp::Queue<int>& queue) {
    std::vector<int> items;
    while (const std::optional<int> item = queue.try_get()) { items.push_back(*item); }
    must(queue.empty() && queue.qsize() == 0, "qsize() is wrong");
    return items;
}

void must_work(const mp::Queue<int>& queue) {
    for (int i = 0; i < 5; ++i) {
        must(queue.try_put(100 + i, 1s), "nothing can be put");
        must(queue.try_get(1s) == 100 + i, "what was put cannot be got");
    }
    must(queue.empty(), "something is left over");
}

/// A survivor's use: puts one.
Worked put_one(Small& object, mp::Timeout bound) {
    return object.queue.try_put(survivors, bound) ? Worked::yes : Worked::timed_out;
}

/// A survivor's use: gets one, and notes which.
Worked get_one(Small& object, mp::Timeout bound) {
    const std::optional<int> item = object.queue.try_get(bound);
    if (item) { stage().notes[0] = 1 + *item; }
    return item ? Worked::yes : Worked::timed_out;
}

/// Without the survivor's item.
std::vector<int> drain_others(const mp::Queue<int>& queue, const Aftermath& after) {
    std::vector<int> items = drain(queue);
    const auto own = std::erase(items, survivors);
    must(own == (after.worked == Worked::yes ? 1U : 0U), "the survivor's item is lost");
    return items;
}

/// The operation was to put `batch` items after those that were there; some of the first ones of a
/// batch may be in without the rest.
int check_put(Small& object, const Aftermath& after, int batch = 1) {
    const std::vector<int> items = drain_others(object.queue, after);
    std::vector<int> expected(static_cast<std::size_t>(object.there));
    std::iota(expected.begin(), expected.end(), 0);
    must(items.size() >= expected.size(), "an item is lost");
    const auto begin = items.begin() + static_cast<std::ptrdiff_t>(expected.size());
    must(std::equal(expected.begin(), expected.end(), items.begin()), "items are out of order");
    // Of each victim: the first one of its batch, and so on.
    int victims = 0, next = batch;
    for (auto item = begin; item != items.end(); ++item) {
        if (*item == object.there) {
            ++victims;
            next = 0;
        }
        must(*item == object.there + next, "an item that nobody put");
        ++next;
    }
    must(victims <= after.victims, "an item was put twice");
    must_work(object.queue);
    return victims != 0 && next == batch ? 1 : 0;
}

/// The operation was to take `batch` items of those that were there.
int check_got(Small& object, const Aftermath& after, int batch = 1) {
    const std::vector<int> items = drain(object.queue);
    const int survivor = stage().notes[0] - 1;  // what it took, -1 for nothing
    const int own = survivor >= 0 ? 1 : 0;
    const int gone = object.there - static_cast<int>(items.size());
    must(gone >= own && gone <= own + batch * after.victims, "items are lost");
    for (std::size_t i = 0; i < items.size(); ++i) {
        must(items[i] == gone + static_cast<int>(i), "items are out of order");
    }
    must(survivor < gone, "an item came twice");
    must_work(object.queue);
    return gone - own >= 1 ? 1 : 0;
}

const auto put_next = [](Small& object) { object.queue.put(object.there); };
const auto get = [](Small& object) { object.queue.get(10s); };

// ----------------------------------------------------------------------------- records of any size

constexpr std::size_t KiB = 1024;
constexpr std::size_t MiB = 1024 * KiB;

/// A ring of records of which only both ends are written: the way through them is short.
struct Large {
    std::unique_ptr<Ring> ring = std::make_unique<Ring>();
    int there = 0;

    void put(int number, std::size_t size) {
        if (put(*ring, number, size, 1s) != RingStatus::ok) { throw Bad("nothing can be put"); }
    }
    static RingStatus put(Ring& ring, int number, std::size_t size, mp::Timeout timeout) {
        const auto write = [&](std::span<std::byte> to) {
            std::memcpy(to.data(), &number, sizeof number);
            to.back() = static_cast<std::byte>(number);
        };
        return ring.put(size, write, timeout);
    }
    static std::optional<int> get(Ring& ring, mp::Timeout timeout) {
        int number = -1;
        bool torn = false;
        const auto read = [&](std::span<const std::byte> from) {
            std::memcpy(&number, from.data(), sizeof number);
            torn = from.back() != static_cast<std::byte>(number);
        };
        if (ring.get(read, timeout) != RingStatus::ok) { return std::nullopt; }
        must(!torn, "a torn item");
        return number;
    }
    /// Adds the next number as it is before the operation.
    void fill(std::size_t size) { put(there++, size); }
    void take() { get(*ring, 0s); }
};

void must_work(Large& object) {
    for (int i = 100; i < 105; ++i) { object.put(i, i == 103 ? 100 * KiB : 8); }
    for (int i = 100; i < 105; ++i) { must(Large::get(*object.ring, 1s) == i, "it is unusable"); }
    must(object.ring->empty(), "something is left over");
    struct stat file {};
    ::fstat(object.ring->file(), &file);
    must(static_cast<std::size_t>(file.st_blocks) * 512 <= 2 * MiB, "memory is not given back");
}

std::vector<int> drain(Large& object) {
    std::vector<int> items;
    while (const auto number = Large::get(*object.ring, 0s)) { items.push_back(*number); }
    return items;
}

Worked put_one(Large& object, mp::Timeout bound) {
    return Large::put(*object.ring, survivors, 8, bound) == RingStatus::ok ? Worked::yes
                                                                           : Worked::timed_out;
}

Worked get_one(Large& object, mp::Timeout bound) {
    const auto number = Large::get(*object.ring, bound);
    if (number) { stage().notes[0] = 1 + *number; }
    return number ? Worked::yes : Worked::timed_out;
}

/// The first item that is in it has number `first`.
int check_put(Large& object, const Aftermath& after, int first = 0) {
    std::vector<int> items = drain(object);
    const auto own = std::erase(items, survivors);
    must(own == (after.worked == Worked::yes ? 1U : 0U), "the survivor's item is lost");
    const auto before = static_cast<std::size_t>(object.there - first);
    must(items.size() >= before, "an item is lost");
    must(items.size() <= before + static_cast<std::size_t>(after.victims),
         "an item is there twice");
    for (std::size_t i = 0; i < items.size(); ++i) {
        const int expected = std::min(first + static_cast<int>(i), object.there);
        must(items[i] == expected, "items are out of order");
    }
    must_work(object);
    return items.size() > before ? 1 : 0;
}

int check_got(Large& object, const Aftermath& after, int first = 0) {
    const std::vector<int> items = drain(object);
    const int survivor = stage().notes[0] - 1;
    const int own = survivor >= 0 ? 1 : 0;
    const int gone = object.there - first - static_cast<int>(items.size());
    must(gone >= own && gone <= own + after.victims, "items are lost");
    for (std::size_t i = 0; i < items.size(); ++i) {
        must(items[i] == first + gone + static_cast<int>(i), "items are out of order");
    }
    must(survivor < first + gone, "an item came twice");
    must_work(object);
    return gone - own >= 1 ? 1 : 0;
}

/// Puts and gets records until the next one goes around the end of the first area.
void go_around(Large& object) {
    for (int i = 0; i < 107; ++i) {
        object.put(0, 600);
        object.take();
    }
}

auto putting(std::size_t size) {
    return [size](Large& object) { object.put(object.there, size); };
}

const auto take = [](Large& object) { object.take(); };

void add_large_rows() {
    const auto put_work = [](Large& object, mp::Timeout bound) { return put_one(object, bound); };
    const auto get_work = [](Large& object, mp::Timeout bound) { return get_one(object, bound); };
    const auto was_put = [](Large& object, const Aftermath& after) {
        return check_put(object, after);
    };
    const auto was_got = [](Large& object, const Aftermath& after) {
        return check_got(object, after);
    };
    for (const bool watched : {false, true}) {
        const std::string with = watched ? ", watched" : "";
        add("ring.put/wrapping" + with, "Queue::put",
            Plan<Large>{.make =
                            [watched] {
                                Large object;
                                if (watched) { object.ring->fileno(); }
                                go_around(object);
                                return object;
                            },
                        .run = putting(600),
                        .work = put_work,
                        .check = was_put});
        add("ring.get/wrapping" + with, "Queue::get",
            Plan<Large>{.make =
                            [watched] {
                                Large object;
                                if (watched) { object.ring->fileno(); }
                                go_around(object);
                                object.fill(600);
                                object.fill(600);
                                return object;
                            },
                        .run = take,
                        .work = get_work,
                        .check = was_got,
                        .work_may_time_out = true});
        add("ring.put/growing" + with, "Queue::put",
            Plan<Large>{.make =
                            [watched] {
                                Large object;
                                if (watched) { object.ring->fileno(); }
                                object.fill(60 * KiB);
                                return object;
                            },
                        .run = putting(30 * KiB),
                        .work = put_work,
                        .check = was_put});
        add("ring.get/leaving an area" + with, "Queue::get",
            Plan<Large>{.make =
                            [watched] {
                                Large object;
                                if (watched) { object.ring->fileno(); }
                                object.fill(60 * KiB);
                                object.fill(30 * KiB);
                                object.fill(8);
                                object.take();
                                return object;
                            },
                        .run = take,
                        .work = get_work,
                        .check = [](Large& object,
                                    const Aftermath& after) { return check_got(object, after, 1); },
                        .work_may_time_out = true});
        add("ring.put/larger than the ring" + with, "Queue::put",
            Plan<Large>{.make =
                            [watched] {
                                Large object;
                                if (watched) { object.ring->fileno(); }
                                object.fill(8);
                                return object;
                            },
                        .run = putting(5 * MiB),
                        .work = put_work,
                        .check = was_put});
        add("ring.get/larger than the ring" + with, "Queue::get",
            Plan<Large>{.make =
                            [watched] {
                                Large object;
                                if (watched) { object.ring->fileno(); }
                                object.fill(5 * MiB);
                                object.fill(8);
                                return object;
                            },
                        .run = take,
                        .work = get_work,
                        .check = was_got,
                        .work_may_time_out = true});
    }

    // The descriptor is made unreadable again.
    add("ring.get/last, watched", "Queue::get",
        Plan<Large>{.make =
                        [] {
                            Large object;
                            object.ring->fileno();
                            object.fill(8);
                            return object;
                        },
                    .run = take,
                    .check = was_got});

    // Whoever died had the guard.
    add("ring.put/behind one who died in it", "Queue::put",
        Plan<Large>{.make =
                        [] {
                            Large object;
                            object.fill(8);
                            die([&] {
                                object.ring->put(5 * MiB, [](std::span<std::byte> to) {
                                    to[0] = std::byte(1);
                                    ::raise(SIGKILL);
                                });
                            });
                            return object;
                        },
                    .run = putting(8),
                    .work = put_work,
                    .check = was_put});
    add("ring.get/behind one who died in it", "Queue::get",
        Plan<Large>{.make =
                        [] {
                            Large object;
                            object.fill(60 * KiB);
                            object.fill(30 * KiB);
                            object.take();
                            die([&] {
                                object.ring->get(
                                    [](std::span<const std::byte>) { ::raise(SIGKILL); });
                            });
                            object.fill(8);
                            return object;
                        },
                    .run = take,
                    .work = get_work,
                    .check = [](Large& object,
                                const Aftermath& after) { return check_got(object, after, 1); },
                    .work_may_time_out = true});
    add("ring.fileno/first", "Queue::fileno",
        Plan<Large>{.make =
                        [] {
                            Large object;
                            object.fill(8);
                            return object;
                        },
                    .run = [](Large& object) { object.ring->fileno(); },
                    .work = put_work,
                    .check =
                        [](Large& object, const Aftermath& after) {
                            object.ring->fileno();
                            return std::max(1, check_put(object, after));
                        }});
}

}  // namespace

void add_queue_rows() {
    const auto with = [](int there, std::size_t maxsize = 0) {
        return [=] { return Small::with(there, maxsize); };
    };
    const auto put_work = [](Small& object, mp::Timeout bound) { return put_one(object, bound); };
    const auto get_work = [](Small& object, mp::Timeout bound) { return get_one(object, bound); };
    const auto was_put = [](Small& object, const Aftermath& after) {
        return check_put(object, after);
    };
    const auto was_got = [](Small& object, const Aftermath& after) {
        return check_got(object, after);
    };

    add("queue.put/empty", "Queue::put Queue::try_put",
        Plan<Small>{.make = with(0), .run = put_next, .work = put_work, .check = was_put});
    add("queue.put/somebody sleeps in get", "Queue::put",
        Plan<Small>{.make =
                        [] {
                            Small object = Small::with(0);
                            object.other.emplace(bystander([&] {
                                const auto item = object.queue.try_get(10s);
                                stage().notes[1] = item ? 1 + *item : -1;
                                ::pause();
                                return 0;
                            }));
                            return object;
                        },
                    .run = put_next,
                    .work = put_work,
                    .check =
                        [](Small& object, const Aftermath& after) {
                            const auto got = [] { return stage().notes[1] != 0; };
                            const bool used = object.queue.was_put_to();
                            if (!used) { object.queue.put(survivors); }
                            must(support::eventually(got, 1500ms), "the sleeper sleeps on");
                            const int item = stage().notes[1] - 1;
                            std::vector<int> rest = drain(object.queue);
                            rest.push_back(item);
                            const auto own = std::erase(rest, survivors);
                            must(own == (after.worked == Worked::yes || !used ? 1U : 0U),
                                 "the survivor's item is lost");
                            must(rest.size() <= static_cast<std::size_t>(after.victims),
                                 "an item too many");
                            must_work(object.queue);
                            return rest.empty() ? 0 : 1;
                        }});
    add("queue.put/full", "Queue::put Queue::try_put",
        Plan<Small>{.make = with(1, 1),
                    .run = [](Small& object) { object.queue.try_put(7, 1ms); },
                    .work = get_work,
                    .check =
                        [](Small& object, const Aftermath& after) {
                            // After a survivor has taken one there was room.
                            std::vector<int> items = drain(object.queue);
                            if (after.worked == Worked::yes) { std::erase(items, 7); }
                            must(items.size() + (after.worked == Worked::yes) == 1,
                                 "an item is lost");
                            must_work(object.queue);
                            return 1;
                        }});
    add("queue.put/full, then not", "Queue::put",
        Plan<Small>{.make =
                        [] {
                            Small object = Small::with(1, 1);
                            object.other.emplace([&] {
                                await_victim_asleep();
                                stage().notes[0] = 1 + object.queue.get(5s);
                                ::pause();
                                return 0;
                            });
                            return object;
                        },
                    .run = put_next,
                    .check =
                        [](Small& object, const Aftermath& after) {
                            must(support::eventually([] { return stage().notes[0] != 0; }, 1500ms),
                                 "nothing can be got");
                            must(stage().notes[0] == 1, "items are out of order");
                            const std::vector<int> items = drain(object.queue);
                            must(items.size() <= static_cast<std::size_t>(after.victims) &&
                                     (items.empty() || items[0] == 1),
                                 "another item");
                            must_work(object.queue);
                            return items.empty() ? 0 : 1;
                        },
                    .runs_twice = false});
    add("queue.put_many/batch", "Queue::put_many",
        Plan<Small>{.make = with(2),
                    .run =
                        [](Small& object) {
                            std::vector<int> batch(66);
                            std::iota(batch.begin(), batch.end(), object.there);
                            object.queue.put_many(batch);
                        },
                    .work = put_work,
                    .check = [](Small& object,
                                const Aftermath& after) { return check_put(object, after, 66); }});
    add("queue.get/one of two", "Queue::get Queue::try_get",
        Plan<Small>{.make = with(2), .run = get, .work = get_work, .check = was_got});
    add("queue.get/empty", "Queue::get Queue::try_get",
        Plan<Small>{.make = with(0),
                    .run =
                        [](Small& object) {
                            if (object.queue.try_get(1ms) == 0) { throw Bad("it was empty"); }
                        },
                    .work = put_work,
                    .check =
                        [](Small& object, const Aftermath& after) {
                            // The victim may have got what a survivor put.
                            const auto own = drain(object.queue).size();
                            must(own <= (after.worked == Worked::yes ? 1U : 0U),
                                 "an item of nobody");
                            must_work(object.queue);
                            return 1;
                        }});
    add("queue.get/empty, then not", "Queue::get",
        Plan<Small>{.make =
                        [] {
                            Small object = Small::with(0);
                            object.there = 1;
                            object.other.emplace([&] {
                                await_victim_asleep();
                                object.queue.put(0);
                                stage().notes[1] = 1;
                                ::pause();
                                return 0;
                            });
                            return object;
                        },
                    .run = get,
                    .check =
                        [=](Small& object, const Aftermath& after) {
                            must(support::eventually([] { return stage().notes[1] != 0; }, 1500ms),
                                 "nothing can be put");
                            return was_got(object, after);
                        },
                    .runs_twice = false});
    add("queue.get/somebody sleeps in put", "Queue::get",
        Plan<Small>{.make =
                        [] {
                            Small object = Small::with(1, 1);
                            object.other.emplace(bystander([&] {
                                stage().notes[1] = object.queue.try_put(1, 10s) ? 1 : 2;
                                ::pause();
                                return 0;
                            }));
                            return object;
                        },
                    .run = get,
                    .check =
                        [](Small& object, const Aftermath&) {
                            const auto has_put = [] { return stage().notes[1] != 0; };
                            const std::optional<int> first = object.queue.try_get(1s);
                            must(first == 0 || first == 1, "an item is lost");
                            const bool taken = first == 1;
                            must(support::eventually(has_put, 1500ms), "the sleeper sleeps on");
                            must(stage().notes[1] == 1, "the sleeper did not put");
                            if (!taken) { must(object.queue.try_get(1s) == 1, "an item is lost"); }
                            must_work(object.queue);
                            return taken ? 1 : 0;
                        },
                    .runs_twice = false});
    add("queue.get_many/batch", "Queue::get_many",
        Plan<Small>{.make = with(70),
                    .run = [](Small& object) { object.queue.get_many(66); },
                    .work = get_work,
                    .check = [](Small& object,
                                const Aftermath& after) { return check_got(object, after, 66); }});
    for (const bool immediate : {false, true}) {
        add(std::string("queue.shutdown/") + (immediate ? "immediate" : "somebody sleeps"),
            "Queue::shutdown",
            Plan<Small>{.make =
                            [] {
                                Small object = Small::with(0);
                                object.other.emplace(bystander([&] {
                                    try {
                                        object.queue.get(10s);
                                        stage().notes[1] = 2;
                                    } catch (const mp::ShutDown&) {
                                        stage().notes[1] = 1;
                                    } catch (const mp::Empty&) { stage().notes[1] = 3; }
                                    ::pause();
                                    return 0;
                                }));
                                return object;
                            },
                        .run = [=](Small& object) { object.queue.shutdown(immediate); },
                        .check =
                            [=](Small& object, const Aftermath&) {
                                bool happened = true;
                                try {
                                    happened = !object.queue.try_put(5);
                                } catch (const mp::ShutDown&) {}
                                if (!happened) {
                                    must(support::eventually([] { return stage().notes[1] == 2; },
                                                             1s),
                                         "the sleeper sleeps on");
                                    must_work(object.queue);
                                    return 0;
                                }
                                must(support::eventually([] { return stage().notes[1] == 1; }, 1s),
                                     "the sleeper sleeps on");
                                object.queue.shutdown(true);
                                return 1;
                            }});
    }
    add("queue.close/own", "Queue::close",
        Plan<Small>{.make = with(1),
                    .run = [](Small& object) { object.queue.close(); },
                    .work = get_work,
                    .check =
                        [](Small& object, const Aftermath& after) {
                            const std::size_t there = after.worked == Worked::yes ? 0 : 1;
                            must(drain(object.queue).size() == there, "an item is lost");
                            must_work(object.queue);
                            return 1;
                        }});

    const auto worked_on = [](int there) {
        return [there] {
            Small object = Small::with(there);
            for (int i = 0; i < there; ++i) { object.queue.get(); }
            return object;
        };
    };
    add("joinable_queue.task_done/last", "JoinableQueue::task_done",
        Plan<Small>{.make =
                        [=] {
                            Small object = worked_on(1)();
                            object.other.emplace(bystander([&] {
                                stage().notes[1] = object.queue.join(10s) ? 1 : 2;
                                ::pause();
                                return 0;
                            }));
                            return object;
                        },
                    .run = [](Small& object) { object.queue.task_done(); },
                    .check =
                        [](Small& object, const Aftermath&) {
                            const bool happened = object.queue.join(0s);
                            if (!happened) { object.queue.task_done(); }
                            must(support::eventually([] { return stage().notes[1] == 1; }, 1s),
                                 "the joiner sleeps on");
                            try {
                                object.queue.task_done();
                                throw Bad("done more often than put");
                            } catch (const mp::ValueError&) {}
                            must_work(object.queue);
                            return happened ? 1 : 0;
                        },
                    .runs_twice = false});
    add("joinable_queue.join/not done", "JoinableQueue::join",
        Plan<Small>{.make = worked_on(1),
                    .run =
                        [](Small& object) {
                            if (object.queue.join(1ms)) { throw Bad("it is not done"); }
                        },
                    .work =
                        [](Small& object, mp::Timeout bound) {
                            return object.queue.join(bound) ? Worked::took_over : Worked::yes;
                        },
                    .check =
                        [](Small& object, const Aftermath&) {
                            must(!object.queue.join(0s), "it is not done");
                            object.queue.task_done();
                            must(object.queue.join(0s), "it is done");
                            must_work(object.queue);
                            return 1;
                        },
                    .work_may_time_out = true});
    add("joinable_queue.join/done meanwhile", "JoinableQueue::join",
        Plan<Small>{.make =
                        [=] {
                            Small object = worked_on(1)();
                            object.other.emplace([&] {
                                await_victim_asleep();
                                object.queue.task_done();
                                ::pause();
                                return 0;
                            });
                            return object;
                        },
                    .run = [](Small& object) { object.queue.join(); },
                    .check =
                        [](Small& object, const Aftermath&) {
                            must(object.queue.join(1500ms), "somebody cannot say that it is done");
                            must_work(object.queue);
                            return 1;
                        }});

    using Simple = mp::SimpleQueue<int>;
    add("simple_queue.put/empty", "SimpleQueue::put",
        Plan<Simple>{.make = [] { return Simple(); },
                     .run = [](Simple& queue) { queue.put(1); },
                     .check =
                         [](Simple& queue, const Aftermath&) {
                             const bool happened = !queue.empty();
                             while (!queue.empty()) { must(queue.get() == 1, "another item"); }
                             queue.put(2);
                             must(queue.get() == 2 && queue.empty(), "it is unusable");
                             return happened ? 1 : 0;
                         }});
    add("simple_queue.get/one", "SimpleQueue::get",
        Plan<Simple>{.make =
                         [] {
                             Simple queue;
                             queue.put(1);
                             queue.put(2);
                             return queue;
                         },
                     .run = [](Simple& queue) { queue.get(); },
                     .check =
                         [](Simple& queue, const Aftermath&) {
                             if (queue.empty()) { return 1; }
                             const int first = queue.get();
                             must(first == 1 || first == 2, "another item");
                             if (first == 1) { must(queue.get() == 2, "an item is lost"); }
                             must(queue.empty(), "an item too many");
                             return first == 2 ? 1 : 0;
                         }});
    add_large_rows();
}

}  // namespace step

// SPDX-License-Identifier: BSL-1.0

// Event.

#include "row.hpp"
#include "rows.hpp"
#include "stage.hpp"

#include <multiprocessing/synchronize.hpp>

#include <chrono>
#include <optional>
#include <utility>

namespace step {

namespace {

using namespace std::chrono_literals;
using support::Forked;

struct Flag {
    mp::Event event;
    std::optional<Forked> other = {};
};

void must_work(const mp::Event& event) {
    event.set();
    must(event.wait(0s) && event.is_set(), "it cannot be set");
    event.clear();
    must(!event.wait(0s) && !event.is_set(), "it cannot be cleared");
    Forked waiter([&] {
        stage().notes[7] = event.wait(5s) ? 1 : 2;
        return 0;
    });
    await_asleep(waiter.pid());
    event.set();
    must(support::eventually([] { return stage().notes[7] != 0; }, 1s), "a waiter sleeps on");
    must(stage().notes[7] == 1, "a waiter was not released");
}

}  // namespace

void add_event_rows() {
    const auto alone = [] { return Flag{}; };
    const auto waited_for = [] {
        Flag flag;
        flag.other.emplace(bystander([&] {
            stage().notes[0] = flag.event.wait(10s) ? 1 : 2;
            return 0;
        }));
        return flag;
    };
    const auto set = [](Flag& flag) { flag.event.set(); };
    const auto looks = [](Flag& flag, mp::Timeout bound) {
        return flag.event.wait(bound) ? Worked::yes : Worked::timed_out;
    };
    const auto is_set = [](Flag& flag, const Aftermath&) {
        const bool happened = flag.event.is_set();
        must_work(flag.event);
        return happened ? 1 : 0;
    };

    add("event.set/nobody waits", "Event::set",
        Plan<Flag>{
            .make = alone, .run = set, .work = looks, .check = is_set, .work_may_time_out = true});
    add("event.set/somebody waits", "Event::set",
        Plan<Flag>{.make = waited_for,
                   .run = set,
                   .work = looks,
                   .check =
                       [](Flag& flag, const Aftermath&) {
                           const bool happened = flag.event.is_set();
                           if (!happened) { flag.event.set(); }
                           must(support::eventually([] { return stage().notes[0] != 0; }, 1s),
                                "a waiter sleeps on");
                           must(stage().notes[0] == 1, "a waiter was not released");
                           must_work(flag.event);
                           return happened ? 1 : 0;
                       },
                   .work_may_time_out = true});
    add("event.set/somebody waits, then clear", "Event::set Event::clear",
        Plan<Flag>{.make = waited_for,
                   .run =
                       [](Flag& flag) {
                           flag.event.set();
                           flag.event.clear();
                       },
                   .check =
                       [](Flag& flag, const Aftermath&) {
                           // Once set it is set for all who waited, and soon.
                           const bool happened =
                               support::eventually([] { return stage().notes[0] != 0; }, 200ms);
                           must(happened || !flag.event.is_set(), "a waiter sleeps on");
                           flag.event.set();
                           must(support::eventually([] { return stage().notes[0] == 1; }, 1s),
                                "a waiter was not released");
                           must_work(flag.event);
                           return happened ? 1 : 0;
                       }});
    add("event.clear/set", "Event::clear",
        Plan<Flag>{.make =
                       [] {
                           Flag flag;
                           flag.event.set();
                           return flag;
                       },
                   .run = [](Flag& flag) { flag.event.clear(); },
                   .work = looks,
                   .check =
                       [](Flag& flag, const Aftermath&) {
                           const bool happened = !flag.event.is_set();
                           must_work(flag.event);
                           return happened ? 1 : 0;
                       },
                   .work_may_time_out = true});
    add("event.wait/timed out", "Event::wait",
        Plan<Flag>{.make = alone,
                   .run = [](Flag& flag) { flag.event.wait(1ms); },
                   .work = looks,
                   .check =
                       [](Flag& flag, const Aftermath&) {
                           must(!flag.event.is_set(), "it is set by nobody");
                           must_work(flag.event);
                           return 1;
                       },
                   .work_may_time_out = true});
    add("event.wait/set meanwhile", "Event::wait",
        Plan<Flag>{.make =
                       [] {
                           Flag flag;
                           flag.other.emplace([&] {
                               await_victim_asleep();
                               flag.event.set();
                               ::pause();
                               return 0;
                           });
                           return flag;
                       },
                   .run = [](Flag& flag) { flag.event.wait(10s); },
                   .work = looks,
                   .check =
                       [](Flag& flag, const Aftermath&) {
                           must(flag.event.wait(1s), "somebody cannot set it");
                           must_work(flag.event);
                           return 1;
                       }});
}

}  // namespace step

// SPDX-License-Identifier: BSL-1.0

// Condition.

#include "row.hpp"
#include "rows.hpp"
#include "stage.hpp"

#include <multiprocessing/sharedctypes.hpp>
#include <multiprocessing/synchronize.hpp>

#include <chrono>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace step {

namespace {

using namespace std::chrono_literals;
using support::Forked;

struct Meeting {
    mp::Condition condition;
    mp::RawValue<int> done{0};
    std::vector<Forked> others = {};
};

/// The lock can be had; `died`: whether its holder has.
mp::LockResult enter(const mp::Condition& condition, mp::Timeout bound = 1s) {
    const mp::LockResult result = condition.acquire(bound);
    must(static_cast<bool>(result), "the lock cannot be had");
    return result;
}

Worked use(Meeting& meeting, mp::Timeout bound) {
    const mp::LockResult result = meeting.condition.acquire(bound);
    if (!result) { return Worked::timed_out; }
    meeting.condition.wait(0s);
    meeting.condition.release();
    return result.owner_died() ? Worked::took_over : Worked::yes;
}

/// Nothing is left of anybody, and who waits is woken.
void must_work(const mp::Condition& condition) {
    enter(condition);
    must(!condition.wait(0s), "somebody's notification is left over");
    condition.release();
    Forked waiter([&] {
        const std::scoped_lock guard(condition);
        stage().notes[7] = 1;
        stage().notes[7] = condition.wait(5s) ? 2 : 3;
        return 0;
    });
    must(support::eventually([] { return stage().notes[7] == 1; }, 1s), "nobody can wait");
    enter(condition);  // so it waits now
    condition.notify();
    condition.release();
    must(support::eventually([] { return stage().notes[7] != 1; }, 1s), "a waiter sleeps on");
    must(stage().notes[7] == 2, "a waiter was not notified");
}

/// Waits until `done`, and says so in a note.
Forked waiter(const Meeting& meeting, int note) {
    return bystander([&meeting, note] {
        const std::scoped_lock guard(meeting.condition);
        const bool held = meeting.condition.wait_for([&] { return meeting.done == 1; }, 10s);
        stage().notes[note] = held ? 1 : 2;
        return 0;
    });
}

void must_be_woken(int waiters) {
    for (int i = 0; i < waiters; ++i) {
        must(support::eventually([i] { return stage().notes[i] != 0; }, 1500ms),
             "a waiter sleeps on");
        must(stage().notes[i] == 1, "a waiter was not woken");
    }
}

/// The operation was to notify `waiters` of `done`, which was set before under the lock. Who is
/// killed before he notifies holds the lock: the waiters look, since its holder died.
int check_notified(Meeting& meeting, int waiters) {
    must_be_woken(waiters);
    must_work(meeting.condition);
    return 1;
}

}  // namespace

void add_condition_rows() {
    const auto alone = [] { return Meeting{}; };
    const auto locked = [](Meeting& meeting) { meeting.condition.acquire(); };
    const auto locked_and_done = [](Meeting& meeting) {
        meeting.condition.acquire();
        meeting.done = 1;
    };
    const auto with = [](int waiters) {
        return [waiters] {
            Meeting meeting;
            for (int i = 0; i < waiters; ++i) { meeting.others.push_back(waiter(meeting, i)); }
            return meeting;
        };
    };
    const auto usable = [](Meeting& meeting, const Aftermath&) {
        must_work(meeting.condition);
        return 1;
    };

    add("condition.wait/timed out", "Condition::wait Condition::wait_for",
        Plan<Meeting>{.make = alone,
                      .prepare = locked,
                      .run = [](Meeting& meeting) { meeting.condition.wait(1ms); },
                      .work = use,
                      .check = usable});
    // The victim waits longest, so it is the one that is notified; if it dies before it has used
    // that, the other must get it, who waited at that time too.
    add("condition.wait/notified, another waits", "Condition::wait",
        Plan<Meeting>{
            .make =
                [] {
                    Meeting meeting;
                    meeting.others.push_back(bystander([&meeting] {
                        await_victim_asleep();
                        const std::scoped_lock guard(meeting.condition);
                        stage().notes[1] = 1;
                        stage().notes[0] = meeting.condition.wait(10s) ? 1 : 2;
                        return 0;
                    }));
                    const pid_t second = meeting.others[0].pid();
                    meeting.others.push_back(bystander([&meeting, second] {
                        while (stage().notes[1] == 0) { ::usleep(100); }
                        await_asleep(second);
                        meeting.condition.acquire();
                        meeting.condition.notify();
                        meeting.condition.release();
                        stage().notes[1] = 2;
                        ::pause();
                        return 0;
                    }));
                    return meeting;
                },
            .prepare = locked,
            .run = [](Meeting& meeting) { meeting.condition.wait(10s); },
            .check =
                [](Meeting& meeting, const Aftermath& after) {
                    must(after.completed ||
                             support::eventually([] { return stage().notes[1] == 2; }, 1s),
                         "somebody cannot notify");
                    bool died = false;
                    {
                        // Who has come back from wait() has the lock, and died with it.
                        const mp::LockResult result = enter(meeting.condition);
                        died = result.owner_died();
                        meeting.condition.release();
                    }
                    const bool handed_on = support::eventually([] { return stage().notes[0] == 1; },
                                                               died ? 0ms : 500ms);
                    must(handed_on || died, "a dead waiter's notification is lost");
                    if (!handed_on) {
                        enter(meeting.condition);
                        meeting.condition.notify();
                        meeting.condition.release();
                        must(support::eventually([] { return stage().notes[0] == 1; }, 500ms),
                             "a waiter sleeps on");
                    }
                    must_work(meeting.condition);
                    return died ? 1 : 0;
                },
            .runs_twice = false});
    add("condition.notify/nobody waits", "Condition::notify",
        Plan<Meeting>{.make = alone,
                      .prepare = locked,
                      .run = [](Meeting& meeting) { meeting.condition.notify(); },
                      .work = use,
                      .check = usable});
    add("condition.notify/somebody waits", "Condition::notify",
        Plan<Meeting>{.make = with(1),
                      .prepare = locked_and_done,
                      .run = [](Meeting& meeting) { meeting.condition.notify(); },
                      .work = use,
                      .check = [](Meeting& meeting,
                                  const Aftermath&) { return check_notified(meeting, 1); }});
    add("condition.notify/somebody waits, then release", "Condition::notify Condition::release",
        Plan<Meeting>{.make = with(1),
                      .prepare = locked_and_done,
                      .run =
                          [](Meeting& meeting) {
                              meeting.condition.notify();
                              meeting.condition.release();
                          },
                      .work = use,
                      .check = [](Meeting& meeting,
                                  const Aftermath&) { return check_notified(meeting, 1); }});
    add("condition.notify_all/two wait", "Condition::notify_all",
        Plan<Meeting>{.make = with(2),
                      .prepare = locked_and_done,
                      .run = [](Meeting& meeting) { meeting.condition.notify_all(); },
                      .work = use,
                      .check = [](Meeting& meeting,
                                  const Aftermath&) { return check_notified(meeting, 2); }});
    add("condition.notify/a dead one waits before another", "Condition::notify",
        Plan<Meeting>{.make =
                          [] {
                              Meeting meeting;
                              Forked first = waiter(meeting, 6);
                              meeting.others.push_back(waiter(meeting, 0));
                              first.kill();
                              first.join();
                              return meeting;
                          },
                      .prepare = locked_and_done,
                      .run = [](Meeting& meeting) { meeting.condition.notify(); },
                      .work = use,
                      .check = [](Meeting& meeting,
                                  const Aftermath&) { return check_notified(meeting, 1); }});
    add("condition.notify/a dead one was notified", "Condition::notify",
        Plan<Meeting>{.make =
                          [] {
                              Meeting meeting;
                              Forked first = waiter(meeting, 6);
                              meeting.others.push_back(waiter(meeting, 0));
                              // It cannot go on without the lock.
                              const std::scoped_lock guard(meeting.condition);
                              meeting.condition.notify();
                              first.kill();
                              first.join();
                              return meeting;
                          },
                      .prepare = locked_and_done,
                      .run = [](Meeting& meeting) { meeting.condition.notify(); },
                      .work = use,
                      .check = [](Meeting& meeting,
                                  const Aftermath&) { return check_notified(meeting, 1); }});
}

}  // namespace step

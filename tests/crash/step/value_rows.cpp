// SPDX-License-Identifier: BSL-1.0

// Value, RawValue, Array.

#include "row.hpp"
#include "rows.hpp"
#include "stage.hpp"

#include <multiprocessing/sharedctypes.hpp>
#include <multiprocessing/synchronize.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <optional>
#include <utility>

namespace step {

namespace {

using namespace std::chrono_literals;
using support::Forked;

/// All of its numbers are the same, unless it is half-written.
struct Large {
    std::array<long, 12> numbers;

    static Large all(long number) {
        Large large{};
        large.numbers.fill(number);
        return large;
    }
    long one() const {
        const auto differs = [this](long number) { return number != numbers[0]; };
        must(std::none_of(numbers.begin(), numbers.end(), differs), "it is half-written");
        return numbers[0];
    }
};

template <class T>
struct Held {
    mp::Value<T> value;
    std::optional<Forked> other = {};
    mp::Event go = {};
};
using Word = Held<long>;
using Block = Held<Large>;

long number_in(long value) { return value; }
long number_in(const Large& value) { return value.one(); }
void set(const mp::Value<long>& value, long number) { value.set_value(number); }
void set(const mp::Value<Large>& value, long number) { value.set_value(Large::all(number)); }

/// A survivor's use, under the lock.
template <class T>
Worked use(Held<T>& object, mp::Timeout bound) {
    const mp::RLock& lock = object.value.get_lock();
    const bool from_victim = lock.owner() == stage().victim;
    const mp::LockResult result = lock.acquire(bound);
    if (!result) { return Worked::timed_out; }
    const long number = number_in(object.value.value());
    lock.release();
    must(number == 1 || number == 2, "it has a value that nobody gave it");
    return result.owner_died() && from_victim ? Worked::took_over : Worked::yes;
}

/// It was 1, and was to become 2.
template <class T>
int check_set(Held<T>& object, const Aftermath&) {
    must(static_cast<bool>(object.value.get_lock().acquire(1s)), "its lock cannot be had");
    const long number = number_in(object.value.value());
    must(number == 1 || number == 2, "it has a value that nobody gave it");
    object.value.get_lock().release();
    set(object.value, 4);
    must(number_in(object.value.value()) == 4, "it cannot be set");
    must(!object.value.get_lock().locked(), "its lock is left held");
    return number == 2 ? 1 : 0;
}

Block block() { return {mp::Value<Large>(Large::all(1))}; }

}  // namespace

void add_value_rows() {
    const auto word = [] { return Word{mp::Value<long>(1)}; };

    add("value.set_value/one word", "Value::set_value",
        Plan<Word>{.make = word,
                   .run = [](Word& object) { object.value.set_value(2); },
                   .work = use<long>,
                   .check = check_set<long>});
    add("value.+=/one word", "Value::operator+=",
        Plan<Word>{.make = word,
                   .run = [](Word& object) { object.value += 1; },
                   .work = use<long>,
                   .check =
                       [](Word& object, const Aftermath& after) {
                           // Two victims may have added one each.
                           if (after.victims == 2 && object.value.value() == 3) {
                               object.value = 2;
                           }
                           return check_set(object, after);
                       }});
    add("value.set_value/large", "Value::set_value",
        Plan<Block>{.make = block,
                    .run = [](Block& object) { object.value.set_value(Large::all(2)); },
                    .work = use<Large>,
                    .check = check_set<Large>});
    add("value.update/large", "Value::update",
        Plan<Block>{.make = block,
                    .run =
                        [](Block& object) {
                            object.value.update([](Large& large) { large = Large::all(2); });
                        },
                    .work = use<Large>,
                    .check = check_set<Large>});
    add("value.set_value/large, contended", "Value::set_value",
        Plan<Block>{.make =
                        [] {
                            Block object = block();
                            object.other.emplace([&] {
                                const std::scoped_lock guard(object.value.get_lock());
                                object.go.set();
                                await_victim_asleep();
                                return 0;
                            });
                            object.go.wait();
                            return object;
                        },
                    .run = [](Block& object) { object.value.set_value(Large::all(2)); },
                    .work = use<Large>,
                    .check = check_set<Large>});
    add("value.set_value/large, dead owner", "Value::set_value",
        Plan<Block>{.make =
                        [] {
                            Block object = block();
                            // The copy that it changes is not the value.
                            die([&] {
                                object.value.update([](Large& large) {
                                    large.numbers[3] = 7;
                                    ::raise(SIGKILL);
                                });
                            });
                            return object;
                        },
                    .run = [](Block& object) { object.value.set_value(Large::all(2)); },
                    .work = use<Large>,
                    .check = check_set<Large>});
    add("value.value/large", "Value::value",
        Plan<Block>{.make = block,
                    .run = [](Block& object) { object.value.value().one(); },
                    .work = use<Large>,
                    .check =
                        [](Block& object, const Aftermath& after) {
                            must(object.value.value().one() == 1, "it was changed by reading");
                            check_set(object, after);
                            return 1;
                        }});
    add("raw_value.set_value/one word", "RawValue::set_value RawValue::operator+=",
        Plan<mp::RawValue<long>>{.make = [] { return mp::RawValue<long>(1); },
                                 .run =
                                     [](mp::RawValue<long>& value) {
                                         value.set_value(2);
                                         value += 1;
                                     },
                                 .check =
                                     [](mp::RawValue<long>& value, const Aftermath& after) {
                                         const long number = value;
                                         must(number >= 1 && number <= 3, "a torn word");
                                         must(!after.completed || number == 3, "a lost word");
                                         return number == 3 ? 1 : 0;
                                     }});

    using Large3 = mp::Array<Large>;
    const auto array_use = [](Large3& array, mp::Timeout bound) {
        const bool from_victim = array.get_lock().owner() == stage().victim;
        const mp::LockResult result = array.get_lock().acquire(bound);
        if (!result) { return Worked::timed_out; }
        array.get(1).one();
        array.get_lock().release();
        return result.owner_died() && from_victim ? Worked::took_over : Worked::yes;
    };
    const auto array_check = [](Large3& array, const Aftermath&) {
        must(static_cast<bool>(array.get_lock().acquire(1s)), "its lock cannot be had");
        const long number = array.get(1).one();
        must(number == 0 || number == 2, "it has a value that nobody gave it");
        array.get_lock().release();
        for (const std::size_t other : {std::size_t{0}, std::size_t{2}}) {
            must(array.get(other).one() == 0, "another element has changed");
        }
        array.set(1, Large::all(4));
        must(array.slice(1, 2)[0].one() == 4, "it cannot be set");
        return number == 2 ? 1 : 0;
    };
    add("array.set/large", "Array::set",
        Plan<Large3>{.make = [] { return Large3(3); },
                     .run = [](Large3& array) { array.set(1, Large::all(2)); },
                     .work = array_use,
                     .check = array_check});
    add("array.slice/large", "Array::slice Array::get",
        Plan<Large3>{.make = [] { return Large3(3); },
                     .run = [](Large3& array) { array.slice(0, 2); },
                     .work = array_use,
                     .check =
                         [=](Large3& array, const Aftermath& after) {
                             must(array_check(array, after) == 0, "it was changed by reading");
                             return 1;
                         }});
}

}  // namespace step

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A row: one operation on a shared object in one situation, whose user is killed at every
/// instruction.
///
///     add("lock.acquire/free", "Lock::acquire",
///         Plan<mp::Lock>{
///             .make = [] { return mp::Lock(); },
///             .run = [](const mp::Lock& lock) { lock.acquire(); },                     // victim
///             .work = [](const mp::Lock& lock, mp::Timeout bound) { ... },             // survivor
///             .check = [](const mp::Lock& lock, const Aftermath& after) { ... }});     // survivor
///
/// A check is written from the invariants that the object states: what it finds is the state before
/// the operation or the state after it, and everything that the object is for still works.

#include <multiprocessing/timeout.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace step {

namespace mp = multiprocessing;

/// What a survivor found that must not be.
struct Bad : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Complains unless `holds`.
inline void must(bool holds, const char* what) {
    if (!holds) { throw Bad(what); }
}

/// What came of a survivor's ordinary use of the object.
enum class Worked {
    not_tried,
    yes,
    timed_out,
    took_over,  ///< it got something of the victim's: right only once that is dead
};

/// What has happened when a state is checked.
struct Aftermath {
    int victims = 1;         ///< how many were killed in the operation, one after the other
    bool completed = false;  ///< the victim came through and was killed then
    Worked worked = Worked::not_tried;
};

/// One fresh object, and who else uses it.
class Scene {
  public:
    virtual ~Scene() = default;
    /// In the victim, before the operation.
    virtual void prepare() = 0;
    /// In the victim: the operation.
    virtual void run() = 0;
    /// In a survivor, while the victim is stopped in the operation or has just been killed: uses
    /// the object. No call in it takes longer than `bound`, or a little more.
    virtual Worked work(mp::Timeout bound) = 0;
    /// In a survivor, when the victim is dead. Returns 1 when the operation has happened, 0 when it
    /// has not, and throws for everything between.
    virtual int check(const Aftermath& after) = 0;
};

/// What there is to a row, for a type that holds the object.
template <class Object>
struct Plan {
    std::function<Object()> make;
    std::function<void(Object&)> prepare = {};
    std::function<void(Object&)> run;
    std::function<Worked(Object&, mp::Timeout)> work = {};
    std::function<int(Object&, const Aftermath&)> check;
    /// Whether a second one can do it where the first one died in it.
    bool runs_twice = true;
    /// Whether the victim is a member of the family before it begins, as nearly always.
    bool joins_before = true;
    /// Whether the survivor may find nothing to do until its time is over.
    bool work_may_time_out = false;
    /// How many instructions apart the points are that are not distinct (see trace.hpp). More than
    /// 1 only where an exception is thrown, which is tens of thousands of instructions in memory of
    /// the victim's own.
    int stride = 1;
};

/// The stride of an operation that throws.
inline constexpr int throwing = 101;

struct Row {
    std::string name;    ///< object.operation/situation
    std::string covers;  ///< public operations, "Class::member Class::member"
    std::function<std::unique_ptr<Scene>()> make;
    bool runs_twice;
    bool joins_before;
    bool has_work;
    bool work_may_time_out;
    int stride;

    /// Returns the part of the name before the first dot.
    std::string group() const { return name.substr(0, name.find('.')); }
};

/// All rows, in the order in which they were added.
inline std::vector<Row>& rows() {
    static std::vector<Row> all;
    return all;
}

template <class Object>
void add(std::string name, std::string covers, Plan<Object> made) {
    class PlannedScene final : public Scene {
      public:
        explicit PlannedScene(std::shared_ptr<const Plan<Object>> plan)
            : plan_(std::move(plan)), object_(plan_->make()) {}
        void prepare() override {
            if (plan_->prepare) { plan_->prepare(object_); }
        }
        void run() override { plan_->run(object_); }
        Worked work(mp::Timeout bound) override { return plan_->work(object_, bound); }
        int check(const Aftermath& after) override { return plan_->check(object_, after); }

      private:
        const std::shared_ptr<const Plan<Object>> plan_;
        Object object_;
    };
    const auto plan = std::make_shared<const Plan<Object>>(std::move(made));
    rows().push_back({.name = std::move(name),
                      .covers = std::move(covers),
                      .make = [plan] { return std::make_unique<PlannedScene>(plan); },
                      .runs_twice = plan->runs_twice,
                      .joins_before = plan->joins_before,
                      .has_work = static_cast<bool>(plan->work),
                      .work_may_time_out = plan->work_may_time_out,
                      .stride = plan->stride});
}

}  // namespace step

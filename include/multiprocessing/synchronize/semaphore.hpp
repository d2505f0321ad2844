// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// `Semaphore` and `BoundedSemaphore`: so many at a time.
///
///     mp::Semaphore machines(2);
///     const std::scoped_lock guard(machines);     // a third one waits
///
/// Mirrors `multiprocessing.Semaphore` and `BoundedSemaphore`. A unit that a process holds when it
/// dies comes back, unless `.on_death` says otherwise.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/serialize/handle.hpp>
#include <multiprocessing/shm/shared_object.hpp>
#include <multiprocessing/shm/slab.hpp>
#include <multiprocessing/synchronize/lockable.hpp>
#include <multiprocessing/synchronize/semaphore_state.hpp>
#include <multiprocessing/timeout.hpp>

#include <cerrno>
#include <chrono>
#include <memory>

namespace multiprocessing {

/// How a `Semaphore` is to be.
struct SemaphoreOptions {
    UnitDeath on_death = UnitDeath::reclaim;
};

/// A handle to a counter that several processes share: `acquire` takes a unit and waits while there
/// is none, `release` gives one back, or adds one.
///
/// Units belong to processes, not to threads. Any process may release: what it does not hold itself
/// settles a unit of one that does, first of all of one that has ended, and only when nobody holds
/// any is a unit added. A process that ends of its own accord (by `return` or `exit`) keeps what it
/// took: those units were used up. One that dies (by a signal or `_exit`) gives them back, as many
/// as bring the value to the initial one. More processes at a time than the initial value (at least
/// 40, at most 4095) may hold units, but a unit taken when so many do already does not come back by
/// a death.
/// \safety all members: threads and processes. Copies refer to the same counter.
class Semaphore : public detail::Lockable<Semaphore> {
  public:
    /// \throws OSError (EINVAL) when `value` is negative; ValueError when it is above
    ///         2'147'483'647.
    template <class Lazy = void>
    explicit Semaphore(long long value = 1, SemaphoreOptions options = {})
        : Semaphore(value, options, /*bounded=*/false) {}

    /// Takes a unit, waiting until there is one, or not at all with `block == false`, which ignores
    /// the timeout.
    /// \returns whether it was taken.
    LockResult acquire(bool block = true, Timeout timeout = forever) const;
    LockResult acquire(Timeout timeout) const { return acquire(true, timeout); }
    template <detail::bare_number Number>
    LockResult acquire(Number, Timeout = forever) const = delete;

    /// Gives back, or adds, `n` units.
    /// \throws ValueError when `n < 1`, or there would be more than 2'147'483'647; of a
    ///         `BoundedSemaphore`, more than the initial value. Then nothing was released.
    void release(int n = 1) const { state_->release(n); }

    /// Returns how many can be taken at the moment.
    int get_value() const { return static_cast<int>(state_->value()); }
    /// Tells whether none can be taken at the moment.
    bool locked() const { return get_value() == 0; }

  protected:
    template <class Lazy = void>
    Semaphore(long long value, SemaphoreOptions options, bool bounded);
    template <class Lazy = void>
    explicit Semaphore(detail::Reader& in)
        : state_(detail::load_shared_object<detail::SemaphoreState>(in)) {}

    bool is_bounded() const noexcept { return state_->is_bounded(); }

  private:
    friend struct detail::HandleAccess;

    template <class Lazy = void>
    void save_handle(detail::Writer& out) const {
        detail::save_shared_object(out, state_);
    }
    template <class Lazy = void>
    static Semaphore load_handle(detail::Reader& in) {
        return Semaphore(in);
    }

    std::shared_ptr<detail::SemaphoreState> state_;
};

/// A semaphore whose value never exceeds the initial one: a `release` too many is ValueError.
/// \safety as Semaphore.
class BoundedSemaphore : public Semaphore {
  public:
    /// \throws OSError (EINVAL) when `value` is negative; ValueError when it is above
    ///         2'147'483'647.
    template <class Lazy = void>
    explicit BoundedSemaphore(long long value = 1, SemaphoreOptions options = {})
        : Semaphore(value, options, /*bounded=*/true) {}

  private:
    friend struct detail::HandleAccess;

    template <class Lazy = void>
    explicit BoundedSemaphore(detail::Reader& in) : Semaphore(in) {
        if (!is_bounded()) { detail::refuse_bytes("a Semaphore is no BoundedSemaphore"); }
    }
    template <class Lazy = void>
    static BoundedSemaphore load_handle(detail::Reader& in) {
        return BoundedSemaphore(in);
    }
};

// -------------------------------------------------------------------------------------------------

template <class Lazy>
Semaphore::Semaphore(long long value, SemaphoreOptions options, bool bounded) {
    using State = detail::SemaphoreState;
    if (value < 0) {
        detail::throw_os_error(EINVAL, "Semaphore", detail::text_of("value {}", {value}));
    }
    if (value > State::max_value) {
        throw ValueError(
            detail::text_of("a Semaphore of {}: at most {}", {value, State::max_value}));
    }
    state_ = detail::make_shared_object<State>(State::ledger_bytes(value), value, options.on_death,
                                               bounded);
}

inline LockResult Semaphore::acquire(bool block, Timeout timeout) const {
    return {state_->acquire(block ? timeout : Timeout(std::chrono::seconds(0))), false};
}

template <>
struct serializer<Semaphore> : detail::handle_serializer<Semaphore> {};
template <>
struct serializer<BoundedSemaphore> : detail::handle_serializer<BoundedSemaphore> {};

}  // namespace multiprocessing

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// `Condition`: waiting under a lock until something is so.
///
///     mp::Condition changed;
///     const std::scoped_lock guard(changed);
///     changed.wait_for([&] { return done.value(); });
///
///     // and in another process:
///     const std::scoped_lock guard(changed);
///     done = true;
///     changed.notify_all();
///
/// Mirrors `multiprocessing.Condition`. Notifying when nobody waits makes no system call.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/serialize/handle.hpp>
#include <multiprocessing/shm/shared_object.hpp>
#include <multiprocessing/shm/slab.hpp>
#include <multiprocessing/synchronize/condition_state.hpp>
#include <multiprocessing/synchronize/lock.hpp>
#include <multiprocessing/synchronize/lockable.hpp>
#include <multiprocessing/synchronize/rlock.hpp>
#include <multiprocessing/timeout.hpp>

#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

namespace multiprocessing {

/// A handle to a lock with a table of those who wait for a change of what it protects.
///
/// As with every condition, who has waited looks again: a `wait` may return true without a
/// notification, when somebody died holding the lock, who may have changed what is waited for.
/// \safety all members: threads and processes. Copies refer to the same condition and lock. At most
///         504 threads wait at a time. A waiter's death costs nobody a notification and delays
///         nobody.
class Condition : public detail::Lockable<Condition> {
  public:
    template <class Lazy = void>
    Condition() : Condition(RLock()) {}
    template <class Lazy = void>
    explicit Condition(RLock lock)
        : state_(detail::make_shared_object<detail::ConditionState>(0)), rlock_(std::move(lock)) {}
    template <class Lazy = void>
    explicit Condition(Lock lock)
        : state_(detail::make_shared_object<detail::ConditionState>(0)), lock_(std::move(lock)) {}

    /// The lock's own; see there.
    LockResult acquire(bool block = true, Timeout timeout = forever) const;
    LockResult acquire(Timeout timeout) const { return acquire(true, timeout); }
    template <detail::bare_number Number>
    LockResult acquire(Number, Timeout = forever) const = delete;
    void release() const;

    /// Lets the lock go (all levels of an RLock), waits until notified, and gets the lock back as
    /// `lock()` does, however long that takes.
    /// \returns false when the timeout passed first.
    /// \throws AssertionError when the caller does not own the lock; ProcessError when too many
    ///         wait; what `lock()` throws (the lock is then not held).
    bool wait(Timeout timeout = forever) const;

    /// Waits until `predicate()` is true, as often as that takes; the timeout is for the whole.
    /// \returns what the predicate said last.
    template <class Predicate>
    bool wait_for(Predicate predicate, Timeout timeout = forever) const;

    /// Wakes those `n` who have waited longest; fewer if fewer wait. Waits for nobody.
    /// \throws AssertionError when the caller does not own the lock.
    void notify(int n = 1) const;
    /// Wakes everybody who waits.
    void notify_all() const { notify(std::numeric_limits<int>::max()); }

  private:
    friend struct detail::HandleAccess;

    template <class Lazy = void>
    explicit Condition(detail::Reader& in);

    template <class Lazy = void>
    void save_handle(detail::Writer& out) const;
    template <class Lazy = void>
    static Condition load_handle(detail::Reader& in) {
        return Condition(in);
    }

    bool is_recursive() const noexcept { return rlock_.state_ != nullptr; }
    void require_owner(const char* what) const;
    // All levels at once.
    std::uint32_t release_all() const;
    void acquire_again(std::uint32_t depth) const;

    std::shared_ptr<detail::ConditionState> state_;
    // One of them is its lock, the other none.
    RLock rlock_{nullptr};
    Lock lock_{nullptr};
};

// -------------------------------------------------------------------------------------------------

inline LockResult Condition::acquire(bool block, Timeout timeout) const {
    return is_recursive() ? rlock_.acquire(block, timeout) : lock_.acquire(block, timeout);
}

inline void Condition::release() const { is_recursive() ? rlock_.release() : lock_.release(); }

inline std::uint32_t Condition::release_all() const {
    return is_recursive() ? rlock_.release_all() : lock_.release_all();
}

inline void Condition::acquire_again(std::uint32_t depth) const {
    is_recursive() ? rlock_.acquire_again(depth) : lock_.acquire_again(depth);
}

inline void Condition::require_owner(const char* what) const {
    if (!(is_recursive() ? rlock_.is_mine() : lock_.is_mine())) {
        throw AssertionError(detail::text_of("Condition.{} without owning its lock", {what}));
    }
}

inline bool Condition::wait(Timeout timeout) const {
    require_owner("wait");
    const detail::Deadline deadline(timeout);
    const detail::LockState& lock = is_recursive() ? rlock_.state() : lock_.state();
    const std::uint32_t takeovers = lock.takeovers();
    const std::uint32_t place = state_->begin_wait();
    bool woken = false;
    try {
        const std::uint32_t depth = release_all();
        // Somebody died holding the lock: perhaps after the change that we wait for, and before
        // saying so.
        bool death = false;
        woken = state_->wait(place, deadline, [&] {
            const detail::MemberId holder = lock.holder();
            return death = lock.takeovers() != takeovers ||
                           (holder != 0 && detail::Family::has_ended(holder));
        });
        woken = woken || death;
        acquire_again(depth);
    } catch (...) {
        state_->abandon_wait(place);
        throw;
    }
    // Only now: until here our death would hand the notification on.
    return state_->end_wait(place) || woken;
}

template <class Predicate>
bool Condition::wait_for(Predicate predicate, Timeout timeout) const {
    require_owner("wait_for");
    bool holds = static_cast<bool>(predicate());
    if (holds) { return true; }
    const detail::Deadline deadline(timeout);
    while (!holds && !deadline.has_passed()) {
        wait(deadline.left());
        holds = static_cast<bool>(predicate());
    }
    return holds;
}

inline void Condition::notify(int n) const {
    require_owner("notify");
    state_->notify(n);
}

template <class Lazy>
void Condition::save_handle(detail::Writer& out) const {
    out.raw(static_cast<std::uint8_t>(is_recursive()));
    is_recursive() ? rlock_.save_handle(out) : lock_.save_handle(out);
    detail::save_shared_object(out, state_);
}

template <class Lazy>
Condition::Condition(detail::Reader& in) {
    if (in.raw<std::uint8_t>() != 0) {
        rlock_ = RLock::load_handle(in);
    } else {
        lock_ = Lock::load_handle(in);
    }
    state_ = detail::load_shared_object<detail::ConditionState>(in);
}

template <>
struct serializer<Condition> : detail::handle_serializer<Condition> {};

}  // namespace multiprocessing

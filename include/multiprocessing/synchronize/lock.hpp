// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// `Lock`: one at a time, among processes and threads.
///
///     mp::Lock lock;
///     mp::Process p(work, lock);         // the child gets the same lock
///     {
///         const std::scoped_lock guard(lock);
///         ...
///     }
///
/// Mirrors `multiprocessing.Lock`. A pair of `acquire` and `release` costs about 11 ns when nobody
/// else wants it.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/serialize/handle.hpp>
#include <multiprocessing/shm/shared_object.hpp>
#include <multiprocessing/shm/slab.hpp>
#include <multiprocessing/synchronize/lockable.hpp>
#include <multiprocessing/synchronize/owner_death.hpp>
#include <multiprocessing/timeout.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

namespace multiprocessing {

/// A handle to a lock that several processes share.
///
/// Belongs to nobody: any thread of any process may release it. A holder that has ended, in
/// whatever way, does not hang the rest; see `OwnerDeath`. A holder that is stopped or slow is
/// never taken for dead.
/// \safety all members: threads and processes. Copies refer to the same lock.
class Lock : public detail::Lockable<Lock> {
  public:
    template <class Lazy = void>
    Lock() : Lock(LockOptions{}) {}
    /// \throws ValueError when a repair function is missing, or there is one that would never run.
    template <class Lazy = void>
    explicit Lock(LockOptions options);

    /// Waits until it is held, or not at all with `block == false`, which ignores the timeout.
    /// \returns false when it is not held; true when it is, and whether the holder before died
    ///         holding it.
    /// \throws OwnerDiedError when it is poisoned, without the lock; what a repair function throws,
    ///         likewise.
    /// \cost one atomic instruction when it is free.
    LockResult acquire(bool block = true, Timeout timeout = forever) const;
    LockResult acquire(Timeout timeout) const { return acquire(true, timeout); }
    template <detail::bare_number Number>
    LockResult acquire(Number, Timeout = forever) const = delete;

    /// Frees it, whoever holds it, dead or alive.
    /// \throws ValueError when nobody does.
    void release() const;

    /// Tells whether somebody holds it, dead or alive.
    bool locked() const { return state_->holder() != 0; }
    /// Returns the process that holds it, dead or alive.
    std::optional<pid_t> owner() const { return state_->holder_pid(); }
    /// While it is held: tells whether the holder before died holding it.
    bool previous_owner_died() const { return state_->is_inherited(); }
    /// Clears a poisoned lock; does nothing to one whose holder lives.
    void recover() const { state_->recover(); }

  private:
    friend class Condition;
    friend struct detail::HandleAccess;

    // No lock: for the one of its two that a Condition does not have.
    explicit Lock(std::nullptr_t) noexcept {}

    template <class Lazy = void>
    void save_handle(detail::Writer& out) const;
    template <class Lazy = void>
    static Lock load_handle(detail::Reader& in);

    LockResult acquire_slowly(Timeout timeout) const;

    // What a Condition does with it.
    bool is_mine() const { return state_->holder() == detail::Family::self(); }
    std::uint32_t release_all() const { return release(), 1; }
    void acquire_again(std::uint32_t /*depth*/) const { lock(); }
    const detail::LockState& state() const { return *state_; }

    std::shared_ptr<detail::LockState> state_;
    detail::Repair repair_;
};

// -------------------------------------------------------------------------------------------------

template <class Lazy>
Lock::Lock(LockOptions options)
    : state_(detail::make_shared_object<detail::LockState>(
          0, detail::LayoutTag{detail::magic("LOCK"), 1}, options.on_owner_death)),
      repair_(std::move(options), "Lock") {}

inline LockResult Lock::acquire(bool block, Timeout timeout) const {
    if (state_->try_acquire()) [[likely]] { return {true, false}; }
    return acquire_slowly(block ? timeout : Timeout(std::chrono::seconds(0)));
}

inline LockResult Lock::acquire_slowly(Timeout timeout) const {
    using Result = detail::OwnerWord::Result;
    const Result result = state_->acquire(timeout);
    if (result == Result::inherited) {
        repair_.run(*state_, [this] { state_->release_unrepaired(); });
    }
    return {result != Result::timeout, result == Result::inherited};
}

inline void Lock::release() const {
    if (!state_->release()) { throw ValueError("release of a Lock that nobody holds"); }
}

template <class Lazy>
void Lock::save_handle(detail::Writer& out) const {
    if (repair_) { detail::refuse_function("a Lock with a repair function"); }
    detail::save_shared_object(out, state_);
}

template <class Lazy>
Lock Lock::load_handle(detail::Reader& in) {
    Lock lock(nullptr);
    lock.state_ = detail::load_shared_object<detail::LockState>(in);
    return lock;
}

template <>
struct serializer<Lock> : detail::handle_serializer<Lock> {};

}  // namespace multiprocessing

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// `RLock`: a lock that its owner may take again.
///
///     mp::RLock lock;
///     const std::scoped_lock outer(lock);
///     const std::scoped_lock inner(lock);   // the same thread: goes through
///
/// Mirrors `multiprocessing.RLock`. The owner is one thread of one process.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/kill_point.hpp>
#include <multiprocessing/serialize/handle.hpp>
#include <multiprocessing/shm/shared_object.hpp>
#include <multiprocessing/shm/slab.hpp>
#include <multiprocessing/synchronize/lockable.hpp>
#include <multiprocessing/synchronize/owner_death.hpp>
#include <multiprocessing/timeout.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

namespace multiprocessing {

namespace detail {

/// Names this thread for good, among the processes of the family: member id << 32 | number in the
/// process.
std::uint64_t this_thread_id();

/// An `RLock` in shared memory. `lock` says which process holds it; which thread of that process
/// and how often is nobody else's business, and the other two fields mean nothing to the others.
struct RLockState {
    explicit RLockState(OwnerDeath policy) noexcept : lock({magic("RLCK"), 1}, policy) {}

    bool is_intact(std::size_t size) const noexcept { return lock.is_intact(size, magic("RLCK")); }

    LockState lock;
    // The thread that owns it: written by it after it has taken `lock`, 0 before it lets it go.
    // What a dead owner left here names nobody who lives.
    std::atomic<std::uint64_t> owner{0};
    std::atomic<std::uint32_t> depth{0};  // >= 1 while owned; written by the owner only
};
static_assert(shared_layout<RLockState> && sizeof(RLockState) == 48);

}  // namespace detail

/// A handle to a lock that several processes share, and that its owner may acquire again.
///
/// It is free when it has been released as often as it was acquired. What holds for a `Lock` whose
/// holder died holds for this one; who takes it over owns it once, however often the dead one had
/// it.
/// \safety all members: threads and processes. Copies refer to the same lock.
class RLock : public detail::Lockable<RLock> {
  public:
    template <class Lazy = void>
    RLock() : RLock(LockOptions{}) {}
    /// \throws ValueError when a repair function is missing, or there is one that would never run.
    template <class Lazy = void>
    explicit RLock(LockOptions options);

    /// Waits until this thread owns it, or not at all with `block == false`, which ignores the
    /// timeout.
    /// \returns false when it does not; true when it does, and whether the owner before died owning
    ///         it (said to the first `acquire` of several nested ones).
    /// \throws OwnerDiedError when it is poisoned, without the lock; what a repair function throws,
    ///         likewise.
    /// \cost one atomic instruction when it is free, none when it is this thread's already.
    LockResult acquire(bool block = true, Timeout timeout = forever) const;
    LockResult acquire(Timeout timeout) const { return acquire(true, timeout); }
    template <detail::bare_number Number>
    LockResult acquire(Number, Timeout = forever) const = delete;

    /// Undoes one `acquire`.
    /// \throws AssertionError when this thread does not own it.
    void release() const;

    /// Tells whether somebody owns it, dead or alive.
    bool locked() const { return state_->lock.holder() != 0; }
    /// Returns the process that owns it, dead or alive.
    std::optional<pid_t> owner() const { return state_->lock.holder_pid(); }
    /// While it is owned: tells whether the owner before died owning it.
    bool previous_owner_died() const { return state_->lock.is_inherited(); }
    /// Clears a poisoned lock; does nothing to one whose owner lives.
    void recover() const { state_->lock.recover(); }

  private:
    friend class Condition;
    friend struct detail::HandleAccess;

    // No lock: for the one of its two that a Condition does not have.
    explicit RLock(std::nullptr_t) noexcept {}

    template <class Lazy = void>
    void save_handle(detail::Writer& out) const;
    template <class Lazy = void>
    static RLock load_handle(detail::Reader& in);

    LockResult acquire_slowly(std::uint64_t me, Timeout timeout) const;
    void begin(std::uint64_t me) const noexcept;
    void end() const noexcept;

    // What a Condition does with it.
    bool is_mine() const {
        return state_->owner.load(std::memory_order_relaxed) == detail::this_thread_id();
    }
    std::uint32_t release_all() const;
    void acquire_again(std::uint32_t depth) const;
    const detail::LockState& state() const { return state_->lock; }

    std::shared_ptr<detail::RLockState> state_;
    detail::Repair repair_;
};

// -------------------------------------------------------------------------------------------------

inline std::uint64_t detail::this_thread_id() {
    static std::atomic<std::uint32_t> numbers{0};
    thread_local std::uint32_t number = 0;
    if (number == 0) [[unlikely]] { number = numbers.fetch_add(1, std::memory_order_relaxed) + 1; }
    return static_cast<std::uint64_t>(Family::self()) << 32 | number;
}

template <class Lazy>
RLock::RLock(LockOptions options)
    : state_(detail::make_shared_object<detail::RLockState>(0, options.on_owner_death)),
      repair_(std::move(options), "RLock") {}

// Relaxed throughout: only the owner's own stores can make the comparison true, or it looks under
// `lock`.
inline void RLock::begin(std::uint64_t me) const noexcept {
    state_->depth.store(1, std::memory_order_relaxed);
    MULTIPROCESSING_KILL_POINT("rlock.acquire.depth");
    state_->owner.store(me, std::memory_order_relaxed);
    MULTIPROCESSING_KILL_POINT("rlock.acquire.owner");
}

inline void RLock::end() const noexcept {
    state_->depth.store(0, std::memory_order_relaxed);
    state_->owner.store(0, std::memory_order_relaxed);
    MULTIPROCESSING_KILL_POINT("rlock.release.owner");
}

inline LockResult RLock::acquire(bool block, Timeout timeout) const {
    const std::uint64_t me = detail::this_thread_id();
    if (state_->owner.load(std::memory_order_relaxed) == me) {
        state_->depth.store(state_->depth.load(std::memory_order_relaxed) + 1,
                            std::memory_order_relaxed);
        return {true, false};
    }
    if (state_->lock.try_acquire()) [[likely]] {
        begin(me);
        return {true, false};
    }
    return acquire_slowly(me, block ? timeout : Timeout(std::chrono::seconds(0)));
}

inline LockResult RLock::acquire_slowly(std::uint64_t me, Timeout timeout) const {
    using Result = detail::OwnerWord::Result;
    const Result result = state_->lock.acquire(timeout);
    if (result == Result::timeout) { return {false, false}; }
    begin(me);
    if (result == Result::inherited) {
        repair_.run(state_->lock, [this] {
            end();
            state_->lock.release_unrepaired();
        });
    }
    return {true, result == Result::inherited};
}

inline void RLock::release() const {
    if (!is_mine()) { throw AssertionError("release of an RLock that this thread does not own"); }
    const std::uint32_t depth = state_->depth.load(std::memory_order_relaxed);
    if (depth > 1) {
        state_->depth.store(depth - 1, std::memory_order_relaxed);
        return;
    }
    end();
    state_->lock.release();
}

inline std::uint32_t RLock::release_all() const {
    const std::uint32_t depth = state_->depth.load(std::memory_order_relaxed);
    end();
    state_->lock.release();
    return depth;
}

inline void RLock::acquire_again(std::uint32_t depth) const {
    lock();
    state_->depth.store(depth, std::memory_order_relaxed);
}

template <class Lazy>
void RLock::save_handle(detail::Writer& out) const {
    if (repair_) { detail::refuse_function("an RLock with a repair function"); }
    detail::save_shared_object(out, state_);
}

template <class Lazy>
RLock RLock::load_handle(detail::Reader& in) {
    RLock lock(nullptr);
    lock.state_ = detail::load_shared_object<detail::RLockState>(in);
    return lock;
}

template <>
struct serializer<RLock> : detail::handle_serializer<RLock> {};

}  // namespace multiprocessing

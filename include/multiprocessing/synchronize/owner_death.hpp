// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What becomes of a lock whose holder died.
///
///     mp::Lock lock({.on_owner_death = mp::OwnerDeath::repair,
///                    .repair = [ledger] { ledger.rebuild(); }});
///
/// Python has nothing of the kind: there everybody else waits for ever.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/kill_point.hpp>
#include <multiprocessing/shm/family.hpp>
#include <multiprocessing/shm/owner_word.hpp>
#include <multiprocessing/shm/segment.hpp>
#include <multiprocessing/timeout.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

namespace multiprocessing {

/// What the next one sees of a lock whose holder ended, in any way, while holding it.
enum class OwnerDeath : std::uint32_t {
    transfer,  ///< it gets the lock, and is told that what it protects may be half-written
    poison,    ///< nobody gets it, and all are told by `OwnerDiedError`, until `recover()`
    repair,    ///< it gets the lock after the repair function has run, with the lock held
};

/// How a `Lock` or `RLock` is to be.
struct LockOptions {
    OwnerDeath on_owner_death = OwnerDeath::transfer;
    /// For `OwnerDeath::repair`. Belongs to the process and to the children that it forks. When it
    /// throws, its exception leaves `acquire`, the lock is free, and the next one repairs.
    std::function<void()> repair = {};
};

namespace detail {

/// A `Lock` in shared memory, and what an `RLock` begins with.
/// \safety all members: threads and processes.
class LockState {
  public:
    LockState(LayoutTag tag, OwnerDeath policy) noexcept : tag_(tag), policy_(policy) {}

    /// Tells whether what stands here is the lock of a class with this tag.
    bool is_intact(std::size_t /*size*/, std::uint32_t letters = magic("LOCK")) const noexcept {
        return tag_.names(letters) && policy_ <= OwnerDeath::repair;
    }

    bool try_acquire() noexcept { return word_.try_acquire(); }
    /// The same with a bound, and also from a holder that has ended.
    /// \throws OwnerDiedError when it is poisoned; it is not held then.
    OwnerWord::Result acquire(Timeout timeout);

    /// Frees it, whoever holds it; false when nobody does.
    bool release();
    /// Frees it, leaving what a dead holder left to the next one.
    void release_unrepaired() noexcept { word_.release_unrepaired(); }
    /// Frees it if its holder has ended.
    void recover();

    MemberId holder() const noexcept { return word_.owner(); }
    /// Returns the process that holds it; 0 for one that ended so long ago that its number is
    /// forgotten.
    std::optional<pid_t> holder_pid() const;
    bool is_inherited() const noexcept { return word_.is_inherited(); }
    OwnerDeath policy() const noexcept { return policy_; }

    /// Returns how often it was taken from, or released for, a dead holder. Whoever waits for
    /// something that is done under the lock looks again when this has changed: the dead one may
    /// have done it.
    std::uint32_t takeovers() const noexcept { return takeovers_.load(); }

  private:
    [[noreturn]] void throw_poisoned(MemberId dead);
    pid_t pid_of(MemberId holder) const;

    LayoutTag tag_;                            // written once at creation
    OwnerWord word_;                           // see there
    OwnerDeath policy_;                        // written once at creation
    std::atomic<std::uint32_t> takeovers_{0};  // added to by anybody, any value
    // Member id << 32 | pid of the dead holder that poisoned the lock; written by whoever finds it,
    // since the family forgets. It counts if the id is the word's.
    std::atomic<std::uint64_t> poisoner_{0};
};
static_assert(shared_layout<LockState> && sizeof(LockState) == 32);

/// A process's repair function, shared by the copies of a handle.
class Repair {
  public:
    Repair() noexcept = default;
    /// \throws ValueError when policy and function do not go together.
    template <class Lazy = void>
    Repair(LockOptions&& options, std::string_view what);

    /// Runs the function if the policy asks for it; `undo` frees the lock when it throws.
    template <class Undo>
    void run(const LockState& state, Undo undo) const;

    explicit operator bool() const noexcept { return function_ != nullptr; }

  private:
    std::shared_ptr<const std::function<void()>> function_;  // null unless the policy is `repair`
};

// -------------------------------------------------------------------------------------------------

inline OwnerWord::Result LockState::acquire(Timeout timeout) {
    const Deadline deadline(timeout);
    for (;;) {
        const OwnerWord::Result result = word_.acquire(deadline, policy_ != OwnerDeath::poison);
        if (result == OwnerWord::Result::inherited) {
            takeovers_.fetch_add(1);
            MULTIPROCESSING_KILL_POINT("lock.acquire.inherited");
        }
        if (result != OwnerWord::Result::owner_died) { return result; }
        const MemberId dead = word_.owner();
        // Somebody may have called recover() since, and another may hold it.
        if (dead != 0 && Family::has_ended(dead)) { throw_poisoned(dead); }
    }
}

inline void LockState::throw_poisoned(MemberId dead) {
    if (const auto pid = Family::pid(dead)) {
        poisoner_.store(static_cast<std::uint64_t>(dead) << 32 | static_cast<std::uint32_t>(*pid));
        MULTIPROCESSING_KILL_POINT("lock.acquire.poisoner");
    }
    const pid_t pid = pid_of(dead);
    throw OwnerDiedError(
        text_of("the lock is poisoned: process {} ended holding it; recover() clears that", {pid}),
        pid);
}

inline bool LockState::release() {
    // Only a release for another asks who that is.
    if (const MemberId holder = word_.owner();
        holder != Family::self() && holder != 0 && Family::has_ended(holder)) {
        takeovers_.fetch_add(1);
        MULTIPROCESSING_KILL_POINT("lock.release.counted");
    }
    return word_.release();
}

inline void LockState::recover() {
    takeovers_.fetch_add(1);
    MULTIPROCESSING_KILL_POINT("lock.recover.counted");
    word_.recover();
}

inline std::optional<pid_t> LockState::holder_pid() const {
    const MemberId holder = word_.owner();
    return holder != 0 ? std::optional(pid_of(holder)) : std::nullopt;
}

inline pid_t LockState::pid_of(MemberId holder) const {
    if (const auto pid = Family::pid(holder)) { return *pid; }
    const std::uint64_t note = poisoner_.load();
    return (note >> 32) == holder ? static_cast<pid_t>(static_cast<std::uint32_t>(note)) : 0;
}

template <class Lazy>
Repair::Repair(LockOptions&& options, std::string_view what) {
    const bool repairs = options.on_owner_death == OwnerDeath::repair;
    if (repairs != static_cast<bool>(options.repair)) {
        throw ValueError(
            text_of("{}: OwnerDeath::repair and a repair function go together", {what}));
    }
    if (repairs) {
        function_ = std::make_shared<const std::function<void()>>(std::move(options.repair));
    }
}

template <class Undo>
void Repair::run(const LockState& state, Undo undo) const {
    if (state.policy() != OwnerDeath::repair) { return; }
    try {
        if (function_ == nullptr) {
            throw ProcessError(
                "the lock's holder died, and this process does not have its repair function");
        }
        (*function_)();
    } catch (...) {
        undo();
        throw;
    }
}

}  // namespace detail
}  // namespace multiprocessing

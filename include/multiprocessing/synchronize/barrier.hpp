// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// `Barrier`: so many wait for each other, then all go on.
///
///     mp::Barrier barrier(3, [] { fmt::print("everybody is here\n"); });
///     // in each of three processes:
///     barrier.wait();
///
/// Mirrors `multiprocessing.Barrier`. It can be used again at once; a slow waiter of an earlier
/// round does not hold up the next one.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/serialize/handle.hpp>
#include <multiprocessing/shm/shared_object.hpp>
#include <multiprocessing/shm/slab.hpp>
#include <multiprocessing/synchronize/barrier_state.hpp>
#include <multiprocessing/timeout.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

namespace multiprocessing {

/// A handle to a meeting point for a fixed number of threads or processes.
///
/// It breaks, for everybody, when a wait times out, when the action throws, by `abort()`, and when
/// a process that has once waited at it dies (by a signal or `_exit`; one that ends of its own
/// accord has not died). A process that dies before it first waits is unknown to the barrier: give
/// `wait` a timeout.
/// \safety all members: threads and processes. Copies refer to the same barrier.
class Barrier {
  public:
    /// The action is run by one of the parties each time, before any is released. It belongs to the
    /// process and to the children that it forks. `timeout` is for every `wait()` that does not say
    /// its own.
    /// \throws ValueError when `parties < 1`.
    template <class Lazy = void>
    explicit Barrier(int parties, std::function<void()> action = {}, Timeout timeout = forever);

    /// Waits until all have arrived.
    /// \returns how many had arrived before: each of 0 .. parties - 1 to one of them.
    /// \throws BrokenBarrierError when the barrier is broken or reset; the timeout breaks it. To
    ///         the one that ran the action: what that threw.
    int wait() const { return wait(timeout_); }
    int wait(Timeout timeout) const;

    /// Makes a barrier usable again; who waits meanwhile gets BrokenBarrierError.
    void reset() const { state_->reset(); }
    /// Breaks the barrier.
    void abort() const noexcept { state_->abort(); }

    int parties() const noexcept { return static_cast<int>(state_->parties()); }
    /// Returns how many wait at the moment.
    int n_waiting() const { return static_cast<int>(state_->waiting()); }
    bool broken() const { return state_->broken(); }

  private:
    friend struct detail::HandleAccess;

    template <class Lazy = void>
    explicit Barrier(detail::Reader& in);

    template <class Lazy = void>
    void save_handle(detail::Writer& out) const;
    template <class Lazy = void>
    static Barrier load_handle(detail::Reader& in) {
        return Barrier(in);
    }

    std::shared_ptr<detail::BarrierState> state_;
    std::shared_ptr<const std::function<void()>> action_;  // null for none
    Timeout timeout_;
};

// -------------------------------------------------------------------------------------------------

template <class Lazy>
Barrier::Barrier(int parties, std::function<void()> action, Timeout timeout) : timeout_(timeout) {
    if (parties < 1) {
        throw ValueError(detail::text_of("a Barrier for {} parties: at least 1", {parties}));
    }
    const auto count = static_cast<std::uint32_t>(parties);
    state_ = detail::make_shared_object<detail::BarrierState>(
        detail::BarrierState::table_bytes(count), count);
    if (action) { action_ = std::make_shared<const std::function<void()>>(std::move(action)); }
}

inline int Barrier::wait(Timeout timeout) const {
    const std::uint32_t index = state_->wait(timeout, action_ != nullptr, [this] { (*action_)(); });
    return static_cast<int>(index);
}

template <class Lazy>
void Barrier::save_handle(detail::Writer& out) const {
    if (action_) { detail::refuse_function("a Barrier with an action"); }
    detail::save_shared_object(out, state_);
    // In nanoseconds; a negative one is none.
    out.raw(timeout_.is_infinite() ? std::int64_t{-1} : std::int64_t{timeout_.duration().count()});
}

template <class Lazy>
Barrier::Barrier(detail::Reader& in)
    : state_(detail::load_shared_object<detail::BarrierState>(in)), timeout_(forever) {
    const std::chrono::nanoseconds timeout(in.raw<std::int64_t>());
    if (timeout >= timeout.zero()) { timeout_ = timeout; }
}

template <>
struct serializer<Barrier> : detail::handle_serializer<Barrier> {};

}  // namespace multiprocessing

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// `Event`: one says that something is so, the others wait until it is.
///
///     mp::Event ready;
///     mp::Process p([](mp::Event e) { prepare(); e.set(); }, ready);
///     p.start();
///     if (!ready.wait(5s)) { complain(); }
///
/// Mirrors `multiprocessing.Event`. Setting one that nobody waits for makes no system call.

#include <multiprocessing/os/futex.hpp>
#include <multiprocessing/os/kill_point.hpp>
#include <multiprocessing/serialize/handle.hpp>
#include <multiprocessing/shm/segment.hpp>
#include <multiprocessing/shm/shared_object.hpp>
#include <multiprocessing/shm/slab.hpp>
#include <multiprocessing/timeout.hpp>

#include <climits>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace multiprocessing {

namespace detail {

/// An `Event` in shared memory: one word, so there is nothing that somebody's death could leave
/// undone.
struct EventState {
    static constexpr std::uint32_t set_bit = 1;
    static constexpr std::uint32_t waiters_bit =
        2;  // somebody may sleep; taken down by who sets it
    static constexpr std::uint32_t one_generation = 4;

    bool is_intact(std::size_t /*size*/) const noexcept { return tag.names(magic("EVNT")); }

    LayoutTag tag{magic("EVNT"), 1};
    // Number of times it was set << 2 | waiters_bit | set_bit; changed by compare-and-swap, by
    // anybody.
    os::FutexWord word{0};
};
static_assert(shared_layout<EventState> && sizeof(EventState) == 12);

}  // namespace detail

/// A handle to a flag that several processes share and can wait for.
/// \safety all members: threads and processes; `set` and `is_set` are async-signal-safe as well.
///         Copies refer to the same flag.
class Event {
  public:
    template <class Lazy = void>
    Event() : state_(detail::make_shared_object<detail::EventState>(0)) {}

    bool is_set() const noexcept {
        return (state_->word.load() & detail::EventState::set_bit) != 0;
    }
    /// Sets the flag and releases everybody who waits.
    /// \cost one atomic instruction, and one system call when somebody waits.
    void set() const noexcept;
    void clear() const noexcept;

    /// Waits until the flag is set.
    /// \returns true when it is, or was at some time during the wait: who waits is released by a
    ///         `set()` also when `clear()` follows at once. False when the timeout passed.
    bool wait(Timeout timeout = forever) const;

  private:
    friend struct detail::HandleAccess;

    template <class Lazy = void>
    explicit Event(detail::Reader& in)
        : state_(detail::load_shared_object<detail::EventState>(in)) {}

    template <class Lazy = void>
    void save_handle(detail::Writer& out) const {
        detail::save_shared_object(out, state_);
    }
    template <class Lazy = void>
    static Event load_handle(detail::Reader& in) {
        return Event(in);
    }

    std::shared_ptr<detail::EventState> state_;
};

// -------------------------------------------------------------------------------------------------

inline void Event::set() const noexcept {
    using State = detail::EventState;
    std::uint32_t seen = state_->word.load();
    std::uint32_t next;
    do {
        if ((seen & State::set_bit) != 0) { return; }
        next = ((seen & ~State::waiters_bit) + State::one_generation) | State::set_bit;
    } while (!state_->word.compare_exchange_weak(seen, next));
    MULTIPROCESSING_KILL_POINT("event.set.stored");
    if ((seen & State::waiters_bit) != 0) { detail::os::futex_wake(state_->word, INT_MAX); }
}

inline void Event::clear() const noexcept {
    state_->word.fetch_and(~detail::EventState::set_bit);
    MULTIPROCESSING_KILL_POINT("event.clear.stored");
}

inline bool Event::wait(Timeout timeout) const {
    using State = detail::EventState;
    std::uint32_t seen = state_->word.load();
    if ((seen & State::set_bit) != 0) { return true; }
    const std::uint32_t began = seen / State::one_generation;
    const detail::Deadline deadline(timeout);
    for (;;) {
        if ((seen & State::set_bit) != 0 || seen / State::one_generation != began) { return true; }
        const auto left = deadline.left(detail::os::wait_slice);
        if (left <= left.zero()) { return false; }
        if ((seen & State::waiters_bit) == 0) {
            if (!state_->word.compare_exchange_weak(seen, seen | State::waiters_bit)) { continue; }
            MULTIPROCESSING_KILL_POINT("event.wait.announced");
            seen |= State::waiters_bit;
        }
        detail::os::futex_wait(state_->word, seen, left);
        seen = state_->word.load();
    }
}

template <>
struct serializer<Event> : detail::handle_serializer<Event> {};

}  // namespace multiprocessing

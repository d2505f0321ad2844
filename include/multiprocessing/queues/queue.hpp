// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Queue: values from any number of processes to any number of processes.
///
///     mp::Queue<std::string> queue;
///     mp::Process p([](mp::Queue<std::string> q) { q.put("hello"); }, queue);
///     p.start();
///     fmt::print("{}\n", queue.get());
///     p.join();
///
/// Mirrors `multiprocessing.Queue`. Other than there no thread feeds it: a `put` has happened when
/// it returns, so `qsize` and `empty` are exact, and a process that ends waits for no reader.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/queues/item_ring.hpp>
#include <multiprocessing/serialize/handle.hpp>
#include <multiprocessing/timeout.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <optional>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

namespace multiprocessing {

/// Passes values between processes, first in, first out (those of each producer, if there are
/// several).
///
/// \safety a handle: a copy is the same queue, also in a child process. All members may be called
/// by any thread of any process at any time. Whoever is killed costs the others nothing but the one
/// item that he had in hand.
/// \cost one copy to put and one to get; no system call, unless one has to wait or somebody waits.
/// \tparam T anything that can be sent; see serialize.hpp.
template <class T>
class Queue {
  public:
    using value_type = T;

    /// Makes a queue for at most `maxsize` items at a time; 0 is as many as memory holds.
    /// \throws OSError when there is no memory or no descriptor left.
    explicit Queue(std::size_t maxsize = 0) : Queue("Queue", maxsize) {}
    // Moving copies, so that there is no handle without a queue.
    Queue(const Queue&) = default;
    Queue& operator=(const Queue&) = default;

    /// Adds an item; waits for a free place if there is none and `block` says so.
    /// \throws Full when there was none in time
    /// \throws ValueError when this process has closed the queue; ShutDown when anybody has shut it
    /// down
    /// \throws OSError when there is no memory. Whatever is thrown, the item was not added.
    void put(const T& item, bool block = true, Timeout timeout = forever) const {
        if (!ring_->put(item, block ? timeout : no_wait)) { throw Full(); }
    }
    void put_nowait(const T& item) const { put(item, false); }
    /// Adds an item; false instead of `Full`.
    bool try_put(const T& item, Timeout timeout = no_wait) const {
        return ring_->put(item, timeout);
    }
    /// Adds a `T` made from the arguments.
    template <class... Args>
    void emplace(Args&&... args) const {
        put(T(std::forward<Args>(args)...));
    }
    /// Adds all items of a range or a braced list, in order, and returns when all are in. Several
    /// synchronise once. At an error the first ones may be in.
    template <std::ranges::input_range Range>
    requires std::convertible_to<std::ranges::range_reference_t<Range>, T>
    void put_many(Range&& items) const { ring_->put_many(std::forward<Range>(items)); }
    void put_many(std::initializer_list<T> items) const { ring_->put_many(items); }

    /// Takes the first item; waits for one if there is none and `block` says so.
    /// \throws Empty when there was none in time
    /// \throws ValueError when this process has closed the queue; ShutDown when it is shut down and
    /// empty
    /// \throws SerializationError when what was put is not a `T`; that item is gone
    T get(bool block = true, Timeout timeout = forever) const {
        return get(block ? timeout : Timeout(no_wait));
    }
    /// The same as `get(true, timeout)`.
    T get(Timeout timeout) const;
    // A bare number does not say what it is: whether to wait, or how long.
    template <class Number>
    requires(std::is_arithmetic_v<Number> && !std::is_same_v<Number, bool>) T get(Number)
    const = delete;
    T get_nowait() const { return get(false); }
    /// Takes the first item; nothing instead of `Empty`.
    std::optional<T> try_get(Timeout timeout = no_wait) const { return ring_->get(timeout); }
    /// Takes up to `most` items, as soon as there is one; none when there was none in time.
    ///
    /// One that is not a `T` is reported by the next call if others could be taken before it.
    std::vector<T> get_many(std::size_t most, Timeout timeout = forever) const {
        return ring_->get_many(most, timeout);
    }

    /// Returns how many items there are; exact once puts and gets have returned.
    std::size_t qsize() const noexcept { return ring_->ring().size(); }
    /// Tells whether there is none.
    /// \throws ValueError when it was closed, unless it was never used.
    bool empty() const;
    bool full() const noexcept { return ring_->ring().full(); }

    /// Ends this process's use of the queue, through whichever handle. What was put stays.
    void close() const { ring_->ring().close(); }
    /// Returns at once: nothing is left to be flushed.
    /// \throws AssertionError before `close()`.
    void join_thread() const;
    /// Does nothing: nobody would be joined.
    void cancel_join_thread() const noexcept {}

    /// Ends the queue for all processes: `put` throws `ShutDown`, and so does `get` once the queue
    /// is empty; those that wait already are woken. `immediate` discards what is in it.
    void shutdown(bool immediate = false) const { ring_->ring().shut_down(immediate); }

    /// Returns a descriptor that is readable while an item can be had, or the queue is shut down;
    /// for `wait`, `poll`, event loops. It may be readable for nothing until somebody has looked.
    /// \throws ValueError when it was closed
    int fileno() const {
        ring_->check_open();
        return ring_->ring().fileno();
    }

  protected:
    Queue(const char* name, std::size_t maxsize)
        : ring_(std::make_shared<detail::ItemRing<T>>(name, maxsize)) {}
    Queue(const char* name, detail::Reader& in)
        : ring_(std::make_shared<detail::ItemRing<T>>(name, in)) {}

    detail::ItemRing<T>& items() const noexcept { return *ring_; }

  private:
    friend struct detail::HandleAccess;

    static constexpr std::chrono::seconds no_wait{0};

    void save_handle(detail::Writer& out) const { ring_->save_ring(out); }
    static Queue load_handle(detail::Reader& in) { return Queue("Queue", in); }

    std::shared_ptr<detail::ItemRing<T>> ring_;  // never null
};

template <class T>
struct serializer<Queue<T>> : detail::handle_serializer<Queue<T>> {};

// -------------------------------------------------------------------------------------------------

template <class T>
T Queue<T>::get(Timeout timeout) const {
    std::optional<T> item = ring_->get(timeout);
    if (!item) { throw Empty(); }
    return std::move(*item);
}

template <class T>
bool Queue<T>::empty() const {
    if (ring_->ring().is_closed() && ring_->ring().puts() != 0) { ring_->refuse_closed(); }
    return ring_->ring().empty();
}

template <class T>
void Queue<T>::join_thread() const {
    if (!ring_->ring().is_closed()) {
        throw AssertionError("join_thread() of a Queue that is not closed");
    }
}

}  // namespace multiprocessing

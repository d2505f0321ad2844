// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// SimpleQueue: a queue with as few members as will do.
///
/// Mirrors `multiprocessing.SimpleQueue`. It never blocks on a reader, other than there: see Queue.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/queues/item_ring.hpp>
#include <multiprocessing/serialize/handle.hpp>
#include <multiprocessing/timeout.hpp>

#include <memory>
#include <optional>
#include <utility>

namespace multiprocessing {

/// Passes values between processes, without bounds and timeouts.
/// \safety as `Queue`, a handle
template <class T>
class SimpleQueue {
  public:
    using value_type = T;

    /// \throws OSError when there is no memory or no descriptor left.
    SimpleQueue() : ring_(std::make_shared<detail::ItemRing<T>>("SimpleQueue", 0)) {}
    // Moving copies, so that there is no handle without a queue.
    SimpleQueue(const SimpleQueue&) = default;
    SimpleQueue& operator=(const SimpleQueue&) = default;

    /// Adds an item.
    /// \throws ValueError when this process has closed the queue
    void put(const T& item) const { ring_->put(item, forever); }

    /// Takes the first item; waits for one.
    /// \throws ValueError when this process has closed the queue
    T get() const { return std::move(*ring_->get(forever)); }

    /// Tells whether there is none.
    /// \throws ValueError when this process has closed the queue
    bool empty() const {
        ring_->check_open();
        return ring_->ring().empty();
    }

    /// Ends this process's use of the queue, through whichever handle.
    void close() const { ring_->ring().close(); }

  private:
    friend struct detail::HandleAccess;

    explicit SimpleQueue(detail::Reader& in)
        : ring_(std::make_shared<detail::ItemRing<T>>("SimpleQueue", in)) {}

    void save_handle(detail::Writer& out) const { ring_->save_ring(out); }
    static SimpleQueue load_handle(detail::Reader& in) { return SimpleQueue(in); }

    std::shared_ptr<detail::ItemRing<T>> ring_;  // never null
};

template <class T>
struct serializer<SimpleQueue<T>> : detail::handle_serializer<SimpleQueue<T>> {};

}  // namespace multiprocessing

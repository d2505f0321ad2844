// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// JoinableQueue: a queue that knows when all its items have been worked on.
///
///     queue.put(job);                                                    // who has work
///     while (auto job = queue.get()) { work(*job); queue.task_done(); }  // who works
///     queue.join();                                                      // who waits for it
///
/// Mirrors `multiprocessing.JoinableQueue`.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/queues/queue.hpp>
#include <multiprocessing/serialize/handle.hpp>
#include <multiprocessing/timeout.hpp>

#include <cstddef>

namespace multiprocessing {

/// A `Queue` that counts the items that have been put and not been reported done.
/// \safety as `Queue`. An item whose worker died is never reported: join with a timeout, or keep
/// account of the workers.
template <class T>
class JoinableQueue : public Queue<T> {
  public:
    explicit JoinableQueue(std::size_t maxsize = 0) : Queue<T>("JoinableQueue", maxsize) {}

    /// Reports that the work on one item is done.
    /// \throws ValueError when it was called as often as items were put
    void task_done() const {
        if (!this->items().ring().finish_one()) {
            throw ValueError("task_done() called too many times");
        }
    }

    /// Waits until every item that was put has been reported done; what a `shutdown(true)`
    /// discarded counts as done.
    void join() const { this->items().ring().wait_finished(); }
    /// The same with a bound; false when it passed.
    bool join(Timeout timeout) const { return this->items().ring().wait_finished(timeout); }

  private:
    friend struct detail::HandleAccess;

    explicit JoinableQueue(detail::Reader& in) : Queue<T>("JoinableQueue", in) {}

    static JoinableQueue load_handle(detail::Reader& in) { return JoinableQueue(in); }
};

template <class T>
struct serializer<JoinableQueue<T>> : detail::handle_serializer<JoinableQueue<T>> {};

}  // namespace multiprocessing

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The ring: records of bytes from any number of processes to any number of processes.
///
///     Ring ring({.name = "texts", .limit = 10});
///     ring.put(text.size(), [&](std::span<std::byte> to) { copy(text, to); }, forever);
///     ring.get([&](std::span<const std::byte> from) { text = copy_of(from); }, 2s);
///
/// What queues and pools are made of. Two robust guards, one for those who put and one for those
/// who get, and two commit words, `tail` and `head`. A put writes its record behind the tail and
/// then moves the tail; a get copies the record out and then moves the head. Who is killed before
/// that store has never begun, who is killed after it has finished; nobody needs him either way.
/// One sleeps *outside* the guards and for a bounded time, so that neither a sleeper that is
/// stopped nor a wake that died with its sender holds up anybody.
///
/// The ring grows: a larger area is chained behind the last one, and the readers come to it when
/// they have read up to its base. A record that is too large for an area has an extent of its own.
/// Both are reserved before anything is changed, and given back once they have been read.

#include <multiprocessing/os/futex.hpp>
#include <multiprocessing/os/unique_fd.hpp>
#include <multiprocessing/serialize/archive.hpp>
#include <multiprocessing/shm/ring_core.hpp>
#include <multiprocessing/shm/ring_get.hpp>
#include <multiprocessing/shm/ring_put.hpp>
#include <multiprocessing/timeout.hpp>

#include <algorithm>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace multiprocessing::detail {

/// What `Ring::save` has written.
template <class Lazy = void>
struct RingDescriptors {
    explicit RingDescriptors(Reader& in) : file(take(in)), readable(take(in)) {}

    os::UniqueFd file;
    os::UniqueFd readable;

  private:
    static os::UniqueFd take(Reader& in) {
        const auto index = in.raw<std::uint32_t>();
        if (in.handles == nullptr) { refuse_bytes("a queue without its descriptors"); }
        return os::UniqueFd(in.handles->take(index));
    }
};

/// A queue of byte records in shared memory.
///
/// The readers and writers that are passed in run under a guard: they are the library's own code,
/// do not block and do not fork. If one throws, its record is as it was and the ring is in order.
/// \safety all members: threads, processes, forked children; SIGKILL of any user at any
/// instruction.
/// \cost put and get: one copy each, and no system call unless one has to sleep or somebody sleeps.
class Ring {
  public:
    /// Most records that can be in a ring at a time.
    static constexpr std::size_t largest_limit = RingEnd::count_mask;

    /// \throws OSError when there is no memory or no descriptor for it.
    explicit Ring(const RingOptions& options = {}) : core_(options) {}
    /// Reads the ring that another process has saved; see RingCore.
    /// \throws SerializationError when there is none, or its records are of another type
    template <class Lazy = void>
    Ring(Reader& in, std::uint64_t type_hash) : Ring(RingDescriptors<Lazy>(in), type_hash) {}

    /// Writes its two descriptors, to `out.handles`, for a process that does not inherit it. Not of
    /// one that is closed.
    template <class Lazy = void>
    void save(Writer& out) const {
        out.raw(out.handles->add(core_.file()));
        out.raw(out.handles->add(core_.readable()));
    }

    /// Adds a record of `size` bytes that `write(std::span<std::byte>)` fills in.
    /// \throws OSError when there is no memory for it; the ring is as it was.
    template <class Write>
    RingStatus put(std::size_t size, Write&& write, Timeout timeout = forever);

    /// Adds records 0 to `count` - 1, of `size_of(i)` bytes each, filled in by `write(i, span)`,
    /// with as few synchronisations as possible. At an error some of the first ones may have been
    /// put.
    template <class SizeOf, class Write>
    RingProgress put_many(std::size_t count, SizeOf&& size_of, Write&& write,
                          Timeout timeout = forever) {
        return producer_.put(count, size_of, write, timeout);
    }

    /// Takes the first record, which `read(std::span<const std::byte>)` copies out.
    template <class Read>
    RingStatus get(Read&& read, Timeout timeout = forever) {
        return get(read, timeout, [](std::uint32_t) {});
    }
    /// The same. `before_commit(sequence)` runs after the reading and before the record is gone:
    /// what it notes in shared memory is noted whenever the record is gone. `sequence` is the
    /// number of gets before this one, modulo 2^30.
    template <class Read, class BeforeCommit>
    RingStatus get(Read&& read, Timeout timeout, BeforeCommit&& before_commit);

    /// Takes up to `most` records, as soon as there is one; `read(i, span)`. If that throws at
    /// another than the first, this one stays and is the first of the next call.
    template <class Read>
    RingProgress get_many(std::size_t most, Read&& read, Timeout timeout = forever);

    /// Calls `visit(std::span<std::byte>)` for every record that nobody has taken yet, the first
    /// one first. It runs under the guard of those who get, and may change a record's bytes.
    template <class Visit>
    void for_each(Visit&& visit) {
        consumer_.for_each(visit);
    }

    /// Returns how many records there are; exact when nobody is putting or getting.
    std::size_t size() const noexcept;
    bool empty() const noexcept { return size() == 0; }
    bool full() const noexcept { return size() >= header().limit; }
    /// Return how many records were ever put and taken, modulo 2^30.
    std::uint32_t puts() const noexcept { return header().load_tail().count(); }
    std::uint32_t gets() const noexcept { return header().load_head().count(); }
    std::uint64_t type_hash() const noexcept { return header().type_hash; }

    /// Ends the ring: every put from now on, and every get that finds it empty, returns
    /// `shut_down`, also those that wait already. `immediate` discards what is in it.
    void shut_down(bool immediate) { core_.shut_down(immediate); }
    bool is_shut_down() const noexcept { return core_.state() != RingHeader::open; }

    /// Ends this process's use of the ring and gives its descriptors back; what is asked of `size`
    /// and the like is still answered. A put or get, also one that waits already, returns `closed`.
    void close() { core_.close(); }
    bool is_closed() const noexcept { return core_.is_closed(); }

    /// Returns a descriptor that is readable while there is a record, or the ring is shut down. It
    /// may be readable for nothing until somebody has looked.
    int fileno() { return core_.fileno(); }

    /// Counts one record as done with; false when all that were ever put are.
    bool finish_one() noexcept;
    /// Returns how many records have been put and not been done with.
    std::size_t unfinished() const noexcept;
    /// Waits until there are none; false when the time was over before.
    bool wait_finished(Timeout timeout = forever);

    /// Returns the file, for whoever asks what memory is in use.
    int file() const noexcept { return core_.file(); }

  private:
    template <class Lazy = void>
    Ring(RingDescriptors<Lazy>&& descriptors, std::uint64_t type_hash)
        : core_(std::move(descriptors.file), std::move(descriptors.readable), type_hash) {}

    RingHeader& header() const noexcept { return core_.header(); }

    RingCore core_;
    RingProducer producer_{core_};
    RingConsumer consumer_{core_};
};

// -------------------------------------------------------------------------------------------------

template <class Write>
RingStatus Ring::put(std::size_t size, Write&& write, Timeout timeout) {
    return put_many(
               1, [size](std::size_t) { return size; },
               [&write](std::size_t, std::span<std::byte> to) { write(to); }, timeout)
        .status;
}

template <class Read, class BeforeCommit>
RingStatus Ring::get(Read&& read, Timeout timeout, BeforeCommit&& before_commit) {
    const auto read_one = [&read](std::size_t, std::span<const std::byte> from) { read(from); };
    return consumer_.get(1, read_one, before_commit, timeout).status;
}

template <class Read>
RingProgress Ring::get_many(std::size_t most, Read&& read, Timeout timeout) {
    const auto nothing = [](std::uint32_t) {};
    return consumer_.get(most, read, nothing, timeout);
}

inline std::size_t Ring::size() const noexcept {
    if (core_.state() == RingHeader::discarded) { return 0; }
    // Head first: the tail is then never behind it. What is put in between may count too much.
    const RingEnd head = header().load_head();
    return std::min(header().load_tail().records_since(head), header().limit);
}

inline std::size_t Ring::unfinished() const noexcept {
    // `finished` first, for the same reason. What was discarded is done with.
    const std::uint32_t finished = header().finished.load();
    const bool discarded = core_.state() == RingHeader::discarded;
    const RingEnd counted = discarded ? header().load_head() : header().load_tail();
    const std::uint32_t left = counted.records_since(RingEnd{finished});
    // More may have been reported done than were taken before the rest was discarded.
    return discarded && left > largest_limit / 2 ? 0 : left;
}

inline bool Ring::finish_one() noexcept {
    std::uint32_t finished = header().finished.load();
    do {
        const bool discarded = core_.state() == RingHeader::discarded;
        const RingEnd counted = discarded ? header().load_head() : header().load_tail();
        const std::uint32_t left = counted.records_since(RingEnd{finished});
        if (left == 0 || (discarded && left > largest_limit / 2)) { return false; }
    } while (!header().finished.compare_exchange_weak(finished, finished + 1));  // COMMIT
    MULTIPROCESSING_KILL_POINT("ring.finish.committed");
    if (unfinished() == 0 && header().joiners_wait.exchange(0) != 0) {
        os::futex_wake(header().finished, INT_MAX);
    }
    return true;
}

inline bool Ring::wait_finished(Timeout timeout) {
    Patience patience(timeout);
    for (;;) {
        header().joiners_wait.store(1);
        const std::uint32_t seen = header().finished.load();
        if (unfinished() == 0) { return true; }
        if (patience.is_over()) { return false; }
        os::futex_wait(header().finished, seen, patience.deadline().left(os::wait_slice));
    }
}

}  // namespace multiprocessing::detail

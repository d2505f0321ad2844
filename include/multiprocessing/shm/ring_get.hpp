// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The end of a ring at which records are taken.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/shm/ring_core.hpp>
#include <multiprocessing/shm/ring_put.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace multiprocessing::detail {

/// Takes records from a ring.
/// \safety see Ring.
class RingConsumer {
  public:
    explicit RingConsumer(RingCore& core) noexcept : core_(core), header_(core.header()) {}

    /// See Ring::get_many and Ring::get.
    template <class Read, class BeforeCommit>
    RingProgress get(std::size_t most, Read& read, BeforeCommit& before_commit, Timeout timeout);

    /// See Ring::for_each.
    template <class Visit>
    void for_each(Visit& visit);
    /// Wakes another who sleeps until there is a record, if there is.
    void wake_next() noexcept;

  private:
    static constexpr std::uint64_t spacious_area = 4 * 1024 * 1024;
    static constexpr std::uint64_t smallest_area = 64 * 1024;
    static constexpr std::uint32_t records_per_commit = 64;

    // Under the guard: takes what is there, up to `most`.
    template <class Read, class BeforeCommit>
    void consume(std::size_t& done, std::size_t most, Read& read, BeforeCommit& before_commit);
    template <class Read>
    RingExtent read_extent(std::size_t index, std::span<const std::byte> payload, Read& read);
    bool has_record(RingEnd head) noexcept;
    RingRecord checked(const std::byte* record, RingEnd head) const;
    void commit(RingEnd head) noexcept;
    void shrink(const AreaView& area, RingEnd head, std::uint64_t last_units) noexcept;

    RingCore& core_;
    RingHeader& header_;
};

// -------------------------------------------------------------------------------------------------

template <class Read, class BeforeCommit>
RingProgress RingConsumer::get(std::size_t most, Read& read, BeforeCommit& before_commit,
                               Timeout timeout) {
    RingProgress progress;
    if (most == 0) { return progress; }
    Patience patience(timeout);
    const PassOn<RingConsumer> pass_on{*this, patience};
    bool producers_may_be_inside = true;
    for (;;) {
        RingEnd tail_seen;
        bool closing = false;
        {
            const Guard::Section section = core_.enter_consumers(patience);
            if (!section) { return {0, RingStatus::timed_out}; }
            if (core_.is_closed()) { return {0, RingStatus::closed}; }
            // Asked before the tail: what was put while the ring was open is then seen.
            const RingHeader::State state = core_.state();
            if (state == RingHeader::discarded) { return {0, RingStatus::shut_down}; }
            consume(progress.done, most, read, before_commit);
            if (progress.done == 0 && state != RingHeader::open && !producers_may_be_inside) {
                return {0, RingStatus::shut_down};
            }
            closing = state == RingHeader::closing;
            tail_seen.word = header_.tail_seen.load(std::memory_order_relaxed);
        }
        if (progress.done != 0) {
            RingCore::wake(header_.producers_wait);
            if (tail_seen == header_.load_head()) { core_.settle_descriptor(); }
            return progress;
        }
        if (closing) {
            // Who saw the ring open may still be about to commit. Once we have been where he is,
            // what is empty is empty for good.
            Patience moment(std::chrono::seconds(0));
            if (core_.enter_producers(moment)) {
                producers_may_be_inside = false;
            } else if (patience.is_over()) {
                return {0, RingStatus::timed_out};  // he is slow, or stopped
            }
            continue;
        }
        if (core_.settle_descriptor()) { continue; }
        if (patience.is_over()) { return {0, RingStatus::timed_out}; }
        core_.sleep(header_.tail, tail_seen, header_.consumers_wait, patience);
    }
}

inline void RingConsumer::wake_next() noexcept {
    header_.consumers_wait.store(1);
    if (header_.load_tail() != header_.load_head() || core_.state() != RingHeader::open) {
        RingCore::wake(header_.consumers_wait);
    }
}

template <class Read, class BeforeCommit>
void RingConsumer::consume(std::size_t& done, std::size_t most, Read& read,
                           BeforeCommit& before_commit) {
    // What has been committed, and what has been read behind it.
    RingEnd committed{header_.head.load(std::memory_order_relaxed)};
    RingEnd head = committed;
    const auto commit_read = [&] {
        if (head == committed) { return; }
        before_commit(header_.load_head().count());
        commit(head);
        committed = head;
    };
    while (done < most && has_record(head)) {
        const AreaView& area = core_.area_of(head, commit_read);
        const std::byte* const record = area.at(head);
        const RingRecord begin = checked(record, head);
        const std::span<const std::byte> payload(record + sizeof begin, begin.length());
        const std::uint64_t units = RingRecord::units(begin.length());
        const bool large = begin.kind() == RingRecord::extent;
        // A large record is committed alone, so that its redo note names the one commit.
        if (large) { commit_read(); }
        RingExtent extent{};
        try {
            if (large) {
                extent = read_extent(done, payload, read);
            } else {
                read(done, payload);
            }
        } catch (...) {
            // The first one's error is the caller's. Another's waits until it is the first.
            if (done == 0) { throw; }
            break;
        }
        ++done;
        head = head.after(units);
        if (large) {
            core_.note_giving_back(extent);
            commit_read();
            core_.give_back();
        } else if (head.records_since(committed) >= records_per_commit) {
            commit_read();
        }
        if (area.size() > spacious_area) [[unlikely]] {
            commit_read();
            shrink(area, head, units);
        }
    }
    commit_read();
}

template <class Visit>
void RingConsumer::for_each(Visit& visit) {
    Patience patience(forever);
    const Guard::Section section = core_.enter_consumers(patience);
    if (!section || core_.state() == RingHeader::discarded) { return; }
    RingEnd head{header_.head.load(std::memory_order_relaxed)};
    const RingEnd tail = header_.load_tail();
    header_.tail_seen.store(tail.word, std::memory_order_relaxed);
    std::uint32_t number = header_.area_first.load(std::memory_order_relaxed);
    while (head != tail) {
        std::byte* const record = core_.area_ahead(head, number).at(head);
        const RingRecord begin = checked(record, head);
        std::byte* const payload = record + sizeof begin;
        if (begin.kind() == RingRecord::extent) {
            RingExtent extent;
            std::memcpy(&extent, payload, sizeof extent);
            const os::Mapping memory(core_.file(), extent.offset,
                                     static_cast<std::size_t>(extent.length));
            visit(std::span<std::byte>(memory.data(), memory.size()));
        } else {
            visit(std::span<std::byte>(payload, begin.length()));
        }
        head = head.after(RingRecord::units(begin.length()));
    }
}

inline bool RingConsumer::has_record(RingEnd head) noexcept {
    if (header_.tail_seen.load(std::memory_order_relaxed) != head.word) [[likely]] { return true; }
    // Acquire: what was written before the tail was moved is there.
    const RingEnd tail = header_.load_tail();
    header_.tail_seen.store(tail.word, std::memory_order_relaxed);
    return tail != head;
}

inline RingRecord RingConsumer::checked(const std::byte* record, RingEnd head) const {
    RingRecord begin;
    std::memcpy(&begin, record, sizeof begin);
    const RingEnd tail{header_.tail_seen.load(std::memory_order_relaxed)};
    if (RingRecord::units(begin.length()) > tail.units_since(head.position())) [[unlikely]] {
        throw ProcessError("a queue's memory is damaged: a record is longer than what was put");
    }
    return begin;
}

inline void RingConsumer::commit(RingEnd head) noexcept {
    MULTIPROCESSING_KILL_POINT("ring.get.read");
    // COMMIT. Release: what was read has been read before it may be written over. Partner:
    // load_head in RingProducer.
    header_.head.store(head.word, std::memory_order_release);
    MULTIPROCESSING_KILL_POINT("ring.get.committed");
}

template <class Read>
RingExtent RingConsumer::read_extent(std::size_t index, std::span<const std::byte> payload,
                                     Read& read) {
    RingExtent extent;
    std::memcpy(&extent, payload.data(), sizeof extent);
    const auto length = static_cast<std::size_t>(extent.length);
    const os::Mapping memory(core_.file(), extent.offset, length);
    read(index, std::span<const std::byte>(memory.data(), length));
    return extent;
}

inline void RingConsumer::shrink(const AreaView& area, RingEnd head,
                                 std::uint64_t last_units) noexcept {
    // Records of a size that needs the area are likely to come again.
    if (last_units * RingRecord::unit * 16 >= area.size() || header_.load_tail() != head) {
        return;
    }
    try {
        // Consumers' guard before producers', never the other way round. Who puts just now keeps
        // the area in use, so there is nothing to wait for.
        const Guard::Section section = core_.try_enter_producers();
        if (!section || header_.load_tail() != head) { return; }
        if (header_.area_count.load() - header_.area_first.load() == 1) {
            core_.chain_area(smallest_area);
        }
    } catch (const std::exception&) {
        return;  // without memory for a small area the large one stays in use
    }
    core_.area_of(head, [] {});
}

}  // namespace multiprocessing::detail

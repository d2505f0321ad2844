// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The end of a ring at which records are put.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/shm/ring_core.hpp>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <thread>

namespace multiprocessing::detail {

enum class RingStatus {
    ok,
    timed_out,  ///< full, or empty, until the time was over
    shut_down,
    closed,  ///< by this process
};

/// How far a call with several records came.
struct RingProgress {
    std::size_t done = 0;
    RingStatus status = RingStatus::ok;
};

/// Puts records into a ring.
/// \safety see Ring.
class RingProducer {
  public:
    explicit RingProducer(RingCore& core) noexcept : core_(core), header_(core.header()) {}

    /// See Ring::put_many.
    template <class SizeOf, class Write>
    RingProgress put(std::size_t count, SizeOf& size_of, Write& write, Timeout timeout);
    /// Wakes another who sleeps until there is room, if there is.
    void wake_next() noexcept;

  private:
    enum class Obstacle { none, limit, room, shut_down, closed };

    // Larger payloads have an extent.
    static constexpr std::uint64_t largest_inline = 4 * 1024 * 1024;
    // As large as this an area grows without asking; beyond, the readers first get a moment to make
    // room, so that a pair that keeps pace stays within the CPU's cache.
    static constexpr std::uint64_t comfortable_area = 1024 * 1024;
    static constexpr std::chrono::nanoseconds moment_for_room = std::chrono::milliseconds(1);
    // What is larger does not stay when it is not needed.
    static constexpr std::uint64_t spacious_area = 4 * 1024 * 1024;
    static constexpr std::uint64_t largest_area = 512 * 1024 * 1024;
    // A slot stays free between the last area and the one that was retired last.
    static constexpr std::uint32_t most_areas = RingHeader::area_slots - 2;
    // Of many records so many, or so many units of them, are written before they are committed.
    static constexpr std::uint32_t records_per_commit = 64;
    static constexpr std::uint64_t units_per_commit = 1024;

    template <class SizeOf, class Write>
    Obstacle produce(std::size_t& done, std::size_t count, SizeOf& size_of, Write& write,
                     bool wait_for_room);
    template <class Write>
    void write_extent(std::byte* record, std::uint64_t length, Write& write, std::size_t index);
    const AreaView* area_with_room(std::uint64_t units, RingEnd tail, bool wait_for_room);
    const AreaView* grow(const AreaView& area, std::uint64_t units);
    std::uint64_t units_used(const AreaView& area, RingEnd tail) const noexcept;
    void commit(RingEnd tail) noexcept;
    void give_readers_a_moment(std::uint64_t enough) const;

    RingCore& core_;
    RingHeader& header_;
};

// -------------------------------------------------------------------------------------------------

template <class SizeOf, class Write>
RingProgress RingProducer::put(std::size_t count, SizeOf& size_of, Write& write, Timeout timeout) {
    RingProgress progress;
    Patience patience(timeout);
    const PassOn<RingProducer> pass_on{*this, patience};
    bool wait_for_room = true;
    for (;;) {
        RingEnd head_seen;
        std::uint64_t enough = 0;
        Obstacle obstacle;
        {
            const Guard::Section section = core_.enter_producers(patience);
            if (!section) { return {progress.done, RingStatus::timed_out}; }
            obstacle = produce(progress.done, count, size_of, write, wait_for_room);
            head_seen.word = header_.head_seen.load(std::memory_order_relaxed);
            if (obstacle == Obstacle::room) {
                enough = core_.last_area().size() / RingRecord::unit / 4;
            }
        }
        RingCore::wake(header_.consumers_wait);
        switch (obstacle) {
            case Obstacle::none:
                return progress;
            case Obstacle::shut_down:
                progress.status = RingStatus::shut_down;
                return progress;
            case Obstacle::closed:
                progress.status = RingStatus::closed;
                return progress;
            case Obstacle::room:
                give_readers_a_moment(enough);
                wait_for_room = false;
                break;
            case Obstacle::limit:
                if (patience.is_over()) {
                    progress.status = RingStatus::timed_out;
                    return progress;
                }
                core_.sleep(header_.head, head_seen, header_.producers_wait, patience);
                break;
        }
    }
}

inline void RingProducer::wake_next() noexcept {
    header_.producers_wait.store(1);
    const auto items = header_.load_tail().records_since(header_.load_head());
    if (items < header_.limit || core_.state() != RingHeader::open) {
        RingCore::wake(header_.producers_wait);
    }
}

template <class SizeOf, class Write>
RingProducer::Obstacle RingProducer::produce(std::size_t& done, std::size_t count, SizeOf& size_of,
                                             Write& write, bool wait_for_room) {
    if (core_.is_closed()) { return Obstacle::closed; }
    if (core_.state() != RingHeader::open) { return Obstacle::shut_down; }
    // What has been committed, and what has been written behind it.
    RingEnd committed{header_.tail.load(std::memory_order_relaxed)};
    RingEnd tail = committed;
    const auto commit_written = [&] {
        if (tail == committed) { return; }
        commit(tail);
        done += tail.records_since(committed);
        committed = tail;
    };
    while (done + tail.records_since(committed) < count) {
        RingEnd head{header_.head_seen.load(std::memory_order_relaxed)};
        if (tail.records_since(head) >= header_.limit) [[unlikely]] {
            // Acquire: the readers have copied out what they have passed.
            head = header_.load_head();
            header_.head_seen.store(head.word, std::memory_order_relaxed);
            if (tail.records_since(head) >= header_.limit) {
                commit_written();
                return Obstacle::limit;
            }
        }
        const std::size_t index = done + tail.records_since(committed);
        const std::uint64_t length = size_of(index);
        const bool large = length > largest_inline;
        const std::uint64_t units = RingRecord::units(large ? sizeof(RingExtent) : length);
        const AreaView* area = &core_.last_area();
        if (large || units_used(*area, tail) + units > area->size() / RingRecord::unit)
            [[unlikely]] {
            // An area begins at a committed position, and a large record is committed alone.
            commit_written();
            area = area_with_room(units, tail, wait_for_room);
            if (area == nullptr) { return wait_for_room ? Obstacle::room : Obstacle::limit; }
        }
        std::byte* const record = area->at(tail);
        if (large) {
            write_extent(record, length, write, index);
            tail = tail.after(units);
            commit_written();
            core_.keep_stretch();
            continue;
        }
        const RingRecord begin = RingRecord::make(RingRecord::bytes, length);
        std::memcpy(record, &begin, sizeof begin);
        write(index, std::span<std::byte>(record + sizeof begin, length));
        tail = tail.after(units);
        if (tail.records_since(committed) >= records_per_commit ||
            tail.units_since(committed.position()) >= units_per_commit) {
            commit_written();
            // Without a fence: the look that counts follows when the guard has been left.
            if (header_.consumers_wait.load(std::memory_order_relaxed) != 0) {
                RingCore::wake(header_.consumers_wait);
            }
        }
    }
    commit_written();
    return Obstacle::none;
}

inline void RingProducer::commit(RingEnd tail) noexcept {
    MULTIPROCESSING_KILL_POINT("ring.put.written");
    core_.signal();
    // COMMIT. Release: the record is there for whoever sees this. Partner: load_tail in
    // RingConsumer.
    header_.tail.store(tail.word, std::memory_order_release);
    MULTIPROCESSING_KILL_POINT("ring.put.committed");
}

template <class Write>
void RingProducer::write_extent(std::byte* record, std::uint64_t length, Write& write,
                                std::size_t index) {
    const std::uint64_t reserved = os::round_to_pages(length);
    const RingExtent extent{core_.take_stretch(reserved), length};
    try {
        const os::Mapping memory(core_.file(), extent.offset, static_cast<std::size_t>(reserved));
        write(index, std::span<std::byte>(memory.data(), static_cast<std::size_t>(length)));
    } catch (...) {
        core_.drop_stretch();
        throw;
    }
    const RingRecord begin = RingRecord::make(RingRecord::extent, sizeof extent);
    std::memcpy(record, &begin, sizeof begin);
    std::memcpy(record + sizeof begin, &extent, sizeof extent);
}

inline std::uint64_t RingProducer::units_used(const AreaView& area, RingEnd tail) const noexcept {
    // While the readers are in an earlier area, everything from the base on is unread. That they
    // have come here may be seen late, and `head_seen` is late as well: both count too much, never
    // too little.
    if (header_.area_first.load(std::memory_order_relaxed) != area.number()) {
        return tail.units_since(area.base());
    }
    const RingEnd head{header_.head_seen.load(std::memory_order_relaxed)};
    return tail.units_since(head.position());
}

inline const AreaView* RingProducer::area_with_room(std::uint64_t units, RingEnd tail,
                                                    bool wait_for_room) {
    header_.head_seen.store(header_.load_head().word, std::memory_order_relaxed);
    const AreaView& area = core_.last_area();
    const std::uint64_t all = area.size() / RingRecord::unit;
    const std::uint64_t used = units_used(area, tail);
    if (used + units <= all) {
        // Left over from a flood that has passed: its memory goes when the readers leave it.
        const bool oversized = area.size() > spacious_area && used < all / 16 && units < all / 64;
        return oversized ? &core_.chain_area(area.size() / 4) : &area;
    }
    if (wait_for_room && area.size() >= comfortable_area && units <= all / 4) { return nullptr; }
    return grow(area, units);
}

inline const AreaView* RingProducer::grow(const AreaView& area, std::uint64_t units) {
    const std::uint32_t live = header_.area_count.load() - header_.area_first.load();
    if (live >= most_areas) { return nullptr; }
    const std::uint64_t factor = area.size() < comfortable_area ? 4 : 2;
    const std::uint64_t next = std::min(area.size() * factor, largest_area);
    // Three of a kind or so, for writing and reading to overlap.
    const std::uint64_t least = std::bit_ceil(2 * units * RingRecord::unit);
    if (least < next) {
        try {
            return &core_.chain_area(next);
        } catch (const OSError&) {
            // Where memory is short, what is needed will do.
        }
    }
    return &core_.chain_area(least);
}

inline void RingProducer::give_readers_a_moment(std::uint64_t enough) const {
    const RingEnd before = header_.load_head();
    const auto end = std::chrono::steady_clock::now() + moment_for_room;
    RingEnd head = before;
    while (head.units_since(before.position()) < enough && std::chrono::steady_clock::now() < end) {
        const RingEnd seen = head;
        if (!spin([&] { return (head = header_.load_head()) != seen; })) {
            // Whoever reads is not running: this CPU may be the one he waits for.
            std::this_thread::sleep_for(spin_time);
        }
    }
}

}  // namespace multiprocessing::detail

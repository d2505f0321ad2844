// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What a ring looks like in its file: the header with the commit words, the areas, the extents.
///
/// The file holds one header, then *areas* (rings of bytes, of which the last is written and the
/// first is read) and *extents* (a stretch for one large record), each at an offset of its own that
/// is never used again. What has been read is punched out, so the file is as large as it is long
/// only on paper.

#include <multiprocessing/os/futex.hpp>
#include <multiprocessing/shm/guard.hpp>
#include <multiprocessing/shm/segment.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace multiprocessing::detail {

/// One end of a ring as ONE word, so that one store commits: where it is (34 bits, in units of 8
/// bytes) and how many records have gone by (30 bits). Both run freely and wrap around.
///
/// The low half changes with every record: it is what one sleeps on.
struct RingEnd {
    static constexpr int count_bits = 30;
    static constexpr std::uint64_t count_mask = (std::uint64_t{1} << count_bits) - 1;
    static constexpr std::uint64_t position_mask = (std::uint64_t{1} << (64 - count_bits)) - 1;

    std::uint64_t word;

    constexpr std::uint64_t position() const noexcept { return word >> count_bits; }
    constexpr std::uint32_t count() const noexcept {
        return static_cast<std::uint32_t>(word & count_mask);
    }
    /// Returns this end after one more record of `units`. The shift drops what wraps.
    constexpr RingEnd after(std::uint64_t units) const noexcept {
        return {(position() + units) << count_bits | ((word + 1) & count_mask)};
    }
    /// Returns how many units lie between `earlier` and this one.
    constexpr std::uint64_t units_since(std::uint64_t earlier) const noexcept {
        return (position() - earlier) & position_mask;
    }
    /// Returns how many records lie between `earlier` and this one.
    constexpr std::uint32_t records_since(RingEnd earlier) const noexcept {
        return static_cast<std::uint32_t>((word - earlier.word) & count_mask);
    }
    constexpr bool operator==(const RingEnd&) const noexcept = default;
};

/// What a record begins with: the length of what follows it in bytes, and of which kind that is.
/// It takes whole units; what follows is filled up to the next.
struct RingRecord {
    static constexpr std::uint64_t unit = 8;
    static constexpr int length_bits = 56;

    enum Kind : std::uint64_t {
        bytes = 0,   ///< the payload itself
        extent = 1,  ///< a RingExtent: the payload stands elsewhere in the file
    };

    std::uint64_t word;

    static constexpr RingRecord make(Kind kind, std::uint64_t length) noexcept {
        return {static_cast<std::uint64_t>(kind) << length_bits | length};
    }
    constexpr std::uint64_t kind() const noexcept { return word >> length_bits; }
    constexpr std::uint64_t length() const noexcept {
        return word & ((std::uint64_t{1} << length_bits) - 1);
    }
    /// Returns the units that a record takes whose payload has `length` bytes.
    static constexpr std::uint64_t units(std::uint64_t length) noexcept {
        return 1 + (length + unit - 1) / unit;
    }
};

/// Where the payload of a large record stands.
struct RingExtent {
    std::uint64_t offset;  ///< in the file
    std::uint64_t length;  ///< in bytes; what is reserved is this, rounded up to pages
};

/// What every process that uses the ring maps.
struct RingHeader {
    enum State : std::uint32_t {
        open = 0,
        closing = 1,    ///< no more puts; gets until it is empty
        discarded = 2,  ///< neither: what lies between head and tail is void
    };

    /// A ring of bytes. Area k holds the positions from its base to the base of area k + 1.
    struct Area {
        std::atomic<std::uint64_t> base;    // position of its first byte
        std::atomic<std::uint64_t> offset;  // in the file
        std::atomic<std::uint64_t> size;    // in bytes; a power of two, at least a page
    };
    static constexpr std::uint32_t area_slots = 64;

    /// A stretch of the file that is about to be taken into use or to be given back: what somebody
    /// who is killed in between leaves to the next. Valid while `length` is not 0, which is written
    /// last and cleared last. All values are absolute, so who repairs may be killed as well.
    struct Redo {
        std::atomic<std::uint64_t> offset;
        std::atomic<std::uint64_t> length;
        std::atomic<std::uint64_t> end_before;  // the commit word before the operation

        void note(std::uint64_t at, std::uint64_t bytes, RingEnd end) noexcept {
            offset.store(at, std::memory_order_relaxed);
            end_before.store(end.word, std::memory_order_relaxed);
            length.store(bytes);
        }
        void clear() noexcept { length.store(0, std::memory_order_release); }
    };

    // Read by all, written next to never.
    LayoutTag tag;
    std::uint64_t type_hash;                // written once at creation: what the records are
    std::uint32_t limit;                    // written once at creation: most records at a time
    std::atomic<std::uint32_t> state;       // a State, goes up only; written by shut_down
    std::atomic<std::uint32_t> watched;     // 0, then 1: the descriptor is kept; producers' guard
    std::atomic<std::uint32_t> area_count;  // commit word of chaining an area; producers' guard
    std::atomic<std::uint32_t> area_first;  // commit word of retiring an area; consumers' guard

    // Producers. Only under their guard:
    alignas(128) Guard producers;
    std::atomic<std::uint64_t>
        head_seen;  // some earlier value of `head`, read again when it looks full
    std::atomic<std::uint64_t> file_end;           // no byte at or behind it is in use
    std::atomic<std::uint32_t> signalled;          // 0: the descriptor is not readable, 1: it is
    Redo taking;                                   // the stretch that is being reserved
    alignas(128) std::atomic<std::uint64_t> tail;  // COMMIT word of put
    // 1: somebody may sleep on it until there is a record; 0: who does has been woken
    os::FutexWord consumers_wait;

    // Consumers. Only under their guard:
    alignas(128) Guard consumers;
    std::atomic<std::uint64_t> tail_seen;  // some earlier value of `tail`, never behind `head`
    Redo giving_back;                      // the extent that is being punched out
    alignas(128) std::atomic<std::uint64_t> head;  // COMMIT word of get
    os::FutexWord producers_wait;                  // as consumers_wait, until there is room

    // Records whose work has been reported done, counted as `tail` counts them; changed by
    // compare-and-swap. Who waits for all of them sleeps on it.
    alignas(128) os::FutexWord finished;
    os::FutexWord joiners_wait;  // 1: somebody may sleep on `finished`

    // Slot k % area_slots is area k, for area_first <= k < area_count; written by who chains,
    // before area_count; the slot before area_first keeps its values until its memory is given
    // back.
    alignas(128) Area areas[area_slots];

    RingEnd load_tail() const noexcept { return {tail.load(std::memory_order_acquire)}; }
    RingEnd load_head() const noexcept { return {head.load(std::memory_order_acquire)}; }
    Area& area(std::uint32_t number) noexcept { return areas[number % area_slots]; }
};
static_assert(shared_layout<RingHeader> && sizeof(RingHeader) == 2304);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

}  // namespace multiprocessing::detail

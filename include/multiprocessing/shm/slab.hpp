// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Small shared objects: a lock, an event, a value is one or a few 64-byte slots of a slab.
///
/// A hundred thousand of them live on a handful of descriptors. **A slot that another process may
/// still see is never used again**: if there was a `fork` since the object was made, a child may
/// hold a handle to it. Sending an object to a process that is being started counts as one. Such a
/// slot is retired; the slab goes when the last of its slots does.

#include <multiprocessing/os/fork.hpp>
#include <multiprocessing/shm/family.hpp>
#include <multiprocessing/shm/segment.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// Makes a `T`, followed by `extra` zeroed bytes, in shared memory.
///
/// The result is this process's reference; a child of a fork has its own. The memory is free when
/// the last process has dropped its last reference. \throws OSError when there is no space. \cost
/// tens of nanoseconds for what fits into a slab; a segment of its own for what does not.
template <shared_layout T, class Lazy = void, class... Args>
std::shared_ptr<T> make_shared_object(std::size_t extra, Args&&... args);

/// How large a slot is, and how every shared object is aligned.
inline constexpr std::size_t slot_size = 64;

/// Keeps the segment of an object outside of this process's slabs: the deleter of those that refer
/// to it, by which shared_object.hpp finds out where it stands.
struct SegmentHold {
    std::shared_ptr<Segment> segment;
    std::size_t size;  // of the object

    void operator()(std::byte*) const noexcept {}
};

/// Hands out slots of slabs to this process.
/// \safety threads; a child of a fork begins with no slab of its own and leaves its parent's alone.
template <class Lazy = void>
class Slab {
  public:
    /// What is larger gets a segment of its own.
    static constexpr std::size_t largest = 16 * 1024;

    /// Returns `size` zeroed bytes, aligned to 64.
    static std::shared_ptr<std::byte> allocate(std::size_t size);

  private:
    struct Chunk;

  public:
    /// Keeps an object's slots: the deleter of those that refer to it. It holds the chunk, so a
    /// chunk goes with its last object (and when it is not being cut).
    struct Hold {
        std::shared_ptr<Chunk> chunk;
        std::size_t size;
        std::uint64_t epoch;  // when it was made

        const Segment& segment() const noexcept { return chunk->segment; }
        void operator()(std::byte* freed) const noexcept {
            instance().give_back(chunk, freed, size, epoch);
        }
    };

  private:
    // One segment, cut into slots. What is known of them is known to this process alone.
    struct Chunk {
        explicit Chunk(std::size_t size) : segment("slab", size), maker(os::process_token()) {}

        Segment segment;
        std::uint64_t
            maker;  // the process that may hand out slots; in its children this is another's
        std::size_t used = 0;  // bytes handed out so far, from the front; grows only
        std::size_t live = 0;  // objects of the maker that are there
    };
    // A run of slots that was freed while no other process could have seen it.
    struct Free {
        std::shared_ptr<Chunk> chunk;
        std::byte* memory;
    };

    static constexpr std::size_t first_chunk = 64 * 1024;
    static constexpr std::size_t largest_chunk = 4 * 1024 * 1024;

    static Slab& instance();
    Slab();

    std::shared_ptr<std::byte> take(std::size_t size);
    void give_back(const std::shared_ptr<Chunk>& chunk, std::byte* memory, std::size_t size,
                   std::uint64_t epoch) noexcept;
    void forget();
    void forget_free_runs(const Chunk* chunk) noexcept;

    std::mutex mutex_;  // held across fork by the handlers, so that a child finds it free
    std::shared_ptr<Chunk> current_;  // the one that is being cut
    std::size_t next_size_ = first_chunk;
    std::array<std::vector<Free>, largest / slot_size + 1> free_;  // by number of slots
};

// -------------------------------------------------------------------------------------------------

template <class Lazy>
Slab<Lazy>& Slab<Lazy>::instance() {
    // Never destroyed: objects in statics outlive it otherwise.
    static constinit std::atomic<Slab*> slab{nullptr};
    return os::made_once(slab, [] { return new Slab; });
}

template <class Lazy>
Slab<Lazy>::Slab() {
    os::fork_epoch();  // its handler counts before ours lock
    os::at_fork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                [] {
                    instance().forget();
                    instance().mutex_.unlock();
                });
}

template <class Lazy>
void Slab<Lazy>::forget() {
    // The chunks stay mapped for as long as objects in them are referred to, and no longer.
    current_.reset();
    next_size_ = first_chunk;
    for (auto& runs : free_) { runs.clear(); }
}

template <class Lazy>
std::shared_ptr<std::byte> Slab<Lazy>::allocate(std::size_t size) {
    if (size > largest) {
        auto segment = std::make_shared<Segment>("object", os::round_to_pages(size));
        std::byte* const memory = segment->data();
        return {memory, SegmentHold{std::move(segment), size}};
    }
    return instance().take((size + slot_size - 1) / slot_size * slot_size);
}

template <class Lazy>
std::shared_ptr<std::byte> Slab<Lazy>::take(std::size_t size) {
    std::shared_ptr<Chunk> chunk;
    std::byte* memory = nullptr;
    {
        const std::scoped_lock lock(mutex_);
        if (auto& runs = free_[size / slot_size]; !runs.empty()) {
            chunk = std::move(runs.back().chunk);
            memory = runs.back().memory;
            runs.pop_back();
            std::memset(memory, 0, size);
        } else {
            if (current_ == nullptr || current_->segment.size() - current_->used < size) {
                auto fresh = std::make_shared<Chunk>(next_size_);
                if (current_ != nullptr && current_->live == 0) {
                    forget_free_runs(current_.get());
                }
                current_ = std::move(fresh);
                next_size_ = std::min(next_size_ * 2, largest_chunk);
            }
            chunk = current_;
            memory = chunk->segment.data() + chunk->used;
            chunk->used += size;
        }
        ++chunk->live;
    }
    return {memory, Hold{std::move(chunk), size, os::fork_epoch()}};
}

template <class Lazy>
void Slab<Lazy>::forget_free_runs(const Chunk* chunk) noexcept {
    for (std::vector<Free>& runs : free_) {
        std::size_t kept = 0;
        for (Free& run : runs) {
            if (run.chunk.get() != chunk) { std::swap(runs[kept++], run); }
        }
        while (runs.size() > kept) { runs.pop_back(); }
    }
}

template <class Lazy>
void Slab<Lazy>::give_back(const std::shared_ptr<Chunk>& chunk, std::byte* memory, std::size_t size,
                           std::uint64_t epoch) noexcept {
    if (chunk->maker != os::process_token()) { return; }
    const std::scoped_lock lock(mutex_);
    if (--chunk->live == 0 && chunk != current_) {
        forget_free_runs(chunk.get());  // they would keep it; now it goes with our caller
        return;
    }
    if (epoch != os::fork_epoch()) { return; }  // retired
    try {
        free_[size / slot_size].push_back({chunk, memory});
    } catch (const std::bad_alloc&) {
        // Without memory for the note the slot is retired too, which is always right.
    }
}

template <shared_layout T, class Lazy, class... Args>
std::shared_ptr<T> make_shared_object(std::size_t extra, Args&&... args) {
    static_assert(alignof(T) <= slot_size);
    Family::self();  // the registry comes first, so that whoever sees the object sees it too
    std::shared_ptr<std::byte> memory = Slab<Lazy>::allocate(sizeof(T) + extra);
    T* const object = ::new (memory.get()) T(std::forward<Args>(args)...);
    return {std::move(memory), object};
}

}  // namespace multiprocessing::detail

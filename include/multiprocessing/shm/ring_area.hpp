// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A process's view of one area of a ring.

#include <multiprocessing/os/memory.hpp>
#include <multiprocessing/shm/ring_layout.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace multiprocessing::detail {

/// One area, mapped twice back to back, so that a record is contiguous wherever it begins.
/// \safety immutable.
class AreaView {
  public:
    AreaView(int fd, std::uint32_t number, std::uint64_t base, std::uint64_t offset,
             std::uint64_t size)
        : number_(number), base_(base), mapping_(fd, offset, static_cast<std::size_t>(size)) {}

    std::uint32_t number() const noexcept { return number_; }
    std::uint64_t base() const noexcept { return base_; }
    std::uint64_t size() const noexcept { return mapping_.size(); }

    /// Returns the place of the record at `end`; what fits into the area is contiguous from there.
    std::byte* at(RingEnd end) const noexcept {
        return mapping_.data() + (end.units_since(base_) * RingRecord::unit & (size() - 1));
    }

  private:
    std::uint32_t number_;
    std::uint64_t base_;
    os::MirroredMapping mapping_;
};

/// Keeps the view that was used last.
///
/// One pointer, so that a `fork` that another thread calls in the middle finds a whole view; the
/// child's copy is its own.
/// \safety used under one guard only.
class AreaCache {
  public:
    AreaCache() = default;
    AreaCache(const AreaCache&) = delete;
    AreaCache& operator=(const AreaCache&) = delete;
    ~AreaCache() { delete view_.load(); }

    /// Returns the view of that area; maps it when it is another than last time.
    /// \throws OSError when the kernel refuses; the cache is as it was.
    const AreaView& view(int fd, RingHeader& header, std::uint32_t number) {
        const AreaView* const cached = view_.load(std::memory_order_relaxed);
        if (cached != nullptr && cached->number() == number) [[likely]] { return *cached; }
        const RingHeader::Area& area = header.area(number);
        return keep(std::make_unique<AreaView>(fd, number, area.base.load(), area.offset.load(),
                                               area.size.load()));
    }

    const AreaView& keep(std::unique_ptr<AreaView> view) noexcept {
        delete view_.exchange(view.get());
        return *view.release();
    }

  private:
    std::atomic<const AreaView*> view_{nullptr};
};

}  // namespace multiprocessing::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Arguments and results too large for a ring: the sender writes them where the receiver reads
/// them, so that each side copies once.
///
/// A message has a range of the pool's file to itself, at an offset that nobody else is given; the
/// ring carries which one. The parent frees all of them: arguments with the task's verdict, so that
/// a task may be run again, results when it has read them, and what a dead worker had begun, which
/// stands in its slot.

#include <multiprocessing/os/memory.hpp>
#include <multiprocessing/serialize/archive.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace multiprocessing::detail {

/// Which message it is: what stands in the ring instead of the bytes.
struct BulkMessage {
    std::uint64_t number;  // 0: none
    std::uint64_t size;    // in bytes
};

/// The ranges of one file; a handle to them.
/// \safety all members: threads, processes, forked children.
class BulkArea {
  public:
    /// `counter` is shared by all who use the file.
    BulkArea(int file, std::atomic<std::uint64_t>& counter) noexcept
        : file_(file), counter_(&counter) {}

    /// Tells whether there is any room; in a process that may only write small files there is none.
    static bool is_usable() noexcept { return !os::is_file_size_limited(); }
    std::uint64_t new_number() const noexcept { return counter_->fetch_add(1) + 1; }

    /// Writes behind the first `size` bytes of the message. \throws OSError when there is no space.
    void append(std::uint64_t number, std::uint64_t size, std::span<const std::byte> bytes) const {
        if (bytes.size() > stride - size) {
            throw SerializationError("a message of more than 64 GiB");
        }
        os::write_at(file_, offset(number) + size, bytes);
    }
    /// Maps the message that a record names; returns its bytes, which are there as long as
    /// `mapping` is.
    std::span<const std::byte> view(std::span<const std::byte> record, os::Mapping& mapping) const {
        const auto message = Reader(record).raw<BulkMessage>();
        mapping = os::Mapping(file_, offset(message.number), message.size, /*populated=*/true);
        return {mapping.data(), mapping.size()};
    }
    void free(std::uint64_t number) const noexcept { os::punch(file_, offset(number), stride); }
    void free_all() const noexcept { os::punch(file_, stride, ranges * stride); }

  private:
    // The first range is the pool's own. So many go by before an offset is used again that no
    // message is that old.
    static constexpr std::uint64_t stride = std::uint64_t{1} << 36;
    static constexpr std::uint64_t ranges = (std::uint64_t{1} << 26) - 1;
    static constexpr std::uint64_t offset(std::uint64_t number) {
        return (1 + number % ranges) * stride;
    }

    int file_;
    std::atomic<std::uint64_t>* counter_;
};

/// Takes what is too much for a `Writer`'s buffer: `writer.overflow = &bulk`.
/// \safety one thread at a time.
class BulkWriter final : public Overflow {
  public:
    /// `note` holds the number while the message is this writer's; in shared memory, so that it is
    /// freed when this process is killed.
    BulkWriter(const BulkArea& area, std::atomic<std::uint64_t>& note) noexcept
        : area_(area), note_(note) {}
    BulkWriter(const BulkWriter&) = delete;
    BulkWriter& operator=(const BulkWriter&) = delete;
    ~BulkWriter() override { restart(); }

    void append(std::span<const std::byte> bytes) override {
        if (message_.number == 0) {
            message_ = {.number = area_.new_number(), .size = 0};
            note_.store(message_.number);
        }
        area_.append(message_.number, message_.size, bytes);
        message_.size += bytes.size();
    }

    /// Frees what was written; nothing if nothing was.
    void restart() noexcept override {
        if (message_.number == 0) { return; }
        area_.free(message_.number);
        let_go();
    }

    /// The message so far; the receiver's once it was told, and `let_go` called.
    const BulkMessage& message() const noexcept { return message_; }
    void let_go() noexcept {
        message_ = {};
        note_.store(0);
    }

  private:
    const BulkArea area_;
    std::atomic<std::uint64_t>& note_;
    BulkMessage message_{};
};

/// Frees a message's memory.
class BulkRange {
  public:
    BulkRange(const BulkArea& area, const BulkMessage& message) noexcept
        : area_(area), number_(message.number) {}
    BulkRange(const BulkRange&) = delete;
    BulkRange& operator=(const BulkRange&) = delete;
    ~BulkRange() { area_.free(number_); }

  private:
    const BulkArea area_;
    const std::uint64_t number_;
};

}  // namespace multiprocessing::detail

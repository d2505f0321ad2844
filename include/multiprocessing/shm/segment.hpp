// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A stretch of shared memory with its file: what a queue, a large array or a slab lives in.

#include <multiprocessing/os/memory.hpp>
#include <multiprocessing/os/unique_fd.hpp>

#include <cstddef>
#include <cstdint>
#include <new>
#include <string>
#include <type_traits>
#include <utility>

namespace multiprocessing::detail {

/// One anonymous file and the mapping of its bytes, zeroed and reserved.
///
/// A child of a fork inherits the mapping and the descriptor; both go with the last process that
/// has them, after SIGKILL as well.
/// \cost two or three system calls, and the zeroing of the pages.
class Segment {
  public:
    /// \throws OSError when there is no space (or no descriptor) for it, naming the size.
    Segment(const std::string& name, std::size_t size)
        : file_(os::memfd_create(name)), mapping_(reserved(file_, size), 0, size) {}
    /// The same memory in a process that has not inherited it. \throws OSError when it cannot be
    /// mapped.
    explicit Segment(os::UniqueFd file)
        : file_(std::move(file)),
          mapping_(file_.get(), 0, static_cast<std::size_t>(os::identify(file_.get()).size)) {}

    int fd() const noexcept { return file_.get(); }
    std::byte* data() const noexcept { return mapping_.data(); }
    std::size_t size() const noexcept { return mapping_.size(); }

  private:
    static int reserved(const os::UniqueFd& file, std::size_t size) {
        os::reserve(file.get(), 0, size);
        return file.get();
    }

    os::UniqueFd file_;
    os::Mapping mapping_;
};

/// What every shared structure begins with: which structure it is, in which layout.
struct LayoutTag {
    std::uint32_t magic;    ///< written once at creation: four letters that name the structure
    std::uint32_t version;  ///< written once at creation: 1

    bool names(std::uint32_t letters) const noexcept { return magic == letters && version == 1; }
};

/// Returns the four letters of a layout tag as a number.
consteval std::uint32_t magic(const char (&letters)[5]) {
    std::uint32_t number = 0;
    for (int i = 3; i >= 0; --i) { number = number << 8 | static_cast<unsigned char>(letters[i]); }
    return number;
}

/// What may stand in shared memory: no virtual functions, one layout for all who look.
template <class T>
concept shared_layout = std::is_standard_layout_v<T> && std::is_trivially_destructible_v<T>;

}  // namespace multiprocessing::detail

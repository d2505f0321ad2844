// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Anonymous shared memory: files without a name (`memfd`) and their mappings.
///
/// Nothing appears in /dev/shm and nothing has to be removed: the kernel frees the memory with its
/// last user, also after SIGKILL. Space is reserved when it is asked for, so that "no space" is an
/// error there and never a SIGBUS later.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/available_memory.hpp>
#include <multiprocessing/os/unique_fd.hpp>

#include <boost/interprocess/exceptions.hpp>
#include <boost/interprocess/mapped_region.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace multiprocessing::detail::os {

/// Returns the size of a page.
std::size_t page_size() noexcept;

/// Makes an empty file without a name; `name` shows in /proc for whoever debugs.
UniqueFd memfd_create(const std::string& name);

/// Reserves `[offset, offset + size)` of the file, growing it where needed.
/// \throws OSError (ENOSPC, ENOMEM) that names the size and what is left; the file is as it was.
void reserve(int fd, std::uint64_t offset, std::uint64_t size);

/// Writes into the file, growing it where needed: cheaper than memory that is reserved, and mapped,
/// and written then. \throws OSError as `reserve` does.
void write_at(int fd, std::uint64_t offset, std::span<const std::byte> bytes);

/// Gives the memory of `[offset, offset + size)` back; it reads as zeros from then on.
void punch(int fd, std::uint64_t offset, std::uint64_t size) noexcept;

/// Returns a page of zeros that this process shares with those that it forks from here on; never
/// given back. \throws OSError when there is no memory.
inline void* shared_page() {
    void* const page =
        ::mmap(nullptr, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) { throw_os_error(errno, "mmap", "a shared page"); }
    return page;
}

/// Tells whether this process may only write files of some size (RLIMIT_FSIZE): then an offset far
/// away is refused, with a signal.
bool is_file_size_limited() noexcept;

/// What tells one open file from another, and how long it is.
struct FileIdentity {
    std::uint64_t inode = 0;
    std::uint64_t size = 0;
};
/// \throws OSError for what is no open file.
FileIdentity identify(int fd);

/// Tells whether it is a memory file, as `memfd_create` makes them, and no other descriptor.
bool is_memory_file(int fd) noexcept;

/// A mapping of a stretch of a file, unmapped with the object.
/// \safety the bytes are shared with every process that maps them; the object is one thread's.
class Mapping {
  public:
    Mapping() = default;
    /// Maps `size` bytes from `offset` (which is a multiple of the page size); `populated` if all
    /// of it is about to be used.
    Mapping(int fd, std::uint64_t offset, std::size_t size, bool populated = false);

    std::byte* data() const noexcept { return static_cast<std::byte*>(region_.get_address()); }
    std::size_t size() const noexcept { return region_.get_size(); }

  private:
    boost::interprocess::mapped_region region_;
};

/// The same stretch twice, back to back, so that what wraps around its end is contiguous.
class MirroredMapping {
  public:
    MirroredMapping() = default;
    MirroredMapping(int fd, std::uint64_t offset, std::size_t size);
    MirroredMapping(MirroredMapping&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    MirroredMapping& operator=(MirroredMapping&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~MirroredMapping();

    std::byte* data() const noexcept { return data_; }
    /// Returns the size of one of the two images.
    std::size_t size() const noexcept { return size_; }

  private:
    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

/// Returns `size` rounded up to whole pages.
std::uint64_t round_to_pages(std::uint64_t size) noexcept;

// -------------------------------------------------------------------------------------------------

inline FileIdentity identify(int fd) {
    struct stat file {};
    if (::fstat(fd, &file) != 0) { throw_os_error(errno, "fstat", text_of("descriptor {}", {fd})); }
    return {.inode = file.st_ino, .size = static_cast<std::uint64_t>(file.st_size)};
}

inline bool is_memory_file(int fd) noexcept {
    return ::fcntl(fd, F_GET_SEALS) >= 0;  // of any other it is EINVAL
}

inline bool is_file_size_limited() noexcept {
    rlimit limit{};
    return ::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
}

inline std::size_t page_size() noexcept {
    return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));  // no system call
}

inline std::uint64_t round_to_pages(std::uint64_t size) noexcept {
    return (size + page_size() - 1) / page_size() * page_size();
}

inline UniqueFd memfd_create(const std::string& name) {
    UniqueFd fd(::memfd_create(("multiprocessing:" + name).c_str(), MFD_CLOEXEC));
    if (!fd) { throw_os_error(errno, "memfd_create", name); }
    return fd;
}

/// Throws if there is not so much memory left. A memfd belongs to no file system that could be
/// full: asked for more than there is, the kernel would end processes until it had it.
inline void check_available(std::uint64_t size, const char* call) {
    constexpr std::uint64_t large = 16 * 1024 * 1024;
    if (size < large) { return; }
    if (const std::uint64_t left = available_memory(); size > left) {
        throw_os_error(ENOSPC, call,
                       text_of("{} bytes of shared memory, {} are available", {size, left}));
    }
}

inline void write_at(int fd, std::uint64_t offset, std::span<const std::byte> bytes) {
    check_available(bytes.size(), "pwrite");
    while (!bytes.empty()) {
        const ssize_t written =
            ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (written < 0 && errno == EINTR) { continue; }
        if (written <= 0) {
            throw_os_error(written < 0 ? errno : ENOSPC, "pwrite",
                           text_of("{} bytes of shared memory", {bytes.size()}));
        }
        offset += static_cast<std::uint64_t>(written);
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
}

inline void reserve(int fd, std::uint64_t offset, std::uint64_t size) {
    check_available(size, "posix_fallocate");
    int error;
    do {
        error = ::posix_fallocate(fd, static_cast<off_t>(offset), static_cast<off_t>(size));
    } while (error == EINTR);
    if (error != 0) {
        throw_os_error(error, "posix_fallocate", text_of("{} bytes of shared memory", {size}));
    }
}

inline void punch(int fd, std::uint64_t offset, std::uint64_t size) noexcept {
    // A failure leaves memory in use until the file goes: nothing that a caller could mend.
    (void)::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                      static_cast<off_t>(size));
}

/// What mapped_region wants to see of a file.
struct MappableFile {
    int fd;
    boost::interprocess::mapping_handle_t get_mapping_handle() const {
        return {fd, /*is_xsi=*/false};
    }
};

inline Mapping::Mapping(int fd, std::uint64_t offset, std::size_t size, bool populated) try
    : region_(MappableFile{fd}, boost::interprocess::read_write,
              static_cast<boost::interprocess::offset_t>(offset), size, nullptr,
              populated ? MAP_POPULATE : boost::interprocess::default_map_options) {
} catch (const boost::interprocess::interprocess_exception& error) {
    throw_os_error(error.get_native_error() != 0 ? error.get_native_error() : ENOMEM, "mmap",
                   text_of("{} bytes of shared memory", {size}));
}

inline MirroredMapping::MirroredMapping(int fd, std::uint64_t offset, std::size_t size)
    : size_(size) {
    const auto fail = [&] {
        const int error = errno;
        if (data_ != nullptr) { ::munmap(data_, 2 * size); }
        data_ = nullptr;
        throw_os_error(error, "mmap", text_of("2 x {} bytes of shared memory", {size}));
    };
    // One reservation of address space for both, so that nobody else's mapping comes between.
    void* const place = ::mmap(nullptr, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED) { fail(); }
    data_ = static_cast<std::byte*>(place);
    for (std::byte* const image : {data_, data_ + size}) {
        if (::mmap(image, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
                   static_cast<off_t>(offset)) == MAP_FAILED) {
            fail();
        }
    }
}

inline MirroredMapping::~MirroredMapping() {
    if (data_ != nullptr) { ::munmap(data_, 2 * size_); }
}

}  // namespace multiprocessing::detail::os

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What a process knows about having been forked.
///
/// `fork` copies everything, so state that belongs to one process must notice that it woke up in
/// another. The kernel wipes one page in every child (`MADV_WIPEONFORK`), also in one made by a raw
/// `clone`; what stands there is this process's own, and zero means "not asked yet".

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <system_error>

namespace multiprocessing::detail::os {

/// The page that a child finds empty.
struct ProcessPage {
    std::atomic<std::uint64_t> token;  ///< unique among the processes that share memory with us
    std::atomic<std::uint32_t>
        family_id;  ///< this process's place in the family (see shm/family.hpp)
};

/// Returns this process's page.
ProcessPage& process_page();

/// Returns a number that no other process that we descend from or fork has; never 0.
/// \cost two loads, no system call after the first.
std::uint64_t process_token();

/// Returns how many times this process, and whoever it was forked from, has called `fork`.
///
/// What was made before the last `fork` may be seen by a child; see shm/slab.hpp.
std::uint64_t fork_epoch();

/// Runs `prepare` before every `fork`, then `parent` and `child` in the two processes.
/// \throws OSError when there is no memory for it.
void at_fork(void (*prepare)(), void (*parent)(), void (*child)());

// -------------------------------------------------------------------------------------------------

inline void at_fork(void (*prepare)(), void (*parent)(), void (*child)()) {
    if (const int error = ::pthread_atfork(prepare, parent, child); error != 0) {
        throw std::system_error(error, std::system_category(), "pthread_atfork()");
    }
}

inline std::atomic<std::uint64_t>& fork_counter() {
    static std::atomic<std::uint64_t> counter{1};
    return counter;
}

inline ProcessPage& process_page() {
    static ProcessPage* const page = [] {
        constexpr std::size_t size = 4096;
        void* const memory =
            ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) {
            throw std::system_error(errno, std::system_category(), "mmap(the process's page)");
        }
        // Kernels before 4.14 refuse; there the handler below is all there is, and covers fork().
        ::madvise(memory, size, MADV_WIPEONFORK);
        static auto* const created = static_cast<ProcessPage*>(memory);
        at_fork([] { fork_counter().fetch_add(1, std::memory_order_relaxed); }, nullptr,
                [] {
                    created->token.store(0, std::memory_order_relaxed);
                    created->family_id.store(0, std::memory_order_relaxed);
                });
        return created;
    }();
    return *page;
}

inline std::uint64_t process_token() {
    ProcessPage& page = process_page();
    if (const std::uint64_t token = page.token.load(std::memory_order_relaxed); token != 0) {
        return token;
    }
    // A pid may come again within a family; together with the number of forks that lie between us
    // and the common ancestor it does not.
    const std::uint64_t fresh = (static_cast<std::uint64_t>(::getpid()) << 32) ^
                                fork_counter().load(std::memory_order_relaxed);
    std::uint64_t expected = 0;
    return page.token.compare_exchange_strong(expected, fresh) ? fresh : expected;
}

inline std::uint64_t fork_epoch() {
    process_page();  // registers the handler that counts
    return fork_counter().load(std::memory_order_relaxed);
}

}  // namespace multiprocessing::detail::os

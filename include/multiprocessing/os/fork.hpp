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
/// Returns the pid of the process whose token it is.
constexpr pid_t pid_of_token(std::uint64_t token) { return static_cast<pid_t>(token >> 32); }

/// Returns how many times this process, and whoever it was forked from, has called `fork` or
/// `count_share`.
///
/// What was made before the last of them may be seen by another process; see shm/slab.hpp.
std::uint64_t fork_epoch();
/// Counts as a `fork`: something of this process's is about to be sent to another.
void count_share() noexcept;

/// Runs `prepare` before every `fork`, then `parent` and `child` in the two processes; what was
/// registered last prepares first. Each may be null.
/// \safety threads. What `prepare` locks must not be held where something is made by `made_once`.
void at_fork(void (*prepare)(), void (*parent)(), void (*child)());

/// Returns what `place` points to; `make` makes it if that is nothing yet, and it stays for good.
///
/// A function's static would do, were it not for forks: one that another thread is making at the
/// moment of a fork stays half-made in the child, and whoever asks for it there waits for ever. No
/// fork comes between the beginning and the end of `make`.
/// \safety threads; one may make another.
template <class T, class Make>
T& made_once(std::atomic<T*>& place, Make make);

// -------------------------------------------------------------------------------------------------

/// All that `at_fork` was given. One handler of the C library's runs them, registered before
/// `main`: some C libraries hold a lock of their own while they run theirs, in which a registration
/// by another thread that holds ours would wait for ever.
class ForkHandlers {
  public:
    /// Held while something is made, and while the process forks.
    class Lock {
      public:
        Lock() { ::pthread_mutex_lock(&mutex_); }
        Lock(const Lock&) = delete;
        Lock& operator=(const Lock&) = delete;
        ~Lock() { ::pthread_mutex_unlock(&mutex_); }
    };

    static void add(void (*prepare)(), void (*parent)(), void (*child)()) {
        if (registered_ != 0) {
            throw std::system_error(registered_, std::system_category(), "pthread_atfork()");
        }
        const Lock lock;
        newest_ = new Entry{prepare, parent, child, newest_, nullptr};
        (newest_->older != nullptr ? newest_->older->newer : oldest_) = newest_;
    }

  private:
    struct Entry {
        void (*prepare)();
        void (*parent)();
        void (*child)();
        Entry* older;
        Entry* newer;
    };

    static void before() {
        ::pthread_mutex_lock(&mutex_);
        for (const Entry* entry = newest_; entry != nullptr; entry = entry->older) {
            if (entry->prepare != nullptr) { entry->prepare(); }
        }
    }
    static void after_in_parent() {
        for (const Entry* entry = oldest_; entry != nullptr; entry = entry->newer) {
            if (entry->parent != nullptr) { entry->parent(); }
        }
        ::pthread_mutex_unlock(&mutex_);
    }
    static void after_in_child() {
        // Not unlocked: it was a thread of the parent's that locked it, under an id that is not
        // ours.
        mutex_ = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
        for (const Entry* entry = oldest_; entry != nullptr; entry = entry->newer) {
            if (entry->child != nullptr) { entry->child(); }
        }
    }

    static inline pthread_mutex_t mutex_ = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
    static inline Entry* newest_ = nullptr;  // never freed: forks go on after the statics have gone
    static inline Entry* oldest_ = nullptr;
    static inline const int registered_ =
        ::pthread_atfork(&before, &after_in_parent, &after_in_child);
};

inline void at_fork(void (*prepare)(), void (*parent)(), void (*child)()) {
    ForkHandlers::add(prepare, parent, child);
}

template <class T, class Make>
T& made_once(std::atomic<T*>& place, Make make) {
    // Acquire pairs with the release below: what it points to is whole.
    if (T* const made = place.load(std::memory_order_acquire); made != nullptr) { return *made; }
    const ForkHandlers::Lock lock;
    T* made = place.load(std::memory_order_relaxed);
    if (made == nullptr) {
        made = make();
        place.store(made, std::memory_order_release);
    }
    return *made;
}

inline std::atomic<std::uint64_t>& fork_counter() {
    static constinit std::atomic<std::uint64_t> counter{1};
    return counter;
}

inline void count_share() noexcept { fork_counter().fetch_add(1, std::memory_order_relaxed); }

inline ProcessPage& process_page() {
    static constinit std::atomic<ProcessPage*> page{nullptr};
    return made_once(page, [] {
        constexpr std::size_t size = 4096;
        void* const memory =
            ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) {
            throw std::system_error(errno, std::system_category(), "mmap(the process's page)");
        }
        // Kernels before 4.14 refuse; there the handler below is all there is, and covers fork().
        ::madvise(memory, size, MADV_WIPEONFORK);
        at_fork([] { fork_counter().fetch_add(1, std::memory_order_relaxed); }, nullptr,
                [] {
                    process_page().token.store(0, std::memory_order_relaxed);
                    process_page().family_id.store(0, std::memory_order_relaxed);
                });
        return static_cast<ProcessPage*>(memory);
    });
}

inline std::uint64_t process_token() {
    ProcessPage& page = process_page();
    if (const std::uint64_t token = page.token.load(std::memory_order_relaxed); token != 0) {
        return token;
    }
    // A pid may come again within a family; together with the number of forks that lie between us
    // and the common ancestor it does not.
    const std::uint64_t fresh = static_cast<std::uint64_t>(::getpid()) << 32 |
                                (fork_counter().load(std::memory_order_relaxed) & 0xffff'ffff);
    std::uint64_t expected = 0;
    return page.token.compare_exchange_strong(expected, fresh) ? fresh : expected;
}

inline std::uint64_t fork_epoch() {
    process_page();  // registers the handler that counts
    return fork_counter().load(std::memory_order_relaxed);
}

}  // namespace multiprocessing::detail::os

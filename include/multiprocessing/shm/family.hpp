// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The family: processes that descend from one another, and who among them is alive.
///
/// A registry in shared memory has a slot for each. A process is named by its *member id*: slot,
/// generation of the slot; 30 bits, so that it fits into a lock word with two flags to spare. What
/// a dead process left behind is told from what a living one holds by asking the kernel for that
/// very process (pidfd and birth number), never by its pid alone and never by how long it has been
/// silent.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/fork.hpp>
#include <multiprocessing/os/futex.hpp>
#include <multiprocessing/os/kill_point.hpp>
#include <multiprocessing/os/process.hpp>
#include <multiprocessing/shm/segment.hpp>

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <climits>
#include <cstdint>
#include <new>
#include <optional>
#include <utility>

namespace multiprocessing::detail {

/// Names one process of the family for good: slot (12 bits), generation (18 bits). 0 is nobody.
using MemberId = std::uint32_t;

/// The bits of a word that a member id leaves free.
inline constexpr std::uint32_t member_id_mask = 0x3fff'ffff;

/// The processes that share memory with this one.
///
/// Every shared object is made after the registry, so whoever can see the object can see the
/// registry. \safety all members: threads, processes, the child of a fork (it joins under a new id
/// when it first asks for its own).
class Family {
  public:
    /// Returns this process's id; joins the family at the first call.
    /// \throws ProcessError when there are too many members, or from another pid namespace than the
    ///         registry's, where thread ids would collide.
    /// \cost two loads after the first call.
    static MemberId self();

    /// Returns the registry's file, for who is to share it without having been forked.
    static int file() { return home().segment.fd(); }
    /// Joins the family of that registry, unless the process is in it; what it has made before is
    /// nobody else's. To be called while there is one thread.
    static void adopt(os::UniqueFd file);

    /// Tells whether the process has ended, in whatever way; a zombie has, a stopped one has not.
    /// \cost five system calls, about 2 us: for slow paths.
    static bool has_ended(MemberId id);

    /// Tells whether the process has *died*: ended by a signal or by `_exit`, not of its own
    /// accord.
    static bool has_died(MemberId id);

    /// Returns the process's pid; nothing when its slot has been given to another since.
    static std::optional<pid_t> pid(MemberId id);

    /// Returns the code with which the process ended of its own accord; nothing if it did not, or
    /// its slot has been given to another since.
    static std::optional<int> exit_record(MemberId id);

    /// Finds the member with this pid and birth number (0: any), also one that has ended.
    static std::optional<MemberId> find(pid_t pid, std::uint64_t birth);

    /// Notes that this process is about to end of its own accord. Last thing before `_exit`.
    static void record_exit(int code) noexcept;

    /// Notes who started this process, for those who look for descendants.
    static void set_parent(MemberId parent);
    /// Returns the member that started this one; 0 when nobody is known.
    static MemberId parent(MemberId id);

    /// Calls `visit(id)` for every slot that is taken.
    template <class Visit>
    static void for_each(Visit visit);

    /// Sleeps while `word` is `expected`; the death of `owner` ends it early, where the kernel can
    /// tell.
    static void wait_with_owner(os::FutexWord& word, std::uint32_t expected, MemberId owner,
                                std::chrono::nanoseconds timeout);

    /// How many processes can be members at a time.
    static constexpr std::uint32_t capacity = 4095;

  private:
    // A slot's life: `claim` names its user (one compare-and-swap, so that a claimer who is killed
    // is found out like any other dead user), `ready` says that the rest is that user's.
    struct alignas(128) Slot {
        std::atomic<std::uint64_t>
            claim;  // pid << 32 | generation; written by whoever takes the slot
        std::atomic<std::uint32_t>
            ready;                     // = generation once the fields below are valid; by the user
        std::atomic<MemberId> parent;  // by the user; 0 until it says otherwise
        std::atomic<std::uint64_t> birth;  // by the user, before `ready`
        std::atomic<std::uint64_t>
            exit;  // generation << 32 | 0x100 | code; by the user, as its last act
        // generation << 32 | one bit for each earlier generation, the latest lowest: 1 = it died;
        // by the user, before `ready`.
        std::atomic<std::uint64_t> history;
        // Robust, locked by the user's main thread for life: the kernel marks its word at its death
        // and wakes whoever sleeps on it. A hint that is confirmed with the pidfd, nothing more.
        pthread_mutex_t life;
    };
    struct Registry {
        LayoutTag tag;
        std::uint64_t pid_namespace;           // written once at creation: inode, 0 = unknown
        std::atomic<std::uint32_t> next_slot;  // where to look first; a hint
        Slot slots[capacity];
    };
    static_assert(shared_layout<Registry> && sizeof(Slot) == 128);

    // Where the registry is, as this process has it mapped.
    struct Home {
        Home() : segment("family", sizeof(Registry)), registry(*::new (segment.data()) Registry) {
            registry.pid_namespace = os::pid_namespace();
            registry.tag = {magic("FAMI"), 1};
        }
        explicit Home(os::UniqueFd file)
            : segment(std::move(file)), registry(*reinterpret_cast<Registry*>(segment.data())) {
            if (segment.size() < sizeof(Registry) || registry.tag.magic != magic("FAMI") ||
                registry.tag.version != 1) {
                throw ProcessError("what was to be the registry of a family of processes is not");
            }
        }
        Segment segment;
        Registry& registry;
    };

    static constexpr std::uint32_t generation_mask = 0x3ffff;

    static MemberId make_id(std::uint32_t slot, std::uint32_t generation) {
        return (slot + 1) | (generation & generation_mask) << 12;
    }
    static std::uint32_t generation_of(std::uint64_t claim) {
        return static_cast<std::uint32_t>(claim);
    }
    static pid_t pid_of(std::uint64_t claim) { return static_cast<pid_t>(claim >> 32); }

    static std::atomic<Home*>& home_place();
    static Home& home();
    static Registry& registry() { return home().registry; }
    // False for 0, nobody.
    static bool has_slot(MemberId id) { return (id & 0xfff) != 0 && (id & 0xfff) <= capacity; }
    static Slot& slot(MemberId id) { return registry().slots[(id & 0xfff) - 1]; }
    static bool is_current(MemberId id, std::uint64_t claim) {
        return (generation_of(claim) & generation_mask) == id >> 12;
    }
    static bool user_has_ended(const Slot& slot, std::uint64_t claim);
    static std::uint64_t next_history(const Slot& slot, std::uint32_t generation);
    static MemberId join();
    static os::FutexWord& life_word(Slot& slot);
};

// -------------------------------------------------------------------------------------------------

inline std::atomic<Family::Home*>& Family::home_place() {
    // Never destroyed: processes end by _exit, and members are asked about until the last moment.
    static constinit std::atomic<Home*> home{nullptr};
    return home;
}

inline Family::Home& Family::home() {
    return os::made_once(home_place(), [] { return new Home; });
}

inline void Family::adopt(os::UniqueFd file) {
    const Home* const before = home_place().load();
    if (before != nullptr &&
        os::identify(before->segment.fd()).inode == os::identify(file.get()).inode) {
        return;
    }
    home_place().store(new Home(std::move(file)));
    os::process_page().family_id.store(0);
}

inline MemberId Family::self() {
    const MemberId id = os::process_page().family_id.load(std::memory_order_relaxed);
    return id != 0 ? id : join();
}

inline bool Family::user_has_ended(const Slot& slot, std::uint64_t claim) {
    const pid_t pid = pid_of(claim);
    if (pid == 0) { return true; }
    os::UniqueFd pidfd;
    try {
        pidfd = os::pidfd_open(pid);
    } catch (const OSError&) {
        // No descriptor left to ask with. Only who is gone altogether counts then; a zombie has to
        // wait.
        return os::is_reaped(pid);
    }
    if (os::has_ended(pidfd)) { return true; }
    // Somebody of that pid is alive. It is another process if its birth is; a claimer that has not
    // yet come to writing its birth has not used its id either, so it may stand for alive.
    if (slot.ready.load() != generation_of(claim)) { return false; }
    return os::birth_of(pidfd, pid) != slot.birth.load();
}

inline bool Family::has_ended(MemberId id) {
    id &= member_id_mask;
    if (!has_slot(id)) { return true; }
    if (id == os::process_page().family_id.load(std::memory_order_relaxed)) { return false; }
    const Slot& user = slot(id);
    const std::uint64_t claim = user.claim.load();
    return !is_current(id, claim) || user_has_ended(user, claim);
}

inline bool Family::has_died(MemberId id) {
    id &= member_id_mask;
    if (!has_slot(id)) { return true; }
    if (!has_ended(id)) { return false; }
    // Asked first: a new user of the slot leaves the record alone until it has written the note
    // below.
    if (exit_record(id)) { return false; }
    const Slot& user = slot(id);
    if (is_current(id, user.claim.load())) { return true; }
    // The slot has had other users since: they left a note, 32 generations deep.
    const std::uint64_t history = user.history.load();
    const std::uint32_t age = (generation_of(history >> 32) - (id >> 12)) & generation_mask;
    if (age == 0 || age > 32) { return true; }
    return (history >> (age - 1) & 1) != 0;
}

inline std::optional<pid_t> Family::pid(MemberId id) {
    id &= member_id_mask;
    if (!has_slot(id)) { return std::nullopt; }
    const std::uint64_t claim = slot(id).claim.load();
    if (!is_current(id, claim)) { return std::nullopt; }
    return pid_of(claim);
}

inline std::optional<int> Family::exit_record(MemberId id) {
    if (!has_slot(id)) { return std::nullopt; }
    const std::uint64_t exit = slot(id).exit.load();
    if ((exit & 0x100) == 0 || ((exit >> 32) & generation_mask) != (id & member_id_mask) >> 12) {
        return std::nullopt;
    }
    return static_cast<int>(exit & 0xff);
}

inline std::optional<MemberId> Family::find(pid_t pid, std::uint64_t birth) {
    std::optional<MemberId> found;
    for_each([&](MemberId id) {
        const Slot& user = slot(id);
        if (pid_of(user.claim.load()) == pid && (birth == 0 || user.birth.load() == birth)) {
            found = id;
        }
    });
    return found;
}

inline void Family::record_exit(int code) noexcept {
    const MemberId id = os::process_page().family_id.load(std::memory_order_relaxed);
    if (id == 0) { return; }
    Slot& own = slot(id);
    const std::uint64_t generation = generation_of(own.claim.load());
    own.exit.store(generation << 32 | 0x100 | static_cast<std::uint64_t>(code & 0xff));
    MULTIPROCESSING_KILL_POINT("family.record_exit.stored");
}

inline void Family::set_parent(MemberId parent) { slot(self()).parent.store(parent); }

inline MemberId Family::parent(MemberId id) {
    id &= member_id_mask;
    if (!has_slot(id)) { return 0; }
    const Slot& user = slot(id);
    return is_current(id, user.claim.load()) ? user.parent.load() : 0;
}

template <class Visit>
void Family::for_each(Visit visit) {
    Registry& shared = registry();
    for (std::uint32_t i = 0; i < capacity; ++i) {
        const std::uint64_t claim = shared.slots[i].claim.load();
        const std::uint32_t generation = generation_of(claim);
        if (pid_of(claim) != 0 && shared.slots[i].ready.load() == generation) {
            visit(make_id(i, generation));
        }
    }
}

inline std::uint64_t Family::next_history(const Slot& slot, std::uint32_t generation) {
    const std::uint64_t history = slot.history.load();
    // Claimers that were killed before they wrote theirs leave a gap; whoever they were, they never
    // used the slot, and count as died.
    auto covered = static_cast<std::uint32_t>(history >> 32);
    auto bits = static_cast<std::uint32_t>(history);
    const std::uint64_t exit = slot.exit.load();
    for (; covered != generation; ++covered) {
        const bool orderly =
            (exit & 0x100) != 0 && static_cast<std::uint32_t>(exit >> 32) == covered;
        bits = bits << 1 | (orderly ? 0U : 1U);
    }
    return static_cast<std::uint64_t>(generation) << 32 | bits;
}

inline MemberId Family::join() {
    Registry& shared = registry();
    if (const std::uint64_t here = os::pid_namespace();
        here != 0 && shared.pid_namespace != 0 && here != shared.pid_namespace) {
        throw ProcessError(text_of(
            "process {} is in another pid namespace than the processes it shares objects with; "
            "thread ids collide there, so it cannot use them",
            {::getpid()}));
    }
    const pid_t pid = ::getpid();
    // Asked before a slot is claimed: without a descriptor left to ask with, nothing has happened.
    const std::uint64_t birth = os::birth_of(os::pidfd_open(pid), pid);
    for (std::uint32_t attempt = 0; attempt < capacity; ++attempt) {
        const std::uint32_t index = shared.next_slot.fetch_add(1) % capacity;
        Slot& own = shared.slots[index];
        std::uint64_t claim = own.claim.load();
        if (!user_has_ended(own, claim)) { continue; }
        const std::uint32_t generation = generation_of(claim) + 1;
        if (!own.claim.compare_exchange_strong(
                claim, static_cast<std::uint64_t>(pid) << 32 | generation)) {
            continue;
        }
        MULTIPROCESSING_KILL_POINT("family.join.claimed");
        own.history.store(next_history(own, generation));
        own.parent.store(0);
        own.birth.store(birth);
        pthread_mutexattr_t attributes;
        ::pthread_mutexattr_init(&attributes);
        ::pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
        ::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
        ::pthread_mutex_init(&own.life, &attributes);
        ::pthread_mutexattr_destroy(&attributes);
        // Only the main thread lives as long as the process; without it there is no early news.
        if (os::thread_id() == pid) { ::pthread_mutex_lock(&own.life); }
        own.ready.store(generation);
        MULTIPROCESSING_KILL_POINT("family.join.ready");
        MemberId expected = 0;
        const MemberId id = make_id(index, generation);
        if (os::process_page().family_id.compare_exchange_strong(expected, id)) { return id; }
        // Another thread of this process was quicker; leave no second entry for us.
        if (os::thread_id() == pid) { ::pthread_mutex_unlock(&own.life); }
        own.claim.store(generation);
        return expected;
    }
    throw ProcessError(
        text_of("more than {} processes share objects with process {}", {capacity, pid}));
}

inline os::FutexWord& Family::life_word(Slot& slot) {
    // glibc and the kernel agree on this word: the holder's thread id and two flags.
    return *reinterpret_cast<os::FutexWord*>(&slot.life.__data.__lock);
}

inline void Family::wait_with_owner(os::FutexWord& word, std::uint32_t expected, MemberId owner,
                                    std::chrono::nanoseconds timeout) {
    owner &= member_id_mask;
    if (!has_slot(owner) || !is_current(owner, slot(owner).claim.load())) {
        return os::futex_wait(word, expected, timeout);
    }
    Slot& user = slot(owner);
    os::FutexWord& life = life_word(user);
    std::uint32_t state = life.load();
    // The kernel wakes sleepers on a robust mutex only if its word says that there are some.
    while ((state & (FUTEX_OWNER_DIED | FUTEX_WAITERS)) == 0 && state != 0) {
        if (life.compare_exchange_weak(state, state | FUTEX_WAITERS)) { state |= FUTEX_WAITERS; }
    }
    if (state == 0) {
        return os::futex_wait(word, expected, timeout);
    }  // no main thread ever joined
    if ((state & FUTEX_OWNER_DIED) == 0) {
        return os::futex_wait_either(word, expected, life, state, timeout);
    }
    // The kernel wakes one sleeper; the others may be waiting for other locks of the same owner.
    os::futex_wake(life, INT_MAX);
    // The mark comes a moment before the process counts as ended, and comes also if only the thread
    // that joined has gone: look again soon, then at leisure.
    const os::UniqueFd pidfd = os::pidfd_open(pid_of(user.claim.load()));
    if (!pidfd || os::wait_ended(pidfd.get(), Deadline(std::chrono::milliseconds(1)))) { return; }
    os::futex_wait(word, expected, timeout);
}

}  // namespace multiprocessing::detail

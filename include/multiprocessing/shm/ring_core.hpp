// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What both ends of a ring rest on: its memory, its guards and what is repaired behind a dead
/// holder, its descriptor, and sleeping.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/event_fd.hpp>
#include <multiprocessing/os/kill_point.hpp>
#include <multiprocessing/os/memory.hpp>
#include <multiprocessing/os/unique_fd.hpp>
#include <multiprocessing/shm/patience.hpp>
#include <multiprocessing/shm/ring_area.hpp>
#include <multiprocessing/shm/ring_layout.hpp>
#include <multiprocessing/shm/spin.hpp>
#include <multiprocessing/timeout.hpp>

#include <atomic>
#include <chrono>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <utility>

namespace multiprocessing::detail {

struct RingOptions {
    std::string name = "ring";    ///< for whoever looks into /proc
    std::size_t limit = 0;        ///< most records at a time; 0 is as many as there can be
    std::uint64_t type_hash = 0;  ///< what the records are; stands in the header
};

/// The memory of a ring, and what both of its ends do with it.
/// \safety threads, processes and forked children, each member under the guard that it names.
class RingCore {
  public:
    /// \throws OSError when there is no memory or no descriptor for it.
    explicit RingCore(const RingOptions& options);
    /// Uses the ring of another process, by its two descriptors; `type_hash` is what the records
    /// must be, 0 for anything.
    /// \throws SerializationError when they are no such ring's.
    template <class Lazy = void>
    RingCore(os::UniqueFd file, os::UniqueFd readable, std::uint64_t type_hash);
    RingCore(const RingCore&) = delete;
    RingCore& operator=(const RingCore&) = delete;

    RingHeader& header() const noexcept { return *header_; }
    int file() const noexcept { return file_.get(); }
    /// Returns the descriptor that `fileno` is about, kept or not.
    int readable() const noexcept { return readable_.get(); }
    RingHeader::State state() const noexcept {
        return static_cast<RingHeader::State>(header_->state.load());
    }

    /// Enter a guard; what its last holder left half done is repaired first. Empty when the time
    /// was over: a call that must not wait gets a moment all the same, since the guard is held for
    /// moments only. It is used up only when the holder was stopped.
    Guard::Section enter_producers(Patience& patience);
    Guard::Section enter_consumers(Patience& patience);
    Guard::Section try_enter_producers();

    /// Chains an empty area behind the last one. Under the producers' guard, with nothing
    /// uncommitted.
    /// \throws OSError when there is no memory; nothing has changed.
    const AreaView& chain_area(std::uint64_t size);
    /// Returns the last area. Under the producers' guard.
    const AreaView& last_area() {
        return producing_.view(file(), *header_,
                               header_->area_count.load(std::memory_order_relaxed) - 1);
    }
    /// Returns the area that holds the record at `head`. Those before it are given back, once
    /// `commit()` has committed `head`. Under the consumers' guard.
    template <class Commit>
    const AreaView& area_of(RingEnd head, Commit&& commit);

    /// Returns the area that holds the record at `head`, which is in area `number` or begins the
    /// next; updates `number`. Gives nothing back. Under the consumers' guard.
    const AreaView& area_ahead(RingEnd head, std::uint32_t& number);

    /// Reserves a stretch behind everything else and returns its offset; a death before
    /// `keep_stretch` gives it back. Under the producers' guard.
    /// \throws OSError when there is no memory; nothing has changed.
    std::uint64_t take_stretch(std::uint64_t length);
    void keep_stretch() noexcept;
    void drop_stretch() noexcept;

    /// Gives an extent back once `head` moves. Under the consumers' guard, around the commit.
    void note_giving_back(const RingExtent& extent) noexcept;
    void give_back() noexcept;

    /// Makes the descriptor readable for the record that is about to be committed, if anybody
    /// watches it. Under the producers' guard.
    void signal() noexcept {
        if (header_->watched.load(std::memory_order_relaxed) != 0) [[unlikely]] { set_readable(); }
    }
    /// Starts keeping the descriptor, and returns it.
    int fileno();
    /// Makes the descriptor unreadable if the ring is empty. Returns whether it turned out not to
    /// be: somebody may have been about to commit. Under the consumers' guard or none.
    bool settle_descriptor() {
        // First the word that is never written: the other stands beside the producers' guard.
        return header_->watched.load(std::memory_order_relaxed) != 0 &&
               header_->signalled.load(std::memory_order_relaxed) != 0 && clear_readable();
    }

    /// Wakes one who sleeps on `flag`, if anybody does. To be called behind a commit.
    static void wake(os::FutexWord& flag) noexcept;
    /// Waits until `end` is no longer `seen`, or for a while; the caller looks again.
    void sleep(const std::atomic<std::uint64_t>& end, RingEnd seen, os::FutexWord& flag,
               Patience& patience) const;
    /// Ends the ring and wakes everybody; see Ring::shut_down.
    void shut_down(bool immediate);
    /// Ends this process's use of it; see Ring::close.
    void close();
    /// To be asked under a guard, or before one enters it again.
    bool is_closed() const noexcept { return closed_.load(std::memory_order_relaxed); }

  private:
    template <class Recover>
    static Guard::Section enter(Guard& guard, Patience& patience, Recover recover);
    void recover_producers() noexcept;
    void recover_consumers() noexcept;
    void wake_everybody() noexcept;
    void set_readable() noexcept;
    bool clear_readable();
    void discard();

    static constexpr std::uint64_t first_area_size = 64 * 1024;

    os::UniqueFd file_;
    os::Mapping mapping_;  // of the header
    RingHeader* header_;
    // Made with the ring, so that every child has it, and it can be sent, before anybody asks.
    os::EventFd readable_;
    AreaCache producing_;              // under the producers' guard
    AreaCache consuming_;              // under the consumers' guard
    std::atomic<bool> closed_{false};  // by any thread of this process; never back
};

/// Who has slept may have been woken in the place of all who sleep: whatever becomes of his call,
/// at its end he wakes the next.
template <class End>
struct PassOn {
    End& end;
    const Patience& patience;
    ~PassOn() {
        if (patience.has_slept) [[unlikely]] { end.wake_next(); }
    }
};

// -------------------------------------------------------------------------------------------------

inline RingCore::RingCore(const RingOptions& options) : file_(os::memfd_create(options.name)) {
    const std::uint64_t header_size = os::round_to_pages(sizeof(RingHeader));
    os::reserve(file(), 0, header_size + first_area_size);
    mapping_ = os::Mapping(file(), 0, static_cast<std::size_t>(header_size));
    header_ = ::new (mapping_.data()) RingHeader{};
    const std::size_t limit = options.limit;
    header_->limit = limit == 0 || limit > RingEnd::count_mask ? RingEnd::count_mask
                                                               : static_cast<std::uint32_t>(limit);
    header_->type_hash = options.type_hash;
    header_->area(0).offset.store(header_size);
    header_->area(0).size.store(first_area_size);
    header_->area_count.store(1);
    header_->file_end.store(header_size + first_area_size);
    header_->tag = {magic("RING"), 1};
}

template <class Lazy>
RingCore::RingCore(os::UniqueFd file, os::UniqueFd readable, std::uint64_t type_hash)
    : file_(std::move(file)), readable_(std::move(readable)) {
    const std::uint64_t header_size = os::round_to_pages(sizeof(RingHeader));
    if (!os::is_memory_file(file_.get()) || os::identify(file_.get()).size < header_size ||
        !os::is_event_fd(readable_.get())) {
        throw SerializationError("the descriptors that came are not those of a queue");
    }
    mapping_ = os::Mapping(file_.get(), 0, static_cast<std::size_t>(header_size));
    header_ = std::launder(reinterpret_cast<RingHeader*>(mapping_.data()));
    if (!header_->tag.names(magic("RING"))) {
        throw SerializationError("the shared memory that came is not that of a queue");
    }
    if (type_hash != 0 && header_->type_hash != type_hash) {
        throw SerializationError("the queue that came is one of another type");
    }
}

template <class Recover>
Guard::Section RingCore::enter(Guard& guard, Patience& patience, Recover recover) {
    if (Guard::Section section = guard.try_enter(recover)) [[likely]] { return section; }
    if (patience.is_infinite()) { return guard.enter(recover); }
    const Deadline moment(os::wait_slice);
    const Deadline& deadline = patience.deadline();
    return guard.enter(deadline.at() < moment.at() ? moment : deadline, recover);
}

inline Guard::Section RingCore::enter_producers(Patience& patience) {
    return enter(header_->producers, patience, [this] { recover_producers(); });
}
inline Guard::Section RingCore::enter_consumers(Patience& patience) {
    return enter(header_->consumers, patience, [this] { recover_consumers(); });
}
inline Guard::Section RingCore::try_enter_producers() {
    return header_->producers.try_enter([this] { recover_producers(); });
}

inline void RingCore::recover_producers() noexcept {
    // The holder may have died between the descriptor and its word. Readable for nothing is put
    // right by the next one who looks.
    if (header_->signalled.load() != 0) { readable_.set(); }
    RingHeader::Redo& redo = header_->taking;
    const std::uint64_t length = redo.length.load();
    if (length == 0) { return; }
    const std::uint64_t offset = redo.offset.load();
    // In use is an extent whose record was committed, and an area that was chained.
    const bool in_use = header_->tail.load() != redo.end_before.load() ||
                        header_->area(header_->area_count.load() - 1).offset.load() == offset;
    if (in_use) {
        header_->file_end.store(offset + length);
    } else {
        os::punch(file(), offset, length);
    }
    MULTIPROCESSING_KILL_POINT("ring.recover.taking");
    redo.clear();
}

inline void RingCore::recover_consumers() noexcept {
    give_back();
    // The memory of the area that was retired last may not have been given back. Its slot is not
    // used for another before the next one is retired, and a stretch never for anything else.
    const std::uint32_t first = header_->area_first.load();
    if (first == 0) { return; }
    const RingHeader::Area& retired = header_->area(first - 1);
    os::punch(file(), retired.offset.load(), retired.size.load());
    MULTIPROCESSING_KILL_POINT("ring.recover.retired");
}

inline std::uint64_t RingCore::take_stretch(std::uint64_t length) {
    const std::uint64_t offset = header_->file_end.load();
    header_->taking.note(offset, length, header_->load_tail());
    MULTIPROCESSING_KILL_POINT("ring.stretch.noted");
    try {
        os::reserve(file(), offset, length);
    } catch (...) {
        drop_stretch();
        throw;
    }
    MULTIPROCESSING_KILL_POINT("ring.stretch.reserved");
    return offset;
}

inline void RingCore::keep_stretch() noexcept {
    const RingHeader::Redo& redo = header_->taking;
    header_->file_end.store(redo.offset.load() + redo.length.load());
    MULTIPROCESSING_KILL_POINT("ring.stretch.kept");
    header_->taking.clear();
}

inline void RingCore::drop_stretch() noexcept {
    os::punch(file(), header_->taking.offset.load(), header_->taking.length.load());
    header_->taking.clear();
}

inline const AreaView& RingCore::chain_area(std::uint64_t size) {
    const std::uint32_t number = header_->area_count.load();
    const std::uint64_t base = header_->load_tail().position();
    const std::uint64_t offset = take_stretch(size);
    std::unique_ptr<AreaView> view;
    try {
        view = std::make_unique<AreaView>(file(), number, base, offset, size);
    } catch (...) {
        drop_stretch();
        throw;
    }
    RingHeader::Area& area = header_->area(number);
    area.base.store(base);
    area.offset.store(offset);
    area.size.store(size);
    MULTIPROCESSING_KILL_POINT("ring.chain.described");
    header_->area_count.store(number + 1);  // COMMIT
    MULTIPROCESSING_KILL_POINT("ring.chain.committed");
    keep_stretch();
    return producing_.keep(std::move(view));
}

template <class Commit>
const AreaView& RingCore::area_of(RingEnd head, Commit&& commit) {
    std::uint32_t first = header_->area_first.load(std::memory_order_relaxed);
    // Asked after the tail was: whoever saw a record in the next area also sees that area.
    while (first + 1 != header_->area_count.load(std::memory_order_acquire) &&
           header_->area(first + 1).base.load() == head.position())
        [[unlikely]] {
            commit();
            header_->area_first.store(++first);  // COMMIT
            MULTIPROCESSING_KILL_POINT("ring.retire.committed");
            const RingHeader::Area& retired = header_->area(first - 1);
            os::punch(file(), retired.offset.load(), retired.size.load());
        }
    return consuming_.view(file(), *header_, first);
}

inline const AreaView& RingCore::area_ahead(RingEnd head, std::uint32_t& number) {
    while (number + 1 != header_->area_count.load(std::memory_order_acquire) &&
           header_->area(number + 1).base.load() == head.position()) {
        ++number;
    }
    return consuming_.view(file(), *header_, number);
}

inline void RingCore::note_giving_back(const RingExtent& extent) noexcept {
    header_->giving_back.note(extent.offset, os::round_to_pages(extent.length),
                              header_->load_head());
    MULTIPROCESSING_KILL_POINT("ring.giving_back.noted");
}

inline void RingCore::give_back() noexcept {
    RingHeader::Redo& redo = header_->giving_back;
    const std::uint64_t length = redo.length.load();
    if (length == 0) { return; }
    if (header_->head.load() != redo.end_before.load()) {
        os::punch(file(), redo.offset.load(), length);
        MULTIPROCESSING_KILL_POINT("ring.giving_back.punched");
    }
    redo.clear();
}

inline void RingCore::set_readable() noexcept {
    if (header_->signalled.load(std::memory_order_relaxed) != 0) { return; }
    // First the word, then the descriptor: readable behind a word that says it is not would never
    // be cleared. The other case, a death in between, is repaired.
    header_->signalled.store(1);
    MULTIPROCESSING_KILL_POINT("ring.signal.noted");
    readable_.set();
    MULTIPROCESSING_KILL_POINT("ring.signal.readable");
}

inline bool RingCore::clear_readable() {
    // With an expired patience: behind a holder that was stopped it stays readable, and the next
    // one who finds the ring empty comes here again.
    Patience moment(std::chrono::seconds(0));
    const Guard::Section section = enter_producers(moment);
    // Nobody can put now, so what is empty stays empty until the descriptor says so.
    if (!section || is_closed() || state() != RingHeader::open) { return false; }
    if (header_->load_tail() != header_->load_head()) { return true; }
    readable_.clear();
    MULTIPROCESSING_KILL_POINT("ring.settle.cleared");
    header_->signalled.store(0);
    MULTIPROCESSING_KILL_POINT("ring.settle.noted");
    return false;
}

inline int RingCore::fileno() {
    if (header_->watched.load() == 0) {
        Patience patience(forever);
        const Guard::Section section = enter_producers(patience);
        // First the descriptor, then the word: who is killed in between has not begun.
        if (state() != RingHeader::open || header_->load_tail() != header_->load_head()) {
            set_readable();
        }
        header_->watched.store(1);
        MULTIPROCESSING_KILL_POINT("ring.fileno.watched");
    }
    return readable_.get();
}

inline void RingCore::wake(os::FutexWord& flag) noexcept {
    // The store of the commit word comes before this load, or a sleeper that has raised its flag
    // and not seen the record yet would not be woken. Leaving the guard was a locked instruction on
    // x86, which orders them; elsewhere it only released.
#if !defined(__x86_64__)
    std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
    if (flag.load(std::memory_order_relaxed) == 0) [[likely]] { return; }
    if (flag.exchange(0) != 0) { os::futex_wake(flag, 1); }
}

inline void RingCore::sleep(const std::atomic<std::uint64_t>& end, RingEnd seen,
                            os::FutexWord& flag, Patience& patience) const {
    const auto changed = [&] {
        return end.load(std::memory_order_relaxed) != seen.word ||
               header_->state.load(std::memory_order_relaxed) != RingHeader::open || is_closed();
    };
    if (!std::exchange(patience.has_spun, true) && spin(changed)) { return; }
    patience.has_slept = true;
    flag.store(1);
    MULTIPROCESSING_KILL_POINT("ring.sleep.flagged");
    if (end.load() != seen.word || state() != RingHeader::open || is_closed()) { return; }
    // On the flag and not on the end: the wake of an earlier record, come late, may have taken down
    // this flag, and nobody would wake for the next.
    os::futex_wait(flag, 1, patience.deadline().left(os::wait_slice));
}

inline void RingCore::wake_everybody() noexcept {
    for (os::FutexWord* flag : {&header_->consumers_wait, &header_->producers_wait}) {
        flag->store(0);
        os::futex_wake(*flag, INT_MAX);
    }
    os::futex_wake(header_->finished, INT_MAX);
}

inline void RingCore::shut_down(bool immediate) {
    const std::uint32_t wanted = immediate ? RingHeader::discarded : RingHeader::closing;
    std::uint32_t state = header_->state.load();
    while (state < wanted && !header_->state.compare_exchange_weak(state, wanted)) {}  // COMMIT
    MULTIPROCESSING_KILL_POINT("ring.shut_down.committed");
    wake_everybody();
    // Whoever saw the ring open is out of his guard when we have been in it. Behind a holder that
    // was stopped we do not wait: his operation came before this one.
    Patience moment(std::chrono::seconds(0));
    {
        const Guard::Section section = enter_producers(moment);
        if (!is_closed()) { set_readable(); }
    }
    if (immediate) { discard(); }
    wake_everybody();
}

inline void RingCore::close() {
    if (closed_.exchange(true)) { return; }
    wake_everybody();
    // Whoever of our threads saw it open is out of the guards when we have been in both.
    Patience moment(std::chrono::seconds(0));
    const Guard::Section consumers = enter_consumers(moment);
    const Guard::Section producers = enter_producers(moment);
    if (!consumers || !producers) { return; }  // behind a stopped holder they go with the object
    file_.reset();
    readable_.close();
}

inline void RingCore::discard() {
    Patience moment(std::chrono::seconds(0));
    const Guard::Section consumers = enter_consumers(moment);
    const Guard::Section producers = enter_producers(moment);
    // Behind a stopped holder the memory goes with the ring.
    if (!consumers || !producers || is_closed()) { return; }
    const std::uint64_t begin = os::round_to_pages(sizeof(RingHeader));
    os::punch(file(), begin, header_->file_end.load() - begin);
}

}  // namespace multiprocessing::detail

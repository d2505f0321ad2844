// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Sending a reference to a shared object to a process that did not inherit it.
///
///     save_shared_object(out, state);                        // who starts the process
///     auto state = load_shared_object<LockState>(in);        // the process
///
/// What is sent is the descriptor of the segment and where in it the object stands. Who receives it
/// maps each file once, however many objects of it come.

#include <multiprocessing/os/fork.hpp>
#include <multiprocessing/os/memory.hpp>
#include <multiprocessing/os/unique_fd.hpp>
#include <multiprocessing/serialize/archive.hpp>
#include <multiprocessing/shm/family.hpp>
#include <multiprocessing/shm/segment.hpp>
#include <multiprocessing/shm/slab.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

namespace multiprocessing::detail {

/// Writes where the object stands; its descriptor goes to `out.handles`, which must be there.
///
/// \param object from `make_shared_object` or `load_shared_object`
template <class T>
void save_shared_object(Writer& out, const std::shared_ptr<T>& object);

/// Returns this process's reference to an object that another has saved. It can be saved again.
///
/// A `T` that can tell whether it is one, by `bool is_intact(std::size_t size) const`, is asked.
/// \throws SerializationError when the bytes, or the file that came with them, hold no such object;
///         OSError when the kernel refuses to map it.
/// \cost a mapping for the first object of a file.
template <shared_layout T>
std::shared_ptr<T> load_shared_object(Reader& in);

/// Where a shared object stands.
struct SharedStretch {
    const Segment* segment;
    std::size_t size;  ///< of the object with what follows it
};

/// Finds it by the deleter, which all that refer to one object share.
template <class T>
SharedStretch stretch_of(const std::shared_ptr<T>& object) {
    if (const auto* slots = std::get_deleter<Slab<>::Hold>(object)) {
        return {&slots->segment(), slots->size};
    }
    if (const auto* hold = std::get_deleter<SegmentHold>(object)) {
        return {hold->segment.get(), hold->size};
    }
    throw SerializationError("an object that does not stand in shared memory cannot be sent");
}

/// The segments of others that this process has mapped.
/// \safety threads; a child of a fork inherits them.
template <class Lazy = void>
class AttachedSegments {
  public:
    /// Returns the segment of this file, which may be mapped already.
    static std::shared_ptr<Segment> attach(os::UniqueFd file) {
        return instance().find_or_map(std::move(file));
    }

  private:
    static AttachedSegments& instance();
    AttachedSegments();

    std::shared_ptr<Segment> find_or_map(os::UniqueFd file);

    // Held across fork by the handlers. Nothing is made by `made_once` under it.
    std::mutex mutex_;
    // By inode, which is nobody else's as long as the segment is there.
    std::map<std::uint64_t, std::weak_ptr<Segment>> by_inode_;
};

// -------------------------------------------------------------------------------------------------

template <class Lazy>
AttachedSegments<Lazy>& AttachedSegments<Lazy>::instance() {
    // Never destroyed: handles may be loaded in the destructors of statics.
    static constinit std::atomic<AttachedSegments*> attached{nullptr};
    return os::made_once(attached, [] { return new AttachedSegments; });
}

template <class Lazy>
AttachedSegments<Lazy>::AttachedSegments() {
    os::at_fork([] { instance().mutex_.lock(); }, [] { instance().mutex_.unlock(); },
                [] { instance().mutex_.unlock(); });
}

template <class Lazy>
std::shared_ptr<Segment> AttachedSegments<Lazy>::find_or_map(os::UniqueFd file) {
    if (!os::is_memory_file(file.get())) {
        refuse_bytes("the descriptor of a shared object is no shared memory");
    }
    const os::FileIdentity identity = os::identify(file.get());
    if (identity.size == 0) { refuse_bytes("the memory of a shared object is empty"); }
    const std::scoped_lock lock(mutex_);
    if (const auto known = by_inode_.find(identity.inode); known != by_inode_.end()) {
        if (auto segment = known->second.lock()) { return segment; }
    }
    std::erase_if(by_inode_, [](const auto& entry) { return entry.second.expired(); });
    auto segment = std::make_shared<Segment>(std::move(file));
    by_inode_[identity.inode] = segment;
    return segment;
}

template <class T>
void save_shared_object(Writer& out, const std::shared_ptr<T>& object) {
    const SharedStretch stretch = stretch_of(object);
    const std::byte* const memory = reinterpret_cast<const std::byte*>(object.get());
    os::count_share();  // before anybody can see it: its slots are not used again
    out.raw(out.handles->add(stretch.segment->fd()));
    out.raw(static_cast<std::uint64_t>(memory - stretch.segment->data()));
    out.raw(static_cast<std::uint64_t>(stretch.size));
}

/// Reads the record; `smallest` is what the object has at least.
template <class Lazy = void>
std::shared_ptr<std::byte> load_stretch(Reader& in, std::size_t smallest) {
    const auto index = in.raw<std::uint32_t>();
    const auto offset = in.raw<std::uint64_t>();
    const auto size = in.raw<std::uint64_t>();
    if (in.handles == nullptr) { refuse_bytes("a shared object without its descriptor"); }
    auto segment = AttachedSegments<Lazy>::attach(os::UniqueFd(in.handles->take(index)));
    if (offset % slot_size != 0 || size < smallest || size > segment->size() ||
        offset > segment->size() - size) {
        refuse_bytes("a shared object does not lie within its memory");
    }
    std::byte* const memory = segment->data() + offset;
    return {memory, SegmentHold{std::move(segment), static_cast<std::size_t>(size)}};
}

template <shared_layout T>
std::shared_ptr<T> load_shared_object(Reader& in) {
    static_assert(alignof(T) <= slot_size);
    Family::self();  // the words in the object name members
    std::shared_ptr<std::byte> memory = load_stretch(in, sizeof(T));
    T* const object = std::launder(reinterpret_cast<T*>(memory.get()));
    if constexpr (requires { object->is_intact(sizeof(T)); }) {
        if (!object->is_intact(stretch_of(memory).size)) {
            refuse_bytes("what stands in the shared memory is another object");
        }
    }
    return {std::move(memory), object};
}

}  // namespace multiprocessing::detail

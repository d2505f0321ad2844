// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A large constant for many tasks, which crosses to each worker once.
///
///     double look_up(const mp::Shared<Table>& table, int key) { return table->at(key); }
///
///     const mp::Shared<Table> table = mp::share(load_table());
///     for (const int key : keys) { results.push_back(pool.apply_async(look_up, table, key)); }

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/memory.hpp>
#include <multiprocessing/os/unique_fd.hpp>
#include <multiprocessing/serialize/archive.hpp>
#include <multiprocessing/serialize/codec.hpp>
#include <multiprocessing/shm/segment.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace multiprocessing {

template <class T>
class Shared;

namespace detail {

/// Where the bytes of a shared constant are: in a file of the process that made it.
struct SharedPlace {
    std::uint64_t inode = 0;
    std::uint64_t size = 0;
    pid_t pid = 0;
    int fd = -1;

    bool operator==(const SharedPlace&) const = default;
};

/// A constant as one process has it.
template <class T>
struct SharedState {
    SharedPlace place;
    T value;
    std::unique_ptr<Segment> bytes = {};  // of the process that made it
};

}  // namespace detail

/// A handle to a constant. Sent to a worker it is a few bytes; the worker reads the constant when
/// it first meets it, and keeps the last eight.
///
/// The process that made it must keep a handle until the tasks that use it have begun.
/// \safety threads: it is constant. Copies refer to the same one.
template <class T>
class Shared {
  public:
    /// Takes the value, and writes it to where other processes find it.
    /// \throws OSError when there is no memory for it; what writing it throws.
    explicit Shared(T value);

    const T& get() const noexcept { return state_->value; }
    const T& operator*() const noexcept { return get(); }
    const T* operator->() const noexcept { return &get(); }

  private:
    friend struct serializer<Shared<T>>;
    explicit Shared(std::shared_ptr<const detail::SharedState<T>> state)
        : state_(std::move(state)) {}

    std::shared_ptr<const detail::SharedState<T>> state_;
};

/// Returns `value` as something that tasks can be given by the thousand.
/// \cost the value is written once, read once by each process that uses it.
template <class T>
Shared<T> share(T value) {
    return Shared<T>(std::move(value));
}

// -------------------------------------------------------------------------------------------------

template <class T>
Shared<T>::Shared(T value) {
    detail::Writer writer;
    detail::save(writer, value);
    const std::span<const std::byte> bytes = writer.view();
    auto segment = std::make_unique<detail::Segment>("constant", bytes.size() + 1);
    std::memcpy(segment->data(), bytes.data(), bytes.size());
    const detail::SharedPlace place{.inode = detail::os::identify(segment->fd()).inode,
                                    .size = bytes.size(),
                                    .pid = ::getpid(),
                                    .fd = segment->fd()};
    state_ = std::make_shared<const detail::SharedState<T>>(
        detail::SharedState<T>{place, std::move(value), std::move(segment)});
}

template <class T>
struct serializer<Shared<T>> {
    static void save(auto& archive, const Shared<T>& constant) {
        archive.raw(constant.state_->place);
    }
    static Shared<T> load(auto& archive) {
        const auto place = archive.template raw<detail::SharedPlace>();
        // The thread's own: a task runs in one, and a fork takes it along.
        constexpr std::size_t kept = 8;
        static thread_local std::deque<std::shared_ptr<const detail::SharedState<T>>> known;
        for (const auto& each : known) {
            if (each->place == place) { return Shared<T>(each); }
        }
        known.push_front(read(place));
        if (known.size() > kept) { known.pop_back(); }
        return Shared<T>(known.front());
    }

  private:
    static std::shared_ptr<const detail::SharedState<T>> read(const detail::SharedPlace& place) {
        const std::string path = detail::text_of("/proc/{}/fd/{}", {place.pid, place.fd});
        const detail::os::UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
        const auto found = file ? detail::os::identify(file.get()) : detail::os::FileIdentity{};
        if (found.inode != place.inode || found.size < place.size) {
            throw SerializationError(
                detail::text_of("the shared constant of process {} is not there: whoever made it "
                                "has dropped it, or "
                                "this process may not look into that one's",
                                {place.pid}));
        }
        const detail::os::Mapping bytes(file.get(), 0, static_cast<std::size_t>(place.size) + 1);
        detail::Reader reader({bytes.data(), static_cast<std::size_t>(place.size)});
        return std::make_shared<const detail::SharedState<T>>(
            detail::SharedState<T>{place, detail::load<T>(reader)});
    }
};

}  // namespace multiprocessing

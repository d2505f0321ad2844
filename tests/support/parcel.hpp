// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Values as they go to a process that is being started, without the start.
///
///     const auto parcel = support::pack(lock);
///     const auto same = support::unpack<mp::Lock>(parcel);     // as in a process that has nothing

#include <multiprocessing/connection/connection.hpp>
#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/socket.hpp>
#include <multiprocessing/os/unique_fd.hpp>
#include <multiprocessing/serialize.hpp>

#include <fcntl.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <system_error>
#include <vector>

namespace support {

/// Takes the descriptors, as copies.
class StartSink final : public multiprocessing::detail::HandleSink {
  public:
    std::uint32_t add(int fd) override {
        fds.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
        if (!fds.back()) { throw std::system_error(errno, std::system_category(), "dup"); }
        return static_cast<std::uint32_t>(fds.size() - 1);
    }
    bool starts_process() const noexcept override { return true; }

    std::vector<multiprocessing::detail::os::UniqueFd> fds;
};

/// Gives out copies of them.
class StartSource final : public multiprocessing::detail::HandleSource {
  public:
    explicit StartSource(const StartSink& sink) : sink_(sink) {}

    int take(std::uint32_t index) override {
        if (index >= sink_.fds.size()) { throw multiprocessing::SerializationError("no such"); }
        return ::fcntl(sink_.fds[index].get(), F_DUPFD_CLOEXEC, 0);
    }
    bool starts_process() const noexcept override { return true; }

  private:
    const StartSink& sink_;
};

/// Bytes, and the descriptors that go with them.
struct Parcel {
    std::vector<std::byte> bytes;
    StartSink sink;

    /// Sends it to a process that may have been forked before it was packed.
    void send(const multiprocessing::Connection& connection) const {
        std::vector<int> fds;
        for (const auto& fd : sink.fds) { fds.push_back(fd.get()); }
        multiprocessing::detail::ConnectionAccess::channel(connection).send({bytes}, fds);
    }
    static Parcel receive(const multiprocessing::Connection& connection) {
        multiprocessing::detail::os::Descriptors descriptors;
        Parcel parcel;
        parcel.bytes =
            multiprocessing::detail::ConnectionAccess::channel(connection).receive(descriptors);
        for (std::size_t i = 0; i < descriptors.size(); ++i) {
            parcel.sink.fds.push_back(descriptors.take(i));
        }
        return parcel;
    }
};

template <class T>
Parcel pack(const T& value) {
    Parcel parcel;
    multiprocessing::detail::Writer out;
    out.handles = &parcel.sink;
    out(value);
    parcel.bytes = out.release();
    return parcel;
}

template <class T>
T unpack(std::span<const std::byte> bytes, const StartSink& sink) {
    StartSource source(sink);
    multiprocessing::detail::Reader in(bytes);
    in.handles = &source;
    T value = multiprocessing::detail::load<T>(in);
    if (in.remaining() != 0) { throw multiprocessing::SerializationError("bytes are left over"); }
    return value;
}
template <class T>
T unpack(const Parcel& parcel) {
    return unpack<T>(parcel.bytes, parcel.sink);
}

/// Returns what the other process would have.
template <class T>
T sent(const T& value) {
    return unpack<T>(pack(value));
}

}  // namespace support

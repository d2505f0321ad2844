// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// How a value becomes a message, and is known again on the other side.
///
///     message of a value:  uint64 hash of the type's structure, the value's bytes as in
///     serialize.hpp
///
/// Descriptors of handles inside the value travel beside the bytes.

#include <multiprocessing/connection/channel.hpp>
#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/socket.hpp>
#include <multiprocessing/serialize.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace multiprocessing::detail {

/// Sends and receives values of `T`. Specialise it for a type with a format of its own on the wire.
template <class T>
struct Message {
    static void send(Channel& channel, const T& value);
    /// \throws SerializationError when the message holds something else; it is consumed all the
    /// same.
    static T receive(Channel& channel);
};

/// A type that this program sends or receives somewhere, so that an error can name the one that
/// came. Entered before `main`, by the static initialisation of every `MessageType<T>::entry`.
class MessageTypeEntry {
  public:
    MessageTypeEntry(std::uint64_t hash, std::string_view name) noexcept;
    MessageTypeEntry(const MessageTypeEntry&) = delete;
    MessageTypeEntry& operator=(const MessageTypeEntry&) = delete;

    /// Returns the type's name, empty when no type of this program has the hash.
    static std::string_view name_of(std::uint64_t hash) noexcept;

  private:
    static constinit inline std::atomic<const MessageTypeEntry*> first_ = nullptr;

    std::uint64_t hash_;
    std::string_view name_;
    const MessageTypeEntry* next_;
};

template <class T>
struct MessageType {
    static inline const MessageTypeEntry entry{type_hash_v<T>, type_name<T>()};
};

/// Collects the descriptors that go with a message.
template <class Lazy = void>
class MessageHandles final : public HandleSink {
  public:
    std::uint32_t add(int fd) override {
        if (fds_.size() == os::max_descriptors) {
            throw SerializationError(
                text_of("a message can carry {} handles and no more", {os::max_descriptors}));
        }
        fds_.push_back(fd);
        return static_cast<std::uint32_t>(fds_.size() - 1);
    }
    std::span<const int> fds() const noexcept { return fds_; }

  private:
    std::vector<int> fds_;
};

/// Gives out the descriptors that came with a message.
template <class Lazy = void>
class ReceivedHandles final : public HandleSource {
  public:
    explicit ReceivedHandles(os::Descriptors& descriptors) noexcept : descriptors_(descriptors) {}

    int take(std::uint32_t index) override {
        os::UniqueFd fd = descriptors_.take(index);
        if (!fd) {
            throw SerializationError(text_of(
                "handle {} of the message did not come with it{}",
                {index,
                 descriptors_.truncated() ? ": this process has too many descriptors open" : ""}));
        }
        return fd.release();
    }

  private:
    os::Descriptors& descriptors_;
};

// -------------------------------------------------------------------------------------------------

inline MessageTypeEntry::MessageTypeEntry(std::uint64_t hash, std::string_view name) noexcept
    : hash_(hash), name_(name), next_(first_.load()) {
    while (!first_.compare_exchange_weak(next_, this)) {}  // a `dlopen` may run beside us
}

inline std::string_view MessageTypeEntry::name_of(std::uint64_t hash) noexcept {
    for (const auto* entry = first_.load(); entry != nullptr; entry = entry->next_) {
        if (entry->hash_ == hash) { return entry->name_; }
    }
    return {};
}

[[noreturn]] inline void throw_other_message(std::uint64_t hash, std::string_view asked_for) {
    const std::string_view came = MessageTypeEntry::name_of(hash);
    throw SerializationError(
        came.empty() ? text_of("the message is not a {}; it is bytes, or a value of a type "
                               "that this program does not send",
                               {asked_for})
                     : text_of("the message is a {}, not a {}", {came, asked_for}));
}

template <class T>
void Message<T>::send(Channel& channel, const T& value) {
    check_sendable<T>();
    if constexpr (sendable<T>) {
        static_cast<void>(MessageType<T>::entry);  // enters it
        channel.check_writable();                  // before the work of writing
        Writer out;
        MessageHandles<> handles;
        out.handles = &handles;
        if constexpr (is_plain_v<T>) { out.reserve(sizeof(std::uint64_t) + saved_size(value)); }
        out.raw(std::uint64_t{type_hash_v<T>});
        save(out, value);
        channel.send({out.view()}, handles.fds());
    }
}

template <class T>
T Message<T>::receive(Channel& channel) {
    check_sendable<T>();
    if constexpr (sendable<T>) {
        static_cast<void>(MessageType<T>::entry);
        os::Descriptors descriptors;
        const std::vector<std::byte> bytes = channel.receive(descriptors);
        ReceivedHandles<> handles(descriptors);
        Reader in(bytes);
        in.handles = &handles;
        const auto hash = in.remaining() < sizeof(std::uint64_t) ? 0 : in.raw<std::uint64_t>();
        if (hash != type_hash_v<T>) { throw_other_message(hash, type_name<T>()); }
        T value = load<T>(in);
        if (in.remaining() != 0) { refuse_bytes("bytes are left over"); }
        return value;
    }
}

}  // namespace multiprocessing::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// A connection whose other side is a bare descriptor, so that a test can write what no sender
/// would.

#include <multiprocessing/connection.hpp>
#include <multiprocessing/os/socket.hpp>

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace support {

namespace mp = multiprocessing;

struct RawPeer {
    mp::Connection connection;
    mp::detail::os::UniqueFd raw;

    explicit RawPeer(bool duplex = true) {
        auto [ours, theirs] = mp::detail::os::socketpair();
        connection = mp::Connection(ours.release(), true, duplex);
        raw = std::move(theirs);
    }

    /// Writes bytes, which fit into the socket's buffer; false when they could not be written.
    [[nodiscard]] bool write(std::initializer_list<int> bytes) const {
        std::vector<unsigned char> data;
        for (const int byte : bytes) { data.push_back(static_cast<unsigned char>(byte)); }
        return ::write(raw.get(), data.data(), data.size()) == static_cast<ssize_t>(data.size());
    }

    /// Reads `size` bytes.
    [[nodiscard]] std::vector<std::byte> read(std::size_t size) const {
        std::vector<std::byte> data(size);
        data.resize(mp::detail::os::receive(raw.get(), mp::detail::os::Transport::local, data));
        return data;
    }
};

/// A thread that is joined when it goes, so that a REQUIRE that fails does not end the program.
class Joined {
  public:
    template <class F>
    explicit Joined(F f) : thread_(std::move(f)) {}
    Joined(Joined&&) = default;
    ~Joined() {
        if (thread_.joinable()) { thread_.join(); }
    }

  private:
    std::thread thread_;
};

inline std::vector<std::byte> bytes_of(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

inline std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Returns `size` bytes of which no stretch equals another one nearby.
inline std::vector<std::byte> pattern(std::size_t size) {
    std::vector<std::byte> data(size);
    std::uint32_t state = 1;
    for (std::byte& byte : data) {
        state = state * 1664525 + 1013904223;
        byte = static_cast<std::byte>(state >> 24);
    }
    return data;
}

/// Tells whether `f` throws `OSError` with `code` and a text that contains `part`.
template <class F>
bool refuses(int code, std::string_view part, F&& f) {
    try {
        f();
    } catch (const mp::OSError& error) {
        return error.code() == std::error_code(code, std::system_category()) &&
               std::string_view(error.what()).find(part) != std::string_view::npos;
    }
    return false;
}

}  // namespace support

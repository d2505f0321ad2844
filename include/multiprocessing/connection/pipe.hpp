// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Making two connected ends: see connection.hpp.

#include <multiprocessing/connection/connection.hpp>
#include <multiprocessing/os/socket.hpp>

#include <utility>

namespace multiprocessing {

/// Makes two connections, each the other side of the other. With `duplex` false the first can only
/// receive and the second only send.
///
///     auto [parent, child] = mp::Pipe();
///     auto [reader, writer] = mp::Pipe(false);
///
/// \throws OSError when there are no descriptors left.
/// \cost two descriptors, a pair of local sockets in either case, so that connections can be sent
/// over it.
template <class Lazy = void>
[[nodiscard]] std::pair<Connection, Connection> Pipe(bool duplex = true);

// -------------------------------------------------------------------------------------------------

template <class Lazy>
std::pair<Connection, Connection> Pipe(bool duplex) {
    auto [first, second] = detail::os::socketpair();
    if (!duplex) {
        detail::os::shutdown(first.get(), detail::os::Direction::sending);
        detail::os::shutdown(second.get(), detail::os::Direction::receiving);
    }
    return {Connection(first.release(), true, duplex), Connection(second.release(), duplex, true)};
}

}  // namespace multiprocessing

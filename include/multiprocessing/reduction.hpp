// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Handing a descriptor to another process.
///
///     mp::reduction::send_handle(conn, file);             // the sender keeps its own
///     int file = mp::reduction::recv_handle(conn);        // and the receiver closes what it got
///
/// Mirrors `multiprocessing.reduction.send_handle` and `recv_handle`, also on the wire. Connections
/// need neither: `conn.send(other_connection)` does it.

#include <multiprocessing/connection/connection.hpp>

namespace multiprocessing::reduction {

/// Sends the descriptor; between messages, not instead of one: the other side must call
/// `recv_handle`. \throws OSError when the other side is closed, `fd` is not open, or the
/// connection is not local.
void send_handle(const Connection& connection, int fd);

/// Waits for a descriptor and returns it; it is close-on-exec and the caller's.
/// \throws ProcessError when something came without one; EOFError when the other side is closed.
[[nodiscard]] int recv_handle(const Connection& connection);

// -------------------------------------------------------------------------------------------------

inline void send_handle(const Connection& connection, int fd) {
    detail::ConnectionAccess::channel(connection).send_handle(fd);
}

inline int recv_handle(const Connection& connection) {
    return detail::ConnectionAccess::channel(connection).receive_handle().release();
}

}  // namespace multiprocessing::reduction

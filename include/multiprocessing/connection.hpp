// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Pipes between processes, and waiting for several of them.
///
///     auto [parent, child] = mp::Pipe();
///     mp::Process p([](mp::Connection conn) { conn.send("hello"); }, child);
///     p.start();
///     fmt::print("{}\n", parent.recv<std::string>());
///     p.join();
///
/// Mirrors `multiprocessing.Pipe` and `multiprocessing.connection`; the latter's functions are in
/// the namespace `multiprocessing::connection`. Bytes stand on the wire as CPython writes them
/// (`send_bytes`); a value is preceded by a hash of its type, which the receiver checks.
///
/// A message costs one system call to send and two to receive. One that does not fit into the
/// socket's buffer is sent while the other side receives: two processes that both send such
/// messages and do not receive wait for each other.

#include <multiprocessing/connection/connection.hpp>
#include <multiprocessing/connection/pipe.hpp>
#include <multiprocessing/connection/wait.hpp>

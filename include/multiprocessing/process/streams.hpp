// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Text that streams hold in memory, around a fork.
///
/// `fork` copies the buffers too. What the parent had not written yet must not come out of both,
/// and what it had read ahead is not the child's to read again.

#include <stdio_ext.h>

#include <cstdio>
#include <exception>
#include <iostream>

namespace multiprocessing::detail {

/// Writes what stdout, stderr and the standard C++ streams hold; a closed or broken stream is no
/// error.
void flush_standard_streams() noexcept;

/// In the child of a fork: drops the text that the parent's stdio streams had not written yet, and
/// what had been read ahead from standard input. The parent still has, and writes, its own.
void drop_inherited_text() noexcept;

// -------------------------------------------------------------------------------------------------

inline void flush_standard_streams() noexcept {
    try {
        std::cout.flush();
        std::clog.flush();
        std::wcout.flush();
        std::wclog.flush();
    } catch (const std::exception&) {
        // A stream that was told to throw: its text is lost, which is no reason to stay.
    }
    std::fflush(stdout);
    std::fflush(stderr);
}

inline void drop_inherited_text() noexcept {
    // Flushing them all before the fork is no way out: fflush(nullptr) waits for each stream's
    // lock, and a thread that reads standard input holds that until somebody types a line.
#if defined(__GLIBC__)
    // Every stream leads to the one opened before it, so the newest leads to all.
    FILE* const newest = ::fmemopen(nullptr, 1, "r");
    for (FILE* stream = newest; stream != nullptr; stream = stream->_chain) {
        // A stream without a descriptor, as the newest is, writes to this process's own memory.
        if (::fileno(stream) >= 0 && ::__fpending(stream) > 0) { ::__fpurge(stream); }
    }
    if (newest != nullptr) { std::fclose(newest); }
#endif
    ::__fpurge(stdin);
    try {
        // Its own buffer, after sync_with_stdio(false).
        if (const auto held = std::cin.rdbuf()->in_avail(); held > 0) { std::cin.ignore(held); }
    } catch (const std::exception&) {
        // It throws at its end, where it then is.
    }
}

}  // namespace multiprocessing::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Processes: start a function in one, wait for it, end it, ask who is there.
///
///     void greet(const std::string& name) { fmt::print("hello {}\n", name); }
///
///     int main() {
///         mp::Process p(greet, "bob");
///         p.start();
///         p.join();
///     }
///
/// Mirrors `multiprocessing.Process`, `current_process`, `parent_process`, `active_children` and
/// `cpu_count`. A start costs a `fork`: 0.1 ms from a small program, more from one with gigabytes
/// of touched memory.

#include <multiprocessing/process/current.hpp>
#include <multiprocessing/process/process.hpp>

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What can be done with a child, however it was started.

#include <multiprocessing/timeout.hpp>

#include <unistd.h>

#include <optional>
#include <string>

namespace multiprocessing::detail {

/// A child from its start to its end, and its exit code after that.
///
/// An interface, so that what stands behind it is compiled only where a child is started; see
/// docs/design.md, "What a program does not use".
/// \safety threads: may be joined and asked from several at once. In another process than the one
/// that started the child every member but the names throws AssertionError.
class Child {
  public:
    Child() = default;
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    virtual ~Child() = default;

    virtual pid_t pid() const noexcept = 0;
    virtual bool daemon() const noexcept = 0;
    virtual std::string name() const = 0;
    virtual void set_name(std::string name) = 0;

    /// Waits for the child's end; true when it has ended, and is nobody's child any more.
    virtual bool join(Timeout timeout) = 0;
    virtual bool is_alive() = 0;

    /// Returns the exit code once the child has ended; nothing while it runs, and nothing for ever
    /// when somebody else reaped it and it died before it could leave a record.
    virtual std::optional<int> exitcode() = 0;

    /// Sends a signal, if the child is there to get it.
    virtual void signal(int number) = 0;
    /// Ends the child and its descendants; see `Process::terminate_tree`.
    virtual void terminate_tree(Timeout grace) = 0;

    /// Returns a descriptor that is readable once the child has ended.
    virtual int sentinel() const = 0;
};

}  // namespace multiprocessing::detail

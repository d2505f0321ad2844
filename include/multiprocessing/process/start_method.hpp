// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What a `Process` asks of its start method.

#include <multiprocessing/process/child.hpp>
#include <multiprocessing/process/local.hpp>

#include <memory>
#include <optional>
#include <string>

namespace multiprocessing::detail {

/// A target with its arguments, of whatever types.
class Target {
  public:
    virtual ~Target() = default;
    virtual void call() = 0;
};

/// How a child is to be.
struct ChildOptions {
    std::string name;
    std::string identity = {};
    bool daemon = false;
    bool dies_with_parent = false;
    std::string authkey = {};
    /// Whom the child takes for its parent, where that is not who forks it.
    std::optional<ParentRecord> parent = std::nullopt;
};

/// Starts a child that calls `target`, and adds it to this process's children.
/// \throws OSError when the kernel refuses, and then nothing was started.
using StartMethod = std::shared_ptr<Child> (*)(ChildOptions options, Target& target);

}  // namespace multiprocessing::detail

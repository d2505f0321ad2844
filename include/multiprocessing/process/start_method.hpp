// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What a `Process` asks of its start method.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/process/child.hpp>
#include <multiprocessing/process/local.hpp>
#include <multiprocessing/serialize/archive.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace multiprocessing::detail {

/// What a spawned child calls: in every process of the program this stands at the same place of the
/// same file. `magic` and `hash` tell that it is what the sender meant.
struct SpawnEntry {
    static constexpr std::uint64_t right_magic = 0x9e6f'7274'6e65'706d;

    std::uint64_t magic;
    std::uint64_t hash;           ///< of the types of the target and its arguments
    void (*run)(Reader& target);  ///< reads what `Target::save` wrote, and calls it
};

/// A target with its arguments, of whatever types.
class Target {
  public:
    virtual ~Target() = default;
    virtual void call() = 0;
    /// Writes the target for another image of this program; returns what reads and calls it there.
    /// \throws SerializationError that names what cannot be sent.
    virtual const SpawnEntry& save(Writer& out) const = 0;
};

/// The start methods by their names.
enum class StartKind : std::uint8_t { fork, spawn, forkserver };
inline constexpr const char* start_kind_names[] = {"fork", "spawn", "forkserver"};

/// \throws ValueError when there is no such start method.
inline StartKind start_kind(std::string_view name) {
    for (const StartKind kind : {StartKind::fork, StartKind::spawn, StartKind::forkserver}) {
        if (name == start_kind_names[static_cast<std::size_t>(kind)]) { return kind; }
    }
    throw ValueError(text_of("cannot find a start method \"{}\"", {name}));
}

/// How a child is to be.
struct ChildOptions {
    std::string name;
    std::string identity = {};
    bool daemon = false;
    bool dies_with_parent = false;
    std::string authkey = {};
    /// Whom the child takes for its parent, where that is not who forks it.
    std::optional<ParentRecord> parent = std::nullopt;
    /// What the child's own default is, where that is not its parent's.
    std::optional<StartKind> start_kind = std::nullopt;
};

/// Starts a child that calls `target`, and adds it to this process's children.
/// \throws OSError when the kernel refuses, and then nothing was started.
using StartMethod = std::shared_ptr<Child> (*)(ChildOptions options, Target& target);

/// How this program starts its children.
/// \safety threads.
struct StartMethods {
    static constexpr std::uint8_t unsettled = 0xff;
    /// The program's own, a `StartKind`, once it is settled.
    static inline std::atomic<std::uint8_t> settled{unsettled};
    /// Those that need `freeze_support()`, from then on.
    static inline std::atomic<StartMethod> spawn{nullptr};
    static inline std::atomic<StartMethod> forkserver{nullptr};
    /// Tells whether this process is an image that was started for a child and has not become it
    /// yet: what starts a process here would start another, and that another.
    static bool is_unborn() noexcept { return std::getenv(child_variable) != nullptr; }
    /// What stands in the environment of such an image: the descriptor that tells it who it is.
    static constexpr const char* child_variable = "MULTIPROCESSING_CHILD";

    /// \throws ProcessError if it is such an image.
    static void check_born() {
        if (!is_unborn()) { return; }
        throw ProcessError(
            "a process is being started before main, or before freeze_support(), in an image of "
            "the "
            "program that was itself started for a child: every child would do the same. Start "
            "processes behind freeze_support() in main");
    }

    static StartKind current() noexcept {
        const std::uint8_t kind = settled.load();
        return kind == unsettled ? StartKind::fork : static_cast<StartKind>(kind);
    }
    /// \throws ProcessError unless children can be started so; `fork` is what starts by fork.
    static StartMethod find(StartKind kind, StartMethod fork) {
        const StartMethod method = kind == StartKind::fork    ? fork
                                   : kind == StartKind::spawn ? spawn.load()
                                                              : forkserver.load();
        check_born();
        if (method == nullptr) {
            throw ProcessError(
                text_of("a process cannot be started by \"{}\": multiprocessing::freeze_support() "
                        "has not been called, which is to be the first line of main",
                        {start_kind_names[static_cast<std::size_t>(kind)]}));
        }
        return method;
    }
};

}  // namespace multiprocessing::detail

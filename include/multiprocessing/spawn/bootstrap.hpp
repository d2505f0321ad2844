// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// What a child is told that does not inherit it: who it is, whose child, and what it calls.
///
///     parent                              child
///     save(out, options, death, target)   Bootstrap boot(message)   becomes who it is
///     channel.send(...)                   boot.run()                calls the target
///
/// It is the first message on the child's socket, with the descriptors of all handles in it.

#include <multiprocessing/connection/message.hpp>
#include <multiprocessing/errors.hpp>
#include <multiprocessing/logging.hpp>
#include <multiprocessing/os/death_pipe.hpp>
#include <multiprocessing/os/modules.hpp>
#include <multiprocessing/os/socket.hpp>
#include <multiprocessing/process/start_method.hpp>
#include <multiprocessing/serialize.hpp>
#include <multiprocessing/shm/family.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// The descriptors that go to a process that is being started, each once.
/// \safety one thread's.
template <class Lazy = void>
class StartHandles final : public HandleSink {
  public:
    std::uint32_t add(int fd) override {
        const auto known = std::find(fds().begin(), fds().end(), fd);
        return known != fds().end() ? static_cast<std::uint32_t>(known - fds().begin())
                                    : handles_.add(fd);
    }
    bool starts_process() const noexcept override { return true; }
    std::span<const int> fds() const noexcept { return handles_.fds(); }

  private:
    MessageHandles<Lazy> handles_;
};

/// Those that came with the start of this process; each can be taken again and again.
/// \safety one thread's.
template <class Lazy = void>
class StartedHandles final : public HandleSource {
  public:
    explicit StartedHandles(os::Descriptors& descriptors) noexcept : descriptors_(descriptors) {}
    int take(std::uint32_t index) override {
        while (fds_.size() < descriptors_.size()) {
            fds_.push_back(descriptors_.take(fds_.size()));
        }
        if (index >= fds_.size() || !fds_[index]) {
            throw SerializationError(text_of(
                "handle {} of the message that starts a process did not come with it", {index}));
        }
        return os::duplicate(fds_[index].get()).release();
    }
    bool starts_process() const noexcept override { return true; }
    void finish() noexcept override { fds_.clear(); }

  private:
    os::Descriptors& descriptors_;
    std::vector<os::UniqueFd> fds_;
};

/// Writes who the child is to be and what it calls. The descriptors are the caller's still.
template <class Lazy = void>
void save_bootstrap(Writer& out, const ChildOptions& options, const ParentRecord& parent,
                    const os::DeathPipe<Lazy>* death, bool by_main_thread, const Target& target);

/// The same, read in the child.
/// \safety the child's one thread.
template <class Lazy = void>
class Bootstrap {
  public:
    /// Reads the message and takes the descriptors that came with it. \throws SerializationError
    /// when the sender is another program.
    Bootstrap(std::vector<std::byte> message, os::Descriptors& descriptors);

    ChildOptions& options() noexcept { return options_; }
    std::optional<os::DeathPipe<Lazy>>& death() noexcept { return death_; }
    bool by_main_thread() const noexcept { return by_main_thread_; }
    /// Calls the target.
    void run();

  private:
    static constexpr std::uint64_t magic = 0x3174'6f6f'6270'6d0a;

    template <class L>
    friend void save_bootstrap(Writer&, const ChildOptions&, const ParentRecord&,
                               const os::DeathPipe<L>*, bool, const Target&);

    // What the other side and this one must agree on before anything is believed.
    struct Opening {
        std::uint64_t magic;
        os::ModulePlace entry;
        std::uint64_t entry_hash;
    };

    const std::vector<std::byte> message_;
    StartedHandles<Lazy> handles_;
    std::optional<Reader> in_;
    const SpawnEntry* entry_ = nullptr;
    ChildOptions options_;
    std::optional<os::DeathPipe<Lazy>> death_;
    bool by_main_thread_ = false;
};

// -------------------------------------------------------------------------------------------------

template <class Lazy>
void save_bootstrap(Writer& out, const ChildOptions& options, const ParentRecord& parent,
                    const os::DeathPipe<Lazy>* death, bool by_main_thread, const Target& target) {
    // The target first, since it may be refused; what it is called by stands before it all the
    // same.
    Writer body;
    body.handles = out.handles;
    const SpawnEntry& entry = target.save(body);
    const auto place = os::place_of(reinterpret_cast<std::uintptr_t>(&entry));
    out.raw(typename Bootstrap<Lazy>::Opening{Bootstrap<Lazy>::magic, place, entry.hash});
    save(out, options.name);
    save(out, options.identity);
    save(out, options.daemon);
    save(out, options.dies_with_parent);
    save(out, options.authkey);
    save(out, static_cast<std::int32_t>(parent.pid));
    save(out, parent.birth);
    save(out, parent.member);
    save(out, parent.name);
    save(out, by_main_thread);
    save(out, options.start_kind ? static_cast<std::uint8_t>(*options.start_kind)
                                 : StartMethods::settled.load());
    save(out, static_cast<std::int32_t>(get_logger().level()));
    save(out, out.handles->add(Family::file()));
    save(out, death != nullptr);
    if (death != nullptr) { save(out, out.handles->add(death->read_end())); }
    out.bytes(body.view().data(), body.view().size());
}

template <class Lazy>
Bootstrap<Lazy>::Bootstrap(std::vector<std::byte> message, os::Descriptors& descriptors)
    : message_(std::move(message)), handles_(descriptors) {
    Reader& in = in_.emplace(message_);
    in.handles = &handles_;
    const auto opening = in.raw<Opening>();
    if (opening.magic != magic) { refuse_bytes("they do not tell a process who it is"); }
    const std::uintptr_t address =
        os::address_of(opening.entry, os::PlaceKind::data, sizeof(SpawnEntry));
    const auto* const entry = reinterpret_cast<const SpawnEntry*>(address);
    if (entry == nullptr || address % alignof(SpawnEntry) != 0 ||
        entry->magic != SpawnEntry::right_magic || entry->hash != opening.entry_hash) {
        throw SerializationError(
            "this process was started for a function that it does not have: its program is not "
            "that of its parent, or the parent has loaded a library that the program loads later");
    }
    entry_ = entry;
    options_.name = load<std::string>(in);
    options_.identity = load<std::string>(in);
    options_.daemon = load<bool>(in);
    options_.dies_with_parent = load<bool>(in);
    options_.authkey = load<std::string>(in);
    ParentRecord parent;
    parent.pid = load<std::int32_t>(in);
    parent.birth = load<std::uint64_t>(in);
    parent.member = load<MemberId>(in);
    parent.name = load<std::string>(in);
    options_.parent = std::move(parent);
    by_main_thread_ = load<bool>(in);
    StartMethods::settled.store(load<std::uint8_t>(in));
    get_logger().set_level(static_cast<LogLevel>(load<std::int32_t>(in)));
    Family::adopt(os::UniqueFd(handles_.take(load<std::uint32_t>(in))));
    if (load<bool>(in)) { death_.emplace(os::UniqueFd(handles_.take(load<std::uint32_t>(in)))); }
}

template <class Lazy>
void Bootstrap<Lazy>::run() {
    entry_->run(*in_);
}

}  // namespace multiprocessing::detail

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// This process, its parent and its children, for whoever asks.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/os/cpu.hpp>
#include <multiprocessing/os/process.hpp>
#include <multiprocessing/process/child.hpp>
#include <multiprocessing/process/children.hpp>
#include <multiprocessing/process/local.hpp>
#include <multiprocessing/timeout.hpp>

#include <csignal>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace multiprocessing {

/// The process that asks.
/// \safety a value; every copy speaks of the process in which it is asked.
class CurrentProcess {
  public:
    /// Returns "MainProcess", or the name that the process was started with or has been given.
    std::string name() const { return local().name(); }
    void set_name(std::string name) { local().set_name(std::move(name)); }
    pid_t pid() const { return ::getpid(); }
    pid_t ident() const { return pid(); }
    bool daemon() const { return local().daemon(); }
    std::string authkey() const { return local().authkey(); }
    void set_authkey(std::string key) { local().set_authkey(std::move(key)); }
    bool is_alive() const { return true; }
    std::optional<int> exitcode() const { return std::nullopt; }

  private:
    static detail::LocalProcess& local() { return detail::LocalProcess::instance(); }
};

/// The process that called `start()`, seen from its child; whatever it was that forked.
/// \safety a value. Works whether or not the child is still the kernel's idea of a child.
class ParentProcess {
  public:
    template <class Lazy = void>
    explicit ParentProcess(const detail::ParentRecord& record);

    const std::string& name() const { return name_; }
    pid_t pid() const { return pid_; }
    pid_t ident() const { return pid_; }
    bool is_alive() const { return !join(std::chrono::seconds(0)); }
    /// Waits for the parent's end; true when it has ended.
    bool join(Timeout timeout = forever) const {
        return detail::os::wait_ended(sentinel(), detail::Deadline(timeout));
    }
    /// Returns a descriptor that is readable once the parent has ended, for as long as this lives.
    int sentinel() const { return sentinel_->get(); }

  private:
    pid_t pid_;
    std::string name_;
    std::shared_ptr<detail::os::UniqueFd> sentinel_;
};

/// A child of this process, as `active_children` gives it.
/// \safety threads; a copy refers to the same child.
class ChildProcess {
  public:
    explicit ChildProcess(std::shared_ptr<detail::Child> child) : child_(std::move(child)) {}

    std::string name() const { return child_->name(); }
    pid_t pid() const { return child_->pid(); }
    pid_t ident() const { return pid(); }
    bool daemon() const { return child_->daemon(); }
    bool is_alive() const { return !join(std::chrono::seconds(0)); }
    bool join(Timeout timeout = forever) const { return child_->join(timeout); }
    void terminate() const { child_->signal(SIGTERM); }
    void kill() const { child_->signal(SIGKILL); }
    void interrupt() const { child_->signal(SIGINT); }
    std::optional<int> exitcode() const { return child_->exitcode(); }
    int sentinel() const { return child_->sentinel(); }

  private:
    std::shared_ptr<detail::Child> child_;
};

/// Returns the process that asks.
inline CurrentProcess current_process() { return {}; }

/// Returns the process that started this one; nothing in the main process.
template <class Lazy = void>
std::optional<ParentProcess> parent_process();

/// Returns the children of this process that live. Reaps those that have ended.
template <class Lazy = void>
std::vector<ChildProcess> active_children();

/// Returns the processors of the machine.
inline int cpu_count() { return detail::os::online_cpus(); }

/// Returns how many processors this process may use: its affinity and the quota of its control
/// group respected. MULTIPROCESSING_CPU_COUNT in the environment overrides it. What a pool's size
/// is by default.
int process_cpu_count();

// -------------------------------------------------------------------------------------------------

template <class Lazy>
ParentProcess::ParentProcess(const detail::ParentRecord& record)
    : pid_(record.pid), name_(record.name) {
    namespace os = detail::os;
    os::UniqueFd pidfd = os::pidfd_open(record.pid);
    if (!pidfd || os::birth_of(pidfd, record.pid) != record.birth) {
        // It is gone, and its number perhaps another's: what is readable for good stands for it.
        pidfd.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        if (!pidfd) { detail::throw_os_error(errno, "open", "/dev/null"); }
    }
    sentinel_ = std::make_shared<os::UniqueFd>(std::move(pidfd));
}

template <class Lazy>
std::optional<ParentProcess> parent_process() {
    const auto& record = detail::LocalProcess::instance().parent();
    return record ? std::optional<ParentProcess>(*record) : std::nullopt;
}

template <class Lazy>
std::vector<ChildProcess> active_children() {
    std::vector<ChildProcess> children;
    for (auto& child : detail::Children<Lazy>::instance().living()) {
        children.emplace_back(std::move(child));
    }
    return children;
}

inline int process_cpu_count() {
    if (const char* const text = std::getenv("MULTIPROCESSING_CPU_COUNT"); text != nullptr) {
        if (const int count = std::atoi(text); count > 0) { return count; }
    }
    const int allowed = detail::os::affinity_cpus();
    return std::min(allowed, detail::os::cgroup_cpus().value_or(allowed));
}

}  // namespace multiprocessing

// SPDX-License-Identifier: BSL-1.0

// What fork_child promises when the kernel refuses, and in a child whose beginning goes wrong.

#include "observe.hpp"
#include "support/catch.hpp"
#include "support/leak_check.hpp"

#include <multiprocessing/os/fork.hpp>
#include <multiprocessing/process.hpp>

#include <fcntl.h>
#include <sys/resource.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
namespace os = multiprocessing::detail::os;
using namespace std::chrono_literals;

namespace {

const auto bound = 20s * support::slowness;

// Runs the check in a child of its own, since a limit that is lowered stays; 0 when it succeeds.
template <class Check>
std::optional<int> in_child(Check check) {
    mp::Process process([&] {
        if (!check()) { throw mp::SystemExit(1); }
    });
    process.start();
    process.join();
    return process.exitcode();
}

// Opens descriptors until there are no more; closes them at the end of the scope.
class NoDescriptorsLeft {
  public:
    explicit NoDescriptorsLeft(int spare = 0) {
        rlimit limit{};
        ::getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = 64;
        ::setrlimit(RLIMIT_NOFILE, &limit);
        for (int fd = ::open("/dev/null", O_RDONLY); fd >= 0; fd = ::open("/dev/null", O_RDONLY)) {
            fds_.push_back(fd);
        }
        for (; spare > 0; --spare) {
            ::close(fds_.back());
            fds_.pop_back();
        }
    }
    NoDescriptorsLeft(const NoDescriptorsLeft&) = delete;
    NoDescriptorsLeft& operator=(const NoDescriptorsLeft&) = delete;
    ~NoDescriptorsLeft() {
        for (const int fd : fds_) { ::close(fd); }
    }

  private:
    std::vector<int> fds_;
};

// UBSan's check of dynamic types opens pipes, and takes a refusal for a broken object.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool can_do_without_descriptors = false;
#else
constexpr bool can_do_without_descriptors = true;
#endif

bool starts_and_ends_well() {
    mp::Process process({.daemon = true}, [] { std::exit(9); });
    process.start();
    return process.join(bound) && process.exitcode() == 9;
}

}  // namespace

TEST_CASE("start without descriptors left is OSError at once; nothing was started", "[process]") {
    const bool daemon = GENERATE(false, true);
    if (!can_do_without_descriptors) {
        SUCCEED("not with UBSan");
        return;
    }
    CHECK(in_child([&] {
              mp::Process never({.daemon = daemon}, [] { std::exit(1); });
              {
                  const NoDescriptorsLeft none;
                  try {
                      never.start();
                      return false;
                  } catch (const mp::OSError& error) {
                      if (error.code() != std::errc::too_many_files_open) { return false; }
                      if (std::string(error.what()).find('(') == std::string::npos) {
                          return false;
                      }
                  }
                  if (never.is_alive() || never.pid().has_value() ||
                      !mp::active_children().empty() || !support::children().empty()) {
                      return false;
                  }
              }
              // Usable again, this very object too.
              if (!starts_and_ends_well()) { return false; }
              never.start();
              return never.join(bound) && never.exitcode() == 1;
          }) == 0);
}

TEST_CASE("whatever number of descriptors is left, start works or was nothing", "[process]") {
    if (!can_do_without_descriptors) {
        SUCCEED("not with UBSan");
        return;
    }
    for (int spare = 0; spare <= 6; ++spare) {
        CAPTURE(spare);
        CHECK(in_child([&] {
                  observe::Report report;
                  bool started = false;
                  {
                      const NoDescriptorsLeft few(spare);
                      try {
                          mp::Process process({.daemon = true}, [&] {
                              report.say("runs");
                              std::exit(5);
                          });
                          process.start();
                          started = process.join(bound) && process.exitcode() == 5;
                          if (!started) { return false; }
                      } catch (const mp::OSError&) {}
                  }
                  return report.hear_all() == (started ? "runs\n" : "") &&
                         support::children().empty() && starts_and_ends_well();
              }) == 0);
    }
}

TEST_CASE("a child of which no note can be taken is not left running", "[process]") {
    if (!can_do_without_descriptors) {
        SUCCEED("not with UBSan");
        return;
    }
    CHECK(in_child([] {
              // The last descriptors go in the parent between the fork and the start's end.
              static std::optional<NoDescriptorsLeft> none;
              static bool take = true;
              const auto take_all = [] {
                  if (take) { none.emplace(); }
              };
              os::at_fork(nullptr, take_all, nullptr);
              observe::Report report;
              mp::Process process([&] {
                  report.say("runs");
                  for (;;) { ::pause(); }
              });
              try {
                  process.start();
                  return false;
              } catch (const mp::OSError& error) {
                  if (error.code() != std::errc::too_many_files_open) { return false; }
              }
              none.reset();
              take = false;
              return report.ends_within(5s) && support::children().empty() && !process.is_alive() &&
                     mp::active_children().empty() && starts_and_ends_well();
          }) == 0);
}

TEST_CASE("threads that race for the last descriptors leave no process behind", "[process]") {
    if (!can_do_without_descriptors) {
        SUCCEED("not with UBSan");
        return;
    }
    CHECK(in_child([] {
              std::atomic<bool> wrong{false};
              {
                  const NoDescriptorsLeft few(6);
                  std::vector<std::jthread> team;
                  for (int t = 0; t < 4; ++t) {
                      team.emplace_back([&] {
                          for (int i = 0; i < 50; ++i) {
                              try {
                                  mp::Process process([] { std::exit(5); });
                                  process.start();
                                  // A child without descriptors of its own ends with 1.
                                  process.join();
                                  const auto code = process.exitcode();
                                  if (code != 5 && code != 1) { wrong = true; }
                              } catch (const mp::OSError&) {}
                          }
                      });
                  }
              }
              return !wrong && mp::active_children().empty() && support::children().empty() &&
                     starts_and_ends_well();
          }) == 0);
}

TEST_CASE("start without processes left is OSError that names the call and the process",
          "[process]") {
    CHECK(in_child([] {
              // The limit does not hold for root. This user has no process but this one.
              if (::geteuid() == 0 && ::setuid(54321) != 0) { return false; }
              const rlimit limit{.rlim_cur = 1, .rlim_max = 1};
              if (::setrlimit(RLIMIT_NPROC, &limit) != 0) { return false; }
              mp::Process process({.name = "refused", .daemon = true}, [] {});
              for (int i = 0; i < 3; ++i) {
                  try {
                      process.start();
                      return false;
                  } catch (const mp::OSError& error) {
                      const std::string what = error.what();
                      if (error.code().value() != EAGAIN ||
                          what.find("fork") == std::string::npos ||
                          what.find("refused") == std::string::npos) {
                          return false;
                      }
                  }
                  if (process.is_alive() || process.pid().has_value()) { return false; }
              }
              return mp::active_children().empty();
          }) == 0);
}

TEST_CASE("a refused start keeps target and arguments for the next", "[process]") {
    if (!can_do_without_descriptors) {
        SUCCEED("not with UBSan");
        return;
    }
    CHECK(in_child([] {
              mp::Process process(
                  [](const std::string& text) { std::exit(text == "argument" ? 7 : 1); },
                  "argument");
              {
                  const NoDescriptorsLeft none;
                  try {
                      process.start();
                      return false;
                  } catch (const mp::OSError&) {}
              }
              process.start();
              return process.join(bound) && process.exitcode() == 7;
          }) == 0);
}

TEST_CASE("a child forked while other threads allocate and make objects is sound", "[process]") {
    std::atomic<bool> stop{false};
    {
        std::vector<std::jthread> team;
        for (int t = 0; t < 2; ++t) {
            team.emplace_back([&] {
                while (!stop) {
                    const mp::Process process([] {});
                    const std::string text(200, 'x');
                    static_cast<void>(mp::active_children());
                    static_cast<void>(mp::current_process().name());
                }
            });
        }
        for (int i = 0; i < 60 / support::slowness; ++i) {
            mp::Process process({.daemon = i % 2 == 0}, [] {
                mp::Process inner([] { std::exit(3); });
                inner.start();
                inner.join();
                std::exit(inner.exitcode().value_or(100));
            });
            process.start();
            REQUIRE(process.join(bound));
            REQUIRE(process.exitcode() == 3);
        }
        stop = true;
    }
}

// SPDX-License-Identifier: BSL-1.0

// What cannot be had is refused at once, by an error that names the call, the object and its size;
// afterwards everything is as usable as before.

#include "kinds.hpp"
#include "limits.hpp"
#include "support/bounds.hpp"
#include "support/catch.hpp"
#include "support/leak_check.hpp"

#include <multiprocessing.hpp>

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace mp = multiprocessing;
using namespace resources;
using namespace std::chrono_literals;
using resources::limit;

namespace {

// AddressSanitizer needs address space of its own; UBSan's check of dynamic types opens pipes.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool is_sanitized = true;
#else
constexpr bool is_sanitized = false;
#endif

constexpr std::size_t MiB = 1024 * 1024;

// Has the library open what it keeps for the life of a process, and nothing else.
void warm_up() { mp::Lock().acquire(); }

}  // namespace

// --- descriptors ---------------------------------------------------------------------------------

TEST_CASE("without descriptors a first object is refused by name, and can be had afterwards",
          "[resources]") {
    if (is_sanitized) {
        SUCCEED("not with UBSan");
        return;
    }
    for (const Kind& kind : objects()) {
        CAPTURE(kind.name);
        CHECK(in_child([&]() -> std::string {
                  {
                      const DescriptorsLeft none(0);
                      const std::string wrong = refusal(kind.make).wrong(
                          EMFILE, {"pidfd_open", "memfd_create", "socketpair", "eventfd"});
                      if (!wrong.empty()) { return wrong; }
                  }
                  return unusable();
              }) == "");
    }
}

TEST_CASE("without descriptors what needs one is refused by name, what needs none works",
          "[resources]") {
    if (is_sanitized) {
        SUCCEED("not with UBSan");
        return;
    }
    for (const Kind& kind : everything()) {
        CAPTURE(kind.name);
        const std::string name = kind.name;
        CHECK(in_child([&]() -> std::string {
                  warm_up();
                  const auto before = support::Holdings::now();
                  {
                      const DescriptorsLeft none(0);
                      const Refusal refused = refusal(kind.make);
                      const bool needs_none = refused.error == 0;
                      // The small ones live in the slab that is there.
                      const bool is_large = name == "Array" || name == "Pipe" ||
                                            name.ends_with("Queue") || name.ends_with("Process") ||
                                            name == "Pool";
                      if (needs_none && is_large) { return "not refused"; }
                      if (!needs_none && !is_large) { return "refused: " + refused.text; }
                      if (!needs_none) {
                          const std::string wrong =
                              refused.wrong(EMFILE, {"memfd_create", "socketpair", "eventfd",
                                                     "pipe2", "fork", "pidfd_open"});
                          if (!wrong.empty()) { return wrong; }
                      }
                  }
                  return support::left_behind(before) + unusable();
              }) == "");
    }
}

TEST_CASE("whatever number of descriptors is left, making something works or leaves nothing",
          "[resources]") {
    if (is_sanitized) {
        SUCCEED("not with UBSan");
        return;
    }
    for (const Kind& kind : {objects()[9], objects()[10], objects()[12], daemon(), pool()}) {
        CAPTURE(kind.name);
        CHECK(in_child([&]() -> std::string {
                  warm_up();
                  const auto before = support::Holdings::now();
                  bool worked = false;
                  for (int spare = 0; spare < 24 && !worked; ++spare) {
                      {
                          const DescriptorsLeft few(spare);
                          const Refusal refused = refusal(kind.make);
                          worked = refused.error == 0;
                          if (!worked && refused.error != EMFILE) { return refused.text; }
                      }
                      if (const auto left = support::left_behind(before); !left.empty()) {
                          return "with " + std::to_string(spare) + ": " + left;
                      }
                  }
                  return (worked ? "" : "never worked ") + unusable();
              }) == "");
    }
}

TEST_CASE("locks of the living and of the dead are taken without a descriptor", "[resources]") {
    if (is_sanitized) {
        SUCCEED("not with UBSan");
        return;
    }
    CHECK(in_child([]() -> std::string {
              mp::Lock of_living;
              mp::Lock of_dead;
              mp::Event held;
              mp::Event release;
              mp::Process holder([&] {
                  of_living.acquire();
                  held.set();
                  release.wait(bound);
                  of_living.release();
              });
              holder.start();
              mp::Process victim([&] {
                  of_dead.acquire();
                  ::raise(SIGKILL);
              });
              victim.start();
              if (!victim.join(bound) || !held.wait(bound)) { return "not prepared"; }
              {
                  const DescriptorsLeft none(0);
                  if (of_living.acquire(10ms)) { return "two holders"; }
                  const auto taken = of_dead.acquire(bound);
                  if (!taken || !taken.owner_died()) { return "the dead one's lock is not had"; }
                  of_dead.release();
                  release.set();
                  if (!of_living.acquire(bound)) { return "the living one's lock is not had"; }
                  of_living.release();
              }
              return holder.join(bound) ? unusable() : "the holder does not end";
          }) == "");
}

TEST_CASE("a lock whose dead holder nobody has reaped is had once there are descriptors again",
          "[resources]") {
    if (is_sanitized) {
        SUCCEED("not with UBSan");
        return;
    }
    CHECK(in_child([]() -> std::string {
              mp::Lock lock;
              lock.acquire();
              lock.release();
              support::Forked zombie([&] {
                  lock.acquire();
                  ::raise(SIGKILL);
                  return 0;
              });
              siginfo_t info{};
              ::waitid(P_PID, static_cast<id_t>(zombie.pid()), &info, WEXITED | WNOWAIT);
              std::string text;
              {
                  const DescriptorsLeft none(0);
                  // It may be told that it cannot ask whether the holder lives, or wait in vain.
                  bool taken = false;
                  const Refusal refused =
                      refusal([&] { taken = static_cast<bool>(lock.acquire(100ms)); });
                  if (taken) { text += "taken from one who may be alive "; }
                  if (refused.error != 0) { text += refused.wrong(EMFILE, {"pidfd_open"}); }
              }
              const auto taken = lock.acquire(bound);
              if (!taken || !taken.owner_died()) { text += "not had afterwards"; }
              return text;
          }) == "");
}

TEST_CASE("who is refused descriptors takes nobody else's place among the processes",
          "[resources]") {
    if (is_sanitized) {
        SUCCEED("not with UBSan");
        return;
    }
    warm_up();  // the registry is this process's
    CHECK(in_child([]() -> std::string {
              {
                  const DescriptorsLeft none(0);
                  // More often than there are places.
                  for (unsigned i = 0; i <= mp::detail::Family::capacity; ++i) {
                      const std::string wrong = refusal([] {
                                                    mp::Lock().acquire();
                                                }).wrong(EMFILE, {"pidfd_open", "memfd_create"});
                      if (!wrong.empty()) { return wrong; }
                  }
              }
              return unusable();
          }) == "");
}

// --- processes -----------------------------------------------------------------------------------

TEST_CASE("without processes a pool is refused by name, and can be had afterwards", "[resources]") {
    for (const rlim_t most : {1U, 2U, 3U}) {  // none; a nursery; that and one of two workers
        CAPTURE(most);
        CHECK(in_child([&]() -> std::string {
                  become_nobody();
                  warm_up();
                  const auto before = support::Holdings::now();
                  limit(RLIMIT_NPROC, most);
                  for (int i = 0; i < 3; ++i) {
                      const std::string wrong = refusal(pool().make).wrong(EAGAIN, {"fork"});
                      if (!wrong.empty()) { return wrong; }
                      const std::string left = support::left_behind(before);
                      if (!left.empty()) { return left; }
                      const std::string bad = unusable(objects());
                      if (!bad.empty()) { return bad; }
                  }
                  limit(RLIMIT_NPROC, 1000);
                  return unusable();
              }) == "");
    }
}

TEST_CASE("a pool whose supervisor's thread is refused says so, and leaves nobody", "[resources]") {
    CHECK(in_child([]() -> std::string {
              become_nobody();
              warm_up();
              const auto before = support::Holdings::now();
              limit(RLIMIT_NPROC, 4);  // this process, a nursery, two workers
              const std::string wrong =
                  refusal(pool().make).wrong(EAGAIN, {"fork", "pthread_create"});
              const std::string left = support::left_behind(before);
              limit(RLIMIT_NPROC, 1000);
              return wrong + left + unusable();
          }) == "");
}

TEST_CASE("without processes a pool of threads is refused by name", "[resources]") {
    CHECK(in_child([]() -> std::string {
              become_nobody();
              warm_up();
              limit(RLIMIT_NPROC, 1);
              const std::string wrong =
                  refusal(thread_pool().make).wrong(EAGAIN, {"pthread_create"});
              limit(RLIMIT_NPROC, 1000);
              return wrong + unusable();
          }) == "");
}

TEST_CASE("a pool that cannot replace a worker says so at once", "[resources]") {
    CHECK(in_child([]() -> std::string {
              become_nobody();
              mp::Pool broken(1);
              const pid_t worker = broken.apply_async([] { return ::getpid(); }).get(bound);
              const pid_t nursery = broken.apply_async([] { return ::getppid(); }).get(bound);
              const rlimit none{.rlim_cur = 1, .rlim_max = 1000};
              if (::prlimit(nursery, RLIMIT_NPROC, &none, nullptr) != 0) { return "no prlimit"; }
              ::kill(worker, SIGKILL);
              // The task waits for a worker that cannot be had.
              std::string text;
              const auto begin = std::chrono::steady_clock::now();
              try {
                  // At most the first is given to the dying worker.
                  for (int i = 0; i < 2; ++i) { broken.apply_async(square, 3).get(bound); }
                  return "not refused";
              } catch (const mp::WorkerDiedError&) {
                  try {
                      broken.apply_async(square, 3).get(bound);
                      return "not refused";
                  } catch (const mp::BrokenProcessPool& error) { text = error.what(); }
              } catch (const mp::BrokenProcessPool& error) { text = error.what(); }
              if (std::chrono::steady_clock::now() - begin > 5s * support::slowness) {
                  return "late: " + text;
              }
              if (text.find("fork") == text.npos) { return "does not name the call: " + text; }
              broken.terminate();
              broken.join();
              return unusable();
          }) == "");
}

TEST_CASE("fork that fails for any other reason is OSError with that reason; nothing was started",
          "[resources]") {
    CHECK(in_child([]() -> std::string {
              warm_up();
              const auto before = support::Holdings::now();
              mp::Process process({.name = "refused"}, [] { std::exit(5); });
              std::string text;
              // The filter is this thread's, and ends with it.
              std::jthread([&] {
                  if (!refuse_fork(ENOMEM)) {
                      text = "not allowed";
                      return;
                  }
                  const Refusal refused = refusal([&] { process.start(); });
                  text = refused.wrong(ENOMEM, {"fork"});
                  if (refused.text.find("refused") == text.npos) { text += refused.text; }
                  for (const Kind& kind : {daemon(), pool()}) {
                      text += refusal(kind.make).wrong(ENOMEM, {"fork"});
                  }
                  text += unusable(objects());
                  text += unusable({thread_pool()});
              }).join();
              if (text == "not allowed") { return ""; }
              text += support::left_behind(before);
              process.start();  // the very one that was refused
              if (!process.join(bound) || process.exitcode() != 5) { text += "wrong end"; }
              return text + unusable();
          }) == "");
}

// --- memory --------------------------------------------------------------------------------------

TEST_CASE("without address space an array, or a queue's growth, is refused with its size",
          "[resources]") {
    if (is_sanitized) {
        SUCCEED("not with AddressSanitizer");
        return;
    }
    CHECK(in_child([]() -> std::string {
              warm_up();
              const std::string large(64 * MiB, 'x');
              mp::Queue<std::string> queue;
              queue.put("first");
              const auto before = support::Holdings::now();
              std::string text;
              {
                  const AddressSpaceLeft little(32 * MiB);
                  const Refusal array =
                      refusal([] { mp::Array<char> made(std::size_t{64 * MiB}); });
                  text += array.wrong(ENOMEM, {"mmap"});
                  // A little more than was asked for: whole pages.
                  if (array.text.find("(671") == text.npos) { text += "no size: " + array.text; }
                  const Refusal put = refusal([&] { queue.put(large); });
                  text += put.wrong(ENOMEM, {"mmap"});
                  if (put.text.find(" bytes") == text.npos) { text += "no size: " + put.text; }
                  // The same queue goes on, and so does everything else.
                  queue.put("second");
                  if (queue.get(bound) != "first" || queue.get(bound) != "second") {
                      text += "the queue is not what it was ";
                  }
                  text += unusable(objects()) + unusable({process(), daemon()});
              }
              text += support::left_behind(before);
              queue.put(large);
              if (queue.get(bound) != large) { text += "a large item is not what it was "; }
              return text + unusable();
          }) == "");
}

TEST_CASE("whatever address space is left, making something works or leaves nothing",
          "[resources]") {
    if (is_sanitized) {
        SUCCEED("not with AddressSanitizer");
        return;
    }
    for (const Kind& kind : everything()) {
        CAPTURE(kind.name);
        CHECK(in_child([&]() -> std::string {
                  warm_up();
                  const auto before = support::Holdings::now();
                  std::string text;
                  for (const std::size_t left : {0U, 4096U, 65536U, 1U << 18, 1U << 20, 1U << 22,
                                                 1U << 23, 1U << 24, 1U << 25}) {
                      {
                          const AddressSpaceLeft little(left);
                          try {
                              kind.make();
                          } catch (const mp::OSError& error) {
                              // Who reads "Resource temporarily unavailable" alone knows nothing.
                              const std::string what = error.what();
                              if (what.find('(') == what.npos) {
                                  text += "does not name the call: " + what + "\n";
                              }
                          } catch (const std::bad_alloc&) {
                              // A new[] of the program's own kind.
                          }
                      }
                      text += support::left_behind(before);
                      if (!text.empty()) { return std::to_string(left) + ": " + text; }
                  }
                  return unusable();
              }) == "");
    }
}

TEST_CASE("more memory than there is is refused with what is left, and nobody is ended for it",
          "[resources]") {
    const auto before = support::Holdings::now();
    const Refusal refused = refusal([] { mp::Array<char> made(std::size_t{1} << 46); });  // 64 TiB
    CHECK(refused.wrong(ENOSPC, {"posix_fallocate"}) == "");
    CHECK_THAT(refused.text, support::contains("(7036874418"));  // in whole pages
    CHECK_THAT(refused.text, support::contains("are available"));
    CHECK(support::left_behind(before) == "");
    CHECK(unusable() == "");
}

// --- /dev/shm ------------------------------------------------------------------------------------

namespace {

// Comes into a mount namespace of its own; false where that is not allowed.
bool unshare_mounts() {
    if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
        return false;
    }
    return ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

// Shared memory of every sort, more than a /dev/shm of 1 MiB could hold.
std::string use_16_MiB() {
    std::string text = unusable();
    mp::Array<char> array(std::size_t{16 * MiB});
    array.set(16 * MiB - 1, 'x');
    mp::Queue<std::string> queue;
    queue.put(std::string(16 * MiB, 'x'));
    if (queue.get(bound).size() != 16 * MiB) { text += "a large item is not what it was"; }
    return text;
}

}  // namespace

TEST_CASE("a /dev/shm of 1 MiB, which is full, is not needed", "[resources]") {
    const std::string text = in_child([]() -> std::string {
        if (!unshare_mounts() || ::mount("shm", "/dev/shm", "tmpfs", 0, "size=1m") != 0) {
            return "not allowed";
        }
        struct statvfs space {};
        ::statvfs("/dev/shm", &space);
        if (space.f_blocks * space.f_frsize != MiB) { return "no /dev/shm of 1 MiB"; }
        std::ofstream("/dev/shm/full") << std::string(2 * MiB, 'x');
        const std::string text_of_use = use_16_MiB();
        const auto entries = std::distance(std::filesystem::directory_iterator("/dev/shm"), {});
        return text_of_use + (entries == 1 ? "" : "something stands in /dev/shm");
    });
    if (text == "not allowed") {
        SUCCEED("no mount namespaces here");
        return;
    }
    CHECK(text == "");
}

TEST_CASE("no /dev/shm is needed at all", "[resources]") {
    const std::string text = in_child([]() -> std::string {
        if (!unshare_mounts()) { return "not allowed"; }
        // An empty /dev, but for what children have as standard input.
        const int null = ::open("/dev/null", O_PATH | O_CLOEXEC);
        if (::mount("dev", "/dev", "tmpfs", 0, "size=64k") != 0) { return "not allowed"; }
        ::close(::open("/dev/null", O_CREAT | O_WRONLY | O_CLOEXEC, 0666));
        const std::string source = "/proc/self/fd/" + std::to_string(null);
        if (::mount(source.c_str(), "/dev/null", nullptr, MS_BIND, nullptr) != 0) {
            return "not allowed";
        }
        ::close(null);
        if (std::filesystem::exists("/dev/shm")) { return "there is a /dev/shm"; }
        return use_16_MiB();
    });
    if (text == "not allowed") {
        SUCCEED("no mount namespaces here");
        return;
    }
    CHECK(text == "");
}

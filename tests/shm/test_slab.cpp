// SPDX-License-Identifier: BSL-1.0
#include "process/observe.hpp"
#include "support/catch.hpp"
#include "support/leak_check.hpp"

#include <multiprocessing/shm/slab.hpp>

#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

using multiprocessing::detail::make_shared_object;
using multiprocessing::detail::Slab;

namespace {

struct Counter {
    explicit Counter(int start = 0) : value(start) {}
    std::atomic<int> value;
};

// Runs `f` in a plain fork; 0 when it returned true.
template <class F>
int in_fork(F f) {
    const pid_t pid = ::fork();
    if (pid == 0) { ::_exit(f() ? 0 : 1); }
    int status = -1;
    ::waitpid(pid, &status, 0);
    return status;
}

bool is_zero(const std::byte* bytes, std::size_t size) {
    return std::all_of(bytes, bytes + size, [](std::byte b) { return b == std::byte{0}; });
}

int slab_descriptors() {
    int count = 0;
    support::detail::for_each_entry("/proc/self/fd", [&](const std::filesystem::path& entry) {
        std::error_code error;
        const auto target = std::filesystem::read_symlink(entry, error).string();
        count += target.find("memfd:multiprocessing:slab") != target.npos ? 1 : 0;
    });
    return count;
}

}  // namespace

TEST_CASE("slots are aligned, zeroed and apart", "[shm]") {
    std::vector<std::pair<std::shared_ptr<std::byte>, std::size_t>> all;
    for (const std::size_t size :
         {1U, 64U, 65U, 100U, 128U, 4000U, 16U * 1024, 16U * 1024 + 1, 1U << 20}) {
        for (int i = 0; i < 3; ++i) {
            auto memory = Slab<>::allocate(size);
            CHECK(reinterpret_cast<std::uintptr_t>(memory.get()) % 64 == 0);
            CHECK(is_zero(memory.get(), size));
            std::memset(memory.get(), static_cast<int>(all.size()) + 1, size);
            all.emplace_back(std::move(memory), size);
        }
    }
    for (std::size_t i = 0; i < all.size(); ++i) {
        const auto mark = static_cast<std::byte>(i + 1);
        const auto [memory, size] = all[i];
        CHECK(
            std::all_of(memory.get(), memory.get() + size, [&](std::byte b) { return b == mark; }));
    }
}

TEST_CASE("an object is made with its arguments and zeroed bytes behind it", "[shm]") {
    const auto counter = make_shared_object<Counter>(100, 7);
    CHECK(counter->value == 7);
    CHECK(is_zero(reinterpret_cast<const std::byte*>(counter.get() + 1), 100));
    struct Refuses {
        explicit Refuses(int) { throw std::runtime_error("refused"); }
        int value = 0;
    };
    CHECK_THROWS_WITH(make_shared_object<Refuses>(0, 1), "refused");
}

TEST_CASE("a child of a fork sees the object, and changes to it", "[shm]") {
    const auto counter = make_shared_object<Counter>(0, 1);
    const auto large = make_shared_object<Counter>(100'000, 1);
    CHECK(in_fork([&] { return ++counter->value == 2 && ++large->value == 2; }) == 0);
    CHECK(counter->value == 2);
    CHECK(large->value == 2);
}

TEST_CASE("a slot that nobody else can have seen is used again, zeroed", "[shm]") {
    const auto other = Slab<>::allocate(192);
    auto memory = Slab<>::allocate(192);
    std::byte* const place = memory.get();
    std::memset(place, 0xff, 192);
    memory.reset();
    const auto again = Slab<>::allocate(192);
    CHECK(again.get() == place);
    CHECK(is_zero(again.get(), 192));
}

TEST_CASE("a slot that a child may see is never used again", "[shm]") {
    const auto other = Slab<>::allocate(192);
    auto memory = Slab<>::allocate(192);
    std::byte* const place = memory.get();
    observe::Report report;
    observe::Door door;
    const pid_t pid = ::fork();
    if (pid == 0) {
        door.pass();
        report.say(static_cast<int>(*memory));  // still what it was made with
        ::_exit(0);
    }
    *memory = std::byte{42};
    memory.reset();
    std::vector<std::shared_ptr<std::byte>> later;
    for (int i = 0; i < 2000; ++i) {
        later.push_back(Slab<>::allocate(192));
        std::memset(later.back().get(), 0xee, 192);
    }
    CHECK(std::none_of(later.begin(), later.end(),
                       [&](const auto& made) { return made.get() == place; }));
    door.open();
    CHECK(report.hear() == "42");
    ::waitpid(pid, nullptr, 0);
    // Not even after that child's end: it may have had children.
    later.push_back(Slab<>::allocate(192));
    CHECK(later.back().get() != place);
}

TEST_CASE("a slot that was free at the fork may be used again", "[shm]") {
    const auto other = Slab<>::allocate(320);
    auto memory = Slab<>::allocate(320);
    std::byte* const place = memory.get();
    memory.reset();
    CHECK(in_fork([] { return true; }) == 0);
    CHECK(Slab<>::allocate(320).get() == place);
}

TEST_CASE("a child makes its objects where nobody else does", "[shm]") {
    const auto before = make_shared_object<Counter>(0, 5);
    CHECK(in_fork([&] {
              std::vector<std::shared_ptr<Counter>> own;
              for (int i = 0; i < 1000; ++i) { own.push_back(make_shared_object<Counter>(0, -1)); }
              return before->value == 5;
          }) == 0);
    const auto after = make_shared_object<Counter>(0, 6);
    CHECK(before->value == 5);
    CHECK(after->value == 6);
}

TEST_CASE("a child that drops its parent's objects takes nothing from the parent", "[shm]") {
    auto counter = make_shared_object<Counter>(0, 5);
    CHECK(in_fork([&] {
              counter.reset();
              const auto own = Slab<>::allocate(64);
              std::memset(own.get(), 0xff, 64);
              return true;
          }) == 0);
    CHECK(counter->value == 5);
}

TEST_CASE("a hundred thousand objects live on a handful of descriptors, which go with them",
          "[shm]") {
    static_cast<void>(Slab<>::allocate(64));
    {
        std::vector<std::shared_ptr<Counter>> all;
        for (int i = 0; i < 100'000; ++i) { all.push_back(make_shared_object<Counter>(0, i)); }
        std::set<const Counter*> places;
        bool right = true;
        for (int i = 0; i < 100'000; ++i) {
            right = right && all[static_cast<std::size_t>(i)]->value == i;
            places.insert(all[static_cast<std::size_t>(i)].get());
        }
        CHECK(right);
        CHECK(places.size() == 100'000);
        CHECK(slab_descriptors() <= 16);
        CHECK(slab_descriptors() > 1);
    }
    CHECK(slab_descriptors() == 1);
    // The same when they may have been seen.
    {
        std::vector<std::shared_ptr<Counter>> all;
        for (int i = 0; i < 200'000; ++i) { all.push_back(make_shared_object<Counter>(0, i)); }
        CHECK(in_fork([&] { return all[777]->value == 777; }) == 0);
    }
    CHECK(slab_descriptors() == 1);
}

TEST_CASE("sizes that follow one another do not pin slabs", "[shm]") {
    for (int round = 0; round < 200; ++round) {
        std::vector<std::shared_ptr<std::byte>> some;
        for (int i = 0; i < 50; ++i) {
            some.push_back(
                Slab<>::allocate(static_cast<std::size_t>(64 * (1 + (round * 7 + i) % 250))));
        }
    }
    CHECK(slab_descriptors() <= 2);
}

TEST_CASE("a large object has a segment of its own, gone with its last reference", "[shm]") {
    const auto before = support::Holdings::now();
    {
        auto large = make_shared_object<Counter>(1 << 20, 3);
        const auto second = large;
        large.reset();
        CHECK(second->value == 3);
        CHECK(support::difference(before, support::Holdings::now()) != "");
    }
    CHECK(support::difference(before, support::Holdings::now()) == "");
}

TEST_CASE("threads make and drop objects while others fork", "[shm]") {
    std::atomic<bool> stop{false};
    std::atomic<int> wrong{0};
    int failed_forks = 0;
    {
        std::vector<std::jthread> team;
        for (int t = 0; t < 3; ++t) {
            team.emplace_back([&, t] {
                std::vector<std::shared_ptr<Counter>> mine;
                while (!stop) {
                    mine.push_back(make_shared_object<Counter>(0, t));
                    if (mine.back()->value != t) { ++wrong; }
                    if (mine.size() > 50) { mine.erase(mine.begin(), mine.begin() + 25); }
                    for (const auto& counter : mine) {
                        if (counter->value != t) { ++wrong; }
                    }
                }
            });
        }
        for (int i = 0; i < 100; ++i) {
            failed_forks += in_fork([] {
                                const auto first = make_shared_object<Counter>(0, 1);
                                const auto second = make_shared_object<Counter>(0, 2);
                                return first->value == 1 && second->value == 2;
                            }) != 0;
        }
        stop = true;
    }
    CHECK(wrong == 0);
    CHECK(failed_forks == 0);
}

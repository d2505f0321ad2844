// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"
#include "support/forked.hpp"
#include "support/leak_check.hpp"
#include "support/parcel.hpp"

#include <multiprocessing/os/event_fd.hpp>
#include <multiprocessing/os/memory.hpp>
#include <multiprocessing/shm/shared_object.hpp>

#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

namespace mp = multiprocessing;
namespace os = mp::detail::os;

using mp::detail::LayoutTag;
using mp::detail::load_shared_object;
using mp::detail::magic;
using mp::detail::make_shared_object;
using mp::detail::Reader;
using mp::detail::save_shared_object;
using mp::detail::Slab;
using mp::detail::Writer;
using support::Parcel;
using support::StartSource;

namespace {

struct Counter {
    explicit Counter(int start) : value(start) {}
    bool is_intact(std::size_t) const noexcept { return tag.names(magic("TCNT")); }

    LayoutTag tag{magic("TCNT"), 1};
    std::atomic<int> value;
};
struct Other {
    bool is_intact(std::size_t) const noexcept { return tag.names(magic("TOTH")); }

    LayoutTag tag{magic("TOTH"), 1};
};

// What is made stands next to others.
struct Plain {
    std::uint64_t words[8];
};

template <class T>
Parcel save_object(const std::shared_ptr<T>& object) {
    Parcel parcel;
    Writer out;
    out.handles = &parcel.sink;
    save_shared_object(out, object);
    parcel.bytes = out.release();
    return parcel;
}

template <class T>
std::shared_ptr<T> load_object(const Parcel& parcel) {
    StartSource source(parcel.sink);
    Reader in(parcel.bytes);
    in.handles = &source;
    auto object = load_shared_object<T>(in);
    CHECK(in.remaining() == 0);
    return object;
}

// A record that says this, with this descriptor.
Parcel forged(std::uint32_t index, std::uint64_t offset, std::uint64_t size, int fd) {
    Parcel parcel;
    Writer out;
    parcel.sink.add(fd);
    out.raw(index);
    out.raw(offset);
    out.raw(size);
    parcel.bytes = out.release();
    return parcel;
}

std::size_t open_files() {
    std::size_t count = 0;
    support::detail::for_each_entry("/proc/self/fd", [&](const auto&) { ++count; });
    return count;
}

}  // namespace

TEST_CASE("who loads a shared object has the same one", "[shm]") {
    for (const std::size_t extra : {std::size_t{0}, std::size_t{1000}, std::size_t{100'000}}) {
        const auto made = make_shared_object<Counter>(extra, 5);
        const auto loaded = load_object<Counter>(save_object(made));
        CHECK(loaded.get() != made.get());
        CHECK(loaded->value == 5);
        ++loaded->value;
        CHECK(made->value == 6);
        auto* const last = reinterpret_cast<std::byte*>(made.get() + 1) + extra - 1;
        if (extra > 0) {
            *last = std::byte{7};
            CHECK(*(reinterpret_cast<std::byte*>(loaded.get() + 1) + extra - 1) == std::byte{7});
        }
        CHECK(mp::detail::stretch_of(loaded).size == mp::detail::stretch_of(made).size);
    }
}

TEST_CASE("a loaded object outlives the one that was made, and can be saved again", "[shm]") {
    for (const std::size_t extra : {std::size_t{0}, std::size_t{100'000}}) {
        auto made = make_shared_object<Counter>(extra, 5);
        auto first = load_object<Counter>(save_object(made));
        made.reset();
        const auto second = load_object<Counter>(save_object(first));
        CHECK(second.get() == first.get());  // one mapping
        first.reset();
        CHECK(second->value == 5);
        support::Forked child([&] {
            const auto third = load_object<Counter>(save_object(second));
            return third.get() == second.get() && ++third->value == 6 ? 0 : 1;
        });
        CHECK(child.join() == 0);
        CHECK(second->value == 6);
    }
}

TEST_CASE("a file is mapped once, and goes with the last of its objects", "[shm]") {
    const auto first = make_shared_object<Counter>(0, 1);
    const auto second = make_shared_object<Counter>(0, 2);
    const std::size_t before = open_files();
    {
        std::vector<std::shared_ptr<Counter>> loaded;
        for (int i = 0; i < 100; ++i) {
            loaded.push_back(load_object<Counter>(save_object(i % 2 == 0 ? first : second)));
        }
        CHECK(open_files() == before + 1);
        CHECK(reinterpret_cast<std::byte*>(loaded[1].get()) -
                  reinterpret_cast<std::byte*>(loaded[0].get()) ==
              reinterpret_cast<std::byte*>(second.get()) -
                  reinterpret_cast<std::byte*>(first.get()));
    }
    CHECK(open_files() == before);
    CHECK(load_object<Counter>(save_object(first))->value == 1);
}

TEST_CASE("a reference to a part, or of another type, is sent like the object", "[shm]") {
    const auto made = make_shared_object<Counter>(0, 5);
    const std::shared_ptr<std::byte> memory(made, reinterpret_cast<std::byte*>(made.get()));
    CHECK(load_object<Counter>(save_object(memory))->value == 5);
    const auto elsewhere = std::make_shared<Counter>(5);
    CHECK_THROWS_AS(save_object(elsewhere), mp::SerializationError);
}

TEST_CASE("a slot that was sent is never used again", "[shm]") {
    const auto other = Slab<>::allocate(192);
    auto memory = Slab<>::allocate(192);
    std::byte* const place = memory.get();
    {
        const Parcel parcel = save_object(memory);
        *memory = std::byte{42};
        memory.reset();
        std::vector<std::shared_ptr<std::byte>> later;
        bool again = false;
        for (int i = 0; i < 500; ++i) {
            later.push_back(Slab<>::allocate(192));
            std::memset(later.back().get(), 0xee, 192);
            again = again || later.back().get() == place;
        }
        CHECK_FALSE(again);
        CHECK(static_cast<std::uint8_t>(load_object<Plain>(parcel)->words[0]) == 42);
    }
    const auto later = Slab<>::allocate(192);
    CHECK(later.get() != place);
}

TEST_CASE("a record that does not fit its memory is refused before anything is touched", "[shm]") {
    const auto made = make_shared_object<Plain>(100'000);
    const mp::detail::SharedStretch stretch = mp::detail::stretch_of(made);
    const int fd = stretch.segment->fd();
    const std::uint64_t all = stretch.segment->size();
    CHECK(load_object<Plain>(forged(0, 0, 64, fd)) != nullptr);
    CHECK(load_object<Plain>(forged(0, all - 64, 64, fd)) != nullptr);
    CHECK(load_object<Plain>(forged(0, 0, all, fd)) != nullptr);
    const std::uint64_t most = ~std::uint64_t{0};
    for (const Parcel& parcel :
         {forged(1, 0, 64, fd), forged(0, 8, 64, fd), forged(0, 0, 63, fd), forged(0, 0, 0, fd),
          forged(0, 0, all + 1, fd), forged(0, 64, all, fd), forged(0, all, 64, fd),
          forged(0, all + 64, 64, fd), forged(0, most - 63, 64, fd), forged(0, most - 63, most, fd),
          forged(0, 0, most, fd), forged(0, most, 64, fd)}) {
        CHECK_THROWS_AS(load_object<Plain>(parcel), mp::SerializationError);
    }
    Parcel none = forged(0, 0, 64, fd);
    for (std::size_t size = 0; size < none.bytes.size(); ++size) {
        Parcel part = forged(0, 0, 64, fd);
        part.bytes.resize(size);
        CHECK_THROWS_AS(load_object<Plain>(part), mp::SerializationError);
    }
    Reader without(none.bytes);
    CHECK_THROWS_AS(load_shared_object<Plain>(without), mp::SerializationError);
}

TEST_CASE("a descriptor that is no shared memory is refused", "[shm]") {
    const os::UniqueFd empty = os::memfd_create("empty");
    const os::EventFd event;
    int pipe[2];
    REQUIRE(::pipe(pipe) == 0);
    const os::UniqueFd reader(pipe[0]);
    const os::UniqueFd writer(pipe[1]);
    const os::UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    for (const int fd : {empty.get(), event.get(), reader.get(), file.get()}) {
        CHECK_THROWS_AS(load_object<Plain>(forged(0, 0, 64, fd)), mp::SerializationError);
    }
    CHECK(os::is_event_fd(event.get()));
    for (const int fd : {empty.get(), reader.get(), writer.get(), file.get(), -1}) {
        CHECK_FALSE(os::is_event_fd(fd));
    }
    CHECK(os::identify(empty.get()).size == 0);
}

TEST_CASE("an object of another kind is refused", "[shm]") {
    const auto counter = make_shared_object<Counter>(0, 5);
    CHECK_THROWS_AS(load_object<Other>(save_object(counter)), mp::SerializationError);
    counter->tag.version = 2;
    CHECK_THROWS_AS(load_object<Counter>(save_object(counter)), mp::SerializationError);
}

TEST_CASE("threads load and drop objects while others fork", "[shm]") {
    const auto small = make_shared_object<Counter>(0, 1);
    const auto large = make_shared_object<Counter>(100'000, 1);
    std::atomic<bool> stop{false};
    std::atomic<int> wrong{0};
    int failed = 0;
    {
        std::vector<std::jthread> team;
        for (int t = 0; t < 3; ++t) {
            team.emplace_back([&] {
                while (!stop) {
                    for (const auto& object : {small, large}) {
                        Parcel parcel = save_object(object);
                        StartSource source(parcel.sink);
                        Reader in(parcel.bytes);
                        in.handles = &source;
                        if (load_shared_object<Counter>(in)->value != 1) { ++wrong; }
                    }
                }
            });
        }
        for (int i = 0; i < 100; ++i) {
            support::Forked child([&] {
                const auto loaded = load_object<Counter>(save_object(i % 2 == 0 ? small : large));
                return loaded->value == 1 ? 0 : 1;
            });
            failed += child.join() != 0 ? 1 : 0;
        }
        stop = true;
    }
    CHECK(wrong == 0);
    CHECK(failed == 0);
}

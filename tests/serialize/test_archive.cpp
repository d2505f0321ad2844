// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <multiprocessing/serialize.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace mp = multiprocessing;
using mp::detail::Reader;
using mp::detail::Writer;

TEST_CASE("a writer grows, and is written to in all of cereal's ways") {
    Writer out;
    CHECK(out.size() == 0);
    out(1, std::string("two"));
    out & 3.0;
    out << 'c' << std::vector<int>(1000, 7);

    Reader in(out.view());
    int one = 0;
    std::string two;
    double three = 0;
    char c = 0;
    std::vector<int> many;
    in(one, two);
    in& three;
    in >> c >> many;
    CHECK(one == 1);
    CHECK(two == "two");
    CHECK(three == 3.0);
    CHECK(c == 'c');
    CHECK(many == std::vector<int>(1000, 7));
    CHECK(in.remaining() == 0);
}

TEST_CASE("a cleared writer keeps its memory, a released one gives it away") {
    Writer out;
    out(std::string(1000, 'x'));
    const auto* const memory = out.view().data();
    out.clear();
    CHECK(out.size() == 0);
    out(5);
    CHECK(out.view().data() == memory);
    const auto bytes = out.release();
    CHECK(bytes.data() == memory);
    CHECK(bytes.size() == sizeof(int));
    CHECK(out.size() == 0);
    out(6);
    CHECK(mp::loads<int>(out.view()) == 6);
    CHECK(mp::loads<int>(bytes) == 5);
}

TEST_CASE("a writer into a fixed place fills it and no more") {
    std::array<std::byte, 16> place{};
    Writer out(std::span<std::byte>(place).first(12));
    out(1, 2, 3);
    CHECK(out.size() == 12);
    CHECK(out.view().data() == place.data());
    CHECK_THROWS_AS(out('c'), mp::SerializationError);
    CHECK(out.size() == 12);
    CHECK(place[12] == std::byte{});
    CHECK(out.release().size() == 12);

    Writer none{std::span<std::byte>()};
    none.bytes(nullptr, 0);
    CHECK_THROWS_AS(none(1), mp::SerializationError);
}

TEST_CASE("a writer with somewhere to overflow to keeps no more than a mebibyte") {
    struct Sink final : mp::detail::Overflow {
        std::vector<std::byte> all;
        std::size_t largest = 0;

        void append(std::span<const std::byte> bytes) override {
            all.insert(all.end(), bytes.begin(), bytes.end());
            largest = std::max(largest, bytes.size());
        }
        void restart() noexcept override { all.clear(); }
    };
    Sink sink;
    Writer out;
    out.overflow = &sink;
    const std::vector<int> small(1000, 7);
    out(1, small);
    CHECK_FALSE(out.has_overflowed());
    CHECK(out.size() == out.view().size());
    CHECK(sink.all.empty());

    // One large value goes where it is; many small ones are gathered before.
    const std::vector<double> large(1'000'000, 0.5);
    const std::vector<std::string> many(100'000, "a text that is longer than others");
    out(large);
    CHECK(out.has_overflowed());
    CHECK(sink.largest == large.size() * sizeof(double));
    out(many, 2);
    out.spill();
    CHECK(out.size() == sink.all.size());
    CHECK(out.view().empty());

    Reader in(sink.all);
    CHECK(mp::detail::load<int>(in) == 1);
    CHECK(mp::detail::load<std::vector<int>>(in) == small);
    CHECK(mp::detail::load<std::vector<double>>(in) == large);
    CHECK(mp::detail::load<std::vector<std::string>>(in) == many);
    CHECK(mp::detail::load<int>(in) == 2);
    CHECK(in.remaining() == 0);

    out.clear();
    CHECK_FALSE(out.has_overflowed());
    CHECK(out.size() == 0);
    CHECK(sink.all.empty());
    out(3);
    CHECK(out.view().size() == sizeof(int));
}

TEST_CASE("a reader gives out only what is there") {
    const std::array<std::byte, 4> bytes{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
    Reader in(bytes);
    CHECK(in.take(1).data() == bytes.data());
    std::uint16_t number = 0;
    in.bytes(&number, 2);
    CHECK(in.remaining() == 1);
    CHECK_THROWS_AS(in.bytes(&number, 2), mp::SerializationError);
    CHECK_THROWS_AS(in.take(std::numeric_limits<std::size_t>::max()), mp::SerializationError);
    CHECK(in.remaining() == 1);
    CHECK(in.take(1)[0] == std::byte{4});
    CHECK(in.take(0).empty());
    CHECK_THROWS_AS(in.take(1), mp::SerializationError);
}

TEST_CASE("a length is checked against the bytes that are there") {
    Writer out;
    out.length(3);
    out.bytes("abcdef", 6);
    CHECK(Reader(out.view()).length(1) == 3);
    CHECK(Reader(out.view()).length(2) == 3);
    CHECK_THROWS_AS(Reader(out.view()).length(3), mp::SerializationError);
    out.clear();
    out.length(std::numeric_limits<std::size_t>::max());
    CHECK_THROWS_AS(Reader(out.view()).length(1), mp::SerializationError);
}

TEST_CASE("values that are read into existing ones replace them") {
    const auto bytes = mp::dumps(std::pair<std::vector<int>, std::string>({1, 2}, "new"));
    std::vector<int> numbers(100);
    std::string text = "old and longer";
    Reader in(bytes);
    in(numbers, text);
    CHECK(numbers == std::vector<int>{1, 2});
    CHECK(text == "new");
}

TEST_CASE("no byte of padding leaves the process") {
    struct Padded {
        char c;
        long double number;
        int i;
    };
    alignas(Padded) std::byte first[sizeof(Padded)];
    alignas(Padded) std::byte second[sizeof(Padded)];
    std::memset(first, 0x11, sizeof first);
    std::memset(second, 0xee, sizeof second);
    auto* const a = new (first) Padded;
    auto* const b = new (second) Padded;
    a->c = b->c = 'c';
    a->number = b->number = 1.5L;
    a->i = b->i = 3;
    CHECK(mp::dumps(*a) == mp::dumps(*b));
}

namespace {

/// What a handle of the library does with its descriptor.
struct Descriptor {
    explicit Descriptor(int number) : fd(number) {}
    int fd;
};

struct Sink : mp::detail::HandleSink {
    std::vector<int> fds;
    std::uint32_t add(int fd) override {
        fds.push_back(fd);
        return static_cast<std::uint32_t>(fds.size() - 1);
    }
};

struct Source : mp::detail::HandleSource {
    std::vector<int> fds;
    int take(std::uint32_t index) override { return fds.at(index); }
};

}  // namespace

template <>
struct multiprocessing::serializer<Descriptor> {
    static void save(auto& archive, const Descriptor& descriptor) {
        if (archive.handles == nullptr) { throw SerializationError("no handles here"); }
        archive(archive.handles->add(descriptor.fd));
    }
    static Descriptor load(auto& archive) {
        std::uint32_t index = 0;
        archive(index);
        if (archive.handles == nullptr) { throw SerializationError("no handles here"); }
        return Descriptor(archive.handles->take(index));
    }
};

TEST_CASE("handles go by way of the archive's sink and source, and nowhere without") {
    const std::vector<Descriptor> descriptors{Descriptor(5), Descriptor(6)};
    CHECK_THROWS_AS(mp::dumps(descriptors), mp::SerializationError);

    Sink sink;
    Writer out;
    out.handles = &sink;
    out(descriptors);
    CHECK(sink.fds == std::vector<int>{5, 6});

    Source source;
    source.fds = {15, 16};
    Reader in(out.view());
    in.handles = &source;
    const auto arrived = mp::detail::load<std::vector<Descriptor>>(in);
    REQUIRE(arrived.size() == 2);
    CHECK(arrived[0].fd == 15);
    CHECK(arrived[1].fd == 16);
    CHECK_THROWS_AS(mp::loads<std::vector<Descriptor>>(out.view()), mp::SerializationError);
}

// SPDX-License-Identifier: BSL-1.0
#include "support/catch.hpp"

#include <multiprocessing/serialize.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace mp = multiprocessing;
namespace detail = mp::detail;

namespace {

template <class T>
T there_and_back(const T& value) {
    return mp::loads<T>(mp::dumps(value));
}

struct Point {
    int x, y;
    bool operator==(const Point&) const = default;
};

struct Inner {
    std::string name;
    std::array<Point, 2> ends;
    bool operator==(const Inner&) const = default;
};

/// Members of every kind that could be mistaken for several, or for none.
struct Everything {
    char label[16];
    int matrix[2][3];
    Point point;
    Point points[2];
    std::string names[2];
    std::pair<int, int> pair;
    std::array<int, 3> numbers;
    Inner inner;
    std::optional<std::string> maybe;
    std::variant<int, std::string> either;
    std::map<std::string, std::vector<Point>> index;
    bool flag = true;
    double number = 1.5;
    bool operator==(const Everything&) const = default;
};

#define EIGHT(p)          \
    int p##1, p##2, p##3; \
    std::string p##4;     \
    char p##5 [3];        \
    double p##6;          \
    Point p##7;           \
    bool p##8;
struct SixtyFour {
    EIGHT(a)
    EIGHT(b)
    EIGHT(c)
    EIGHT(d)
    EIGHT(e)
    EIGHT(f)
    EIGHT(g)
    EIGHT(h)
    bool operator==(const SixtyFour&) const = default;
};
struct SixtyFive {
    EIGHT(a)
    EIGHT(b)
    EIGHT(c)
    EIGHT(d)
    EIGHT(e)
    EIGHT(f)
    EIGHT(g)
    EIGHT(h)
    int one_more;
};
#undef EIGHT

struct Constant {
    const int id;
    const std::string name;
};

struct MoveOnly {
    std::unique_ptr<int> number;
    std::unique_ptr<MoveOnly> next;
};

struct Node {
    int v;
    std::vector<Node> kids;
    std::unique_ptr<Node> next;
};

struct Tree {
    std::variant<int, std::string, std::vector<Tree>, std::map<std::string, Tree>> value;
    bool operator==(const Tree&) const = default;
};

}  // namespace

TEST_CASE("aggregates are sent, nested and with arrays inside") {
    const Everything value{"label",
                           {{1, 2, 3}, {4, 5, 6}},
                           {7, 8},
                           {{9, 10}, {11, 12}},
                           {"one", "two"},
                           {13, 14},
                           {15, 16, 17},
                           {"inner", {{{18, 19}, {20, 21}}}},
                           "maybe",
                           "either",
                           {{"a", {{1, 2}}}, {"b", {}}},
                           false,
                           2.5};
    CHECK(there_and_back(value) == value);
    CHECK(mp::dumps(value).size() == detail::saved_size(value));
}

TEST_CASE("aggregates of 64 members are sent, larger ones are not") {
    SixtyFour value{};
    value.a1 = 1;
    value.a4 = "four";
    value.h7 = {5, 6};
    value.h8 = true;
    CHECK(there_and_back(value) == value);
    STATIC_REQUIRE(detail::member_count<SixtyFour> == 64);
    STATIC_REQUIRE_FALSE(detail::sendable<SixtyFive>);
}

TEST_CASE("members are counted as they are declared") {
    struct NoDefault {
        explicit NoDefault(int) {}
    };
    struct ExplicitDefault {
        explicit ExplicitDefault(int = 0) {}
    };
    struct Required {
        int a[2];
        NoDefault b;
        int c;
        NoDefault d;
    };
    struct Explicit {
        ExplicitDefault a;
        ExplicitDefault b[3];
        int c[2];
    };
    struct Large {
        char buffer[5000];
        double d;
    };
    struct WithBase : Point {
        int z;
    };
    struct Reference {
        int a;
        int& r;
    };
    STATIC_REQUIRE(detail::member_count<Required> == 4);
    STATIC_REQUIRE(detail::member_count<Explicit> == 3);
    STATIC_REQUIRE(detail::member_count<Large> == 2);
    STATIC_REQUIRE(detail::member_count<WithBase> == detail::no_count);
    STATIC_REQUIRE(detail::member_count<Reference> == detail::no_count);
    STATIC_REQUIRE(std::is_same_v<detail::member_types<Constant>, detail::types<int, std::string>>);
}

TEST_CASE("constant and move-only members are sent") {
    const auto constant = there_and_back(Constant{5, "five"});
    CHECK(constant.id == 5);
    CHECK(constant.name == "five");

    MoveOnly first{std::make_unique<int>(1), std::make_unique<MoveOnly>()};
    first.next->number = std::make_unique<int>(2);
    const auto copy = there_and_back(first);
    CHECK(*copy.number == 1);
    CHECK(*copy.next->number == 2);
    CHECK(copy.next->next == nullptr);
}

namespace {

Node chain_of(int links) {
    Node first{0, {}, nullptr};
    Node* last = &first;
    for (int i = 1; i < links; ++i) {
        last->next = std::make_unique<Node>(Node{i, {}, nullptr});
        last = last->next.get();
    }
    return first;
}

}  // namespace

TEST_CASE("recursive types are sent, up to 128 levels") {
    const auto chain = there_and_back(chain_of(128));
    int links = 0;
    for (const Node* node = &chain; node != nullptr; node = node->next.get()) {
        CHECK(node->v == links++);
    }
    CHECK(links == 128);
    CHECK_THROWS_AS(mp::dumps(chain_of(129)), mp::SerializationError);

    Tree tree{1};
    for (int i = 0; i < 60; ++i) {
        tree = Tree{std::vector<Tree>{Tree{std::map<std::string, Tree>{{"key", tree}}}, Tree{"x"}}};
    }
    CHECK(there_and_back(tree) == tree);
}

TEST_CASE("received bytes cannot nest deeper than 128 levels") {
    // Each link is a number, an empty vector, and the mark that another one follows.
    detail::Writer out;
    for (int i = 0; i < 100'000; ++i) { out(i, std::uint64_t{0}, true); }
    const auto bytes = out.release();
    CHECK_THROWS_AS(mp::loads<Node>(bytes), mp::SerializationError);
}

namespace {

class Serialize {
  public:
    Serialize() = default;
    explicit Serialize(int number) : number_(number), names_{"a", "b"} {}
    bool operator==(const Serialize&) const = default;

    template <class Archive>
    void serialize(Archive& archive) {
        archive(number_, names_);
    }

  private:
    int number_ = 0;
    std::vector<std::string> names_;
};

class SaveLoad {
  public:
    SaveLoad() = default;
    explicit SaveLoad(int number) : number_(number) {}
    bool operator==(const SaveLoad&) const = default;

    template <class Archive>
    void save(Archive& archive) const {
        archive << number_ + 1;
    }
    template <class Archive>
    void load(Archive& archive) {
        archive >> number_;
        --number_;
    }

  private:
    int number_ = 0;
};

/// Says by the archive's own constants which way it goes, and writes nothing at all.
struct Direction {
    Direction() = default;
    explicit Direction(bool) {}
    bool loaded = false;

    template <class Archive>
    void serialize(Archive&) {
        if constexpr (Archive::is_loading::value) { loaded = true; }
    }
};

}  // namespace

namespace elsewhere {

class Free {
  public:
    Free() = default;
    explicit Free(int n) : number(n) {}
    bool operator==(const Free&) const = default;
    int number = 0;
};
template <class Archive>
void serialize(Archive& archive, Free& value) {
    archive& value.number;
}

class FreePair {
  public:
    FreePair() = default;
    explicit FreePair(int n) : number(n) {}
    bool operator==(const FreePair&) const = default;
    int number = 0;
};
template <class Archive>
void save(Archive& archive, const FreePair& value) {
    archive(value.number);
}
template <class Archive>
void load(Archive& archive, FreePair& value) {
    archive(value.number);
}

class Money {
  public:
    explicit Money(long cents) : cents_(cents) {}
    long cents() const { return cents_; }
    bool operator==(const Money&) const = default;

  private:
    long cents_;
};

class Troubled {
  public:
    Troubled() = default;
    explicit Troubled(int) {}
    void save(auto&) const { throw std::out_of_range("cannot be saved"); }
    void load(auto&) { throw std::domain_error("cannot be loaded"); }
};

}  // namespace elsewhere

template <>
struct multiprocessing::serializer<elsewhere::Money> {
    static void save(auto& archive, const elsewhere::Money& money) { archive(money.cents()); }
    static elsewhere::Money load(auto& archive) {
        long cents = 0;
        archive(cents);
        return elsewhere::Money(cents);
    }
};

TEST_CASE("classes that follow cereal's convention are sent") {
    CHECK(there_and_back(Serialize(5)) == Serialize(5));
    CHECK(there_and_back(SaveLoad(5)) == SaveLoad(5));
    CHECK(there_and_back(elsewhere::Free(5)) == elsewhere::Free(5));
    CHECK(there_and_back(elsewhere::FreePair(5)) == elsewhere::FreePair(5));
    CHECK(there_and_back(Direction()).loaded);
    CHECK(there_and_back(std::vector<Direction>(1000)).size() == 1000);
    const std::map<int, std::vector<Serialize>> nested{{1, {Serialize(2), Serialize(3)}}};
    CHECK(there_and_back(nested) == nested);
}

TEST_CASE("classes with a specialisation of serializer are sent") {
    const std::vector<elsewhere::Money> wallet{elsewhere::Money(5), elsewhere::Money(7)};
    CHECK(there_and_back(wallet) == wallet);
    struct Bill {
        elsewhere::Money total;
        int items;
    };
    CHECK(there_and_back(Bill{elsewhere::Money(9), 2}).total == elsewhere::Money(9));
}

TEST_CASE("what a class's own save or load throws arrives unchanged") {
    CHECK_THROWS_AS(mp::dumps(elsewhere::Troubled()), std::out_of_range);
    detail::Writer out;
    detail::save_class_mark(out);
    CHECK_THROWS_AS(mp::loads<elsewhere::Troubled>(out.view()), std::domain_error);
}

namespace {

struct Stateful {
    int state = 0;
    bool operator()(int a, int b) const { return a < b + state; }
};
struct ByUser {
    bool operator()(int a, int b) const { return a < b; }
};
struct Pointing {
    int a;
    const char* text;
};
struct ConstReference {
    const std::string& text;
};
struct SaveOnly {
    SaveOnly() = default;
    explicit SaveOnly(int) {}
    void save(auto&) const {}
};

}  // namespace

TEST_CASE("it is known at compile time what can be sent") {
    STATIC_REQUIRE(detail::sendable<Node>);
    STATIC_REQUIRE(detail::sendable<const std::vector<Tree>>);
    STATIC_REQUIRE(detail::sendable<std::set<int, ByUser>>);
    STATIC_REQUIRE_FALSE(detail::sendable<int*>);
    STATIC_REQUIRE_FALSE(detail::sendable<void>);
    STATIC_REQUIRE_FALSE(detail::sendable<int&>);
    STATIC_REQUIRE_FALSE(detail::sendable<std::nullptr_t>);
    STATIC_REQUIRE_FALSE(detail::sendable<void (*)()>);
    STATIC_REQUIRE_FALSE(detail::sendable<int Point::*>);
    STATIC_REQUIRE_FALSE(detail::sendable<std::string_view>);
    STATIC_REQUIRE_FALSE(detail::sendable<std::span<int>>);
    STATIC_REQUIRE_FALSE(detail::sendable<std::vector<std::map<int, char*>>>);
    STATIC_REQUIRE_FALSE(detail::sendable<std::tuple<int&>>);
    STATIC_REQUIRE_FALSE(detail::sendable<std::vector<int*>>);
    STATIC_REQUIRE_FALSE(detail::sendable<Pointing>);
    STATIC_REQUIRE_FALSE(detail::sendable<std::optional<Pointing>>);
    STATIC_REQUIRE_FALSE(detail::sendable<ConstReference>);
    STATIC_REQUIRE_FALSE(detail::sendable<std::function<void()>>);
    STATIC_REQUIRE_FALSE(detail::sendable<std::mutex>);
    STATIC_REQUIRE_FALSE(detail::sendable<std::atomic<int>>);
    STATIC_REQUIRE_FALSE(detail::sendable<std::set<int, Stateful>>);
    STATIC_REQUIRE_FALSE(detail::sendable<std::unique_ptr<int[]>>);
    STATIC_REQUIRE_FALSE(detail::sendable<SaveOnly>);
}

TEST_CASE("it is known at compile time what runs no user code") {
    STATIC_REQUIRE(detail::is_plain_v<int>);
    STATIC_REQUIRE(detail::is_plain_v<Everything>);
    STATIC_REQUIRE(detail::is_plain_v<Node>);
    STATIC_REQUIRE(detail::is_plain_v<std::map<std::string, std::set<int>>>);
    STATIC_REQUIRE_FALSE(detail::is_plain_v<Serialize>);
    STATIC_REQUIRE_FALSE(detail::is_plain_v<elsewhere::Money>);
    STATIC_REQUIRE_FALSE(detail::is_plain_v<std::vector<std::optional<Serialize>>>);
    STATIC_REQUIRE_FALSE(detail::is_plain_v<std::set<int, ByUser>>);
    // The comparison of a class is the user's, even by std::less.
    STATIC_REQUIRE_FALSE(detail::is_plain_v<std::set<Point>>);
}

TEST_CASE("types of the same structure have the same hash, others do not") {
    struct Other {
        int a, b;
    };
    struct Wider {
        int a;
        long b;
    };
    STATIC_REQUIRE(detail::type_hash_v<Point> == detail::type_hash_v<Other>);
    STATIC_REQUIRE(detail::type_hash_v<const Point> == detail::type_hash_v<Other>);
    const std::set<std::uint64_t> hashes{
        detail::type_hash_v<Point>,
        detail::type_hash_v<Wider>,
        detail::type_hash_v<int>,
        detail::type_hash_v<unsigned>,
        detail::type_hash_v<long>,
        detail::type_hash_v<float>,
        detail::type_hash_v<bool>,
        detail::type_hash_v<char>,
        detail::type_hash_v<std::string>,
        detail::type_hash_v<std::wstring>,
        detail::type_hash_v<std::vector<int>>,
        detail::type_hash_v<std::vector<std::vector<int>>>,
        detail::type_hash_v<std::array<int, 2>>,
        detail::type_hash_v<std::array<int, 3>>,
        detail::type_hash_v<std::pair<int, int>>,
        detail::type_hash_v<std::tuple<int, int>>,
        detail::type_hash_v<std::tuple<std::tuple<int>, int>>,
        detail::type_hash_v<std::tuple<std::tuple<int, int>>>,
        detail::type_hash_v<std::optional<int>>,
        detail::type_hash_v<std::unique_ptr<int>>,
        detail::type_hash_v<std::map<int, int>>,
        detail::type_hash_v<Node>,
        detail::type_hash_v<Tree>,
        detail::type_hash_v<Serialize>,
        detail::type_hash_v<SaveLoad>,
        detail::type_hash_v<elsewhere::Money>,
    };
    CHECK(hashes.size() == 26);
}

// SPDX-License-Identifier: BSL-1.0
#include "observe.hpp"
#include "support/catch.hpp"

#include <multiprocessing/process.hpp>

#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <limits>
#include <string>
#include <thread>
#include <utility>

namespace mp = multiprocessing;
using multiprocessing::detail::Finalizers;

namespace {

constexpr int lowest = std::numeric_limits<int>::min();

}  // namespace

TEST_CASE("finalizers run by priority, the last registered first among equals", "[process]") {
    Finalizers<>& finalizers = Finalizers<>::instance();
    std::string order;
    for (const auto& [name, priority] :
         {std::pair{"a", 0}, {"b", 10}, {"c", 0}, {"d", -5}, {"e", 10}}) {
        finalizers.add(priority, [&order, n = std::string(name)] { order += n; });
    }
    finalizers.run(0);
    CHECK(order == "ebca");
    finalizers.run(0);
    CHECK(order == "ebca");
    finalizers.run(lowest);
    CHECK(order == "ebcad");
}

TEST_CASE("a finalizer that is removed does not run; one may remove and add others", "[process]") {
    Finalizers<>& finalizers = Finalizers<>::instance();
    std::string order;
    const auto removed = finalizers.add(5, [&] { order += "removed"; });
    finalizers.remove(removed);
    finalizers.remove(removed);
    const auto later = finalizers.add(1, [&] { order += "later"; });
    finalizers.add(2, [&] {
        order += "first";
        finalizers.remove(later);
        finalizers.add(0, [&] { order += " added"; });
    });
    finalizers.run(0);
    CHECK(order == "first added");
}

TEST_CASE("remove waits for a finalizer that runs in another thread", "[process]") {
    Finalizers<>& finalizers = Finalizers<>::instance();
    observe::Report inside;
    std::atomic<bool> done{false};
    const auto token = finalizers.add(0, [&] {
        inside.say("inside");
        std::this_thread::sleep_for(std::chrono::milliseconds(50));  // what there is to wait for
        done = true;
    });
    std::jthread runner([&] { finalizers.run(0); });
    REQUIRE(inside.hear() == "inside");
    finalizers.remove(token);
    CHECK(done);
}

TEST_CASE("a child runs its own finalizers at its end, around its children's, and not its parent's",
          "[process]") {
    Finalizers<>& finalizers = Finalizers<>::instance();
    observe::Report report;
    const auto parents = finalizers.add(0, [&] { report.say("the parent's"); });
    mp::Process process([&] {
        observe::Door door;
        Finalizers<>::instance().add(-1, [&] { report.say("after the children"); });
        Finalizers<>::instance().add(0, [&] {
            report.say("before the children");
            door.open();
        });
        mp::Process([&] {
            door.pass();
            report.say("the child's child");
        }).start();
        std::exit(0);  // the door lives on, as would what a frame holds at std::exit
    });
    process.start();
    CHECK(report.hear_all() == "before the children\nthe child's child\nafter the children\n");
    process.join();
    CHECK(process.exitcode() == 0);
    finalizers.remove(parents);
}

TEST_CASE("a child may fork while a finalizer runs in another thread of its parent", "[process]") {
    Finalizers<>& finalizers = Finalizers<>::instance();
    observe::Report inside;
    observe::Door door;
    finalizers.add(0, [&] {
        inside.say("inside");
        char byte;
        static_cast<void>(!::read(door.fd(), &byte, 1));
    });
    std::jthread runner([&] { finalizers.run(0); });
    REQUIRE(inside.hear() == "inside");
    mp::Process process([] {
        const auto token = Finalizers<>::instance().add(0, [] {});
        Finalizers<>::instance().remove(token);
        Finalizers<>::instance().run(lowest);
    });
    process.start();
    CHECK(process.join(std::chrono::seconds(20) * support::slowness));
    CHECK(process.exitcode() == 0);
    process.kill();
    process.join();
    door.open();
}

// SPDX-License-Identifier: BSL-1.0

// The log: levels, text, handlers, and what a child inherits.

#include <multiprocessing/logging.hpp>
#include <multiprocessing/process.hpp>

#include <string>
#include <vector>

#include <support/catch.hpp>

namespace mp = multiprocessing;

namespace {

// Collects lines for one test, and leaves the log as it was.
class Collected {
  public:
    Collected() : before_(mp::get_logger().level()) {
        mp::set_log_handler(
            [this](const mp::LogRecord& record) { lines.push_back(record.text()); });
    }
    Collected(const Collected&) = delete;
    Collected& operator=(const Collected&) = delete;
    ~Collected() {
        mp::set_log_handler({});
        mp::get_logger().set_level(before_);
    }

    std::vector<std::string> lines;

  private:
    mp::LogLevel before_;
};

}  // namespace

TEST_CASE("the log is off until somebody wants it") {
    CHECK_FALSE(mp::get_logger().is_enabled_for(mp::LogLevel::critical));
    mp::get_logger().critical("nobody reads this");
}

TEST_CASE("lines below the level are dropped, the others have Python's format") {
    Collected collected;
    mp::get_logger().set_level(mp::LogLevel::info);
    mp::get_logger().debug("dropped {}", 1);
    mp::get_logger().info("kept {}", 2);
    mp::get_logger().log(mp::LogLevel::subwarning, "between");
    mp::get_logger().log(static_cast<mp::LogLevel>(33), "a level of one's own");
    CHECK(collected.lines ==
          std::vector<std::string>{"[INFO/MainProcess] kept 2", "[SUBWARNING/MainProcess] between",
                                   "[Level 33/MainProcess] a level of one's own"});
}

TEST_CASE("a child logs under its own name, with its parent's level and handler") {
    Collected collected;
    mp::get_logger().set_level(mp::LogLevel::error);
    mp::Process child({.name = "worker"}, [&] {
        mp::get_logger().warning("dropped");
        mp::get_logger().error("kept");
        const bool right = collected.lines == std::vector<std::string>{"[ERROR/worker] kept"};
        throw mp::SystemExit(right ? 0 : 1);
    });
    child.start();
    child.join();
    CHECK(child.exitcode() == 0);
}

TEST_CASE("_TestLogging.test_enable_logging: the logger is there and its level can be set",
          "[parity]") {
    const mp::LogLevel before = mp::get_logger().level();
    mp::get_logger().set_level(mp::LogLevel::subwarning);
    CHECK(mp::get_logger().level() == mp::LogLevel::subwarning);
    mp::get_logger().set_level(before);
}

TEST_CASE("_TestLogging.test_level: a child starts with its parent's level", "[parity]") {
    const mp::LogLevel before = mp::get_logger().level();
    for (const mp::LogLevel level : {mp::LogLevel::debug, mp::LogLevel::critical}) {
        mp::get_logger().set_level(level);
        mp::Process child([] { throw mp::SystemExit(static_cast<int>(mp::get_logger().level())); });
        child.start();
        child.join();
        CHECK(child.exitcode() == static_cast<int>(level));
    }
    mp::get_logger().set_level(before);
}

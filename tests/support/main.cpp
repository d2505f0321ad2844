// SPDX-License-Identifier: BSL-1.0

// Catch's main, with a listener that bounds every test case in time and holds it to leaving no
// descriptor, child, thread or name in /dev/shm behind.

#define CATCH_CONFIG_RUNNER
#include "catch.hpp"

#include "bounds.hpp"
#include "leak_check.hpp"
#include "warm_up.hpp"

#include <pthread.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <optional>
#include <string>

namespace {

#if __has_include(<catch2/catch_all.hpp>)
using Listener = Catch::EventListenerBase;
#else
using Listener = Catch::TestEventListenerBase;
#endif

int leaky_test_cases = 0;

// Catch's handlers report a test case's death. A child that a signal ends is not the test case: it
// has the default dispositions from its first moment on, hence the mask around the fork.
thread_local sigset_t mask_before_fork;
const int reported_signals[] = {SIGINT, SIGTERM, SIGABRT, SIGSEGV, SIGFPE, SIGILL};

void leave_signals_to_children() {
    const auto hold = [] {
        sigset_t reported;
        sigemptyset(&reported);
        for (const int signal : reported_signals) { sigaddset(&reported, signal); }
        ::pthread_sigmask(SIG_BLOCK, &reported, &mask_before_fork);
    };
    const auto in_parent = [] { ::pthread_sigmask(SIG_SETMASK, &mask_before_fork, nullptr); };
    const auto in_child = [] {
        for (const int signal : reported_signals) { std::signal(signal, SIG_DFL); }
        ::pthread_sigmask(SIG_SETMASK, &mask_before_fork, nullptr);
    };
    ::pthread_atfork(hold, in_parent, in_child);
}

class Guardian : public Listener {
  public:
    using Listener::Listener;

    void testCaseStarting(const Catch::TestCaseInfo& info) override {
        if (!before_) {
            support::mp_test_warm_up();
            support::warm_up_steps().run();
        }
        name_ = info.name;
        before_ = support::Holdings::now();
        support::arm_alarm(name_, std::chrono::seconds(120) * support::slowness);
    }

    void testCaseEnded(const Catch::TestCaseStats&) override {
        support::disarm_alarm();
        const auto text = support::left_behind(*before_);
        if (text.empty()) { return; }
        ++leaky_test_cases;
        std::fflush(stdout);
        std::fprintf(stderr, "\nFAILED: \"%s\" leaves behind what it found otherwise:\n%s\n",
                     name_.c_str(), text.c_str());
    }

  private:
    std::optional<support::Holdings> before_;
    std::string name_;
};

}  // namespace

CATCH_REGISTER_LISTENER(Guardian)

int main(int argc, char** argv) {
    support::first_in_main().run();
    Catch::Session session;
    if (const int bad = session.applyCommandLine(argc, argv); bad != 0) { return bad; }
    // A name that matches nothing, or a test case that checks nothing, has not passed.
    using Warnings = decltype(session.configData().warnings);
    auto warnings = Catch::WarnAbout::NoAssertions | session.configData().warnings;
#if !__has_include(<catch2/catch_all.hpp>)
    warnings |= Catch::WarnAbout::NoTests;
#endif
    session.configData().warnings = static_cast<Warnings>(warnings);

    leave_signals_to_children();
    const int failed = session.run();
    // A listener cannot fail a test case that has ended; the exit code can.
    return failed != 0 ? failed : (leaky_test_cases != 0 ? 1 : 0);
}

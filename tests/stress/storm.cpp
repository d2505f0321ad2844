// SPDX-License-Identifier: BSL-1.0

// Storms of random SIGKILLs: whoever is hit, the others get on, nothing is there twice, at most
// what a victim had in hand is missing, and nothing is left behind.
//
//     storm [--subject NAME]... [--kills N | --minutes M] [--seed N]
//
// Prints one line of figures. What each subject is stands beside its function.

#include "storm.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>

namespace storm {

namespace {

const Subject subjects[] = {
    {"queue", queue_storm, 200},
    {"lock", lock_storm, 400},
    {"rlock", rlock_storm, 400},
    {"semaphore", semaphore_storm, 400},
    {"condition", condition_storm, 400},
    {"event", event_storm, 400},
    {"barrier", barrier_storm, 400},
    {"pool_workers", pool_workers_storm, 200},
    {"pool_nursery", pool_nursery_storm, 20},
    {"pool_parent", pool_parent_storm, 50},
};

struct Options {
    std::vector<Subject> chosen;
    std::uint64_t kills = 1000;  // of each subject
    std::optional<std::chrono::duration<double>> time;
    std::uint64_t seed = std::random_device()();
};

[[noreturn]] void explain() {
    std::fprintf(stderr,
                 "storm [--subject NAME]... [--kills N | --minutes M] [--seed N]\nsubjects:");
    for (const Subject& subject : subjects) { std::fprintf(stderr, " %s", subject.name); }
    std::fprintf(stderr, "\n");
    std::exit(2);
}

Options options_from(int argc, char** argv) {
    Options options;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) { explain(); }
        const std::string option = argv[i];
        const char* const value = argv[i + 1];
        if (option == "--subject") {
            const auto* const found =
                std::find_if(std::begin(subjects), std::end(subjects),
                             [&](const Subject& each) { return each.name == std::string(value); });
            if (found == std::end(subjects)) { explain(); }
            options.chosen.push_back(*found);
        } else if (option == "--kills") {
            options.kills = std::strtoull(value, nullptr, 10);
        } else if (option == "--minutes") {
            options.time = std::chrono::duration<double>(60 * std::strtod(value, nullptr));
        } else if (option == "--seed") {
            options.seed = std::strtoull(value, nullptr, 10);
        } else {
            explain();
        }
    }
    if (options.chosen.empty()) { options.chosen.assign(std::begin(subjects), std::end(subjects)); }
    return options;
}

// Members of the family that live.
std::uint64_t living_members() {
    std::uint64_t count = 0;
    mp::detail::Family::for_each(
        [&](mp::detail::MemberId id) { count += mp::detail::Family::has_ended(id) ? 0U : 1U; });
    return count;
}

// As support::left_behind says it, but for /dev/shm: no subject has names there, and others' come
// and go.
std::string remains(const support::Holdings& before) {
    std::string text;
    static_cast<void>(support::eventually([&] {
        support::Holdings after = support::Holdings::now();
        after.shm = before.shm;
        text = support::difference(before, after);
        return text.empty();
    }));
    return text;
}

// The storm of one subject, in portions; between them everything is where it began.
class Run {
  public:
    explicit Run(const Subject& subject) : subject_(subject) {}

    void portion(std::uint64_t kills, std::uint64_t seed, Figures& total) {
        const auto before = support::Holdings::now();
        const std::uint64_t members = living_members();
        Random random(seed);
        Figures figures;
        support::arm_alarm(subject_.name, 120s * support::slowness);
        subject_.run(kills, random, figures);
        support::disarm_alarm();
        const std::string left = remains(before);
        expect(left.empty(), "something else is there than before:\n" + left);
        expect_equal(living_members(), members, "living members of the family");
        check_memory();
        total.kills += figures.kills;
        total.items += figures.items;
        total.note_stall(figures.longest_stall);
    }

  private:
    // The first portion's is what using the subject takes.
    void check_memory() {
        constexpr std::uint64_t noise = 16 * 1024 * 1024;
        const std::uint64_t resident = mp::detail::os::resident_bytes(::getpid());
        if (!resident_) { resident_ = resident; }
        expect_at_most(resident, *resident_ + noise * support::slowness, "resident bytes");
    }

    const Subject& subject_;
    std::optional<std::uint64_t> resident_;
};

// Storms the subjects in turn; returns false, and says how to repeat it, when one fails.
bool storm_all(const Options& options, Figures& total) {
    const auto begin = Clock::now();
    Random seeds(options.seed);
    std::vector<Run> runs(options.chosen.begin(), options.chosen.end());
    std::vector<std::uint64_t> killed(runs.size());
    for (bool more = true; more;) {
        more = false;
        for (std::size_t i = 0; i < runs.size(); ++i) {
            const Subject& subject = options.chosen[i];
            std::uint64_t kills = subject.portion;
            if (options.time) {
                if (Clock::now() - begin >= *options.time) { return true; }
            } else {
                if (killed[i] >= options.kills) { continue; }
                kills = std::min(kills, options.kills - killed[i]);
            }
            const std::uint64_t seed = seeds();
            const std::uint64_t before = total.kills;
            try {
                runs[i].portion(kills, seed, total);
            } catch (const std::exception& error) {
                std::fprintf(stderr, "storm: FAILED: %s: %s\n  after %llu kills of it, seed %llu\n",
                             subject.name, error.what(), static_cast<unsigned long long>(killed[i]),
                             static_cast<unsigned long long>(options.seed));
                return false;
            }
            killed[i] += total.kills - before;
            more = true;
        }
    }
    return true;
}

}  // namespace

}  // namespace storm

int main(int argc, char** argv) {
    const storm::Options options = storm::options_from(argc, argv);
    multiprocessing::detail::Family::self();  // this process is a member from the beginning
    storm::Figures total;
    const bool clean = storm::storm_all(options, total);
    std::printf("storm: kills=%llu items=%llu longest_stall_ms=%.1f seed=%llu %s\n",
                static_cast<unsigned long long>(total.kills),
                static_cast<unsigned long long>(total.items),
                std::chrono::duration<double, std::milli>(total.longest_stall).count(),
                static_cast<unsigned long long>(options.seed), clean ? "clean" : "FAILED");
    std::fflush(stdout);
    // Whoever hangs would be waited for at the end of an ordinary exit.
    std::_Exit(clean ? 0 : 1);
}

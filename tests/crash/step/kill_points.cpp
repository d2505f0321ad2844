// SPDX-License-Identifier: BSL-1.0

// Ends two users of an object one after the other, at every pair of named places: the first in the
// operation, the second where it finds what the first one left. Needs no ptrace.
//
//     kill_points [--table FILE] [--update] [PREFIX]...

#include "kill_point.hpp"
#include "points_table.hpp"
#include "row.hpp"
#include "rows.hpp"
#include "stage.hpp"
#include "survivor.hpp"

#include "support/leak_check.hpp"

#include <multiprocessing/shm/family.hpp>

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

namespace {

// In a victim: how many places it passes before it is ended; -1 passes all.
int places_to_pass = -1;

}  // namespace

void step::reach(const char* name) noexcept {
    if (places_to_pass < 0 || places_to_pass-- != 0) { return; }
    complain(name);
    ::kill(::getpid(), SIGKILL);
}

namespace {

using step::Row;
using step::Scene;

struct Pairs {
    std::size_t points = 0;
    std::size_t bad = 0;
};

/// Ends a user of the scene at its place number `place`, or when it has done all; false then. Its
/// preparation counts too in a second one: that is where it may meet what the first has left.
/// \param where  the place's name
bool die_at(const Row& row, Scene& scene, int place, bool is_second, std::string& where) {
    step::stage().text[0] = '\0';
    step::stage().earlier_victim = step::stage().victim.exchange(0);
    support::Forked victim([&] {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::alarm(20);
        step::stage().victim = ::getpid();
        if (row.joins_before) { multiprocessing::detail::Family::self(); }
        if (is_second) { places_to_pass = place; }
        scene.prepare();
        places_to_pass = is_second ? places_to_pass : place;
        scene.run();
        places_to_pass = -1;
        // Not of its own accord.
        ::kill(::getpid(), SIGKILL);
        return 0;
    });
    const int end = victim.join();
    where = step::stage().text;
    if (end != -SIGKILL) {
        throw step::BadPoint("the victim ended by itself: " + std::to_string(end) + " " + where);
    }
    return !where.empty();
}

/// Which of the two came to their places; one that did not has done all that there was to do.
struct Reached {
    bool first, second;
};

/// One pair; -1 stands for no second victim.
Reached at_pair(const Row& row, int first, int second, Pairs& pairs) {
    std::string where, where_second;
    Reached reached{false, false};
    try {
        step::clear_stage();
        const auto scene = row.make();
        reached.first = die_at(row, *scene, first, false, where);
        if (second >= 0) { reached.second = die_at(row, *scene, second, true, where_second); }
        step::stage().text[0] = '\0';
        ++pairs.points;
        step::Survivor survivor(
            [&] { return scene->check({.victims = second >= 0 ? 2 : 1, .completed = false}); });
        survivor.join();
    } catch (const std::exception& error) {
        ++pairs.bad;
        std::printf("BAD %s, killed at %d %s and %d %s: %s\n", row.name.c_str(), first,
                    where.c_str(), second, where_second.c_str(), error.what());
    }
    return reached;
}

Pairs run(const Row& row) {
    constexpr std::size_t most_bad = 5;
    Pairs pairs;
    bool more = true;
    for (int first = 0; more && pairs.bad < most_bad; ++first) {
        more = at_pair(row, first, -1, pairs).first;
        if (!row.runs_twice) { continue; }
        bool more_seconds = true;
        for (int second = 0; more_seconds && pairs.bad < most_bad; ++second) {
            more_seconds = at_pair(row, first, second, pairs).second;
        }
    }
    return pairs;
}

}  // namespace

int main(int argc, char** argv) {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    step::add_all_rows();
    std::vector<std::string> prefixes;
    std::string table_file;
    bool update = false;
    for (int i = 1; i < argc; ++i) {
        const std::string_view argument = argv[i];
        if (argument == "--table" && i + 1 < argc) {
            table_file = argv[++i];
        } else if (argument == "--update") {
            update = true;
        } else {
            prefixes.emplace_back(argument);
        }
    }
    step::set_stage();
    step::PointsTable table(table_file);
    const auto before = support::Holdings::now();
    Pairs all;
    for (const Row& row : step::rows()) {
        const auto is_prefix = [&](const auto& p) { return row.name.starts_with(p); };
        if (!prefixes.empty() && std::none_of(prefixes.begin(), prefixes.end(), is_prefix)) {
            continue;
        }
        // In a process of its own, which begins with no slab.
        static Pairs* const shared = static_cast<Pairs*>(::mmap(
            nullptr, sizeof(Pairs), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
        *shared = {};
        support::Forked process([&] {
            ::alarm(300);
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            step::set_stage();
            *shared = run(row);
            return 0;
        });
        const bool ended = process.join() == 0;
        const std::size_t bad = shared->bad + (ended ? 0 : 1);
        std::printf("%-44s pairs    %6zu points (table: %s), %zu bad%s\n", row.name.c_str(),
                    shared->points, table.text(row.name, "pairs").c_str(), bad,
                    ended ? "" : ": the driver did not end well");
        table.set(row.name, "pairs", shared->points);
        all.points += shared->points;
        all.bad += bad;
    }
    if (update) { table.save(); }
    const std::string left = support::left_behind(before);
    if (!left.empty()) { std::printf("left behind:\n%s\n", left.c_str()); }
    std::printf("%zu points, %zu bad\n", all.points, all.bad);
    return all.bad == 0 && all.points != 0 && left.empty() ? 0 : 1;
}

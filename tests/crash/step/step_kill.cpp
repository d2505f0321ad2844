// SPDX-License-Identifier: BSL-1.0

// Kills a process at every machine instruction of every operation on every shared object.
//
//     step_kill [--mode MODE]... [PREFIX]...     MODE is kill, late or stopped; rows by their names
//     step_kill --list

#include "drivers.hpp"
#include "points_table.hpp"
#include "row.hpp"
#include "rows.hpp"
#include "stage.hpp"

#include "support/leak_check.hpp"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace {

using step::Row;
using step::Tally;

struct Mode {
    const char* name;
    Tally (step::Stepper::*drive)();
    bool needs_work;
};
constexpr Mode modes[] = {{"kill", &step::Stepper::kill, false},
                          {"late", &step::Stepper::late, true},
                          {"stopped", &step::Stepper::stopped, true}};

using Tallies = std::array<Tally, step::Stepper::shares>;

/// Runs `f` in a child with a stage of its own; false when it did not end well.
template <class F>
support::Forked part(F f) {
    std::fflush(stdout);
    return support::Forked([&] {
        ::alarm(900);
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        step::set_stage();
        const int code = f();
        std::fflush(stdout);
        return code;
    });
}

/// Runs a row in processes of its own, which begin with no slab.
Tally run(const Row& row, const Mode& mode) {
    static Tallies& tallies = *static_cast<Tallies*>(::mmap(
        nullptr, sizeof(Tallies), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    tallies.fill({});
    support::Forked recorder = part([&] {
        step::Stepper stepper(row);
        std::vector<support::Forked> shares;
        for (std::size_t share = 0; share < tallies.size(); ++share) {
            shares.push_back(part([&, share] {
                stepper.share = share;
                tallies[share] = (stepper.*mode.drive)();
                return 0;
            }));
        }
        int failed = 0;
        for (auto& share : shares) { failed += share.join() == 0 ? 0 : 1; }
        return failed;
    });
    const int failed = recorder.join();
    Tally sum;
    for (const Tally& tally : tallies) { sum += tally; }
    if (failed != 0) {
        std::printf("BAD %s, %s: %d drivers did not end well\n", row.name.c_str(), mode.name,
                    failed);
        ++sum.bad;
    }
    return sum;
}

}  // namespace

int main(int argc, char** argv) {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    step::add_all_rows();
    std::vector<std::string> prefixes, wanted_modes;
    std::string table_file;
    bool update = false;
    for (int i = 1; i < argc; ++i) {
        const std::string_view argument = argv[i];
        if (argument == "--mode" && i + 1 < argc) {
            wanted_modes.emplace_back(argv[++i]);
        } else if (argument == "--table" && i + 1 < argc) {
            table_file = argv[++i];
        } else if (argument == "--update") {
            update = true;
        } else if (argument == "--list") {
            for (const Row& row : step::rows()) {
                std::printf("%s\t%s\t%s\n", row.name.c_str(), row.covers.c_str(),
                            row.has_work ? "kill late stopped" : "kill");
            }
            return 0;
        } else {
            prefixes.emplace_back(argument);
        }
    }
    if (!step::can_trace()) {
        std::printf(
            "nothing can be single-stepped here; the kill points (step_kill_points) stand "
            "in for it\n");
        return 77;
    }
    step::set_stage();
    step::PointsTable table(table_file);
    const auto before = support::Holdings::now();
    Tally all;
    bool good = true;
    for (const Row& row : step::rows()) {
        const auto is_prefix = [&](const auto& p) { return row.name.starts_with(p); };
        if (!prefixes.empty() && std::none_of(prefixes.begin(), prefixes.end(), is_prefix)) {
            continue;
        }
        for (const Mode& mode : modes) {
            if (mode.needs_work && !row.has_work) { continue; }
            if (!wanted_modes.empty() && std::find(wanted_modes.begin(), wanted_modes.end(),
                                                   mode.name) == wanted_modes.end()) {
                continue;
            }
            const Tally tally = run(row, mode);
            good = good && tally.bad == 0 && tally.points != 0;
            std::printf(
                "%-44s %-8s %6zu points (table: %s), %zu bad; before %zu, after %zu; worst "
                "%.0f ms; %.1f s\n",
                row.name.c_str(), mode.name, tally.points, table.text(row.name, mode.name).c_str(),
                tally.bad, tally.before, tally.after, tally.worst, tally.seconds);
            table.set(row.name, mode.name, tally.points);
            all.points += tally.points;
            all.bad += tally.bad;
        }
    }
    if (update) { table.save(); }
    const std::string left = support::left_behind(before);
    if (!left.empty()) {
        std::printf("left behind:\n%s\n", left.c_str());
        good = false;
    }
    std::printf("%zu points, %zu bad\n", all.points, all.bad);
    return good && all.points != 0 ? 0 : 1;
}

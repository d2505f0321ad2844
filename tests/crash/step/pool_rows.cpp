// SPDX-License-Identifier: BSL-1.0

// The pool's job table: a worker between taking a task and settling it.

#include "row.hpp"
#include "rows.hpp"
#include "stage.hpp"

#include <multiprocessing/pool/job_table.hpp>
#include <multiprocessing/pool/options.hpp>
#include <multiprocessing/pool/worker.hpp>
#include <multiprocessing/serialize.hpp>
#include <multiprocessing/shm/family.hpp>

#include <unistd.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace step {

namespace {

using namespace std::chrono_literals;
using mp::detail::Family;
using mp::detail::JobTable;
using mp::detail::NewsHeader;
using mp::detail::NewsKind;
using mp::detail::Reader;
using mp::detail::RingStatus;
using mp::detail::TaskHeader;
using mp::detail::TaskScope;
using mp::detail::Worker;
using mp::detail::Writer;

constexpr std::uint64_t tasks = 3;

/// Two workers' places, and three tasks in the ring.
struct Table {
    std::unique_ptr<JobTable<>> table = std::make_unique<JobTable<>>(2);
    mp::PoolOptions options = {.processes = 2, .maxtasksperchild = 1};
};

void square(Reader& in, Writer& out, TaskScope& scope) {
    scope.at_item(0);
    const auto number = mp::detail::load<std::uint64_t>(in);
    mp::detail::save(out, number * number);
}

Table with_tasks() {
    Family::self();  // the registry comes first
    Table object;
    for (std::uint64_t sequence = 0; sequence < tasks; ++sequence) {
        Writer arguments;
        mp::detail::save(arguments, sequence);
        const TaskHeader header{.sequence = sequence,
                                .code = square,
                                .seed = 0,
                                .first_item = 0,
                                .taken_back = 0,
                                .is_limited = 0,
                                .is_bulk = 0};
        object.table->tasks.put(sizeof header + arguments.size(), [&](std::span<std::byte> to) {
            std::memcpy(to.data(), &header, sizeof header);
            std::memcpy(to.data() + sizeof header, arguments.view().data(), arguments.size());
        });
    }
    return object;
}

/// What the parent learns of each task.
struct Fates {
    std::array<int, tasks> results{};
    std::array<int, tasks> lost{};
};

Fates read_news(JobTable<>& table) {
    Fates fates;
    for (;;) {
        NewsHeader header{};
        std::vector<std::byte> body;
        const RingStatus status = table.news.get(
            [&](std::span<const std::byte> record) {
                std::memcpy(&header, record.data(), sizeof header);
                body.assign(record.begin() + sizeof header, record.end());
            },
            0s);
        if (status != RingStatus::ok) { return fates; }
        if (header.kind != NewsKind::result) {
            must(header.kind == NewsKind::ready, "a task failed");
            continue;
        }
        must(header.sequence < tasks, "a result of no task");
        Reader in(body);
        must(mp::detail::load<std::uint64_t>(in) == header.sequence * header.sequence,
             "a torn result");
        ++fates.results[header.sequence];
    }
}

/// Each task has a result, or the victim had it in hand and that is known.
int check_fates(Table& object, const Aftermath& after) {
    JobTable<>& table = *object.table;
    const std::uint64_t claim = table.slot(0).claim.load();
    // As ProcessPool::has_lost decides it, in the same order: not in the ring any more ...
    const bool is_taken = claim != 0 && claim - 1 < tasks - table.tasks.size();
    // ... the rest is done by the other worker ...
    table.tasks.shut_down(/*immediate=*/false);
    mp::PoolOptions options = object.options;
    options.maxtasksperchild = 0;
    Worker<>(table, 1, options).run();
    must(table.tasks.empty(), "a task is left");
    // ... and without a result.
    const Fates fates = read_news(table);
    int lost = 0;
    for (std::uint64_t sequence = 0; sequence < tasks; ++sequence) {
        must(fates.results[sequence] <= 1, "a task was done twice");
        if (fates.results[sequence] == 1) { continue; }
        must(is_taken && claim == sequence + 1, "nobody knows of a task what became of it");
        ++lost;
    }
    must(!after.completed || lost == 0, "a task is lost though nobody died in it");
    must(table.slot(0).member.load() == 0 || Family::has_ended(table.slot(0).member.load()),
         "the dead worker lives");
    return claim != 0 && lost == 0 ? 1 : 0;
}

void work_once(Table& object) { Worker<>(*object.table, 0, object.options).run(); }

}  // namespace

void add_pool_rows() {
    add("pool.worker/takes, runs and settles a task", "Pool::apply Pool::map",
        Plan<Table>{
            .make = with_tasks, .run = work_once, .check = check_fates, .runs_twice = false});
    add("pool.worker/the last task was put just now", "Pool::apply",
        Plan<Table>{.make = with_tasks,
                    .prepare =
                        [](Table& object) {
                            // Somebody has done the first.
                            Worker<>(*object.table, 1, object.options).run();
                        },
                    .run = work_once,
                    .check = check_fates,
                    .runs_twice = false});
}

}  // namespace step

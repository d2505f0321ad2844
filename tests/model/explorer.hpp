// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Looks at every state that a model can come to, whatever the interleaving.
///
/// A model is a set of processes that take one step at a time, a step being one access to shared
/// memory or one system call. Breadth first, so that the way to a fault is a shortest one. Two
/// things are sought: a step that breaks a promise, and a state from which the work can no longer
/// be finished, not even if nobody else is killed. The steps are sequentially consistent: weaker
/// memory orders name their partners in the headers and are ThreadSanitizer's business.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace model {

/// What one process does in one step, and in which function of the library that is.
struct Step {
    const char* name;
    int process;
    bool is_death = false;
    const char* broken = nullptr;  ///< the promise that this step breaks
};

/// Processes are numbered from 0; in a word that names its holder they stand from 1 on.
constexpr std::size_t at(int process) { return static_cast<std::size_t>(process); }
constexpr std::uint8_t id(int process) { return static_cast<std::uint8_t>(process + 1); }

/// Returns the state in which every process has all its rounds to do, and nobody has died.
template <class State>
State begin_of(int rounds, int deaths) {
    State state{};
    for (auto& process : state.process) { process.rounds = static_cast<std::uint8_t>(rounds); }
    state.deaths = static_cast<std::uint8_t>(deaths);
    return state;
}

/// A wake of one: goes on from `state` with each one woken for whom `sleeps(number)`, since the
/// kernel may choose any; as it is when there is nobody.
template <class State, class Sleeps, class Wake, class Emit>
void wake_any(const State& state, int processes, const Step& step, Sleeps sleeps, Wake wake,
              Emit&& emit) {
    bool nobody = true;
    for (int other = 0; other < processes; ++other) {
        if (!sleeps(other)) { continue; }
        nobody = false;
        State next = state;
        wake(next.process[at(other)]);
        emit(next, step);
    }
    if (nobody) { emit(state, step); }
}

struct Outcome {
    std::size_t states = 0;
    std::string fault;             ///< empty: none
    std::vector<std::string> way;  ///< the steps that lead to it
};

inline constexpr const char* stuck = "somebody waits for ever";

/// Explores `model`, which has
/// - `State`, without padding, and `State begin() const`,
/// - `void steps(const State&, emit) const`, which calls `emit(next, Step)` for every step,
/// - `bool is_complete(const State&) const`: everybody who lives has what he came for.
template <class Model>
class Explorer {
  public:
    using State = typename Model::State;
    static_assert(std::has_unique_object_representations_v<State>, "states are hashed as bytes");

    explicit Explorer(const Model& model) : model_(model) {}

    Outcome run() {
        find(model_.begin(), 0, {"begin", 0});
        Outcome outcome;
        for (std::size_t at = 0; at < states_.size() && outcome.fault.empty(); ++at) {
            const State state = states_[at];
            model_.steps(state, [&](const State& next, const Step& step) {
                if (!outcome.fault.empty()) { return; }
                const std::size_t to = find(next, at, step);
                if (!step.is_death) {
                    edges_.emplace_back(static_cast<std::uint32_t>(at),
                                        static_cast<std::uint32_t>(to));
                }
                if (step.broken != nullptr) {
                    outcome.fault = step.broken;
                    outcome.way = way_to(at);
                    outcome.way.push_back(text_of(step));
                }
            });
        }
        outcome.states = states_.size();
        if (outcome.fault.empty()) { find_stuck(outcome); }
        return outcome;
    }

  private:
    std::size_t find(const State& state, std::size_t from, const Step& step) {
        if (2 * states_.size() >= table_.size()) { enlarge(); }
        for (std::size_t at = hash(state);; ++at) {
            std::uint32_t& entry = table_[at & (table_.size() - 1)];
            if (entry == 0) {
                states_.push_back(state);
                origins_.push_back({static_cast<std::uint32_t>(from), step});
                entry = static_cast<std::uint32_t>(states_.size());
                return states_.size() - 1;
            }
            if (std::memcmp(&states_[entry - 1], &state, sizeof state) == 0) { return entry - 1; }
        }
    }

    void enlarge() {
        table_.assign(table_.empty() ? std::size_t{1} << 16 : 2 * table_.size(), 0);
        for (std::size_t i = 0; i < states_.size(); ++i) {
            std::size_t at = hash(states_[i]);
            while (table_[at & (table_.size() - 1)] != 0) { ++at; }
            table_[at & (table_.size() - 1)] = static_cast<std::uint32_t>(i + 1);
        }
    }

    static std::size_t hash(const State& state) {
        return std::hash<std::string_view>{}(
            std::string_view(reinterpret_cast<const char*>(&state), sizeof state));
    }

    // Goes back from the complete states along all steps that are no deaths.
    void find_stuck(Outcome& outcome) const {
        std::vector<std::size_t> first(states_.size() + 1);
        for (const auto& [from, to] : edges_) { ++first[to + 1]; }
        for (std::size_t i = 1; i < first.size(); ++i) { first[i] += first[i - 1]; }
        std::vector<std::uint32_t> before(edges_.size());
        std::vector<std::size_t> filled(first.begin(), first.end() - 1);
        for (const auto& [from, to] : edges_) { before[filled[to]++] = from; }

        std::vector<bool> can_finish(states_.size());
        std::vector<std::size_t> open;
        for (std::size_t i = 0; i < states_.size(); ++i) {
            if (model_.is_complete(states_[i])) {
                can_finish[i] = true;
                open.push_back(i);
            }
        }
        while (!open.empty()) {
            const std::size_t at = open.back();
            open.pop_back();
            for (std::size_t i = first[at]; i < first[at + 1]; ++i) {
                if (!can_finish[before[i]]) {
                    can_finish[before[i]] = true;
                    open.push_back(before[i]);
                }
            }
        }
        for (std::size_t i = 0; i < states_.size(); ++i) {
            if (!can_finish[i]) {
                outcome.fault = stuck;
                outcome.way = way_to(i);
                return;
            }
        }
    }

    std::vector<std::string> way_to(std::size_t at) const {
        std::vector<std::string> way;
        for (; at != 0; at = origins_[at].from) { way.push_back(text_of(origins_[at].step)); }
        return {way.rbegin(), way.rend()};
    }
    static std::string text_of(const Step& step) {
        return std::string(1, static_cast<char>('A' + step.process)) + ": " + step.name;
    }

    struct Origin {
        std::uint32_t from;
        Step step;
    };

    const Model& model_;
    std::vector<State> states_;
    std::vector<Origin> origins_;  // how each was first come to
    std::vector<std::pair<std::uint32_t, std::uint32_t>> edges_;
    std::vector<std::uint32_t> table_;  // open addressing; index + 1, 0 is free
};

}  // namespace model

// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The job of one function over many items: `map`, `starmap`, `map_outcome`, `parallel_map`.

#include <multiprocessing/pool/async_result.hpp>
#include <multiprocessing/pool/chunks.hpp>
#include <multiprocessing/pool/task_code.hpp>
#include <multiprocessing/serialize/codec.hpp>

#include <concepts>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace multiprocessing::detail {

/// What `map` gives for a function that returns `R`.
template <class R, bool Outcomes>
struct MapResult {
    using type = chunk_results_t<R, Outcomes>;
};
template <>
struct MapResult<void, false> {
    using type = void;
};

/// How a `map` calls its function.
struct MapKind {
    Passing passing;
    bool star = false;      ///< the items are tuples of arguments
    bool outcomes = false;  ///< each item has a result of its own, be it an error
    bool borrowed = false;  ///< the items are the caller's, not ours to give away
};

/// What the function is called with: the item itself, or a worker's copy of it.
template <MapKind K, class T>
using map_item_t = std::conditional_t<K.passing == Passing::bytes, std::remove_const_t<T>, T>;
template <MapKind K, class F, class T>
using map_item_result_t =
    item_result_t<K.star, K.borrowed && K.passing != Passing::bytes, F, map_item_t<K, T>>;

/// The bytes that come back are the results: they are copied to where they belong.
template <MapKind K, class R>
consteval bool lands_in_place() {
    if constexpr (K.passing == Passing::here || K.outcomes || std::is_void_v<R> ||
                  std::is_same_v<R, bool>) {
        return false;
    } else {
        return codec<R>::raw() && std::default_initializable<R>;
    }
}

/// Calls a function for each of a number of items that stand side by side.
template <MapKind K, class F, class T>
class MapJob final
    : public ResultState<typename MapResult<map_item_result_t<K, F, T>, K.outcomes>::type> {
    using R = map_item_result_t<K, F, T>;
    using Results = chunk_results_t<R, K.outcomes>;
    using Whole = typename MapResult<R, K.outcomes>::type;
    using Code = ChunkCode<F, T, K.star, K.outcomes>;
    static constexpr bool by_address = K.passing == Passing::address;
    static constexpr bool in_place = lands_in_place<K, R>();
    // Nobody copies the function of a `parallel_map`: the workers were forked with it.
    using Function = std::conditional_t<by_address, F*, std::optional<F>>;

  public:
    /// Over the caller's items, which live until the job has ended.
    template <class G>
    MapJob(std::shared_ptr<Engine> engine, G&& function, T* items, std::size_t count,
           std::size_t chunk_length)
        : ResultState<Whole>(std::move(engine), K.passing, count, chunk_length),
          function_(std::forward<G>(function)),
          items_(items) {
        make_room(count);
        this->takes_stop_token = takes_item_and_token<K.star, F, map_item_t<K, T>>;
    }

    /// Over items of its own.
    template <class G>
    MapJob(std::shared_ptr<Engine> engine, G&& function, ItemList<std::remove_const_t<T>> items,
           std::size_t chunk_length)
        : ResultState<Whole>(std::move(engine), K.passing, items.size(), chunk_length),
          function_(std::forward<G>(function)),
          own_items_(std::move(items)),
          items_(own_items_.data()) {
        make_room(own_items_.size());
        this->takes_stop_token = takes_item_and_token<K.star, F, map_item_t<K, T>>;
    }

    RunFunction code() const override {
        if constexpr (K.passing == Passing::bytes) {
            return &Code::run;
        } else if constexpr (by_address) {
            return &run_by_address;
        } else {
            return nullptr;
        }
    }

    void encode(std::size_t chunk, Writer& out) override {
        if constexpr (K.passing == Passing::bytes) {
            Code::encode(out, *function_, items_ + this->first_item(chunk),
                         this->chunk_size(chunk));
        } else if constexpr (by_address) {
            out.raw(this);
            out.raw(chunk);
        }
    }

    void completed(std::size_t chunk, Reader& results) noexcept override {
        if constexpr (K.passing != Passing::here) {
            if (!this->claim(chunk)) { return; }
            std::exception_ptr error;
            try {
                if constexpr (in_place) {
                    load_in_place(chunk, results);
                } else {
                    results_[chunk] = load_results<R, K.outcomes>(results, this->chunk_size(chunk));
                    count_failures(chunk);
                }
            } catch (...) { error = absorb(chunk, std::current_exception()); }
            this->settle(chunk, error);
        }
    }

    void run_here(std::size_t chunk) noexcept override {
        if constexpr (K.passing == Passing::here) {
            if (!this->begin_here(chunk)) { return; }
            std::exception_ptr error;
            Results results;
            try {
                results = run(chunk);
            } catch (...) { error = task_error_here(); }
            this->end_here();
            if (!this->claim(chunk)) { return; }
            if (error) {
                error = absorb(chunk, error);
            } else {
                results_[chunk] = std::move(results);
                count_failures(chunk);
            }
            this->settle(chunk, error);
        }
    }

    std::string function_name() const override {
        return function_ ? name_of(*function_) : std::string("task");
    }
    void release_arguments() noexcept override {
        if constexpr (!by_address) { function_.reset(); }
        own_items_.clear();
    }

  private:
    void make_room(std::size_t count) {
        if constexpr (in_place) {
            whole_.resize(count);
        } else {
            results_.resize(this->chunk_count());
        }
    }
    void load_in_place(std::size_t chunk, Reader& in) {
        const std::size_t count = this->chunk_size(chunk);
        check_result_count(in.length(sizeof(R)), count);
        in.bytes(whole_.data() + this->first_item(chunk), count * sizeof(R));
    }

    Results run(std::size_t chunk) {
        return run_items<K.star, K.borrowed, R, K.outcomes>(
            *function_, items_ + this->first_item(chunk), this->chunk_size(chunk));
    }

    // In a worker: what the address means there is this job as it was when the worker was forked.
    static void run_by_address(Reader& arguments, Writer& out, TaskScope&) {
        auto* const job = arguments.raw<MapJob*>();
        const auto chunk = arguments.raw<std::size_t>();
        auto results = job->run(chunk);
        save_results<R, K.outcomes>(out, results);
    }

    void count_failures(std::size_t chunk) noexcept {
        if constexpr (K.outcomes) {
            for (const auto& each : results_[chunk]) { this->note_failures(each ? 0 : 1); }
        }
    }

    std::exception_ptr absorb(std::size_t chunk, std::exception_ptr error) noexcept override {
        if constexpr (K.outcomes) {
            try {
                auto& results = results_[chunk];
                results.clear();
                for (std::size_t i = this->chunk_size(chunk); i > 0; --i) {
                    results.emplace_back(error);
                }
                this->note_failures(this->chunk_size(chunk));
                return nullptr;
            } catch (...) { return std::current_exception(); }
        } else {
            static_cast<void>(chunk);
            return error;
        }
    }

    void assemble() override {
        if constexpr (in_place) {
            this->value_.emplace(std::move(whole_));
        } else if constexpr (!std::is_void_v<Whole>) {
            if (results_.size() == 1) {
                this->value_.emplace(std::move(results_.front()));
            } else {
                auto& whole = this->value_.emplace();
                whole.reserve(this->progress().total);
                for (auto& chunk : results_) {
                    for (auto&& result : chunk) { whole.emplace_back(std::move(result)); }
                    Results().swap(chunk);
                }
            }
        }
        std::vector<Results>().swap(results_);
    }

    Function function_;
    ItemList<std::remove_const_t<T>> own_items_;  // empty when they are the caller's
    T* items_;
    // Each part is written by who claimed the chunk.
    std::vector<Results> results_;  // one a chunk, unless they are in place
    Results whole_{};
};

}  // namespace multiprocessing::detail

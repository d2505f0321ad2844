// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// Results one at a time, of a range that is read only as far as it is needed.
///
///     for (const Picture& tile : pool.imap_unordered(render, tiles())) { paste(tile); }
///
///     auto results = pool.imap(fetch, urls);
///     try { show(results.next(2s)); } catch (const mp::TimeoutError&) { ... }   // and try again
///
/// Mirrors `multiprocessing.pool.IMapIterator`. The range is read in the thread that asks for
/// results.

#include <multiprocessing/errors.hpp>
#include <multiprocessing/pool/core.hpp>
#include <multiprocessing/pool/outcome.hpp>
#include <multiprocessing/pool/pull_iterator.hpp>
#include <multiprocessing/pool/task_code.hpp>
#include <multiprocessing/timeout.hpp>

#include <atomic>
#include <cstddef>
#include <deque>
#include <exception>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <ranges>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace multiprocessing {

namespace detail {

/// How `imap` goes about it.
struct ImapPlan {
    std::size_t chunk_length;  ///< items handed over at a time
    std::size_t ahead;         ///< items taken that have not been given out; at least a chunk
    bool ordered;
};

/// A lazy job whose items give `R`.
/// \safety One thread asks for results. The engine's threads settle chunks, and a thread that joins
/// the pool
///     may take the input that is left.
template <class R>
class ImapState : public LazyJob {
  public:
    ImapState(std::shared_ptr<PoolCore<std::void_t<R>>> core, Passing passing, ImapPlan plan)
        : LazyJob(core->engine(), passing), plan_(plan), core_(std::move(core)) {
        this->is_paced = true;
    }

    /// Submits the first chunks.
    void begin() {
        core_->lazy_began(std::static_pointer_cast<LazyJob>(this->shared_from_this()));
        refill(false);
    }
    /// Returns the next outcome; nothing after the last.
    /// \throws TimeoutError when it is not there in time; what the input range threw, in its place.
    std::optional<Outcome<R>> next(Timeout timeout);
    /// Nobody wants what is left.
    void abandon() noexcept;
    void take_all() override { refill(true); }

    std::size_t chunk_size(std::size_t chunk) const override;
    std::size_t first_item(std::size_t chunk) const override { return chunk * plan_.chunk_length; }
    bool failed(std::size_t chunk, std::size_t item, std::exception_ptr error) noexcept override;
    bool is_quiet() const noexcept override { return true; }
    void release_arguments() noexcept override {}

  protected:
    using Results = std::vector<Outcome<R>>;

    struct Chunk {
        virtual ~Chunk() = default;
        std::size_t size = 0;
        bool settled = false;
        Results results = {};
    };

    /// Takes the next chunk from the input; null at its end.
    virtual std::unique_ptr<Chunk> take_chunk() = 0;
    virtual void release_input() noexcept = 0;

    /// Calls `f` for a chunk that is not settled, under the mutex.
    template <class F>
    bool with_chunk(std::size_t number, F f);
    bool settle(std::size_t chunk, Results results) noexcept;

    const ImapPlan plan_;

  private:
    void refill(bool all);
    void submit(std::size_t number);
    std::unique_ptr<Chunk> take_settled();
    void look();  // with the mutex

    const std::shared_ptr<PoolCore<std::void_t<R>>> core_;

    // Under `mutex_`.
    std::map<std::size_t, std::unique_ptr<Chunk>> window_;  // submitted and not given out
    std::deque<std::size_t> settled_;                       // of `window_`, in order of settlement
    std::size_t next_chunk_ = 0;                            // to be given out, when ordered
    std::atomic<bool> there_{true};  // the next chunk to be given out is settled, or there is none

    // Under `input_mutex_`, which is held while the user's range is at work.
    std::mutex input_mutex_;
    std::size_t chunks_taken_ = 0;
    std::size_t items_taken_ = 0;
    std::exception_ptr input_error_;
    bool input_ended_ = false;
    std::atomic<bool> abandoned_{false};

    // The consumer's.
    std::unique_ptr<Chunk> current_;
    std::size_t position_ = 0;
    std::atomic<std::size_t> items_given_{0};  // read by who refills
};

/// `imap` of a function over a range.
template <Passing P, bool Star, class F, class View>
class ImapJob final : public ImapState<item_result_t<Star, false, F, range_item_t<View>>> {
    using Item = range_item_t<View>;
    using R = item_result_t<Star, false, F, Item>;
    using Base = ImapState<R>;
    using Code = ChunkCode<F, Item, Star, /*Outcomes=*/true>;

  public:
    template <class Function, class Range>
    ImapJob(std::shared_ptr<PoolCore<std::void_t<R>>> core, ImapPlan plan, Function&& function,
            Range&& range)
        : Base(std::move(core), P, plan), function_(std::forward<Function>(function)) {
        input_.emplace(std::views::all(std::forward<Range>(range)));
        this->takes_stop_token = takes_item_and_token<Star, F, Item>;
    }

    RunFunction code() const override {
        if constexpr (P == Passing::bytes) {
            return &Code::run;
        } else {
            return nullptr;
        }
    }

    void encode(std::size_t chunk, Writer& out) override {
        if constexpr (P == Passing::bytes) {
            ItemList<Item> items = items_of(chunk);
            Code::encode(out, function_, items.data(), items.size());
        }
    }

    std::string function_name() const override { return name_of(function_); }

    void completed(std::size_t chunk, Reader& results) noexcept override {
        if constexpr (P == Passing::bytes) {
            try {
                this->settle(chunk, load_results<R, true>(results, this->chunk_size(chunk)));
            } catch (...) { this->failed(chunk, 0, std::current_exception()); }
        }
    }

    void run_here(std::size_t chunk) noexcept override {
        if constexpr (P == Passing::here) {
            try {
                ItemList<Item> items = items_of(chunk);
                auto results =
                    run_items<Star, false, R, true>(function_, items.data(), items.size());
                items.clear();
                this->settle(chunk, std::move(results));
            } catch (...) { this->failed(chunk, 0, task_error_here()); }
        }
    }

  private:
    using Chunk = typename Base::Chunk;
    struct ItemChunk : Chunk {
        ItemList<Item> items;
    };
    // Iterators refer into the view: neither moves.
    struct Input {
        explicit Input(View all) : view(std::move(all)) {}

        View view;
        std::optional<std::ranges::iterator_t<View>> position = {};  // the item that was taken last
        bool ended = false;
    };

    // Takes the items out of the chunk, so that whoever settles it in the meantime does not destroy
    // them.
    ItemList<Item> items_of(std::size_t number) {
        ItemList<Item> items;
        this->with_chunk(
            number, [&](Chunk& chunk) { items = std::move(static_cast<ItemChunk&>(chunk).items); });
        return items;
    }

    std::unique_ptr<Chunk> take_chunk() override {
        auto chunk = std::make_unique<ItemChunk>();
        auto& position = input_->position;
        if (input_->ended) { return nullptr; }
        for (; chunk->size < this->plan_.chunk_length; ++chunk->size) {
            // Moves on only now that the next item is wanted: that may wait, and it may throw.
            if (position) {
                ++*position;
            } else {
                position.emplace(std::ranges::begin(input_->view));
            }
            input_->ended = *position == std::ranges::end(input_->view);
            if (input_->ended) { break; }
            add_item<is_ref_view<View>>(chunk->items, *position);
        }
        if (chunk->size == 0) { return nullptr; }
        return chunk;
    }
    void release_input() noexcept override { input_.reset(); }

    F function_;
    std::optional<Input> input_;  // under `input_mutex_`; until its end
};

}  // namespace detail

/// What `imap` and `imap_unordered` give: an input range of results, each as soon as it can be had.
///
/// An error of a task is thrown in the place of its result, and the next call gives the next
/// result. Dropping it takes back what has not begun. \safety one thread at a time. Of the input
/// range not more is taken than the call of `imap` allows ahead.
template <class R, bool Outcomes = false>
class ImapResult {
    using State = detail::ImapState<R>;

  public:
    using value_type = std::conditional_t<Outcomes, Outcome<R>,
                                          std::conditional_t<std::is_void_v<R>, std::monostate, R>>;

    explicit ImapResult(std::shared_ptr<State> state) : state_(std::move(state)) {}
    ImapResult(ImapResult&&) noexcept = default;
    ImapResult& operator=(ImapResult&& other) noexcept {
        if (this != &other) {
            drop();
            state_ = std::move(other.state_);
            current_ = std::move(other.current_);
        }
        return *this;
    }
    ~ImapResult() { drop(); }

    /// Returns the next result.
    /// \throws TimeoutError when it is not there in time, and it can be tried again; StopIteration
    /// after
    ///     the last; what the task threw; what the input range threw, after all results before
    ///     that.
    auto next(Timeout timeout = forever) {
        std::optional<Outcome<R>> outcome = state_->next(timeout);
        if (!outcome) { throw StopIteration(); }
        if constexpr (Outcomes) {
            return std::move(*outcome);
        } else if constexpr (std::is_void_v<R>) {
            outcome->value();
        } else {
            return R(std::move(*outcome).value());
        }
    }

    using iterator = detail::PullIterator<ImapResult, value_type>;

    /// Goes on with the next result.
    iterator begin() {
        fetch();
        return iterator(this);
    }
    std::default_sentinel_t end() const noexcept { return {}; }

  private:
    friend iterator;

    void fetch() {
        current_.reset();
        std::optional<Outcome<R>> outcome = state_->next(forever);
        if (!outcome) { return; }
        if constexpr (Outcomes) {
            current_.emplace(std::move(*outcome));
        } else if constexpr (std::is_void_v<R>) {
            outcome->value();
            current_.emplace();
        } else {
            current_.emplace(std::move(*outcome).value());
        }
    }
    void drop() noexcept {
        if (state_) { state_->abandon(); }
    }

    std::shared_ptr<State> state_;       // null when moved from
    std::optional<value_type> current_;  // the iterator's
};

// -------------------------------------------------------------------------------------------------

namespace detail {

template <class R>
std::optional<Outcome<R>> ImapState<R>::next(Timeout timeout) {
    const Deadline deadline(timeout);
    this->owner().check("result range");
    for (;;) {
        if (current_ && position_ == current_->results.size()) { current_.reset(); }
        refill(false);
        if (current_) {
            items_given_.fetch_add(1, std::memory_order_relaxed);
            return std::move(current_->results[position_++]);
        }
        auto there = [this] { return there_.load(std::memory_order_acquire); };
        if (!this->wait_until(Predicate(there), deadline)) {
            throw TimeoutError("the next result is not there yet");
        }
        current_ = take_settled();
        position_ = 0;
        if (!current_) {
            const std::scoped_lock input(input_mutex_);
            if (input_error_) { std::rethrow_exception(std::exchange(input_error_, nullptr)); }
            return std::nullopt;
        }
    }
}

template <class R>
std::unique_ptr<typename ImapState<R>::Chunk> ImapState<R>::take_settled() {
    const std::scoped_lock lock(this->mutex_);
    if (window_.empty()) { return nullptr; }
    std::size_t number = next_chunk_;
    if (plan_.ordered) {
        ++next_chunk_;
    } else {
        number = settled_.front();
        settled_.pop_front();
    }
    auto node = window_.extract(number);
    look();
    return std::move(node.mapped());
}

template <class R>
void ImapState<R>::look() {
    bool there = window_.empty();
    if (!there && plan_.ordered) {
        const auto next = window_.find(next_chunk_);
        there = next != window_.end() && next->second->settled;
    } else if (!there) {
        there = !settled_.empty();
    }
    there_.store(there, std::memory_order_release);
    if (there) { this->changed_.notify_all(); }
}

template <class R>
void ImapState<R>::refill(bool all) {
    bool ended = false;
    {
        const std::scoped_lock input(input_mutex_);
        if (input_ended_) { return; }
        const auto has_room = [&] {
            return items_taken_ - items_given_.load(std::memory_order_relaxed) +
                       plan_.chunk_length <=
                   plan_.ahead;
        };
        while (!abandoned_ && (all || has_room())) {
            try {
                std::unique_ptr<Chunk> chunk = take_chunk();
                if (!chunk) {
                    input_ended_ = true;
                    break;
                }
                const std::size_t number = chunks_taken_++;
                items_taken_ += chunk->size;
                {
                    const std::scoped_lock lock(this->mutex_);
                    window_.emplace(number, std::move(chunk));
                    look();
                }
                submit(number);
            } catch (...) {
                input_ended_ = true;
                input_error_ = std::current_exception();
                break;
            }
        }
        ended = input_ended_;
        if (ended) { release_input(); }
    }
    if (ended) { core_->lazy_ended(*this); }
}

template <class R>
void ImapState<R>::submit(std::size_t number) {
    try {
        core_->engine()->submit(this->shared_from_this(), number, 1);
    } catch (...) {
        typename decltype(window_)::node_type refused;  // destroyed outside the mutex
        {
            const std::scoped_lock lock(this->mutex_);
            refused = window_.extract(number);
            look();
        }
        try {
            throw;
        } catch (const ValueError&) {
            // It was running when this job began.
            throw CancelledError("the pool was terminated before the range was at its end");
        }
    }
}

template <class R>
void ImapState<R>::abandon() noexcept {
    if (!this->owner().is_here()) { return; }
    abandoned_ = true;
    core_->engine()->cancel(*this, Engine::Reach::waiting);
    {
        const std::scoped_lock input(input_mutex_);
        input_ended_ = true;
        release_input();
    }
    core_->lazy_ended(*this);
}

template <class R>
std::size_t ImapState<R>::chunk_size(std::size_t chunk) const {
    const std::scoped_lock lock(this->mutex_);
    const auto found = window_.find(chunk);
    return found != window_.end() ? found->second->size : 1;
}

template <class R>
template <class F>
bool ImapState<R>::with_chunk(std::size_t number, F f) {
    const std::scoped_lock lock(this->mutex_);
    const auto found = window_.find(number);
    if (found == window_.end() || found->second->settled) { return false; }
    f(*found->second);
    return true;
}

template <class R>
bool ImapState<R>::settle(std::size_t number, Results results) noexcept {
    return with_chunk(number, [&](Chunk& chunk) {
        chunk.results.swap(results);
        chunk.settled = true;
        if (!plan_.ordered) { settled_.push_back(number); }
        look();
    });
}

template <class R>
bool ImapState<R>::failed(std::size_t chunk, std::size_t, std::exception_ptr error) noexcept {
    Results results;
    for (std::size_t i = chunk_size(chunk); i > 0; --i) { results.emplace_back(error); }
    return settle(chunk, std::move(results));
}

}  // namespace detail
}  // namespace multiprocessing

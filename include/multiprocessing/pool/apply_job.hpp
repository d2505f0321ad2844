// SPDX-License-Identifier: BSL-1.0
#pragma once

/// \file
/// The job of one call: `apply`, `apply_async`.

#include <multiprocessing/pool/async_result.hpp>
#include <multiprocessing/pool/task_code.hpp>
#include <multiprocessing/serialize/sendable.hpp>

#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

namespace multiprocessing::detail {

/// What a job keeps of an argument until it has been written or the call is over: where it is sent
/// the caller's own, which is there for as long as `Engine::submit` takes.
template <Passing P, class Given>
using call_argument_t =
    std::conditional_t<P == Passing::bytes && std::is_lvalue_reference_v<Given> &&
                           std::is_same_v<std::remove_cvref_t<Given>, sent_t<Given>>,
                       const sent_t<Given>&, sent_t<Given>>;

/// Calls a function once. `Kept` is a tuple of `call_argument_t`.
template <Passing P, class F, class Kept, class... Args>
class ApplyJob final : public ResultState<typename CallCode<F, Args...>::R> {
    using Code = CallCode<F, Args...>;
    using R = typename Code::R;

  public:
    template <class Function, class... Given>
    explicit ApplyJob(std::shared_ptr<Engine> engine, Function&& function, Given&&... given)
        : ResultState<R>(std::move(engine), P, 1, 1),
          call_(std::in_place, std::piecewise_construct,
                std::forward_as_tuple(std::forward<Function>(function)),
                std::forward_as_tuple(std::forward<Given>(given)...)) {
        this->takes_stop_token = Code::takes_stop_token;
    }

    RunFunction code() const override {
        if constexpr (P == Passing::bytes) {
            return &Code::run;
        } else {
            return nullptr;
        }
    }

    void encode(std::size_t, Writer& out) override {
        if constexpr (P == Passing::bytes) { Code::encode(out, call_->first, call_->second); }
    }

    void completed(std::size_t chunk, Reader& results) noexcept override {
        if constexpr (P == Passing::bytes) {
            if (!this->claim(chunk)) { return; }
            std::exception_ptr error;
            try {
                if constexpr (!std::is_void_v<R>) { this->value_.emplace(load<R>(results)); }
            } catch (...) { error = std::current_exception(); }
            this->settle(chunk, error);
        }
    }

    void run_here(std::size_t chunk) noexcept override {
        if constexpr (P == Passing::here) {
            if (!this->begin_here(chunk)) { return; }
            std::exception_ptr error;
            Box<R> result;
            try {
                result.fill(
                    [&]() -> decltype(auto) { return Code::call(call_->first, call_->second); });
            } catch (...) { error = task_error_here(); }
            this->end_here();
            if (!this->claim(chunk)) { return; }
            if constexpr (!std::is_void_v<R>) {
                try {
                    if (!error) { this->value_.emplace(std::move(*result.value)); }
                } catch (...) { error = std::current_exception(); }
            }
            this->settle(chunk, error);
        }
    }

    std::string function_name() const override {
        return call_ ? name_of(call_->first) : std::string("task");
    }
    void release_arguments() noexcept override { call_.reset(); }

  private:
    void assemble() override {}

    std::optional<std::pair<F, Kept>> call_;  // until it is not needed any more
};

}  // namespace multiprocessing::detail

// SPDX-License-Identifier: MIT
/// A backward through a norm, from its operands until its gradients are added up. Its chunks of
/// tokens run in any order and on any thread, alone or between those of other passes over the same
/// tokens.
#pragma once

#include "tokennorm/core/executor.hpp"
#include "tokennorm/kernels/backward/call.hpp"
#include "tokennorm/kernels/backward/fallback.hpp"
#include "tokennorm/kernels/generic/norms.hpp"

#include <algorithm>
#include <type_traits>

namespace tokennorm::detail {

/// Chunks are summed up each for itself and then in order, so that the gradients do not depend on
/// how an executor divides them.
template <class Call, class G>
class BackwardPass {
 public:
  using A = typename Call::A;

  /// A null gradient is not wanted. What the pass needs memory for is `kept`, if it is not null.
  BackwardPass(typename Call::Kernel kernel, const typename Call::Norm& norm,
               const decltype(Call::x)& x, const decltype(Call::dy)& dy,
               const decltype(Call::dy)& dy_addend, const decltype(Call::dsum)& dsum,
               const decltype(Call::dx)& dx, G* scale, G* shift, kernels::KeptSums<A>* kept,
               const kernels::DividedTokens<A>* divided = nullptr)
      : kernel_(kernel),
        sums_(
            x.tokens, x.channels, scale, shift,
            kernels::is_in(dx.data, x) || kernels::is_in(dx.data, dy) || dy_addend.data != nullptr,
            kept),
        call_{x.channels,
              kernels::in_registers(x),
              kernels::in_registers(dy),
              kernels::in_registers(dy_addend),
              kernels::in_registers(dsum),
              kernels::in_registers(dx),
              norm,
              sums_.scale(),
              sums_.shift(),
              sums_.progress(),
              divided} {}

  void run(Index begin, Index end) const { kernel_(call_, begin, end); }

  /// Adds to the gradients, when all chunks have run.
  void finish() {
    const bool is_left_out = sums_.add_to_gradients();
    if constexpr (std::is_same_v<A, float>) {
      if (is_left_out) [[unlikely]] {
        const Index tokens = call_.x.tokens, channels = call_.channels;
        kernels::Scratch<double> precise(2 * channels);
        kernels::backward::take_precise_sums(call_, 0, tokens, precise.data(),
                                             precise.data() + channels, false);
        sums_.add_left_out(precise.data());
      }
    }
  }

 private:
  typename Call::Kernel kernel_;
  kernels::GradientSums<A, G> sums_;
  Call call_;
};

/// How chunks of tokens are handed to an executor: f(begin, end) of chunks.
template <class E, class F>
void for_chunks(Index tokens, Index channels, E& executor, const F& f) {
  executor.parallel_for(kernels::chunk_count(tokens),
                        std::max<Index>(1, token_grain(channels) / kernels::tokens_per_chunk), f);
}

/// The same in any other scalar, whose chunks run one after the other.
template <bool Centred, class S>
class GenericBackwardPass {
 public:
  using Norm = kernels::generic::NormArguments<Centred, S, const S>;

  GenericBackwardPass(const Norm& norm, const TokenView<const S>& x, const TokenView<const S>& dy,
                      const TokenView<const S>& dsum, const TokenView<S>& dx, S* scale, S* shift)
      : norm_(norm), x_(x), dy_(dy), dsum_(dsum), dx_(dx), scale_(scale), shift_(shift) {}

  void run(Index begin, Index end) const {
    const Index first = begin * kernels::tokens_per_chunk;
    const Index last = std::min(x_.tokens, end * kernels::tokens_per_chunk);
    Norm norm = norm_;
    if (norm.mean != nullptr) norm.mean += first;
    norm.rstd += first;
    const auto rows = [&](auto view) {
      if (view.data != nullptr) view.data = view.row(first);
      view.tokens = last - first;
      return view;
    };
    kernels::generic::backward(rows(x_), rows(dy_), rows(dsum_), rows(dx_), norm, scale_, shift_);
  }
  void finish() {}

 private:
  Norm norm_;
  TokenView<const S> x_, dy_, dsum_;
  TokenView<S> dx_;
  S* scale_;
  S* shift_;
};

}  // namespace tokennorm::detail

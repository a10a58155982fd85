// SPDX-License-Identifier: MIT
/// SwiGLU, Llama's feed-forward layer:  y = (silu(g)∘u)·W',  [g u] = x·W,  each token on its own.
///
///     silu(g)  = g·σ(g),  σ(g) = 1 / (1 + e⁻ᵍ)
///     silu'(g) = σ(g)·(1 + g·(1 − σ(g)))
///
/// Shapes     x, y (T, C) · g, u (T, H), H = 8/3·C, rounded up to eights · no biases
/// Source     Shazeer 2020, arXiv:2002.05202, eq. 6
#pragma once

#include "batch.hpp"
#include "linear.hpp"

namespace gpt {

template <class Scalar>
class GatedFeedForward : public InputOutput<Scalar> {
 public:
  using Tokens = TokenMatrix<Scalar>;

  static Index hidden_channels(Index channels) { return (8 * channels / 3 + 7) / 8 * 8; }

  /// `output_gain`: of the second matrix, which writes into the residual stream.
  GatedFeedForward(Index channels, std::mt19937_64& rng, double output_gain = 1)
      : InputOutput<Scalar>{
            Linear<Scalar>(channels, 2 * hidden_channels(channels), rng, 1, /*bias=*/false),
            Linear<Scalar>(hidden_channels(channels), channels, rng, output_gain,
                           /*bias=*/false)} {}

  Tokens operator()(const Tokens& x) const { return output_(gated(input_(x))); }
  Tokens forward(const Tokens& x, Batch<Scalar>& batch, BlockIndex block) const;
  Tokens backward(const Tokens& dy, Batch<Scalar>& batch, BlockIndex block);

 private:
  /// silu(g)∘u of [g u].
  static Tokens gated(const Tokens& hidden);

  using Maps = InputOutput<Scalar>;
  using Maps::input_;   // x to g and u
  using Maps::output_;  // silu(g)∘u to y
};

template <class Scalar>
auto GatedFeedForward<Scalar>::gated(const Tokens& hidden) -> Tokens {
  const Index half = hidden.cols() / 2;
  const auto g = hidden.leftCols(half).array(), u = hidden.rightCols(half).array();
  return (g / (Scalar(1) + (-g).exp()) * u).matrix();
}

template <class Scalar>
auto GatedFeedForward<Scalar>::forward(const Tokens& x, Batch<Scalar>& batch,
                                       BlockIndex block) const -> Tokens {
  auto& saved = batch[block].feed_forward;
  saved.x = x;
  saved.hidden = input_(x);
  saved.active = gated(saved.hidden);
  return output_(saved.active);
}

template <class Scalar>
auto GatedFeedForward<Scalar>::backward(const Tokens& dy, Batch<Scalar>& batch, BlockIndex block)
    -> Tokens {
  const auto& saved = batch[block].feed_forward;
  const Tokens dactive = output_.backward(saved.active, dy);
  const Index half = dactive.cols();
  const auto g = saved.hidden.leftCols(half).array(), u = saved.hidden.rightCols(half).array();
  const TokenMatrix<Scalar> sigmoid = (Scalar(1) + (-g).exp()).inverse().matrix();
  const auto s = sigmoid.array();
  Tokens dhidden(dy.rows(), 2 * half);
  dhidden.leftCols(half) = (dactive.array() * u * s * (Scalar(1) + g * (Scalar(1) - s))).matrix();
  dhidden.rightCols(half) = (dactive.array() * g * s).matrix();
  return input_.backward(saved.x, dhidden);
}

}  // namespace gpt

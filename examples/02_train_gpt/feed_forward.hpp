// SPDX-License-Identifier: MIT
/// The feed-forward layer:  y = gelu(x·W + b)·W' + b',  each token on its own.
///
///     gelu(h)  = h/2·(1 + tanh u),  u = √(2/π)·(h + 0.044715·h³)
///     gelu'(h) = ½·(1 + tanh u) + h/2·(1 − tanh² u)·√(2/π)·(1 + 3·0.044715·h²)
///
/// Shapes     x, y (T, C) · h (T, 4C)
/// Source     Hendrycks, Gimpel 2016, arXiv:1606.08415, section 2 (the tanh form, as in GPT-2)
#pragma once

#include "batch.hpp"
#include "linear.hpp"

namespace gpt {

template <class Scalar>
class FeedForward : public InputOutput<Scalar> {
 public:
  using Tokens = TokenMatrix<Scalar>;

  /// `output_gain`: of the second matrix, which writes into the residual stream.
  FeedForward(Index channels, std::mt19937_64& rng, double output_gain = 1);
  /// Of some hidden channels: their columns of the first map and their rows of the second.
  FeedForward(Linear<Scalar> input, Linear<Scalar> output)
      : Maps{std::move(input), std::move(output)} {}

  Tokens operator()(const Tokens& x) const;
  Tokens forward(const Tokens& x, Batch<Scalar>& batch, BlockIndex block) const;
  Tokens backward(const Tokens& dy, Batch<Scalar>& batch, BlockIndex block);

 private:
  using Maps = InputOutput<Scalar>;
  using Maps::input_;   // x to h
  using Maps::output_;  // gelu(h) to y
};

namespace detail {

template <class Scalar>
struct Gelu {
  static constexpr Scalar root = static_cast<Scalar>(0.797884560802865355879892L);  // √(2/π)
  static constexpr Scalar cubic = static_cast<Scalar>(0.044715L);
  static constexpr Scalar half = static_cast<Scalar>(0.5L);

  template <class Array>
  static auto tanh_u(const Array& h) {
    return (root * h * (Scalar(1) + cubic * h.square())).tanh();
  }
};

}  // namespace detail

/// gelu of each element.
template <class Scalar>
TokenMatrix<Scalar> gelu(const TokenMatrix<Scalar>& hidden) {
  using G = detail::Gelu<Scalar>;
  const auto h = hidden.array();
  return (G::half * h * (Scalar(1) + G::tanh_u(h))).matrix();
}

/// dh = dy∘gelu'(h).
template <class Scalar>
TokenMatrix<Scalar> gelu_backward(const TokenMatrix<Scalar>& hidden,
                                  const TokenMatrix<Scalar>& dy) {
  using G = detail::Gelu<Scalar>;
  const auto h = hidden.array();
  TokenMatrix<Scalar> dh = G::tanh_u(h).matrix();
  const auto t = dh.array();  // each element is read before it is overwritten
  dh = (G::half * dy.array() *
        (Scalar(1) + t +
         h * (Scalar(1) - t.square()) * G::root * (Scalar(1) + Scalar(3) * G::cubic * h.square())))
           .matrix();
  return dh;
}

template <class Scalar>
FeedForward<Scalar>::FeedForward(Index channels, std::mt19937_64& rng, double output_gain)
    : Maps{Linear<Scalar>(channels, 4 * channels, rng),
           Linear<Scalar>(4 * channels, channels, rng, output_gain)} {}

template <class Scalar>
auto FeedForward<Scalar>::operator()(const Tokens& x) const -> Tokens {
  return output_(gelu<Scalar>(input_(x)));
}

template <class Scalar>
auto FeedForward<Scalar>::forward(const Tokens& x, Batch<Scalar>& batch, BlockIndex block) const
    -> Tokens {
  auto& saved = batch[block].feed_forward;
  saved.x = x;
  saved.hidden = input_(x);
  saved.active = gelu<Scalar>(saved.hidden);
  return output_(saved.active);
}

template <class Scalar>
auto FeedForward<Scalar>::backward(const Tokens& dy, Batch<Scalar>& batch, BlockIndex block)
    -> Tokens {
  const auto& saved = batch[block].feed_forward;
  const Tokens dactive = output_.backward(saved.active, dy);
  return input_.backward(saved.x, gelu_backward<Scalar>(saved.hidden, dactive));
}

}  // namespace gpt

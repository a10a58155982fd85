// SPDX-License-Identifier: MIT
/// Causal multi-head self-attention: each token gathers from itself and the tokens before it.
///
///     [Q K V] = x·W + b                        one product for all heads
///     A = softmax(Q·Kᵀ / √D, over j ≤ i)       per sequence and head; A(i, j) = 0 for j > i
///     O = A·V                                  per sequence and head, side by side in C
///     y = O·W' + b'
///
/// Rotary     where rotations are given, Q and K are turned by their tokens' positions, dQ and dK
///            back, and the products have no biases, as in Llama; see common/rotary.hpp
/// Inference  is either of whole sequences, or of the next T tokens of a session: then K and V are
///            those of all its tokens, n of them with the new ones, A is (T, n), and token i of T
///            sees the tokens j ≤ n − T + i
/// Shapes     x, O, y (T, C) · Q, K, V (N, D) per sequence and head, D = C / heads · A (N, N)
///            T tokens are sequences of N tokens; see sequences.hpp
/// Backward   per sequence and head, from dO:
///            dV = Aᵀ·dO    dA = dO·Vᵀ    dS = A∘(dA − rowsum(dA∘A))    S = Q·Kᵀ / √D
///            dQ = dS·K / √D    dK = dSᵀ·Q / √D
/// Throws     std::invalid_argument where the heads do not divide the channels
/// Source     Vaswani et al. 2017, arXiv:1706.03762, eq. 1 and section 3.2.2
#pragma once

#include "batch.hpp"
#include "common/causal_attention.hpp"
#include "common/rotary.hpp"
#include "linear.hpp"
#include "sequences.hpp"
#include "session.hpp"

#include <cmath>
#include <memory>
#include <utility>

namespace gpt {

template <class Scalar>
class CausalSelfAttention : public InputOutput<Scalar> {
 public:
  using Tokens = TokenMatrix<Scalar>;

  using Rotations = std::shared_ptr<const examples::Rotations<Scalar>>;

  /// `output_gain`: of the output projection, which writes into the residual stream.
  CausalSelfAttention(Index channels, Index heads, std::mt19937_64& rng, double output_gain = 1,
                      Rotations rotations = nullptr);
  /// Of some heads: their columns of the first map, of Q, K and V, and their rows of the second.
  CausalSelfAttention(Linear<Scalar> input, Linear<Scalar> output, Index heads);

  Tokens operator()(const Tokens& x, const Sequences& sequences) const;
  Tokens operator()(const Tokens& x, Session<Scalar>& session, BlockIndex block) const;
  Tokens forward(const Tokens& x, Batch<Scalar>& batch, BlockIndex block) const;
  Tokens backward(const Tokens& dy, Batch<Scalar>& batch, BlockIndex block);

 private:
  /// One head of the `length` tokens of a sequence, whose first is token `first` of a matrix.
  struct Place {
    Index first, length, head;
  };
  /// Its (N, D) part of a matrix over all tokens; of [Q K V], `third` 0, 1 or 2.
  auto part(auto& matrix, Place at, Index third = 0) const {
    return matrix.block(at.first, third * channels_ + at.head * head_channels_, at.length,
                        head_channels_);
  }
  /// Its A, of those of all sequences and heads.
  auto square(auto& weights, Place at) const {
    return weights.middleRows(at.first * heads_ + at.head * at.length, at.length);
  }
  /// f(place) for each head of each sequence.
  template <class F>
  void each_place(const Sequences& sequences, const F& f) const {
    for (Index sequence = 0; sequence < sequences.count; ++sequence) {
      for (Index head = 0; head < heads_; ++head) {
        f(Place{sequence * sequences.length, sequences.length, head});
      }
    }
  }

  /// Q and K of sequences of `length` tokens, the first of them at position `first`.
  void rotate(Tokens& qkv, Index length, Index first = 0, Scalar direction = 1) const {
    if (rotations_ == nullptr) return;
    for (Index t = 0; t < qkv.rows(); ++t) {
      rotations_->rotate(first + t % length, qkv.row(t).head(2 * channels_), direction);
    }
  }
  Tokens attend(const Tokens& qkv, const Sequences& sequences, Tokens& weights) const;
  Scalar score_scale() const { return Scalar(1) / std::sqrt(static_cast<Scalar>(head_channels_)); }

  using Maps = InputOutput<Scalar>;
  using Maps::input_;   // x to Q, K and V
  using Maps::output_;  // O to y
  Index channels_, heads_, head_channels_;
  Rotations rotations_;
};

namespace detail {

inline Index head_channels(Index channels, Index heads) {
  if (heads < 1 || channels < 1 || channels % heads != 0) {
    throw std::invalid_argument("gpt: " + std::to_string(heads) + " heads do not divide " +
                                std::to_string(channels) + " channels");
  }
  return channels / heads;
}

}  // namespace detail

template <class Scalar>
CausalSelfAttention<Scalar>::CausalSelfAttention(Index channels, Index heads, std::mt19937_64& rng,
                                                 double output_gain, Rotations rotations)
    : Maps{Linear<Scalar>(channels, 3 * heads * detail::head_channels(channels, heads), rng, 1,
                          rotations == nullptr),
           Linear<Scalar>(channels, channels, rng, output_gain, rotations == nullptr)},
      channels_(channels),
      heads_(heads),
      head_channels_(channels / heads),
      rotations_(std::move(rotations)) {}

template <class Scalar>
CausalSelfAttention<Scalar>::CausalSelfAttention(Linear<Scalar> input, Linear<Scalar> output,
                                                 Index heads)
    : Maps{std::move(input), std::move(output)},
      channels_(output_.weight().rows()),
      heads_(heads),
      head_channels_(detail::head_channels(channels_, heads)) {}

template <class Scalar>
auto CausalSelfAttention<Scalar>::operator()(const Tokens& x, const Sequences& sequences) const
    -> Tokens {
  Tokens weights, qkv = input_(x);
  rotate(qkv, sequences.length);
  return output_(attend(qkv, sequences, weights));
}

template <class Scalar>
auto CausalSelfAttention<Scalar>::operator()(const Tokens& x, Session<Scalar>& session,
                                             BlockIndex block) const -> Tokens {
  Tokens qkv = input_(x);
  rotate(qkv, x.rows(), session.position);
  auto& [keys, values] = session[block];
  keys.middleRows(session.position, x.rows()) = qkv.middleCols(channels_, channels_);
  values.middleRows(session.position, x.rows()) = qkv.rightCols(channels_);

  const Index seen = session.position + x.rows();
  Tokens mixed(x.rows(), channels_), a(x.rows(), seen);
  for (Index head = 0; head < heads_; ++head) {
    const Place now{0, x.rows(), head}, all{0, seen, head};
    examples::attend(part(qkv, now), part(keys, all), part(values, all), score_scale(), a,
                     part(mixed, now));
  }
  return output_(mixed);
}

template <class Scalar>
auto CausalSelfAttention<Scalar>::forward(const Tokens& x, Batch<Scalar>& batch,
                                          BlockIndex block) const -> Tokens {
  auto& saved = batch[block].attention;
  saved.x = x;
  saved.qkv = input_(x);
  rotate(saved.qkv, batch.sequences.length);
  saved.mixed = attend(saved.qkv, batch.sequences, saved.weights);
  return output_(saved.mixed);
}

template <class Scalar>
auto CausalSelfAttention<Scalar>::attend(const Tokens& qkv, const Sequences& sequences,
                                         Tokens& weights) const -> Tokens {
  weights.resize(qkv.rows() * heads_, sequences.length);
  Tokens mixed(qkv.rows(), channels_);
  each_place(sequences, [&](Place place) {
    examples::attend(part(qkv, place, 0), part(qkv, place, 1), part(qkv, place, 2), score_scale(),
                     square(weights, place), part(mixed, place));
  });
  return mixed;
}

template <class Scalar>
auto CausalSelfAttention<Scalar>::backward(const Tokens& dy, Batch<Scalar>& batch, BlockIndex block)
    -> Tokens {
  const auto& saved = batch[block].attention;
  const Tokens dmixed = output_.backward(saved.mixed, dy);
  Tokens dqkv(dy.rows(), 3 * channels_);
  Tokens da(batch.sequences.length, batch.sequences.length);
  each_place(batch.sequences, [&](Place place) {
    const auto q = part(saved.qkv, place, 0), k = part(saved.qkv, place, 1),
               v = part(saved.qkv, place, 2);
    auto dq = part(dqkv, place, 0), dk = part(dqkv, place, 1), dv = part(dqkv, place, 2);
    const auto a = square(saved.weights, place);
    const auto dout = part(dmixed, place);

    dv.noalias() = a.transpose() * dout;
    da.noalias() = dout * v.transpose();
    for (Index i = 0; i < da.rows(); ++i) {  // through the softmax: da becomes dS / √D
      const Scalar mean = da.row(i).dot(a.row(i));
      da.row(i) = score_scale() * a.row(i).array() * (da.row(i).array() - mean);
    }
    dq.noalias() = da * k;
    dk.noalias() = da.transpose() * q;
  });
  rotate(dqkv, batch.sequences.length, 0, -1);
  return input_.backward(saved.x, dqkv);
}

}  // namespace gpt

// SPDX-License-Identifier: MIT
/// Causal multi-head self-attention: each token gathers from itself and the tokens before it.
///
///     [Q K V] = x·W + b                        one product for all heads
///     A = softmax(Q·Kᵀ / √D, over j ≤ i)       per sequence and head; A(i, j) = 0 for j > i
///     O = A·V                                  per sequence and head, side by side in C
///     y = O·W' + b'
///
/// Shapes     x, O, y (T, C) · Q, K, V (N, D) per sequence and head, D = C / heads · A (N, N)
///            T tokens are sequences of N = context tokens; see sequences.hpp
/// Backward   per sequence and head, from dO:
///            dV = Aᵀ·dO    dA = dO·Vᵀ    dS = A∘(dA − rowsum(dA∘A))    S = Q·Kᵀ / √D
///            dQ = dS·K / √D    dK = dSᵀ·Q / √D
/// Throws     std::invalid_argument where T does not fall into sequences of N, or where the heads
///            do not divide the channels
/// Source     Vaswani et al. 2017, arXiv:1706.03762, eq. 1 and section 3.2.2
#pragma once

#include "linear.hpp"
#include "sequences.hpp"

#include <cmath>
#include <utility>

namespace gpt {

template <class Scalar>
class CausalSelfAttention {
 public:
  using Tokens = TokenMatrix<Scalar>;

  /// `output_gain`: of the output projection, which writes into the residual stream.
  CausalSelfAttention(Index channels, Index heads, Index context, std::mt19937_64& rng,
                      double output_gain = 1);

  Tokens operator()(const Tokens& x) const;
  Tokens forward(const Tokens& x);
  Tokens backward(const Tokens& dy);

  template <class Visitor>
  void visit_parameters(Visitor&& visitor);
  void zero_gradients();

  /// The linear maps that read x and that write y, for folding norms.
  template <class Visitor>
  void visit_readers(Visitor&& visitor) {
    visitor(input_.map());
  }
  template <class Visitor>
  void visit_writers(Visitor&& visitor) {
    visitor(output_.map());
  }

 private:
  /// One head of one sequence, which has `length` tokens.
  struct Place {
    Index sequence, head, length;
  };
  /// Its (N, D) part of a matrix over all tokens; of [Q K V], `third` 0, 1 or 2.
  auto part(auto& matrix, Place at, Index third = 0) const {
    return matrix.block(at.sequence * at.length, third * channels_ + at.head * head_channels_,
                        at.length, head_channels_);
  }
  /// Its A.
  auto square(auto& attention, Place at) const {
    return attention.middleRows((at.sequence * heads_ + at.head) * at.length, at.length);
  }

  Tokens attend(const Tokens& qkv, Tokens& attention) const;
  Scalar score_scale() const { return Scalar(1) / std::sqrt(static_cast<Scalar>(head_channels_)); }

  Index channels_, heads_, head_channels_, context_;
  Linear<Scalar> input_;   // x to Q, K and V
  Linear<Scalar> output_;  // O to y
  Tokens qkv_;             // (T, 3C): Q of all heads, then K, then V
  Tokens attention_;       // (B·heads·N, N): A of each sequence and head, one below the other
};

namespace detail {

inline Index head_channels(Index channels, Index heads) {
  if (heads < 1 || channels < 1 || channels % heads != 0) {
    throw std::invalid_argument("gpt: " + std::to_string(heads) + " heads do not divide " +
                                std::to_string(channels) + " channels");
  }
  return channels / heads;
}

/// Row i becomes the softmax of its first i + 1 elements, and zero after them. The exponential is
/// taken of whole rows, which vectorize better, and what it made of the future is discarded.
template <class Square>
void causal_softmax(Square&& scores) {
  for (Index i = 0; i < scores.rows(); ++i) {
    auto row = scores.row(i).array();
    row = (row - row.head(i + 1).maxCoeff()).exp();
    row.tail(row.size() - i - 1).setZero();
    row /= row.sum();
  }
}

}  // namespace detail

template <class Scalar>
CausalSelfAttention<Scalar>::CausalSelfAttention(Index channels, Index heads, Index context,
                                                 std::mt19937_64& rng, double output_gain)
    : channels_(channels),
      heads_(heads),
      head_channels_(detail::head_channels(channels, heads)),
      context_(context),
      input_(channels, 3 * channels, rng),
      output_(channels, channels, rng, output_gain) {}

template <class Scalar>
auto CausalSelfAttention<Scalar>::operator()(const Tokens& x) const -> Tokens {
  Tokens attention;
  return output_(attend(input_(x), attention));
}

template <class Scalar>
auto CausalSelfAttention<Scalar>::forward(const Tokens& x) -> Tokens {
  qkv_ = input_.forward(x);
  return output_.forward(attend(qkv_, attention_));
}

template <class Scalar>
auto CausalSelfAttention<Scalar>::attend(const Tokens& qkv, Tokens& attention) const -> Tokens {
  const Sequences sequences = split_into_sequences(qkv.rows(), context_);
  attention.resize(sequences.count * heads_ * sequences.length, sequences.length);
  Tokens mixed(qkv.rows(), channels_);
  for (Index sequence = 0; sequence < sequences.count; ++sequence) {
    for (Index head = 0; head < heads_; ++head) {
      const Place place{sequence, head, sequences.length};
      const auto q = part(qkv, place, 0), k = part(qkv, place, 1), v = part(qkv, place, 2);
      auto a = square(attention, place);
      a.noalias() = score_scale() * q * k.transpose();
      detail::causal_softmax(a);
      part(mixed, place).noalias() = a * v;
    }
  }
  return mixed;
}

template <class Scalar>
auto CausalSelfAttention<Scalar>::backward(const Tokens& dy) -> Tokens {
  const Tokens dmixed = output_.backward(dy);
  const Sequences sequences = split_into_sequences(dy.rows(), context_);
  Tokens dqkv(dy.rows(), 3 * channels_);
  Tokens da(sequences.length, sequences.length);
  for (Index sequence = 0; sequence < sequences.count; ++sequence) {
    for (Index head = 0; head < heads_; ++head) {
      const Place place{sequence, head, sequences.length};
      const auto q = part(qkv_, place, 0), k = part(qkv_, place, 1), v = part(qkv_, place, 2);
      auto dq = part(dqkv, place, 0), dk = part(dqkv, place, 1), dv = part(dqkv, place, 2);
      const auto a = square(attention_, place);
      const auto dout = part(dmixed, place);

      dv.noalias() = a.transpose() * dout;
      da.noalias() = dout * v.transpose();
      for (Index i = 0; i < da.rows(); ++i) {  // through the softmax: da becomes dS / √D
        const Scalar mean = da.row(i).dot(a.row(i));
        da.row(i) = score_scale() * a.row(i).array() * (da.row(i).array() - mean);
      }
      dq.noalias() = da * k;
      dk.noalias() = da.transpose() * q;
    }
  }
  return input_.backward(dqkv);
}

template <class Scalar>
template <class Visitor>
void CausalSelfAttention<Scalar>::visit_parameters(Visitor&& visitor) {
  input_.visit_parameters(prefixed("input", visitor));
  output_.visit_parameters(prefixed("output", visitor));
}

template <class Scalar>
void CausalSelfAttention<Scalar>::zero_gradients() {
  input_.zero_gradients();
  output_.zero_gradients();
}

}  // namespace gpt

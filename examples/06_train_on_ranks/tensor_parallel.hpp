// SPDX-License-Identifier: MIT
/// Sublayers that are divided over the ranks: each has some heads, or some hidden channels, and
/// what they write is added up.
///
///     y = Σ over ranks of f(x),   dx = Σ over ranks of the gradient of dy through f
///
/// The residual stream, its norms, the embedding and the head are whole on every rank, and stay the
/// same there: all ranks do the same to them. The bias of what is written is the first rank's.
///
/// Messages   an MPI_Allreduce of T·C numbers for each sublayer and direction
/// Source     Shoeybi et al. 2019 (Megatron-LM), arXiv:1909.08053, section 3
#pragma once

#include "attention.hpp"
#include "feed_forward.hpp"
#include "gpt.hpp"
#include "ranks.hpp"

#include <utility>

namespace gpt {

/// The sublayer f of this rank's part.
template <class Sublayer>
class Divided : public Sublayer {
 public:
  using Tokens = typename Sublayer::Tokens;

  explicit Divided(Sublayer part) : Sublayer(std::move(part)) {}

  Tokens operator()(const Tokens& x, const auto&... what) const {
    return summed(Sublayer::operator()(x, what...));
  }
  Tokens forward(const Tokens& x, auto& batch, BlockIndex block) const {
    return summed(Sublayer::forward(x, batch, block));
  }
  Tokens backward(const Tokens& dy, auto& batch, BlockIndex block) {
    return summed(Sublayer::backward(dy, batch, block));
  }

 private:
  static Tokens summed(Tokens part) {
    sum_over_ranks(part.data(), part.size());
    return part;
  }
};

namespace detail {

/// Of columns that each rank has as many of, those of this rank.
inline auto columns_here(const auto& matrix) {
  const Index count = matrix.cols() / ranks();
  return matrix.middleCols(rank() * count, count);
}

template <class Scalar>
Linear<Scalar> output_here(const Linear<Scalar>& output) {
  const Index count = output.weight().rows() / ranks();
  const RowVector<Scalar> none;
  return {output.weight().middleRows(rank() * count, count), rank() == 0 ? output.bias() : none};
}

template <class Scalar>
auto divided(const CausalSelfAttention<Scalar>& whole, Index heads) {
  const auto& weight = whole.input().weight();
  const auto& bias = whole.input().bias();
  const Index channels = weight.rows(), here = channels / ranks();
  TokenMatrix<Scalar> part(channels, 3 * here);
  RowVector<Scalar> part_of_bias(3 * here);
  for (Index i = 0; i < 3; ++i) {  // Q, K, V
    part.middleCols(i * here, here) = columns_here(weight.middleCols(i * channels, channels));
    part_of_bias.segment(i * here, here) = columns_here(bias.middleCols(i * channels, channels));
  }
  return Divided(CausalSelfAttention<Scalar>(Linear<Scalar>(part, part_of_bias),
                                             output_here(whole.output()), heads / ranks()));
}

template <class Scalar>
auto divided(const FeedForward<Scalar>& whole) {
  const Linear<Scalar> input(columns_here(whole.input().weight()),
                             columns_here(whole.input().bias()));
  return Divided(FeedForward<Scalar>(input, output_here(whole.output())));
}

}  // namespace detail

/// Pre-LN with divided sublayers, cut from the weights that the undivided ones draw.
struct TensorParallelPlacement {
  static constexpr bool is_llama = false;
  template <class Norm, class Scalar>
  static auto make_stack(const Shape& shape, std::mt19937_64& rng) {
    const Norm norm(shape.channels);
    auto blocks = detail::make_blocks<Scalar>(shape, rng, [&](auto attention, auto feed_forward) {
      return tokennorm::PreLN(norm, detail::divided(attention, shape.heads), norm,
                              detail::divided(feed_forward));
    });
    return tokennorm::Stack(tokennorm::NoNorm{}, std::move(blocks), norm);
  }
};

/// Whether a parameter is one of which the ranks have different parts.
inline bool is_divided(const std::string& name) {
  return name.find(".attention.") != std::string::npos ||
         name.find(".feed_forward.") != std::string::npos;
}

}  // namespace gpt

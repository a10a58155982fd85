// SPDX-License-Identifier: MIT
#pragma once

#include "tokennorm/norm/norm_calls.hpp"

namespace tokennorm {

/// Layer normalization of each token over its channels:  y = (x − μ)·rstd·(o + γ) + β.
///
/// Shapes     x, y (T, C) · γ, β (C) · rstd = 1/√(σ² + ε), σ² biased · what is a vector at compile
///            time is one token
/// Error      |x̂ − exact| ≤ 4·2⁻²⁴·max(1, max|x̂|), per row (2⁻⁵³ for double), for every kind of row
///            that is known to be hard; half and bfloat16: that, rounded once to nearest even, but
///            that a bfloat16 result from below 2⁻¹²⁶ may be a zero.
///            tests/norm/layer_norm_accuracy.cpp
///            |dx − exact| ≤ 8·2⁻²⁴·rstd·max|(o + γ)·dy|·max(1, max|x̂|), per row;
///            dγ within 8·2⁻²⁴·Σ|dy|·max(1, max|x̂|), dβ within 8·2⁻²⁴·Σ|dy|, the sums over tokens;
///            all where (o + γ)·dy is not subnormal; dγ and dβ of double where the sum of these
///            sizes has room in a double. A dx that is finite does not become infinite by rounding,
///            but in half. tests/norm/backward_accuracy.cpp
///            Where a search makes all roundings agree, in rows of few different values, these
///            units are 8 of x̂, 32 of dx, 16 of dγ. tests/norm/searched_accuracy.cpp
///            Where subnormal numbers are flushed (FTZ, DAZ) one counts as zero, in what is read as
///            in a result, and the bounds hold for rows that have none; they double in rounding
///            upwards or downwards. tests/norm/floating_point_environment.cpp
/// Aliasing   y may be x; dx may be x, dy or dsum; sum and y may each be residual or update, not
///            each other. Any other overlap of operands is refused, as is that of an output with
///            itself, with γ and β, with the statistics or the gradients
/// Throws     std::invalid_argument on a shape mismatch, a bad option or a refused overlap, before
///            anything is written; std::logic_error on a backward without a forward of its own
/// Source     Ba, Kiros, Hinton 2016, arXiv:1607.06450, eq. 4
///
///     LayerNorm<float> norm(768, {.epsilon = 1e-12});
///     norm(x, y);                            // inference: const, thread-safe, no allocation
///     norm.normalize(x, y, stats);           // training: the caller keeps x and stats
///     norm.backpropagate(x, stats, dy, dx, gradients);  // dx overwritten, gradients added to
///     norm.normalize_sum(residual, update, sum, y);     // sum = residual + update, y = norm(sum)
///     norm.normalize_sum(residual, update, y);          // the same without storing the sum
///     norm.backpropagate_sum(sum, stats, dy, dsum, dx, gradients);  // dx = dsum + …
///     y = norm.forward(x);                   // as a module, in Param; then
///     dx = norm.backward(dy);
///     norm.scale(), norm.shift();            // γ, β; empty when switched off
///     norm.gradients(); norm.zero_gradients(); norm.visit_parameters(visitor);
///
/// A visitor is called with a name, a value and a gradient, all lvalues. An output that can be
/// resized is; a Map, Block or Ref must have the shape.
///
/// x and y are Eigen dense expressions of float, double, half or bfloat16, independent of each
/// other and of Param; the arithmetic runs in double if x or y is double, in float otherwise. Any
/// other real scalar works with Param = that scalar. An executor may be given as the last argument
/// of any call.
template <class Param = float, int Channels = Eigen::Dynamic>
class LayerNorm : public detail::Norm<detail::LayerNormKind, Param, Channels> {
  using Base = detail::Norm<detail::LayerNormKind, Param, Channels>;

 public:
  /// γ = 1 − scale_offset, β = 0.
  explicit LayerNorm(Index channels, LayerNormOptions options = {}) : Base(channels, options) {}
  explicit LayerNorm(LayerNormOptions options = {}) requires(Channels != Eigen::Dynamic)
      : Base(Channels, options) {}
};

}  // namespace tokennorm

// SPDX-License-Identifier: MIT
#pragma once

#include "tokennorm/norm/norm_calls.hpp"

namespace tokennorm {

/// Root-mean-square normalization of each token:  y = x·rstd·(o + γ) [+ β].
///
/// Shapes     x, y (T, C) · γ, β (C) · rstd = 1/√(mean(x²) + ε), the mean over all channels or the
///            first `statistics_channels` (partial RMSNorm, ε inside the root)
/// Error      |x̂ − exact| ≤ 4·2⁻²⁴·max(1, max|x̂|), per row (2⁻⁵³ for double), for every kind of row
///            that is known to be hard; half and bfloat16: that, rounded once to nearest even, but
///            that a bfloat16 result from below 2⁻¹²⁶ may be a zero.
///            tests/norm/rms_norm_accuracy.cpp
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
/// Aliasing   as LayerNorm
/// Throws     as LayerNorm
/// Source     Zhang, Sennrich 2019, arXiv:1910.07467, eq. 4
///
/// The members are those of LayerNorm; stats.mean stays empty.
///
/// Where only k of C channels count, the others may be much larger: x̂ of one may be infinite, and
/// the bound of dx is C/k·max(1, max|x̂|) times that above.
template <class Param = float, int Channels = Eigen::Dynamic>
class RMSNorm : public detail::Norm<detail::RMSNormKind, Param, Channels> {
  using Base = detail::Norm<detail::RMSNormKind, Param, Channels>;

 public:
  /// γ = 1 − scale_offset, β = 0 if switched on.
  explicit RMSNorm(Index channels, RMSNormOptions options = {}) : Base(channels, options) {}
  explicit RMSNorm(RMSNormOptions options = {}) requires(Channels != Eigen::Dynamic)
      : Base(Channels, options) {}
};

}  // namespace tokennorm

// SPDX-License-Identifier: MIT
// The independent oracle: LayerNorm and RMSNorm as their papers write them, in long double.
//
//   y = (x − μ)·rstd·(o + γ) + β     rstd = 1/√(σ² + ε), σ² biased          (LayerNorm)
//   y = x·rstd·(o + γ)               rstd = 1/√(mean of x² over the first k) (RMSNorm)
//
// The mean is a pair of long doubles and every sum is compensated, so that a value is right to
// about 2⁻⁶²: enough to judge a few units of 2⁻⁵³ even where mean/σ = 1e6. The exponent range of
// long double holds the square of every double.
#pragma once

#include "scalars.hpp"

#include <Eigen/Core>

#include <cmath>
#include <limits>
#include <vector>

namespace tokennorm::test {

/// Where long double is no wider than double, the oracle judges what is computed in float.
inline constexpr bool judges_double = std::numeric_limits<long double>::digits >= 64;

using ExactMatrix = Eigen::Matrix<long double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ExactVector = Eigen::Matrix<long double, Eigen::Dynamic, 1>;

/// What a norm was told. `centre` makes it a LayerNorm; `statistics_channels` 0 means all.
struct NormSpec {
  bool centre = true;
  double epsilon = 0;
  double scale_offset = 0;
  Index statistics_channels = 0;
};

/// Neumaier's sum: the error does not grow with the number of terms.
class CompensatedSum {
 public:
  void add(long double term) {
    const long double total = high_ + term;
    low_ += std::fabs(high_) >= std::fabs(term) ? (high_ - total) + term : (term - total) + high_;
    high_ = total;
  }
  long double value() const { return high_ + low_; }
  long double high() const { return high_; }
  long double low() const { return low_; }

 private:
  long double high_ = 0;
  long double low_ = 0;
};

/// One token's μ and rstd, and x̂ = (x − μ)·rstd.
struct NormalizedRow {
  long double mean = 0;
  long double rstd = 0;
  ExactVector normalized;
  long double largest = 0;  ///< max |x̂|
};

[[gnu::noinline]] inline NormalizedRow normalize_row(const NormSpec& spec, const ExactVector& x) {
  const Index channels = x.size();
  NormalizedRow row;
  row.normalized = x;
  if (spec.centre) {
    CompensatedSum sum;
    for (const long double value : x) sum.add(value);
    const auto count = static_cast<long double>(channels);
    const long double mean = (sum.high() + sum.low()) / count;
    const long double rest = (std::fma(-mean, count, sum.high()) + sum.low()) / count;
    for (long double& value : row.normalized) {  // value − (mean + rest), the difference exact
      const long double difference = value - mean;
      const long double back = difference + mean;
      const long double lost = (value - back) - (mean - (back - difference));
      value = difference + (lost - rest);
    }
    row.mean = mean;
  }
  const Index counted = spec.statistics_channels > 0 ? spec.statistics_channels : channels;
  CompensatedSum squares;
  for (Index c = 0; c < counted; ++c) squares.add(row.normalized(c) * row.normalized(c));
  const long double variance = squares.value() / static_cast<long double>(counted);
  const long double radicand = variance + static_cast<long double>(spec.epsilon);
  row.rstd = radicand > 0 ? 1 / std::sqrt(radicand) : 0;
  row.normalized *= row.rstd;
  if (channels > 0) row.largest = row.normalized.cwiseAbs().maxCoeff();
  return row;
}

/// A dense expression in long double, one token per row. What is a vector at compile time is one
/// token.
template <class Derived>
[[gnu::noinline]] ExactMatrix exact(const Eigen::DenseBase<Derived>& expression) {
  const auto values = expression.derived().eval();
  constexpr bool column = Derived::IsVectorAtCompileTime && Derived::ColsAtCompileTime == 1 &&
                          Derived::RowsAtCompileTime != 1;
  ExactMatrix result(column ? values.cols() : values.rows(),
                     column ? values.rows() : values.cols());
  for (Index r = 0; r < values.rows(); ++r)
    for (Index c = 0; c < values.cols(); ++c)
      (column ? result(c, r) : result(r, c)) = to_exact(values(r, c));
  return result;
}

template <class Derived>
[[gnu::noinline]] ExactVector exact_vector(const Eigen::DenseBase<Derived>& expression) {
  return exact(expression).reshaped();
}

/// The applied factor o + γ; an empty γ means no scale at all.
[[gnu::noinline]] inline ExactVector applied_scale(const NormSpec& spec, const ExactVector& scale,
                                                   Index channels) {
  if (scale.size() == 0) return ExactVector::Ones(channels);
  return scale.array() + static_cast<long double>(spec.scale_offset);
}

struct ForwardOracle {
  ExactMatrix normalized, y;
  ExactVector mean, rstd;
  ExactVector largest;  ///< max |x̂| of each token
};

/// Empty `scale` or `shift`: the norm has none.
[[gnu::noinline]] inline ForwardOracle forward_oracle(const NormSpec& spec, const ExactMatrix& x,
                                                      const ExactVector& scale = {},
                                                      const ExactVector& shift = {}) {
  const ExactVector factor = applied_scale(spec, scale, x.cols());
  ForwardOracle result{x, x, ExactVector(x.rows()), ExactVector(x.rows()), ExactVector(x.rows())};
  for (Index t = 0; t < x.rows(); ++t) {
    const NormalizedRow row = normalize_row(spec, x.row(t));
    result.mean(t) = row.mean;
    result.rstd(t) = row.rstd;
    result.largest(t) = row.largest;
    result.largest(t) = row.largest;
    result.normalized.row(t) = row.normalized;
    result.y.row(t) = row.normalized.cwiseProduct(factor);
    if (shift.size() > 0) result.y.row(t) += shift;
  }
  return result;
}

struct BackwardOracle {
  ExactMatrix dx;
  ExactVector scale, shift;            ///< dγ, dβ
  ExactVector scale_size, shift_size;  ///< Σ|dy|·max(1, max|x̂|) and Σ|dy|: what they are judged by
  ExactVector rstd, largest;           ///< of each token; max |x̂|
  ExactVector dx_size;  ///< rstd·max|γ·dy|·max(1, max|x̂|) of each token; where only
                        ///< k of C channels count, C/k·max(1, max|x̂|) times that
};

/// With g = (o + γ)·dy and x̂ as above:
///   dx = rstd·(g − mean(g) − x̂·mean(g·x̂)),   dγ = Σ dy·x̂,   dβ = Σ dy.
/// RMSNorm has no mean(g); with partial statistics over k channels, mean(g·x̂) is Σ g·x̂ / k and its
/// term stands in the first k channels only. Where σ² + ε = 0, dx = 0.
[[gnu::noinline]] inline BackwardOracle backward_oracle(const NormSpec& spec, const ExactMatrix& x,
                                                        const ExactMatrix& dy,
                                                        const ExactVector& scale = {}) {
  const Index channels = x.cols();
  const ExactVector factor = applied_scale(spec, scale, channels);
  const Index counted = spec.statistics_channels > 0 ? spec.statistics_channels : channels;
  std::vector<CompensatedSum> scale_sum(static_cast<std::size_t>(channels));
  std::vector<CompensatedSum> shift_sum(static_cast<std::size_t>(channels));
  BackwardOracle result;
  result.dx.resize(x.rows(), channels);
  result.rstd.resize(x.rows());
  result.largest.resize(x.rows());
  result.dx_size.resize(x.rows());
  result.scale_size.setZero(channels);
  result.shift_size.setZero(channels);
  for (Index t = 0; t < x.rows(); ++t) {
    const NormalizedRow row = normalize_row(spec, x.row(t));
    const ExactVector g = dy.row(t).transpose().cwiseProduct(factor);
    CompensatedSum g_sum, g_normalized_sum;
    for (Index c = 0; c < channels; ++c) {
      g_sum.add(g(c));
      g_normalized_sum.add(g(c) * row.normalized(c));
      scale_sum[static_cast<std::size_t>(c)].add(dy(t, c) * row.normalized(c));
      shift_sum[static_cast<std::size_t>(c)].add(dy(t, c));
    }
    const long double g_mean =
        spec.centre ? g_sum.value() / static_cast<long double>(channels) : 0.0L;
    const long double projection = g_normalized_sum.value() / static_cast<long double>(counted);
    for (Index c = 0; c < channels; ++c)
      result.dx(t, c) =
          row.rstd * (g(c) - g_mean - (c < counted ? row.normalized(c) * projection : 0.0L));
    const long double spread = std::fmax(1.0L, row.largest);
    result.rstd(t) = row.rstd;
    result.largest(t) = row.largest;
    result.dx_size(t) = row.rstd * g.cwiseAbs().maxCoeff() * spread;
    if (counted < channels)  // mean(g·x̂) may be so much more than max|g|
      result.dx_size(t) *=
          spread * static_cast<long double>(channels) / static_cast<long double>(counted);
    result.scale_size += dy.row(t).cwiseAbs() * spread;
    result.shift_size += dy.row(t).cwiseAbs();
  }
  result.scale.resize(channels);
  result.shift.resize(channels);
  for (Index c = 0; c < channels; ++c) {
    result.scale(c) = scale_sum[static_cast<std::size_t>(c)].value();
    result.shift(c) = shift_sum[static_cast<std::size_t>(c)].value();
  }
  return result;
}

}  // namespace tokennorm::test

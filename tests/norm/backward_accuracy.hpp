// SPDX-License-Identifier: MIT
// The documented backward bounds, with u = 2⁻²⁴ (2⁻⁵³ for double):
//
//   dx   |error| ≤ 8·u·rstd·max|γ·dy|·max(1, max|x̂|)         per token
//   dγ   |error| ≤ 8·u·Σ|dy|·max(1, max|x̂|)                  the sum over tokens
//   dβ   |error| ≤ 8·u·Σ|dy|
//
// A partial RMSNorm, of whose C channels k count: C/k·max(1, max|x̂|) times that for dx.
// half and bfloat16: dx is the float answer, rounded once. Where γ·dy, rstd or dx leaves the normal
// range of the accumulator, the last bit of a subnormal number comes on top of each.
#pragma once

#include "../support/worst_case.hpp"
#include "exact_step.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace tokennorm::test {

inline constexpr long double backward_units = 8;

/// Incoming gradients that are random, that cancel with the mean or with x̂, or that stand alone.
template <class Matrix>
std::vector<std::pair<std::string, Matrix>> incoming_gradients(const NormSpec& spec,
                                                               const ExactMatrix& x) {
  using Scalar = typename Matrix::Scalar;
  const Shape shape{x.rows(), x.cols()};
  Matrix normalized(shape.tokens, shape.channels), one_hot(shape.tokens, shape.channels);
  const ForwardOracle forward = forward_oracle(spec, x);
  one_hot.setZero();
  for (Index t = 0; t < shape.tokens; ++t) {
    for (Index c = 0; c < shape.channels; ++c)
      normalized(t, c) = finite<Scalar>(forward.normalized(t, c));
    one_hot(t, t % shape.channels) = Scalar(1);
  }
  return {{"normal", random_normal<Matrix>(shape, Seed{11})},
          {"offset", random_normal<Matrix>(shape, Seed{12}, 100, 1)},
          {"constant", Matrix::Constant(shape.tokens, shape.channels, Scalar(0.75))},
          {"equal to the output", normalized},
          {"one-hot", one_hot}};
}

/// Judges gradients, in the units of the bounds.
class BackwardAccuracy {
 public:
  /// `lost` may be what is too small to be a normal number.
  template <class Scalar>
  static BackwardAccuracy of(long double units = backward_units,
                             long double lost = smallest_subnormal<AccumOf<Scalar>>()) {
    Format accumulator = format_of<AccumOf<Scalar>>();
    accumulator.smallest_subnormal = lost;
    return BackwardAccuracy(format_of<Scalar>(), accumulator, unit<Scalar>(), units);
  }
  BackwardAccuracy(const Format& format, const Format& accumulator, long double unit,
                   long double most)
      : format_(format), accumulator_(accumulator), unit_(unit), most_(most) {}

  void judge(const ExactStep& actual, const BackwardOracle& expected, double epsilon,
             const std::string& gradient, const std::vector<std::string>& rows) {
    for (Index t = 0; t < actual.dx.rows(); ++t) {
      const std::string what = rows[static_cast<std::size_t>(t)] + "\", dy \"" + gradient;
      check(dx, dx_units(actual.dx.row(t), expected, t), what, actual, epsilon);
    }
    check(scale, units(actual.scale, expected.scale, expected.scale_size), gradient, actual,
          epsilon);
    check(shift, units(actual.shift, expected.shift, expected.shift_size), gradient, actual,
          epsilon);
  }

  void report(const std::string& norm) const {
    dx.report(norm + " dx");
    scale.report(norm + " gradient of the scale");
    shift.report(norm + " gradient of the shift");
  }

  /// How many units a token's dx is wrong by.
  long double dx_units(const ExactMatrix& actual, const BackwardOracle& expected, Index t) const {
    const long double rstd = expected.rstd(t), size = unit_ * expected.dx_size(t);
    const long double step = accumulator_.smallest_subnormal;
    // (One that was flushed was found out again.)
    const bool is_subnormal = rstd >= step && rstd < accumulator_.smallest_normal;
    const long double subnormal_rstd = is_subnormal ? step * expected.dx_size(t) / rstd : 0;
    const long double underflow =
        subnormal_rstd + step * (1 + 2 * rstd * std::fmax(1.0L, expected.largest(t)));
    long double units = 0;
    for (Index c = 0; c < actual.cols(); ++c) {
      const long double wanted = expected.dx(t, c);
      if (std::fabs(wanted) + most_ * size > format_.largest) {  // overflow is right
        if (std::isnan(actual(0, c))) return std::numeric_limits<long double>::infinity();
        continue;
      }
      const long double error = error_before_rounding(format_, actual(0, c), wanted) - underflow;
      if (error > 0) units = std::max(units, error / size);  // infinite where dx must be 0
    }
    return units;
  }

 private:
  /// Of a parameter gradient, which is kept in the accumulator's type.
  long double units(const ExactVector& actual, const ExactVector& expected,
                    const ExactVector& size) const {
    if (actual.size() != expected.size()) return std::numeric_limits<long double>::infinity();
    long double worst = 0;
    for (Index c = 0; c < actual.size(); ++c)
      worst = std::max(worst, units_of_error(actual(c), expected(c), unit_ * size(c)));
    return worst;
  }

  void check(WorstCase& worst, long double units, const std::string& what, const ExactStep& actual,
             double epsilon) {
    worst.see(units, actual.dx.cols(), epsilon, what);
    expectations_.expect(units <= most_, [&] {
      return std::string(&worst == &dx      ? "dx"
                         : &worst == &scale ? "scale"
                                            : "shift") +
             " of \"" + what + "\", C = " + std::to_string(actual.dx.cols()) + ", " + actual.order +
             ": " + std::to_string(units) + " units";
    });
  }

  Format format_, accumulator_;
  long double unit_, most_;
  WorstCase dx, scale, shift;
  ManyExpectations expectations_;
};

}  // namespace tokennorm::test

// SPDX-License-Identifier: MIT
// The documented bounds of a norm, with u = 2⁻²⁴ (2⁻⁵³ for double), and the errors of its results
// in units of them:
//
//   x̂    |error| ≤ 4·u·max(1, max|x̂|)                        per token
//   dx   |error| ≤ 8·u·rstd·max|γ·dy|·max(1, max|x̂|)         per token
//   dγ   |error| ≤ 8·u·Σ|dy|·max(1, max|x̂|)                  the sum over tokens
//   dβ   |error| ≤ 8·u·Σ|dy|
//
// half and bfloat16: x̂ and dx are the float answer, rounded once. Where γ·dy, rstd or dx leaves the
// normal range of the accumulator, the last bit of a subnormal number comes on top of each.
#pragma once

#include "oracle.hpp"
#include "scalars.hpp"
#include "worst_case.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tokennorm::test {

inline constexpr long double forward_units = 4, backward_units = 8;
/// Where a search makes all roundings agree: of x̂, dx, dγ.
inline constexpr long double searched_units = 8, searched_dx_units = 32, searched_scale_units = 16;

class ErrorUnits {
 public:
  using ExactRow = Eigen::Ref<const Eigen::Matrix<long double, 1, Eigen::Dynamic>>;

  /// `lost` may be what is too small to be a normal number.
  template <class Scalar>
  static ErrorUnits of(long double lost = smallest_subnormal<AccumOf<Scalar>>()) {
    Format accumulator = format_of<AccumOf<Scalar>>();
    accumulator.smallest_subnormal = lost;
    return ErrorUnits(format_of<Scalar>(), accumulator, unit<Scalar>());
  }

  /// Of x̂ of token t.
  long double normalized(const ExactRow& actual, const ForwardOracle& expected, Index t) const {
    long double error = 0;
    for (Index c = 0; c < actual.size(); ++c)
      error = std::max(error, error_before_rounding(format_, actual(c), expected.normalized(t, c)));
    return error / (unit_ * std::fmax(1.0L, expected.largest(t)));
  }

  /// Of dx of token t. What may be `most` units away from beyond the range may overflow.
  long double dx(const ExactRow& actual, const BackwardOracle& expected, Index t,
                 long double most = backward_units) const {
    const long double rstd = expected.rstd(t), size = unit_ * expected.dx_size(t);
    const long double step = accumulator_.smallest_subnormal;
    // (One that was flushed was found out again.)
    const bool is_subnormal = rstd >= step && rstd < accumulator_.smallest_normal;
    const long double subnormal_rstd = is_subnormal ? step * expected.dx_size(t) / rstd : 0;
    const long double underflow =
        subnormal_rstd + step * (1 + 2 * rstd * std::fmax(1.0L, expected.largest(t)));
    long double units = 0;
    for (Index c = 0; c < actual.size(); ++c) {
      const long double wanted = expected.dx(t, c);
      if (std::fabs(wanted) + most * size > format_.largest) {  // overflow is right
        if (std::isnan(actual(c))) return std::numeric_limits<long double>::infinity();
        continue;
      }
      const long double error = error_before_rounding(format_, actual(c), wanted) - underflow;
      if (error > 0) units = std::max(units, error / size);  // infinite where dx must be 0
    }
    return units;
  }

  /// Of a parameter gradient, which is kept in the accumulator's type.
  long double gradient(const ExactVector& actual, const ExactVector& expected,
                       const ExactVector& size) const {
    if (actual.size() != expected.size()) return std::numeric_limits<long double>::infinity();
    long double worst = 0;
    for (Index c = 0; c < actual.size(); ++c)
      worst = std::max(worst, units_of_error(actual(c), expected(c), unit_ * size(c)));
    return worst;
  }

 private:
  ErrorUnits(const Format& format, const Format& accumulator, long double unit)
      : format_(format), accumulator_(accumulator), unit_(unit) {}

  Format format_, accumulator_;
  long double unit_;
};

}  // namespace tokennorm::test

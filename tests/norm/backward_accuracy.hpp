// SPDX-License-Identifier: MIT
// Asserts the documented backward bounds, those of ../support/error_units.hpp.
#pragma once

#include "../support/error_units.hpp"
#include "../support/worst_case.hpp"
#include "exact_step.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace tokennorm::test {

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
    return BackwardAccuracy(ErrorUnits::of<Scalar>(lost), units);
  }
  BackwardAccuracy(const ErrorUnits& units, long double most) : units_(units), most_(most) {}

  void judge(const ExactStep& actual, const BackwardOracle& expected, double epsilon,
             const std::string& gradient, const std::vector<std::string>& rows) {
    for (Index t = 0; t < actual.dx.rows(); ++t) {
      const std::string what = rows[static_cast<std::size_t>(t)] + "\", dy \"" + gradient;
      check(dx, units_.dx(actual.dx.row(t), expected, t, most_), what, actual, epsilon);
    }
    check(scale, units_.gradient(actual.scale, expected.scale, expected.scale_size), gradient,
          actual, epsilon);
    check(shift, units_.gradient(actual.shift, expected.shift, expected.shift_size), gradient,
          actual, epsilon);
  }

  void report(const std::string& norm) const {
    dx.report(norm + " dx");
    scale.report(norm + " gradient of the scale");
    shift.report(norm + " gradient of the shift");
  }

 private:
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

  ErrorUnits units_;
  long double most_;
  WorstCase dx, scale, shift;
  ManyExpectations expectations_;
};

}  // namespace tokennorm::test

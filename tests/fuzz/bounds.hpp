// SPDX-License-Identifier: MIT
// The documented bounds, required of one result of the fuzzer, and the worst that was seen. They
// are those where a search makes roundings agree: rows of few different values are among the
// fuzzer's.
#pragma once

#include "../norm/exact_step.hpp"
#include "../support/error_units.hpp"
#include "fuzzed_case.hpp"

namespace tokennorm::test {

/// In which formats a result was computed and stored.
struct Precision {
  Format stored;       // that of y, or of dx
  Format accumulator;  // of the arithmetic
  long double unit;    // 2⁻²⁴ or 2⁻⁵³
  ErrorUnits units;

  template <class Scalar>
  static Precision of() {
    return {format_of<Scalar>(), format_of<AccumOf<Scalar>>(), test::unit<Scalar>(),
            ErrorUnits::of<Scalar>()};
  }
};

/// What is known of a norm, and its parameters.
struct ExactNorm {
  NormSpec spec;
  ExactVector scale, shift;  // or empty

  template <class Norm>
  static ExactNorm of(const Norm& norm) {
    return {spec_of(norm.options()), exact_vector(norm.scale()), exact_vector(norm.shift())};
  }
};

/// y and the statistics of x, where x is finite. Empty statistics are not looked at.
void require_forward_bounds(const FuzzedCase& fuzzed, const Precision& precision,
                            const ExactNorm& norm, const ExactMatrix& x, const ExactStep& actual);

/// dx, to which dsum was added unless it is empty, and where all is finite the gradients of the
/// parameters.
void require_backward_bounds(const FuzzedCase& fuzzed, const Precision& precision,
                             const ExactNorm& norm, const ExactMatrix& x, const ExactMatrix& dy,
                             const ExactStep& actual, const ExactMatrix& dsum = {});

/// The worst of all cases so far, one line for each bound.
void print_worst_cases();

}  // namespace tokennorm::test

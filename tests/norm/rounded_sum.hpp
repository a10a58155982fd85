// SPDX-License-Identifier: MIT
// What a fused sum stores.
#pragma once

#include "../support/exact_bits.hpp"
#include "../support/scalars.hpp"

#include <Eigen/Core>
#include <gtest/gtest.h>

#include <cmath>
#include <type_traits>

namespace tokennorm::test {

/// Added in the accumulator and rounded once to the scalar.
template <class Scalar>
Scalar rounded_sum_of(const Scalar& a, const Scalar& b) {
  using Accum = AccumOf<Scalar>;
  return static_cast<Scalar>(static_cast<Accum>(a) + static_cast<Accum>(b));
}

/// Or, as a bfloat16 below the normal floats, a zero of its sign. All NaN are alike.
template <class Scalar>
bool is_rounded_sum_of(const Scalar& sum, const Scalar& a, const Scalar& b) {
  const Scalar expected = rounded_sum_of(a, b);
  if (std::isnan(to_exact(expected))) return std::isnan(to_exact(sum));
  if (same_bits_of(sum, expected)) return true;
  if constexpr (std::is_same_v<Scalar, Eigen::bfloat16>) {
    const float exact = static_cast<float>(a) + static_cast<float>(b);
    return std::fabs(exact) < 0x1p-126f && same_bits_of(sum, Scalar(std::copysign(0.0f, exact)));
  }
  return false;
}

template <class Matrix>
Matrix rounded_sum(const Matrix& a, const Matrix& b) {
  return a.binaryExpr(b, [](const auto& x, const auto& y) { return rounded_sum_of(x, y); });
}

template <class Matrix>
::testing::AssertionResult is_rounded_sum(const Matrix& sum, const Matrix& a, const Matrix& b) {
  Matrix expected = rounded_sum(a, b);
  if (sum.rows() == a.rows() && sum.cols() == a.cols()) {
    for (Index i = 0; i < sum.size(); ++i) {
      if (is_rounded_sum_of(sum.data()[i], a.data()[i], b.data()[i]))
        expected.data()[i] = sum.data()[i];
    }
  }
  return same_bits(sum, expected);
}

}  // namespace tokennorm::test

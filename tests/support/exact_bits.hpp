// SPDX-License-Identifier: MIT
// Bitwise comparison: 0 and −0 differ, a NaN equals itself.
#pragma once

#include <Eigen/Core>
#include <gtest/gtest.h>

#include <cstring>
#include <type_traits>

namespace tokennorm::test {

template <class Scalar>
bool same_bits_of(const Scalar& a, const Scalar& b) {
  static_assert(std::is_same_v<Scalar, Eigen::half> || std::is_same_v<Scalar, Eigen::bfloat16> ||
                    std::has_unique_object_representations_v<Scalar> ||
                    std::is_same_v<Scalar, float> || std::is_same_v<Scalar, double>,
                "a scalar without padding");
  return std::memcmp(&a, &b, sizeof(Scalar)) == 0;
}

/// Storage orders and kinds (Matrix, Array, Map) may differ, scalar types may not.
template <class A, class B>
[[gnu::noinline]] ::testing::AssertionResult same_bits(const Eigen::DenseBase<A>& actual,
                                                       const Eigen::DenseBase<B>& expected) {
  static_assert(std::is_same_v<typename A::Scalar, typename B::Scalar>);
  const auto a = actual.derived().eval();
  const auto b = expected.derived().eval();
  if (a.rows() != b.rows() || a.cols() != b.cols())
    return ::testing::AssertionFailure() << "shape " << a.rows() << " x " << a.cols()
                                         << ", expected " << b.rows() << " x " << b.cols();
  Eigen::Index differing = 0;
  Eigen::Index first_row = 0, first_col = 0;
  for (Eigen::Index r = 0; r < a.rows(); ++r)
    for (Eigen::Index c = 0; c < a.cols(); ++c)
      if (!same_bits_of<typename A::Scalar>(a(r, c), b(r, c)) && differing++ == 0) {
        first_row = r;
        first_col = c;
      }
  if (differing == 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << differing << " of " << a.size() << " elements differ; the first at (" << first_row
         << ", " << first_col << "): " << std::hexfloat
         << static_cast<double>(a(first_row, first_col)) << ", expected "
         << static_cast<double>(b(first_row, first_col)) << std::defaultfloat;
}

}  // namespace tokennorm::test

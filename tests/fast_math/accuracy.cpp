// SPDX-License-Identifier: MIT
// The documented bounds hold in a user's unit that is compiled with -ffast-math: the compiler may
// not cancel the correction of the mean there, nor drop the tests for what does not fit.
#include "../support/error_units.hpp"
#include "../support/hard_rows.hpp"
#include "../support/oracle.hpp"
#include "../support/random_tokens.hpp"
#include "calls.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

namespace tokennorm::test {
namespace {

template <class Scalar>
class FastMath : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(FastMath, Scalars);

constexpr Index channel_counts[] = {1, 7, 17, 100, 257, 768};

TYPED_TEST(FastMath, KeepsTheBounds) {
  const ErrorUnits units = ErrorUnits::of<TypeParam>();
  for (const double epsilon : {0.0, 1e-5}) {
    for (const Index channels : channel_counts) {
      const auto rows = hard_rows<TypeParam>(channels);
      const auto x = stacked<TokenMatrix<TypeParam>>(rows);
      const auto dy = random_normal<TokenMatrix<TypeParam>>({x.rows(), channels}, Seed{901});
      const LayerNorm<TypeParam> norm(channels, {.epsilon = epsilon});
      const auto step = fast_math_step(norm, x, dy);
      const NormSpec spec{.centre = true, .epsilon = epsilon};
      const ForwardOracle forward = forward_oracle(spec, exact(x));
      const BackwardOracle backward = backward_oracle(spec, exact(x), exact(dy));
      const ExactMatrix y = exact(step.y), dx = exact(step.dx);
      for (Index t = 0; t < x.rows(); ++t) {
        SCOPED_TRACE(rows[static_cast<std::size_t>(t)].name + ", C = " + std::to_string(channels) +
                     ", epsilon = " + std::to_string(epsilon));
        EXPECT_LE(units.normalized(y.row(t), forward, t), forward_units);
        EXPECT_LE(units.dx(dx.row(t), backward, t), backward_units);
      }
    }
  }
}

TYPED_TEST(FastMath, NaNSpoilsItsOwnTokenAlone) {
  for (const Index channels : channel_counts) {
    auto x = random_normal<TokenMatrix<TypeParam>>({5, channels}, Seed{902});
    const auto dy = random_normal<TokenMatrix<TypeParam>>({5, channels}, Seed{903});
    const LayerNorm<TypeParam> norm(channels);
    const auto clean = fast_math_step(norm, x, dy);
    x(2, channels / 2) = std::numeric_limits<TypeParam>::quiet_NaN();
    const auto spoilt = fast_math_step(norm, x, dy);
    for (Index t = 0; t < 5; ++t) {
      SCOPED_TRACE(t);
      if (t == 2) {
        EXPECT_TRUE(exact(spoilt.y.row(t)).array().isNaN().all());
        EXPECT_TRUE(exact(spoilt.dx.row(t)).array().isNaN().all());
      } else {
        EXPECT_EQ(exact(spoilt.y.row(t)), exact(clean.y.row(t)));
        EXPECT_EQ(exact(spoilt.dx.row(t)), exact(clean.dx.row(t)));
      }
    }
  }
}

}  // namespace
}  // namespace tokennorm::test

// SPDX-License-Identifier: MIT
// The documented bounds hold in a user's unit that is compiled with -ffast-math: the compiler may
// not cancel the correction of the mean there, nor drop the tests for what does not fit.
#include "../support/hard_rows.hpp"
#include "../support/oracle.hpp"
#include "../support/random_tokens.hpp"
#include "../support/worst_case.hpp"
#include "calls.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace tokennorm::test {
namespace {

template <class Scalar>
class FastMath : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(FastMath, Scalars);

constexpr Index channel_counts[] = {1, 7, 17, 100, 257, 768};
constexpr long double forward_units = 4, backward_units = 8;

TYPED_TEST(FastMath, KeepsTheBounds) {
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
        SCOPED_TRACE(rows[static_cast<std::size_t>(t)].name);
        long double worst = 0, worst_dx = 0;
        const long double size = unit<TypeParam>() * std::fmax(1.0L, forward.largest(t));
        for (Index c = 0; c < channels; ++c) {
          worst = std::fmax(worst, units_of_error(y(t, c), forward.normalized(t, c), size));
          // Where dx itself is near the ends of the range, backward_accuracy.cpp judges it.
          const bool ordinary = backward.rstd(t) > 1e-20L && backward.rstd(t) < 1e20L;
          if (ordinary) {
            worst_dx = std::fmax(worst_dx, units_of_error(dx(t, c), backward.dx(t, c),
                                                          unit<TypeParam>() * backward.dx_size(t)));
          }
        }
        EXPECT_LE(worst, forward_units) << "C = " << channels << ", epsilon = " << epsilon;
        EXPECT_LE(worst_dx, backward_units) << "C = " << channels << ", epsilon = " << epsilon;
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

// SPDX-License-Identifier: MIT
// Constant rows, rows at the ends of the range, and the promise that no finite row gives NaN.
#include "../support/edge_shapes.hpp"
#include "../support/hard_rows.hpp"
#include "../support/worst_case.hpp"
#include "exact_step.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace tokennorm::test {
namespace {

template <class TypedCase>
class NumericEdges : public ::testing::Test {
 protected:
  using Scalar = typename TypedCase::Scalar;
  using Matrix = typename TypedCase::RowMajor;

  /// Every row of this matrix has σ² = 0 for the kind: constants, or only zeros.
  static Matrix rows_without_spread(Index channels) {
    Matrix x(6, channels);
    const long double values[] = {0.1L,
                                  -1e4L,
                                  largest<Scalar>() / 3,
                                  largest<Scalar>(),
                                  8 * smallest_normal<Scalar>(),
                                  smallest_subnormal<Scalar>()};
    for (Index t = 0; t < 6; ++t)
      x.row(t).setConstant(TypedCase::Kind::centred ? finite<Scalar>(values[t])
                                                    : Scalar(t % 2 == 0 ? 0.0f : -0.0f));
    return x;
  }
};

TYPED_TEST_SUITE(NumericEdges, AllCases, CaseName);

TYPED_TEST(NumericEdges, RowWithoutSpreadAndEpsilonIsZeroWithoutGradient) {
  using Kind = typename TypeParam::Kind;
  for (const Index channels : few_channels()) {
    SCOPED_TRACE(channels);
    const auto x = this->rows_without_spread(channels);
    const auto dy = random_normal<typename TypeParam::RowMajor>({6, channels}, Seed{702});
    const auto norm = random_norm<TypeParam>(channels, Seed{701}, affine_options<Kind>(0));
    const ExactMatrix shift = exact_vector(norm.shift()).transpose();
    for (const ExactStep& step : exact_steps_in_both_orders(norm, x, dy)) {
      SCOPED_TRACE(step.order);
      EXPECT_EQ(step.y, shift.replicate(6, 1));  // x̂ = 0 leaves β
      EXPECT_TRUE(step.rstd.isZero(0));
      EXPECT_TRUE(step.dx.isZero(0));
      EXPECT_TRUE(step.scale.isZero(0));
      EXPECT_FALSE(step.shift.hasNaN());
    }
    const typename TypeParam::Norm plain(channels, plain_options<Kind>(0));
    EXPECT_TRUE(exact(plain(x)).isZero(0));
  }
}

TYPED_TEST(NumericEdges, ConstantRowGivesTheShiftToWithinTheBound) {
  using Kind = typename TypeParam::Kind;
  if (!Kind::centred) GTEST_SKIP() << "RMSNorm does not remove the mean";
  const Format format = format_of<typename TypeParam::Scalar>();
  const long double u = unit<typename TypeParam::Scalar>();
  for (const Index channels : edge_channels()) {
    if (channels > 5000) continue;
    SCOPED_TRACE(channels);
    const auto x = this->rows_without_spread(channels);
    for (const double epsilon : {1e-12, 1e-5}) {
      const auto norm = random_norm<TypeParam>(channels, Seed{703}, affine_options<Kind>(epsilon));
      const ExactVector scale = exact_vector(norm.scale()), shift = exact_vector(norm.shift());
      for (const ExactStep& step : exact_steps_in_both_orders(norm, x, x))
        for (Index t = 0; t < x.rows(); ++t)
          for (Index c = 0; c < channels; ++c) {
            const long double bound = u * (4 * std::fabs(scale(c)) + std::fabs(shift(c)));
            ASSERT_TRUE(rounds_from(format, step.y(t, c), shift(c), bound))
                << "y(" << t << ", " << c << ") is " << step.y(t, c) << ", shift " << shift(c)
                << ", " << step.order;
          }
    }
  }
}

TYPED_TEST(NumericEdges, FiniteRowNeverGivesNaN) {
  ManyExpectations expectations;
  for (const Index channels : {1, 2, 3, 4, 7, 8, 16, 17, 33, 64, 100, 129, 333, 768, 4097}) {
    if (channels > longest_row) continue;
    const auto rows = hard_rows<typename TypeParam::Scalar>(channels, Seed{704});
    const auto x = stacked<typename TypeParam::RowMajor>(rows);
    const auto dy = random_normal<typename TypeParam::RowMajor>({x.rows(), channels}, Seed{706});
    for (const double epsilon : {0.0, 1e-5}) {
      const auto norm = random_norm<TypeParam>(channels, Seed{705},
                                               affine_options<typename TypeParam::Kind>(epsilon));
      for (const ExactStep& step : exact_steps_in_both_orders(norm, x, dy)) {
        EXPECT_FALSE(step.scale.hasNaN() || step.shift.hasNaN());
        for (Index t = 0; t < x.rows(); ++t) {
          const bool good = step.y.row(t).allFinite() && !step.dx.row(t).hasNaN() &&
                            !std::isnan(step.rstd(t)) &&
                            (step.mean.size() == 0 || !std::isnan(step.mean(t)));
          expectations.expect(good, [&] {
            return "row \"" + rows[static_cast<std::size_t>(t)].name +
                   "\", C = " + std::to_string(channels) + ", " + step.order;
          });
        }
      }
    }
  }
}

TYPED_TEST(NumericEdges, LargestIncomingGradientGivesNoNaN) {
  using Value = typename TypeParam::Scalar;
  using Tokens = typename TypeParam::RowMajor;
  for (const Index channels : {2, 16, 33, 100}) {
    SCOPED_TRACE(channels);
    const Tokens x = random_normal<Tokens>({5, channels}, Seed{707}, 0, 10);
    Tokens dy = random_normal<Tokens>({5, channels}, Seed{708});
    for (Index i = 0; i < dy.size(); ++i)
      dy.data()[i] =
          finite<Value>(dy.data()[i] > Value(0) ? largest<Value>() / 2 : -largest<Value>() / 2);
    dy.row(0).setConstant(finite<Value>(largest<Value>()));
    const typename TypeParam::Norm norm(channels);
    Tokens y, dx;
    typename TypeParam::Statistics stats;
    typename TypeParam::Gradients g;
    norm.normalize(x, y, stats);
    norm.backpropagate(x, stats, dy, dx, g);
    EXPECT_FALSE(exact(dx).hasNaN());
  }
}

TYPED_TEST(NumericEdges, OneChannelIsItsSignOrZero) {
  using Tokens = typename TypeParam::RowMajor;
  Tokens x(3, 1);
  x << typename TypeParam::Scalar(5), typename TypeParam::Scalar(-2), typename TypeParam::Scalar(0);
  const typename TypeParam::Norm norm(1, plain_options<typename TypeParam::Kind>(0));
  const ExactMatrix y = exact(norm(x));
  const long double one = TypeParam::Kind::centred ? 0 : 1;
  EXPECT_EQ(y(0, 0), one);
  EXPECT_EQ(y(1, 0), -one);
  EXPECT_EQ(y(2, 0), 0);
}

// So many terms of the largest number are added up that the roundings, all of them upwards, carry
// the mean, in x87's format, to where it would be rounded to infinity.
TEST(LongRowOfTheLargestDoubles, HasThemAsItsMean) {
  constexpr double most = std::numeric_limits<double>::max();
  for (const double value : {most, -most}) {
    const TokenMatrix<double> x = TokenMatrix<double>::Constant(1, 1 << 21, value);
    const LayerNorm<double> norm(x.cols());
    TokenMatrix<double> y;
    TokenStatistics<double> stats;
    norm.normalize(x, y, stats);
    EXPECT_TRUE(y.isZero(0));
    EXPECT_EQ(stats.mean(0), value);
  }
}

}  // namespace
}  // namespace tokennorm::test

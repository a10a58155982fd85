// SPDX-License-Identifier: MIT
// The accuracy that norm/layer_norm.hpp documents, over every hard row.
#include "forward_accuracy.hpp"

namespace tokennorm::test {
namespace {

template <class Scalar>
class LayerNormAccuracy : public ::testing::Test {};

struct ScalarName {
  template <class Scalar>
  static std::string GetName(int) {
    return scalar_name<Scalar>();
  }
};
TYPED_TEST_SUITE(LayerNormAccuracy, AllScalars, ScalarName);

TYPED_TEST(LayerNormAccuracy, HardRowsAreWithinFourUnits) {
  expect_forward_accuracy<LayerKind, TypeParam>();
}

/// The first values, whose mean is the pivot, are zero and the others equal: the square of their
/// deviation is rounded alike in all lanes, and most of it cancels in the variance.
template <class Scalar>
void expect_accuracy_far_from_the_pivot() {
  constexpr Index channels = 640, zeros = 32;
  const LayerNorm<Scalar> norm(channels, plain_options<LayerKind>(0));
  TokenMatrix<Scalar> x = TokenMatrix<Scalar>::Zero(400, channels);
  Random random(Seed{7});
  for (Index t = 0; t < x.rows(); ++t)
    x.row(t).tail(channels - zeros).setConstant(static_cast<Scalar>(random.uniform(1, 2)));
  const auto y = norm(x);
  const ForwardOracle expected = forward_oracle(spec_of(norm.options()), exact(x));
  for (Index t = 0; t < x.rows(); ++t) {
    const long double size = unit<Scalar>() * std::fmax(1.0L, expected.largest(t));
    for (const Index c : {Index{0}, channels - 1})
      EXPECT_LE(units_of_error(to_exact(y(t, c)), expected.normalized(t, c), size), forward_units)
          << x(t, channels - 1);
  }
}

TEST(LayerNormPivots, RowsFarFromThemAreWithinFourUnits) {
  expect_accuracy_far_from_the_pivot<float>();
  if constexpr (judges_double) expect_accuracy_far_from_the_pivot<double>();
}

TYPED_TEST(LayerNormAccuracy, ScaleAndShiftAddOneRoundingEach) {
  expect_affine_accuracy<LayerKind, TypeParam>();
}

TYPED_TEST(LayerNormAccuracy, StatisticsAreAsAccurate) {
  expect_statistics_accuracy<LayerKind, TypeParam>();
}

/// Of whole numbers, whose sums are exact; float does not hold their mean.
TEST(LayerNormStatistics, InDoubleAreNotRoundedToFloat) {
  const LayerNorm<float> norm(4);
  TokenMatrix<float> x(1, 4), y;
  x << 0x1p22f, 0x1p22f + 1, 0x1p22f + 3, 0x1p22f + 7;  // σ² = 7.1875
  TokenStatistics<double> stats;
  norm.normalize(x, y, stats);
  EXPECT_EQ(stats.mean(0), 0x1p22 + 2.75);
  EXPECT_NEAR(stats.rstd(0), 1 / std::sqrt(7.1875 + 1e-5), 1e-15);
}

}  // namespace
}  // namespace tokennorm::test

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

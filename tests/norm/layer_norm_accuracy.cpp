// SPDX-License-Identifier: MIT
// The accuracy that norm/layer_norm.hpp documents, over every hard row.
#include "forward_accuracy.hpp"

namespace tokennorm::test {
namespace {

template <class Scalar>
class LayerNormAccuracy : public ::testing::Test {};

using Scalars = ::testing::Types<float, double, Eigen::half, Eigen::bfloat16>;
struct ScalarName {
  template <class Scalar>
  static std::string GetName(int) {
    return scalar_name<Scalar>();
  }
};
TYPED_TEST_SUITE(LayerNormAccuracy, Scalars, ScalarName);

TYPED_TEST(LayerNormAccuracy, HardRowsAreWithinFourUnits) {
  expect_forward_accuracy<LayerKind, TypeParam>();
}

TYPED_TEST(LayerNormAccuracy, ScaleAndShiftAddOneRoundingEach) {
  expect_affine_accuracy<LayerKind, TypeParam>();
}

TYPED_TEST(LayerNormAccuracy, StatisticsAreAsAccurate) {
  expect_statistics_accuracy<LayerKind, TypeParam>();
}

}  // namespace
}  // namespace tokennorm::test

// SPDX-License-Identifier: MIT
// The accuracy that norm/rms_norm.hpp documents, over every hard row.
#include "forward_accuracy.hpp"

namespace tokennorm::test {
namespace {

template <class Scalar>
class RMSNormAccuracy : public ::testing::Test {};

struct ScalarName {
  template <class Scalar>
  static std::string GetName(int) {
    return scalar_name<Scalar>();
  }
};
TYPED_TEST_SUITE(RMSNormAccuracy, AllScalars, ScalarName);

TYPED_TEST(RMSNormAccuracy, HardRowsAreWithinFourUnits) {
  expect_forward_accuracy<RMSKind, TypeParam>();
}

TYPED_TEST(RMSNormAccuracy, ScaleAndShiftAddOneRoundingEach) {
  expect_affine_accuracy<RMSKind, TypeParam>();
}

TYPED_TEST(RMSNormAccuracy, StatisticsAreAsAccurate) {
  expect_statistics_accuracy<RMSKind, TypeParam>();
}

TYPED_TEST(RMSNormAccuracy, PartialStatisticsAreWithinFourUnits) {
  using C = Case<RMSKind, TypeParam>;
  for (const Index channels : {2, 17, 100, 768}) {
    if (channels > longest_row) continue;
    const auto rows = hard_rows<TypeParam>(channels);
    const auto x = stacked<typename C::RowMajor>(rows);
    for (const Index counted : {Index{1}, channels / 2, channels - 1, channels}) {
      auto options = plain_options<RMSKind>(1e-5);
      options.statistics_channels = counted;
      const typename C::Norm norm(channels, options);
      const ForwardOracle expected = forward_oracle(spec_of(options), exact(x));
      const auto y = norm(x);
      for (Index t = 0; t < y.rows(); ++t) {
        const long double bound =
            forward_units * unit<TypeParam>() * std::fmax(1.0L, expected.largest(t));
        Index wrong = 0;
        for (Index c = 0; c < channels; ++c)
          wrong += !rounds_from(y(t, c), expected.y(t, c), bound);
        EXPECT_EQ(wrong, 0) << "C = " << channels << ", statistics over " << counted << ", row \""
                            << rows[static_cast<std::size_t>(t)].name << '"';
      }
    }
  }
}

}  // namespace
}  // namespace tokennorm::test

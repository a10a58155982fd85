// SPDX-License-Identifier: MIT
// The accuracy that norm/layer_norm.hpp documents, over every hard row, and over rows that are
// searched for.
#include "forward_accuracy.hpp"

#include <cmath>
#include <cstdint>
#include <string>
#include <type_traits>

namespace tokennorm::test {
namespace {

inline constexpr long double searched_units = 8;

/// Two values of nearly one size about a mean near zero: all x̂ are ±1, and what is rounded in one
/// lane is rounded alike in the others.
template <class Row>
void set_two_values(Random& random, Row&& row) {
  using Scalar = typename std::remove_cvref_t<Row>::Scalar;
  const double size = std::exp2(random.uniform()), share = random.uniform();
  const double mean = std::exp2(-20 * random.uniform()) * random.uniform(-1, 1);
  const double jitter = std::exp2(-50 * random.uniform());
  const bool in_turn = random.uniform() < 0.5;
  for (Index c = 0; c < row.size(); ++c) {
    const bool is_first = in_turn ? c % 2 == 0 : random.uniform() < share;
    const double value = size * (1 + jitter * random.uniform(-0.5, 0.5));
    row(c) = static_cast<Scalar>((is_first ? value : -value) + mean);
  }
}

/// The row moved, stretched, or changed in one channel, a little.
template <class Row>
void change(Random& random, Row&& row) {
  using Scalar = typename std::remove_cvref_t<Row>::Scalar;
  const double step = random.uniform(-0.5, 0.5) * std::exp2(-40 * random.uniform());
  const double what = random.uniform();
  const auto factor = static_cast<Scalar>(1 + step);
  if (what < 0.5) {
    row.array() += static_cast<Scalar>(step);
  } else if (what < 0.75) {
    row *= factor;
  } else {
    row(static_cast<Index>(random.uniform(0, static_cast<double>(row.size())))) *= factor;
  }
}

/// Every other batch is changes of the worst row so far.
template <class Scalar>
void expect_searched_accuracy() {
  using C = Case<LayerKind, Scalar>;
  WorstCase worst;
  for (const Index channels : {64, 96, 128, 256}) {
    const typename C::Norm norm(channels, plain_options<LayerKind>(0));
    Random random(Seed{static_cast<std::uint64_t>(channels)});
    typename C::RowMajor x(64, channels), found(1, channels);
    long double most = 0;
    for (int batch = 0; batch < 120; ++batch) {
      for (Index t = 0; t < x.rows(); ++t) {
        if (batch % 2 == 0) {
          set_two_values(random, x.row(t));
        } else {
          x.row(t) = found;
          change(random, x.row(t));
        }
      }
      const auto y = norm(x);
      const ForwardOracle expected = forward_oracle(spec_of(norm.options()), exact(x));
      for (Index t = 0; t < x.rows(); ++t) {
        const long double size = unit<Scalar>() * std::fmax(1.0L, expected.largest(t));
        long double units = 0;
        for (Index c = 0; c < channels; ++c) {
          units =
              std::fmax(units, units_of_error(to_exact(y(t, c)), expected.normalized(t, c), size));
        }
        if (units > most) {
          most = units;
          found = x.row(t);
        }
      }
    }
    worst.see(most, channels, 0, "searched for");
    EXPECT_LE(most, searched_units) << "C = " << channels;
  }
  worst.report(std::string("LayerNorm<") + scalar_name<Scalar>() + "> forward, searched");
}

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

TEST(LayerNormSearch, RowsSearchedForAreWithinEightUnits) {
  expect_searched_accuracy<float>();
  expect_searched_accuracy<double>();
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

TEST(LayerNormSearch, RowsFarFromTheirPivotsAreWithinFourUnits) {
  expect_accuracy_far_from_the_pivot<float>();
  expect_accuracy_far_from_the_pivot<double>();
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

// SPDX-License-Identifier: MIT
// x, y and the parameters may each be of another scalar type. Every pair of types of two of them is
// met here, with one of the third. Where x or y is double the arithmetic may be, and the result is
// at least as good as in float.
#include "../support/exact_bits.hpp"
#include "../support/random_tokens.hpp"
#include "../support/worst_case.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>

namespace tokennorm::test {
namespace {

using Eigen::bfloat16;
using Eigen::half;

constexpr Index channels = 37;

template <class Norm>
Norm filled(Norm norm) {
  using Vector = std::decay_t<decltype(norm.scale())>;
  norm.scale() = random_normal<Vector>({channels, 1}, Seed{400}, 0.25);
  norm.shift() = random_normal<Vector>({channels, 1}, Seed{401});
  return norm;
}

template <class Kind, class Param, class X, class Y, int Order = Eigen::RowMajor>
void expect_matches_oracle() {
  SCOPED_TRACE(scalar_name<X>() + " to " + scalar_name<Y>() + ", parameters " +
               scalar_name<Param>());
  const auto norm = filled(typename Kind::template Norm<Param>(channels, affine_options<Kind>()));
  const auto x = random_normal<Eigen::Matrix<X, Eigen::Dynamic, Eigen::Dynamic, Order>>(
      {6, channels}, Seed{402}, 1, 2);
  const ForwardOracle expected = forward_oracle_of(norm, exact(x));
  const ExactVector factor = exact_vector(norm.scale());
  const bool all_double = std::is_same_v<X, double> && std::is_same_v<Y, double>;
  const long double u = all_double ? unit<double>() : unit<float>();
  Eigen::Matrix<Y, Eigen::Dynamic, Eigen::Dynamic, Order> y;
  norm(x, y);
  for (Index t = 0; t < x.rows(); ++t)
    for (Index c = 0; c < channels; ++c) {
      const long double bound =
          u * (std::fabs(factor(c)) * 6 * std::fmax(1.0L, expected.largest(t)) +
               std::fabs(expected.y(t, c)));
      EXPECT_TRUE(rounds_from(y(t, c), expected.y(t, c), bound))
          << "y(" << t << ", " << c << ") is " << to_exact(y(t, c)) << ", expected "
          << expected.y(t, c);
    }
}

TEST(MixedScalars, FloatInMatchesTheOracle) {
  expect_matches_oracle<LayerKind, double, float, double>();
  expect_matches_oracle<RMSKind, half, float, half>();
  expect_matches_oracle<LayerKind, bfloat16, float, bfloat16>();
  expect_matches_oracle<LayerKind, bfloat16, float, float, Eigen::ColMajor>();
}

TEST(MixedScalars, DoubleInMatchesTheOracle) {
  expect_matches_oracle<RMSKind, double, double, float>();
  expect_matches_oracle<LayerKind, float, double, double>();
  expect_matches_oracle<LayerKind, bfloat16, double, half>();
  expect_matches_oracle<RMSKind, half, double, bfloat16, Eigen::ColMajor>();
}

TEST(MixedScalars, HalfInMatchesTheOracle) {
  expect_matches_oracle<LayerKind, float, half, half>();
  expect_matches_oracle<LayerKind, half, half, float>();
  expect_matches_oracle<RMSKind, bfloat16, half, double>();
  expect_matches_oracle<RMSKind, double, half, bfloat16, Eigen::ColMajor>();
}

TEST(MixedScalars, BFloat16InMatchesTheOracle) {
  expect_matches_oracle<LayerKind, float, bfloat16, bfloat16>();
  expect_matches_oracle<RMSKind, bfloat16, bfloat16, float>();
  expect_matches_oracle<LayerKind, half, bfloat16, double>();
  expect_matches_oracle<RMSKind, double, bfloat16, half, Eigen::ColMajor>();
}

TEST(MixedScalars, FusedSumIsRoundedToTheTypeOfTheSum) {
  const auto norm = filled(LayerNorm<float>(channels));
  const auto residual = random_normal<TokenMatrix<float>>({6, channels}, Seed{403});
  const auto update = random_normal<TokenMatrix<bfloat16>>({6, channels}, Seed{404});
  TokenMatrix<bfloat16> sum;
  TokenMatrix<float> y;
  norm.normalize_sum(residual, update, sum, y);
  for (Index i = 0; i < sum.size(); ++i)
    EXPECT_EQ(to_exact(sum.data()[i]),
              rounded_to<bfloat16>(to_exact(residual.data()[i]) + to_exact(update.data()[i])));
  const ForwardOracle expected = forward_oracle_of(norm, exact(sum));
  const long double size = 1 + exact_vector(norm.scale()).cwiseAbs().maxCoeff();
  EXPECT_LE((exact(y) - expected.y).cwiseAbs().maxCoeff(),
            8 * unit<float>() * size * expected.largest.maxCoeff());
}

// So few channels that the pivots are taken from all of them, in whole vectors and parts of one.
TEST(MixedScalars, FusedSumIsTheAdditionThenTheNormBitForBit) {
  for (Index few = 1; few <= 40; ++few) {
    SCOPED_TRACE(few);
    const LayerNorm<float> norm(few);
    const auto residual = random_normal<TokenMatrix<float>>({41, few}, Seed{410}, 1, 2);
    const auto update = random_normal<TokenMatrix<half>>({41, few}, Seed{411}, 1, 2);
    TokenMatrix<float> sum, y;
    norm.normalize_sum(residual, update, sum, y);
    EXPECT_TRUE(same_bits(y, norm(sum)));
  }
}

TEST(MixedScalars, BackpropagateMatchesTheOracle) {
  const auto norm = filled(LayerNorm<bfloat16>(channels));
  const auto x = random_normal<TokenMatrix<float>>({6, channels}, Seed{405}, 1, 2);
  const auto dy = random_normal<TokenMatrix<bfloat16>>({6, channels}, Seed{406});
  TokenMatrix<float> y;
  TokenMatrix<half> dx;
  TokenStatistics<float> stats;
  NormGradients<float> g;
  norm.normalize(x, y, stats);
  norm.backpropagate(x, stats, dy, dx, g);
  const BackwardOracle expected = backward_oracle_of(norm, exact(x), exact(dy));
  for (Index t = 0; t < 6; ++t)
    for (Index c = 0; c < channels; ++c)
      EXPECT_TRUE(
          rounds_from(dx(t, c), expected.dx(t, c), 8 * unit<float>() * expected.dx_size(t)));
  for (Index c = 0; c < channels; ++c) {
    EXPECT_LE(units_of_error(to_exact(g.scale(c)), expected.scale(c),
                             unit<float>() * expected.scale_size(c)),
              8);
    EXPECT_LE(units_of_error(to_exact(g.shift(c)), expected.shift(c),
                             unit<float>() * expected.shift_size(c)),
              8);
  }
}

TEST(MixedScalars, OtherTypesOnTheSameMemoryAreRefused) {
  const auto norm = filled(LayerNorm<bfloat16>(channels));
  Eigen::VectorXf buffer = random_vector<float>(1000, Seed{407});
  const Eigen::VectorXf before = buffer;
  const auto x = tokens(buffer.data(), 6, channels);
  auto over_x = tokens(reinterpret_cast<bfloat16*>(buffer.data()), 6, channels);
  auto over_last =
      tokens(reinterpret_cast<bfloat16*>(buffer.data() + 6 * channels) - 1, 6, channels);
  auto beyond = tokens(reinterpret_cast<bfloat16*>(buffer.data() + 6 * channels), 6, channels);
  EXPECT_THROW(norm(x, over_x), std::invalid_argument);
  EXPECT_THROW(norm(x, over_last), std::invalid_argument);
  EXPECT_TRUE(same_bits(buffer, before));
  EXPECT_NO_THROW(norm(x, beyond));
}

}  // namespace
}  // namespace tokennorm::test

// SPDX-License-Identifier: MIT
// Options, defaults and accessors.
#include "../support/exact_bits.hpp"
#include "../support/random_tokens.hpp"
#include "../support/worst_case.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>

namespace tokennorm::test {
namespace {

/// y against the oracle with the norm's own options and parameters, within the affine bound.
template <class Norm, class Matrix>
void expect_matches_oracle(const Norm& norm, const Matrix& x) {
  using Scalar = typename Matrix::Scalar;
  const ForwardOracle expected = forward_oracle_of(norm, exact(x));
  const ExactVector factor =
      applied_scale(spec_of(norm.options()), exact_vector(norm.scale()), x.cols());
  const Matrix y = norm(x);
  for (Index t = 0; t < x.rows(); ++t)
    for (Index c = 0; c < x.cols(); ++c) {
      const long double bound =
          unit<Scalar>() * (std::fabs(factor(c)) * 6 * std::fmax(1.0L, expected.largest(t)) +
                            2 * std::fabs(expected.y(t, c)));
      EXPECT_TRUE(rounds_from(y(t, c), expected.y(t, c), bound))
          << "y(" << t << ", " << c << ") is " << to_exact(y(t, c)) << ", expected "
          << expected.y(t, c);
    }
}

template <class TypedCase>
class Options : public ::testing::Test {};
TYPED_TEST_SUITE(Options, AllCases, CaseName);

TYPED_TEST(Options, EveryCombinationMatchesTheOracle) {
  const auto x = random_normal<typename TypeParam::RowMajor>({5, 33}, Seed{201}, 1, 2);
  for (const bool scale : {false, true})
    for (const bool shift : {false, true})
      for (const double offset : {0.0, 1.0, -0.5})
        for (const double epsilon : {0.0, 1e-12, 1e-5, 0.1, 10.0}) {
          typename TypeParam::Options options;
          options.epsilon = epsilon;
          options.scale = scale;
          options.shift = shift;
          options.scale_offset = offset;
          SCOPED_TRACE(::testing::Message()
                       << "scale " << scale << ", shift " << shift << ", scale offset " << offset
                       << ", epsilon " << epsilon);
          const auto norm = random_norm<TypeParam>(33, Seed{202}, options);
          EXPECT_EQ(norm.scale().size(), scale ? 33 : 0);
          EXPECT_EQ(norm.shift().size(), shift ? 33 : 0);
          expect_matches_oracle(norm, x);
          expect_matches_oracle(norm, typename TypeParam::ColMajor(x));
        }
}

TYPED_TEST(Options, NewNormHasUnitFactorAndZeroShift) {
  using Scalar = typename TypeParam::Scalar;
  for (const double offset : {0.0, 1.0, 0.25}) {
    auto options = affine_options<typename TypeParam::Kind>();
    options.scale_offset = offset;
    const typename TypeParam::Norm norm(9, options);
    ASSERT_EQ(norm.scale().size(), 9);
    ASSERT_EQ(norm.shift().size(), 9);
    for (Index c = 0; c < 9; ++c) {
      EXPECT_EQ(norm.scale()(c), Scalar(1 - offset));
      EXPECT_EQ(norm.shift()(c), Scalar(0));
    }
  }
}

TYPED_TEST(Options, ParametersAreWrittenThroughAccessors) {
  typename TypeParam::Norm norm(3, affine_options<typename TypeParam::Kind>());
  using Vector = typename TypeParam::Vector;
  static_assert(std::is_same_v<decltype(norm.scale()), Vector&>);
  static_assert(std::is_same_v<decltype(std::as_const(norm).shift()), const Vector&>);
  norm.scale().setConstant(typename TypeParam::Scalar(2));
  norm.shift()(1) = typename TypeParam::Scalar(5);
  const auto x = random_normal<typename TypeParam::RowMajor>({2, 3}, Seed{203});
  expect_matches_oracle(norm, x);
}

TEST(LayerNormOptions, DefaultsAreThoseOfTheContract) {
  const LayerNormOptions options;
  EXPECT_EQ(options.epsilon, 1e-5);
  EXPECT_TRUE(options.scale);
  EXPECT_TRUE(options.shift);
  EXPECT_EQ(options.scale_offset, 0);
  const LayerNorm<> norm(4);
  static_assert(std::is_same_v<LayerNorm<>, LayerNorm<float, Eigen::Dynamic>>);
  EXPECT_EQ(norm.channels(), 4);
  EXPECT_EQ(norm.options().epsilon, 1e-5);
  EXPECT_EQ(norm.scale(), Eigen::VectorXf::Ones(4));
  EXPECT_EQ(norm.shift(), Eigen::VectorXf::Zero(4));
}

TEST(RMSNormOptions, DefaultsAreThoseOfTheContract) {
  const RMSNormOptions options;
  EXPECT_EQ(options.epsilon, 1e-6);
  EXPECT_TRUE(options.scale);
  EXPECT_FALSE(options.shift);
  EXPECT_EQ(options.scale_offset, 0);
  EXPECT_EQ(options.statistics_channels, 0);
  const RMSNorm<> norm(4);
  EXPECT_EQ(norm.channels(), 4);
  EXPECT_EQ(norm.options().epsilon, 1e-6);
  EXPECT_EQ(norm.scale(), Eigen::VectorXf::Ones(4));
  EXPECT_EQ(norm.shift().size(), 0);
}

TEST(NormOptions, ReadWellAsDesignatedInitializers) {
  const LayerNorm<float> layer(768, {.epsilon = 1e-12});
  EXPECT_EQ(layer.options().epsilon, 1e-12);
  const RMSNorm<float> rms(768, {.epsilon = 1e-5, .scale_offset = 1});
  EXPECT_EQ(rms.options().scale_offset, 1);
  EXPECT_EQ(rms.scale(), Eigen::VectorXf::Zero(768));
}

TEST(NormOptions, ScaleOffsetIsAddedInTheAccumulator) {
  // 1 + 2⁻¹⁰ is no bfloat16; added in float it is exact.
  using Scalar = Eigen::bfloat16;
  RMSNorm<Scalar> norm(2, {.epsilon = 0, .scale_offset = 1});
  norm.scale().setConstant(Scalar(0x1p-10f));
  TokenMatrix<float> x(1, 2), y;
  x << 1, -1;
  norm(x, y);
  EXPECT_EQ(y(0, 0), 1 + 0x1p-10f);
}

TEST(NormOptions, EpsilonStandsInsideTheRootBesideTheBiasedVariance) {
  const LayerNorm<double> layer(2, {.epsilon = 3});
  Eigen::RowVector2d x(-1, 1);  // σ² = 1
  EXPECT_EQ(layer(x), Eigen::RowVector2d(-0.5, 0.5));
  const RMSNorm<double> rms(2, {.epsilon = 5.25});
  x << 2, 2.5;  // mean of squares 5.125
  EXPECT_NEAR(rms(x)(0), 2 / std::sqrt(10.375), 1e-15);
}

TEST(PartialRMSNorm, MatchesTheOracleForwardAndBackward) {
  for (const Index channels : {2, 17, 33, 100})
    for (const Index counted : {Index{1}, Index{2}, channels / 2, channels - 1, channels}) {
      SCOPED_TRACE(::testing::Message() << counted << " of " << channels << " channels");
      using Partial = Case<RMSKind, float>;
      auto options = affine_options<RMSKind>();
      options.statistics_channels = counted;
      const auto norm = random_norm<Partial>(channels, Seed{211}, options);
      const auto x = random_normal<TokenMatrix<float>>({5, channels}, Seed{212}, 1);
      const auto dy = random_normal<TokenMatrix<float>>({5, channels}, Seed{213});
      expect_matches_oracle(norm, x);
      expect_matches_oracle(norm, Eigen::MatrixXf(x));
      const BackwardOracle expected = backward_oracle_of(norm, exact(x), exact(dy));
      const auto check = [&](const auto& tokens, const auto& gradient) {
        auto y = tokens, dx = tokens;
        TokenStatistics<float> stats;
        NormGradients<float> g;
        norm.normalize(tokens, y, stats);
        norm.backpropagate(tokens, stats, gradient, dx, g);
        for (Index t = 0; t < 5; ++t)
          for (Index c = 0; c < channels; ++c)
            EXPECT_LE(units_of_error(to_exact(dx(t, c)), expected.dx(t, c),
                                     unit<float>() * expected.dx_size(t)),
                      8);
        for (Index c = 0; c < channels; ++c)
          EXPECT_LE(units_of_error(to_exact(g.scale(c)), expected.scale(c),
                                   unit<float>() * expected.scale_size(c)),
                    8);
      };
      check(x, dy);
      check(Eigen::MatrixXf(x), Eigen::MatrixXf(dy));
    }
}

TEST(PartialRMSNorm, AllChannelsNamedIsTheSameAsNone) {
  const RMSNorm<float> all(33, {.statistics_channels = 33});
  const RMSNorm<float> unnamed(33);
  const auto x = random_normal<TokenMatrix<float>>({5, 33}, Seed{221});
  EXPECT_TRUE(same_bits(all(x), unnamed(x)));
}

}  // namespace
}  // namespace tokennorm::test

// SPDX-License-Identifier: MIT
// The backward bounds, asserted over all hard rows, over many tokens, and at the ends of the range.
#include "backward_accuracy.hpp"

#include "../support/edge_shapes.hpp"
#include "../support/hard_rows.hpp"
#include "../support/random_tokens.hpp"
#include "exact_step.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace tokennorm::test {
namespace {

template <class TypedCase>
class Backward : public ::testing::Test {
 protected:
  static std::string norm_name() {
    return TypedCase::Kind::name + std::string("<") + scalar_name<typename TypedCase::Scalar>() +
           ">";
  }
};

TYPED_TEST_SUITE(Backward, AllCases, CaseName);

TYPED_TEST(Backward, HardRowsAreWithinEightUnits) {
  using Tokens = typename TypeParam::RowMajor;
  auto judge = BackwardAccuracy::of<typename TypeParam::Scalar>();
  for (const Index channels : gradient_channels()) {
    const auto rows = hard_rows<typename TypeParam::Scalar>(channels);
    const auto x = stacked<Tokens>(rows);
    const ExactMatrix exact_x = exact(x);
    for (const double epsilon : {0.0, 1e-5}) {
      if (epsilon > 0 && channels > 1000) continue;
      const auto norm = random_norm<TypeParam>(channels, Seed{5},
                                               affine_options<typename TypeParam::Kind>(epsilon));
      for (const auto& [name, dy] : incoming_gradients<Tokens>(spec_of(norm.options()), exact_x)) {
        if (channels > 1000 && name != "offset" && name != "equal to the output") continue;
        const BackwardOracle expected = backward_oracle_of(norm, exact_x, exact(dy));
        for (const ExactStep& step : exact_steps_in_both_orders(norm, x, dy))
          judge.judge(step, expected, epsilon, name, names_of(rows));
      }
    }
  }
  judge.report(this->norm_name());
}

TYPED_TEST(Backward, ManyTokensDoNotSpoilParameterGradients) {
  // Every term of a column has the same sign, so that a running sum would lose bits.
  using Tokens = typename TypeParam::RowMajor;
  const Shape shape{20000, 24};
  auto x = random_normal<Tokens>(shape, Seed{31}, 0, 0.1);
  for (Index c = 0; c < shape.channels; ++c)
    for (Index t = 0; t < shape.tokens; ++t)
      x(t, c) = finite<typename TypeParam::Scalar>(to_exact(x(t, c)) + (c % 2 == 0 ? 2 : -2));
  const auto dy = random_normal<Tokens>(shape, Seed{32}, 1, 0.1);
  const auto norm = random_norm<TypeParam>(shape.channels);
  const BackwardOracle expected = backward_oracle_of(norm, exact(x), exact(dy));
  auto judge = BackwardAccuracy::of<typename TypeParam::Scalar>();
  const std::vector<std::string> names(static_cast<std::size_t>(shape.tokens), "one of many");
  for (const ExactStep& step : exact_steps_in_both_orders(norm, x, dy))
    judge.judge(step, expected, norm.options().epsilon, "of one sign", names);
  judge.report(this->norm_name() + " over 20000 tokens");
}

TYPED_TEST(Backward, AddsToParameterGradientsAndOverwritesDx) {
  const Shape shape{5, 33};
  const auto x = random_normal<typename TypeParam::RowMajor>(shape, Seed{41});
  const auto dy = random_normal<typename TypeParam::RowMajor>(shape, Seed{42});
  const auto norm = random_norm<TypeParam>(shape.channels);
  typename TypeParam::RowMajor y, once, twice;
  typename TypeParam::Statistics stats;
  typename TypeParam::Gradients single, both;
  norm.normalize(x, y, stats);
  norm.backpropagate(x, stats, dy, once, single);
  norm.backpropagate(x, stats, dy, twice, both);
  twice.setConstant(typename TypeParam::Scalar(1000));
  norm.backpropagate(x, stats, dy, twice, both);
  EXPECT_EQ(twice, once);
  EXPECT_TRUE(both.scale.isApprox(2 * single.scale));
  EXPECT_TRUE(both.shift.isApprox(2 * single.shift));
}

TYPED_TEST(Backward, NormWithoutScaleOrShiftHasNoSuchGradient) {
  using Tokens = typename TypeParam::RowMajor;
  const Shape shape{5, 33};
  const auto x = random_normal<Tokens>(shape, Seed{51});
  const auto dy = random_normal<Tokens>(shape, Seed{52});
  const Format format = format_of<typename TypeParam::Scalar>();
  for (const bool scale : {false, true})
    for (const bool shift : {false, true}) {
      auto options = affine_options<typename TypeParam::Kind>();
      options.scale = scale;
      options.shift = shift;
      const auto norm = random_norm<TypeParam>(shape.channels, Seed{53}, options);
      const BackwardOracle expected = backward_oracle_of(norm, exact(x), exact(dy));
      for (const ExactStep& step : exact_steps_in_both_orders(norm, x, dy)) {
        EXPECT_EQ(step.scale.size(), scale ? shape.channels : 0);
        EXPECT_EQ(step.shift.size(), shift ? shape.channels : 0);
        for (Index t = 0; t < shape.tokens; ++t) {
          const long double bound =
              backward_units * unit<typename TypeParam::Scalar>() * expected.dx_size(t);
          for (Index c = 0; c < shape.channels; ++c)
            EXPECT_TRUE(rounds_from(format, step.dx(t, c), expected.dx(t, c), bound));
        }
      }
    }
}

/// dy near the largest number, of either sign in turn: within the bounds where no sum of float is.
template <class Kind, class Matrix, class Gradient>
void expect_gradients_of_huge_dy() {
  using Norm = typename Kind::template Norm<float>;
  constexpr Index channels = 37;
  const Norm norm(channels, affine_options<Kind>());
  for (const Index tokens : {1, 2, 4, 16, 17, 40, 65, 200}) {
    SCOPED_TRACE(tokens);
    const auto x = random_normal<Matrix>({tokens, channels}, Seed{61}, 0, 1);
    Matrix dy = Matrix::Ones(tokens, channels), y;
    for (Index t = 0; t < tokens; ++t) {
      dy(t, 0) = t % 2 == 0 ? 3e38f : -3e38f;
      dy(t, 5) = 3.4e38f;                              // exact sums beyond float
      dy(t, 7) = t < tokens / 2 ? 3.4e38f : -3.4e38f;  // partial ones, over chunks
      dy(t, 8) = -dy(t, 7);                            // the sum over the channels is not huge
      dy(t, 36) = t == 3 ? 3.4e38f : 1e-3f;
    }
    TokenStatistics<float> stats;
    norm.normalize(x, y, stats);
    const BackwardOracle expected = backward_oracle_of(norm, exact(x), exact(dy));
    for (const char* over : {"nothing", "dy", "x"}) {
      SCOPED_TRACE(std::string("dx over ") + over);
      Matrix x_here = x, dy_here = dy, dx;
      Matrix& to = over[0] == 'd' ? dy_here : over[0] == 'x' ? x_here : dx;
      NormGradients<Gradient> g;
      norm.backpropagate(x_here, stats, dy_here, to, g);
      const auto check = [&](const char* what, const ExactVector& actual, const ExactVector& wanted,
                             const ExactVector& size) {
        for (Index c = 0; c < channels; ++c) {
          const long double bound = backward_units * 0x1p-24L * size(c);
          if (std::fabs(wanted(c)) + bound > largest<Gradient>()) continue;
          EXPECT_LE(std::fabs(actual(c) - wanted(c)), bound) << what << " of channel " << c;
        }
      };
      check("dgamma", exact_vector(g.scale), expected.scale, expected.scale_size);
      check("dbeta", exact_vector(g.shift), expected.shift, expected.shift_size);
    }
  }
}

TEST(GradientAccuracy, SumsOfHugeGradientsAreFiniteWhereTheyShouldBe) {
  using Rows = TokenMatrix<float>;
  expect_gradients_of_huge_dy<LayerKind, Rows, float>();
  expect_gradients_of_huge_dy<LayerKind, Rows, double>();
  expect_gradients_of_huge_dy<RMSKind, Rows, double>();
  expect_gradients_of_huge_dy<LayerKind, Eigen::MatrixXf, float>();
  expect_gradients_of_huge_dy<RMSKind, Eigen::MatrixXf, double>();
}

/// What a partial RMSNorm does not count may be much larger than what it counts: dx too, and its
/// bound with it.
TEST(GradientAccuracy, PartialNormsAreWithinTheirBound) {
  using Partial = Case<RMSKind, float>;
  auto judge = BackwardAccuracy::of<float>();
  for (const Index channels : {9, 33, 300}) {
    for (const Index counted : {1, 2, 8}) {
      auto options = affine_options<RMSKind>(0);
      options.statistics_channels = counted;
      const auto norm = random_norm<Partial>(channels, Seed{62}, options);
      auto x = random_normal<TokenMatrix<float>>({40, channels}, Seed{63});
      for (Index t = 0; t < 40; ++t)
        x.row(t).tail(channels - counted) *= std::exp2(static_cast<float>(t / 2));
      const auto dy = random_normal<TokenMatrix<float>>({40, channels}, Seed{64}, 1);
      const BackwardOracle expected = backward_oracle_of(norm, exact(x), exact(dy));
      const std::vector<std::string> names(40, "larger where it is not counted");
      for (const ExactStep& step : exact_steps_in_both_orders(norm, x, dy))
        judge.judge(step, expected, 0, "offset", names);
    }
  }
  judge.report("RMSNorm<float>, partial,");
}

/// And x̂ so large that its sums overflow in float: dx in its place or not.
template <class Matrix>
void expect_gradients_of_huge_normalized() {
  constexpr Index channels = 5;
  const RMSNorm<float> norm(channels, {.epsilon = 0, .statistics_channels = 1});
  for (const Index tokens : {2, 16, 40, 300}) {
    SCOPED_TRACE(tokens);
    Matrix x = Matrix::Ones(tokens, channels), dy = x, y;
    x.col(3).setConstant(1e36f);
    for (Index t = 0; t < tokens; ++t) dy(t, 3) = t % 2 == 0 ? 1e3f : -1e3f;
    TokenStatistics<float> stats;
    norm.normalize(x, y, stats);
    const BackwardOracle expected = backward_oracle_of(norm, exact(x), exact(dy));
    for (const bool is_in_place : {false, true}) {
      SCOPED_TRACE(is_in_place);
      Matrix x_here = x, dx;
      NormGradients<float> g;
      norm.backpropagate(x_here, stats, dy, is_in_place ? x_here : dx, g);
      for (Index c = 0; c < channels; ++c)
        EXPECT_LE(std::fabs(to_exact(g.scale(c)) - expected.scale(c)),
                  backward_units * unit<float>() * expected.scale_size(c))
            << "channel " << c;
    }
  }
}

TEST(GradientAccuracy, SumsOfHugeValuesThatAreNotCountedAreFinite) {
  expect_gradients_of_huge_normalized<TokenMatrix<float>>();
  expect_gradients_of_huge_normalized<Eigen::MatrixXf>();
}

/// Their sums, which float does not hold, are taken in double before dx overwrites them: of more
/// channels than a call has room for on its stack.
TEST(GradientAccuracy, SumsOfHugeGradientsOfManyChannelsThatAreOverwritten) {
  const LayerNorm<float> norm(5000);
  const TokenMatrix<float> x = TokenMatrix<float>::Random(4, 5000);
  TokenMatrix<float> y, dy = TokenMatrix<float>::Constant(4, 5000, 0x1p126f);
  TokenStatistics<float> stats;
  NormGradients<double> gradients;
  norm.normalize(x, y, stats);
  norm.backpropagate(x, stats, dy, dy, gradients);
  EXPECT_TRUE((gradients.shift.array() == 0x1p128).all());
}

/// dx of rows that are redone in the wider type.
template <class Kind>
void expect_dx_of_tiny_rows(typename Kind::Options options) {
  const Index channels = 40, tokens = 5;
  options.epsilon = 0;
  const auto norm = random_norm<Case<Kind, float>>(channels, Seed{81}, options);
  const TokenMatrix<float> x =
      random_normal<TokenMatrix<float>>({tokens, channels}, Seed{82}) * 1e-30f;
  const auto dy = random_normal<TokenMatrix<float>>({tokens, channels}, Seed{83});
  TokenMatrix<float> y, dx;
  TokenStatistics<float> stats;
  NormGradients<float> gradients;
  norm.normalize(x, y, stats);
  norm.backpropagate(x, stats, dy, dx, gradients);
  const BackwardOracle expected = backward_oracle_of(norm, exact(x), exact(dy));
  for (Index t = 0; t < tokens; ++t)
    for (Index c = 0; c < channels; ++c)
      EXPECT_LE(units_of_error(to_exact(dx(t, c)), expected.dx(t, c),
                               unit<float>() * expected.dx_size(t)),
                backward_units);
}

TEST(GradientAccuracy, TinyRowsOfAScaleOffsetAndOfAPartialRMSNorm) {
  expect_dx_of_tiny_rows<LayerKind>({.scale_offset = 1});
  expect_dx_of_tiny_rows<RMSKind>({.scale_offset = 1, .statistics_channels = 13});
}

/// Without ε the gradient of a row of two channels is 0, as is that of one channel through an
/// RMSNorm, however close to one another the values and however large rstd: what is left of it by
/// rounding is not infinite. (But in half, whose range ends before that of the bound.)
TYPED_TEST(Backward, GradientThatIsZeroIsNotInfinite) {
  using Scalar = typename TypeParam::Scalar;
  using Tokens = typename TypeParam::RowMajor;
  using Kind = typename TypeParam::Kind;
  const Index channels = Kind::centred ? 2 : 1, tokens = 46;
  const typename TypeParam::Norm norm(channels, plain_options<Kind>(0));
  Tokens x(tokens, channels), dy(tokens, channels);
  Random random(Seed{71});
  const auto log_uniform = [&](long double low, long double high) {
    const long double size = std::exp(std::log(low) + static_cast<long double>(random.uniform()) *
                                                          (std::log(high) - std::log(low)));
    return finite<Scalar>(static_cast<long double>(random.sign()) * size);
  };
  for (Index i = 0; i < x.size(); ++i) {
    x.data()[i] = log_uniform(smallest_subnormal<Scalar>(), smallest_normal<Scalar>());
    dy.data()[i] = log_uniform(1e-3L, largest<Scalar>());
  }
  for (const ExactStep& step : exact_steps_in_both_orders(norm, x, dy)) {
    SCOPED_TRACE(step.order);
    for (Index t = 0; t < tokens; ++t) {
      EXPECT_FALSE(step.dx.row(t).hasNaN());
      if (std::is_same_v<Scalar, Eigen::half>) continue;
      EXPECT_TRUE(step.dx.row(t).allFinite()) << x.row(t) << "; dy " << dy.row(t);
    }
  }
}

/// A sum of 2²⁴ and a one each time would stay what it is.
TEST(GradientAccuracy, TokensAreAddedUpBeforeTheyMeetTheGradient) {
  const Index channels = 40;
  const LayerNorm<float> norm(channels);
  for (const Index tokens : {1, 2, 3, 4, 5, 17}) {
    const TokenMatrix<float> x = TokenMatrix<float>::Random(tokens, channels);
    const TokenMatrix<float> dy = TokenMatrix<float>::Ones(tokens, channels);
    TokenMatrix<float> y, dx;
    TokenStatistics<float> stats;
    NormGradients<float> gradients;
    norm.normalize(x, y, stats);
    norm.backpropagate(x, stats, dy, dx, gradients);
    gradients.shift.setConstant(0x1p24f);
    norm.backpropagate(x, stats, dy, dx, gradients);
    const auto expected = static_cast<float>(0x1p24 + static_cast<double>(tokens));
    EXPECT_TRUE((gradients.shift.array() == expected).all()) << tokens << " tokens";
  }
}

/// Statistics may be the caller's: of a mean that is hundreds of σ off, dx is that of the right
/// one, to twice its bound. Found by a mutation that survived.
TEST(GradientAccuracy, OfAMeanThatIsFarOffIsThatOfTheRightOne) {
  const Index channels = 768;
  const LayerNorm<float> norm(channels);
  const auto x = random_normal<TokenMatrix<float>>({9, channels}, Seed{71});
  const auto dy = random_normal<TokenMatrix<float>>({9, channels}, Seed{72});
  TokenMatrix<float> y, dx, dx_of_wrong;
  TokenStatistics<float> stats;
  NormGradients<float> gradients;
  norm.normalize(x, y, stats);
  norm.backpropagate(x, stats, dy, dx, gradients);
  stats.mean.array() += 500;
  norm.backpropagate(x, stats, dy, dx_of_wrong, gradients);
  for (Index t = 0; t < x.rows(); ++t) {
    const float bound = 16 * 0x1p-24f * stats.rstd(t) * dy.row(t).cwiseAbs().maxCoeff() *
                        y.row(t).cwiseAbs().maxCoeff();
    EXPECT_LE((dx_of_wrong.row(t) - dx.row(t)).cwiseAbs().maxCoeff(), bound) << t;
  }
}

}  // namespace
}  // namespace tokennorm::test

// SPDX-License-Identifier: MIT
// The documented backward bounds, asserted over all hard rows, with u = 2⁻²⁴ (2⁻⁵³ for double):
//
//   dx   |error| ≤ 8·u·rstd·max|γ·dy|·max(1, max|x̂|)         per token
//   dγ   |error| ≤ 8·u·Σ|dy|·max(1, max|x̂|)                  the sum over tokens
//   dβ   |error| ≤ 8·u·Σ|dy|
//
// half and bfloat16: dx is the float answer, rounded once. Where γ·dy, rstd or dx leaves the normal
// range of the accumulator, the last bit of a subnormal number comes on top of each.
#include "../support/edge_shapes.hpp"
#include "../support/hard_rows.hpp"
#include "../support/worst_case.hpp"
#include "compiled_norm.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace tokennorm::test {
namespace {

constexpr long double backward_units = 8;

/// Incoming gradients that are random, that cancel with the mean or with x̂, or that stand alone.
template <class Matrix>
std::vector<std::pair<std::string, Matrix>> incoming_gradients(const NormSpec& spec,
                                                               const ExactMatrix& x) {
  using Scalar = typename Matrix::Scalar;
  const Shape shape{x.rows(), x.cols()};
  Matrix normalized(shape.tokens, shape.channels), one_hot(shape.tokens, shape.channels);
  const ForwardOracle forward = forward_oracle(spec, x);
  one_hot.setZero();
  for (Index t = 0; t < shape.tokens; ++t) {
    for (Index c = 0; c < shape.channels; ++c)
      normalized(t, c) = finite<Scalar>(forward.normalized(t, c));
    one_hot(t, t % shape.channels) = Scalar(1);
  }
  return {{"normal", random_normal<Matrix>(shape, Seed{11})},
          {"offset", random_normal<Matrix>(shape, Seed{12}, 100, 1)},
          {"constant", Matrix::Constant(shape.tokens, shape.channels, Scalar(0.75))},
          {"equal to the output", normalized},
          {"one-hot", one_hot}};
}

/// Judges gradients, in the units of the bounds.
class Judge {
 public:
  template <class Scalar>
  static Judge of() {
    return Judge(format_of<Scalar>(), format_of<AccumOf<Scalar>>(), unit<Scalar>());
  }
  Judge(const Format& format, const Format& accumulator, long double unit)
      : format_(format), accumulator_(accumulator), unit_(unit) {}

  void judge(const ExactStep& actual, const BackwardOracle& expected, double epsilon,
             const std::string& gradient, const std::vector<std::string>& rows) {
    for (Index t = 0; t < actual.dx.rows(); ++t) {
      const std::string what = rows[static_cast<std::size_t>(t)] + "\", dy \"" + gradient;
      check(dx, dx_units(actual.dx.row(t), expected, t), what, actual, epsilon);
    }
    check(scale, units(actual.scale, expected.scale, expected.scale_size), gradient, actual,
          epsilon);
    check(shift, units(actual.shift, expected.shift, expected.shift_size), gradient, actual,
          epsilon);
  }

  void report(const std::string& norm) const {
    dx.report(norm + " dx");
    scale.report(norm + " gradient of the scale");
    shift.report(norm + " gradient of the shift");
  }

 private:
  long double dx_units(const ExactMatrix& actual, const BackwardOracle& expected, Index t) const {
    const long double rstd = expected.rstd(t), size = unit_ * expected.dx_size(t);
    const long double step = accumulator_.smallest_subnormal;
    const long double subnormal_rstd =
        rstd > 0 && rstd < accumulator_.smallest_normal ? step * expected.dx_size(t) / rstd : 0;
    const long double underflow =
        subnormal_rstd + step * (1 + 2 * rstd * std::fmax(1.0L, expected.largest(t)));
    long double units = 0;
    for (Index c = 0; c < actual.cols(); ++c) {
      const long double wanted = expected.dx(t, c);
      if (std::fabs(wanted) + backward_units * size > format_.largest) {  // overflow is right
        if (std::isnan(actual(0, c))) return std::numeric_limits<long double>::infinity();
        continue;
      }
      const long double error = error_before_rounding(format_, actual(0, c), wanted) - underflow;
      if (error > 0) units = std::max(units, error / size);  // infinite where dx must be 0
    }
    return units;
  }

  /// Of a parameter gradient, which is kept in the accumulator's type.
  long double units(const ExactVector& actual, const ExactVector& expected,
                    const ExactVector& size) const {
    if (actual.size() != expected.size()) return std::numeric_limits<long double>::infinity();
    long double worst = 0;
    for (Index c = 0; c < actual.size(); ++c)
      worst = std::max(worst, units_of_error(actual(c), expected(c), unit_ * size(c)));
    return worst;
  }

  void check(WorstCase& worst, long double units, const std::string& what, const ExactStep& actual,
             double epsilon) {
    worst.see(units, actual.dx.cols(), epsilon, what);
    expectations_.expect(units <= backward_units, [&] {
      return std::string(&worst == &dx      ? "dx"
                         : &worst == &scale ? "scale"
                                            : "shift") +
             " of \"" + what + "\", C = " + std::to_string(actual.dx.cols()) + ", " + actual.order +
             ": " + std::to_string(units) + " units";
    });
  }

  Format format_, accumulator_;
  long double unit_;
  WorstCase dx, scale, shift;
  ManyExpectations expectations_;
};

template <class TypedCase>
class BackwardAccuracy : public ::testing::Test {
 protected:
  static std::string norm_name() {
    return TypedCase::Kind::name + std::string("<") + scalar_name<typename TypedCase::Scalar>() +
           ">";
  }
};

TYPED_TEST_SUITE(BackwardAccuracy, AllCases, CaseName);

TYPED_TEST(BackwardAccuracy, HardRowsAreWithinEightUnits) {
  using Tokens = typename TypeParam::RowMajor;
  auto judge = Judge::of<typename TypeParam::Scalar>();
  for (const Index channels : {1, 2, 3, 8, 15, 16, 17, 33, 100, 129, 301, 768, 4097}) {
    const auto rows = hard_rows<typename TypeParam::Scalar>(channels);
    const auto x = stacked<Tokens>(rows);
    const ExactMatrix exact_x = exact(x);
    for (const double epsilon : {0.0, 1e-5}) {
      if (epsilon > 0 && channels > 1000) continue;
      const auto norm = random_affine<TypeParam>(channels, Seed{5},
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

TYPED_TEST(BackwardAccuracy, ManyTokensDoNotSpoilParameterGradients) {
  // Every term of a column has the same sign, so that a running sum would lose bits.
  using Tokens = typename TypeParam::RowMajor;
  const Shape shape{20000, 24};
  auto x = random_normal<Tokens>(shape, Seed{31}, 0, 0.1);
  for (Index c = 0; c < shape.channels; ++c)
    for (Index t = 0; t < shape.tokens; ++t)
      x(t, c) = finite<typename TypeParam::Scalar>(to_exact(x(t, c)) + (c % 2 == 0 ? 2 : -2));
  const auto dy = random_normal<Tokens>(shape, Seed{32}, 1, 0.1);
  const auto norm = random_affine<TypeParam>(shape.channels);
  const BackwardOracle expected = backward_oracle_of(norm, exact(x), exact(dy));
  auto judge = Judge::of<typename TypeParam::Scalar>();
  const std::vector<std::string> names(static_cast<std::size_t>(shape.tokens), "one of many");
  for (const ExactStep& step : exact_steps_in_both_orders(norm, x, dy))
    judge.judge(step, expected, norm.options().epsilon, "of one sign", names);
  judge.report(this->norm_name() + " over 20000 tokens");
}

TYPED_TEST(BackwardAccuracy, AddsToParameterGradientsAndOverwritesDx) {
  const Shape shape{5, 33};
  const auto x = random_normal<typename TypeParam::RowMajor>(shape, Seed{41});
  const auto dy = random_normal<typename TypeParam::RowMajor>(shape, Seed{42});
  const auto norm = random_affine<TypeParam>(shape.channels);
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

TYPED_TEST(BackwardAccuracy, NormWithoutScaleOrShiftHasNoSuchGradient) {
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
      const auto norm = random_affine<TypeParam>(shape.channels, Seed{53}, options);
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

}  // namespace
}  // namespace tokennorm::test

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

template <class TypedCase>
class BackwardAccuracy : public ::testing::Test {
 protected:
  using Scalar = typename TypedCase::Scalar;
  using Accum = typename TypedCase::Accum;
  using RowMajor = typename TypedCase::RowMajor;
  using ColMajor = typename TypedCase::ColMajor;
  using Norm = CompiledNorm<TypedCase>;

  template <int Order>
  void check(const Norm& norm, const std::vector<HardRow<Scalar>>& rows, const std::string& name,
             const RowMajor& gradient, const BackwardOracle& expected) {
    using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Order>;
    const Matrix x = stacked<Matrix>(rows);
    const Matrix dy = gradient;
    Matrix y, dx;
    typename TypedCase::Statistics stats;
    typename TypedCase::Gradients g;
    norm.normalize(x, y, stats);
    norm.backpropagate(x, stats, dy, dx, g);
    const std::string trace = "dy " + name + ", C = " + std::to_string(x.cols()) +
                              (Order == Eigen::RowMajor ? ", row-major" : ", column-major");
    for (Index t = 0; t < dx.rows(); ++t) {
      const long double step = smallest_subnormal<Accum>();
      const long double rstd = expected.rstd(t);
      const long double subnormal_rstd =
          rstd > 0 && rstd < smallest_normal<Accum>() ? step * expected.dx_size(t) / rstd : 0;
      const long double spread = std::fmax(1.0L, expected.largest(t));
      const long double underflow = subnormal_rstd + step * (1 + 2 * rstd * spread);
      const long double size = unit<Scalar>() * expected.dx_size(t);
      long double units = 0;
      for (Index c = 0; c < dx.cols(); ++c) {
        const long double wanted = expected.dx(t, c);
        if (std::fabs(wanted) + backward_units * size > largest<Scalar>()) {  // overflow is right
          if (std::isnan(to_exact(dx(t, c)))) units = std::numeric_limits<long double>::infinity();
          continue;
        }
        const long double error = error_before_rounding<Scalar>(dx(t, c), wanted) - underflow;
        if (error > 0) units = std::fmax(units, error / size);  // infinite where dx must be 0
      }
      const HardRow<Scalar>& row = rows[static_cast<std::size_t>(t)];
      worst_dx_.see(units, x.cols(), norm.options().epsilon, row.name + "\", dy \"" + name);
      expectations_.expect(units <= backward_units, [&] {
        return "dx of row \"" + row.name + "\", " + trace + ": " + std::to_string(units) + " units";
      });
    }
    ASSERT_EQ(g.scale.size(), x.cols());
    ASSERT_EQ(g.shift.size(), x.cols());
    long double scale_units = 0, shift_units = 0;
    for (Index c = 0; c < x.cols(); ++c) {
      scale_units = std::fmax(scale_units, units_of_error(to_exact(g.scale(c)), expected.scale(c),
                                                          unit<Scalar>() * expected.scale_size(c)));
      shift_units = std::fmax(shift_units, units_of_error(to_exact(g.shift(c)), expected.shift(c),
                                                          unit<Scalar>() * expected.shift_size(c)));
    }
    worst_scale_.see(scale_units, x.cols(), norm.options().epsilon, name);
    worst_shift_.see(shift_units, x.cols(), norm.options().epsilon, name);
    expectations_.expect(scale_units <= backward_units, [&] {
      return "gradient of the scale, " + trace + ": " + std::to_string(scale_units) + " units";
    });
    expectations_.expect(shift_units <= backward_units, [&] {
      return "gradient of the shift, " + trace + ": " + std::to_string(shift_units) + " units";
    });
  }

  void report() const {
    const std::string name = TypedCase::Kind::name + std::string("<") + scalar_name<Scalar>() + ">";
    worst_dx_.report(name + " dx");
    worst_scale_.report(name + " dscale");
    worst_shift_.report(name + " dshift");
  }

  WorstCase worst_dx_, worst_scale_, worst_shift_;
  ManyExpectations expectations_;
};

TYPED_TEST_SUITE(BackwardAccuracy, AllCases, CaseName);

TYPED_TEST(BackwardAccuracy, HardRowsAreWithinEightUnits) {
  for (const Index channels : {1, 2, 3, 5, 8, 15, 16, 17, 33, 64, 100, 129, 333, 768, 4097}) {
    const auto rows = hard_rows<typename TypeParam::Scalar>(channels);
    const auto x = stacked<typename TypeParam::RowMajor>(rows);
    const ExactMatrix exact_x = exact(x);
    for (const double epsilon : {0.0, 1e-5}) {
      const auto norm = random_affine<TypeParam>(channels, Seed{5},
                                                 affine_options<typename TypeParam::Kind>(epsilon));
      for (const auto& [name, dy] :
           incoming_gradients<typename TypeParam::RowMajor>(spec_of(norm.options()), exact_x)) {
        const BackwardOracle expected = backward_oracle_of(norm, exact_x, exact(dy));
        this->template check<Eigen::RowMajor>(norm, rows, name, dy, expected);
        this->template check<Eigen::ColMajor>(norm, rows, name, dy, expected);
      }
      if (channels > 1000) break;
    }
  }
  this->report();
}

TYPED_TEST(BackwardAccuracy, GradientsOfTheScalarTypeAreRoundedOnce) {
  using Value = typename TypeParam::Scalar;
  for (const Index channels : {1, 7, 16, 33, 100, 768}) {
    SCOPED_TRACE(channels);
    const Shape shape{37, channels};
    const auto x = random_normal<typename TypeParam::RowMajor>(shape, Seed{21}, 3, 2);
    const auto dy = random_normal<typename TypeParam::RowMajor>(shape, Seed{22});
    const auto norm = random_affine<TypeParam>(channels);
    typename TypeParam::RowMajor y, dx;
    typename TypeParam::Statistics stats;
    typename TypeParam::Gradients g;
    norm.normalize(x, y, stats);
    norm.backpropagate(x, stats, dy, dx, g);
    const BackwardOracle expected = backward_oracle_of(norm, exact(x), exact(dy));
    for (Index t = 0; t < shape.tokens; ++t) {
      const long double bound = backward_units * unit<Value>() * expected.dx_size(t);
      for (Index c = 0; c < channels; ++c)
        EXPECT_TRUE(rounds_from<Value>(dx(t, c), expected.dx(t, c), bound))
            << "dx(" << t << ", " << c << ") is " << to_exact(dx(t, c)) << ", expected "
            << expected.dx(t, c);
    }
  }
}

TYPED_TEST(BackwardAccuracy, ManyTokensDoNotSpoilParameterGradients) {
  // Every term of a column has the same sign, so that a running float sum would lose bits.
  using Value = typename TypeParam::Scalar;
  const Shape shape{20000, 24};
  typename TypeParam::RowMajor x =
      random_normal<typename TypeParam::RowMajor>(shape, Seed{31}, 0, 0.1);
  for (Index c = 0; c < shape.channels; ++c)
    for (Index t = 0; t < shape.tokens; ++t)
      x(t, c) = finite<Value>(to_exact(x(t, c)) + (c % 2 == 0 ? 2 : -2));
  const auto dy = random_normal<typename TypeParam::RowMajor>(shape, Seed{32}, 1, 0.1);
  const auto norm = random_affine<TypeParam>(shape.channels);
  const BackwardOracle expected = backward_oracle_of(norm, exact(x), exact(dy));
  WorstCase worst;
  const auto check = [&](const auto& tokens, const auto& gradient) {
    auto y = tokens;
    auto dx = tokens;
    typename TypeParam::Statistics stats;
    typename TypeParam::Gradients g;
    norm.normalize(tokens, y, stats);
    norm.backpropagate(tokens, stats, gradient, dx, g);
    for (Index c = 0; c < shape.channels; ++c) {
      const auto column = static_cast<double>(c);
      const long double scale_units = units_of_error(to_exact(g.scale(c)), expected.scale(c),
                                                     unit<Value>() * expected.scale_size(c));
      const long double shift_units = units_of_error(to_exact(g.shift(c)), expected.shift(c),
                                                     unit<Value>() * expected.shift_size(c));
      EXPECT_LE(scale_units, backward_units) << "dscale of channel " << column;
      EXPECT_LE(shift_units, backward_units) << "dshift of channel " << column;
      worst.see(scale_units, shape.channels, 1e-5, "dscale, 20000 tokens");
      worst.see(shift_units, shape.channels, 1e-5, "dshift, 20000 tokens");
    }
  };
  check(x, dy);
  check(typename TypeParam::ColMajor(x), typename TypeParam::ColMajor(dy));
  worst.report(TypeParam::Kind::name + std::string("<") + scalar_name<Value>() +
               "> parameter gradients of 20000 tokens");
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
  const Shape shape{5, 33};
  const auto x = random_normal<typename TypeParam::RowMajor>(shape, Seed{51});
  const auto dy = random_normal<typename TypeParam::RowMajor>(shape, Seed{52});
  for (const bool scale : {false, true})
    for (const bool shift : {false, true}) {
      auto options = affine_options<typename TypeParam::Kind>();
      options.scale = scale;
      options.shift = shift;
      const auto norm = random_affine<TypeParam>(shape.channels, Seed{53}, options);
      typename TypeParam::RowMajor y, dx;
      typename TypeParam::Statistics stats;
      typename TypeParam::Gradients g;
      norm.normalize(x, y, stats);
      norm.backpropagate(x, stats, dy, dx, g);
      EXPECT_EQ(g.scale.size(), scale ? shape.channels : 0);
      EXPECT_EQ(g.shift.size(), shift ? shape.channels : 0);
      const BackwardOracle expected = backward_oracle_of(norm, exact(x), exact(dy));
      for (Index t = 0; t < shape.tokens; ++t)
        for (Index c = 0; c < shape.channels; ++c)
          EXPECT_TRUE(rounds_from<typename TypeParam::Scalar>(
              dx(t, c), expected.dx(t, c),
              backward_units * unit<typename TypeParam::Scalar>() * expected.dx_size(t)));
    }
}

}  // namespace
}  // namespace tokennorm::test

// SPDX-License-Identifier: MIT
// Scalars without vectorized kernels run through the plain generic path.
#include "../support/exact_bits.hpp"
#include "../support/hard_rows.hpp"
#include "../support/worst_case.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>
#include <unsupported/Eigen/AutoDiff>

namespace tokennorm::test {
namespace {

using Long = long double;

template <class Kind>
class GenericScalars : public ::testing::Test {};
struct KindName {
  template <class Kind>
  static std::string GetName(int) {
    return Kind::name;
  }
};
using Kinds = ::testing::Types<LayerKind, RMSKind>;
TYPED_TEST_SUITE(GenericScalars, Kinds, KindName);

/// Both it and the oracle work in long double, so this holds the generic path to a few dozen units
/// of 2⁻⁶⁴ on rows whose mean does not dwarf their spread.
TYPED_TEST(GenericScalars, LongDoubleMatchesTheOracle) {
  using Norm = typename TypeParam::template Norm<Long>;
  for (const Shape& shape : {Shape{1, 1}, Shape{3, 5}, Shape{4, 33}, Shape{2, 768}}) {
    SCOPED_TRACE(shape);
    Norm norm(shape.channels, affine_options<TypeParam>());
    norm.scale() = random_vector<Long>(shape.channels, Seed{101});
    norm.shift() = random_vector<Long>(shape.channels, Seed{102});
    const auto x = random_normal<TokenMatrix<Long>>(shape, Seed{103}, 2);
    const ForwardOracle expected = forward_oracle_of(norm, x);
    const TokenMatrix<Long> y = norm(x);
    const Eigen::Matrix<Long, Eigen::Dynamic, Eigen::Dynamic> y_columns =
        norm(Eigen::Matrix<Long, Eigen::Dynamic, Eigen::Dynamic>(x));
    const Long tolerance = 64 * std::ldexp(1.0L, -64) * (1 + expected.y.cwiseAbs().maxCoeff());
    EXPECT_LE((y - expected.y).cwiseAbs().maxCoeff(), tolerance);
    EXPECT_LE((y_columns - expected.y).cwiseAbs().maxCoeff(), tolerance);
  }
}

TYPED_TEST(GenericScalars, LongDoubleHardRowsOfFloatAreAccurate) {
  using Norm = typename TypeParam::template Norm<Long>;
  for (const Index channels : {1, 2, 17, 129}) {
    const auto rows = hard_rows<float>(channels);
    const TokenMatrix<Long> x = exact(stacked<TokenMatrix<float>>(rows));
    for (const double epsilon : {0.0, 1e-5}) {
      const Norm norm(channels, plain_options<TypeParam>(epsilon));
      const ForwardOracle expected = forward_oracle(spec_of(norm.options()), x);
      const TokenMatrix<Long> y = norm(x);
      for (Index t = 0; t < x.rows(); ++t)
        EXPECT_LE((y.row(t) - expected.y.row(t)).cwiseAbs().maxCoeff(),
                  std::ldexp(64.0L, -64) * std::fmax(1.0L, expected.largest(t)) *
                      (1 + std::fabs(expected.mean(t)) * expected.rstd(t)))
            << rows[static_cast<std::size_t>(t)].name << ", C = " << channels;
    }
  }
}

TYPED_TEST(GenericScalars, LongDoubleConstantRowIsZeroAndHasNoGradient) {
  using Norm = typename TypeParam::template Norm<Long>;
  const Norm norm(5, plain_options<TypeParam>(0));
  const TokenMatrix<Long> x = TokenMatrix<Long>::Constant(2, 5, TypeParam::centred ? 0.1L : 0.0L);
  TokenMatrix<Long> y, dx;
  TokenStatistics<Long> stats;
  NormGradients<Long> g;
  norm.normalize(x, y, stats);
  norm.backpropagate(x, stats, TokenMatrix<Long>::Ones(2, 5), dx, g);
  EXPECT_TRUE(y.isZero(0));
  EXPECT_TRUE(stats.rstd.isZero(0));
  EXPECT_TRUE(dx.isZero(0));
}

TYPED_TEST(GenericScalars, LongDoubleWorksFusedInPlaceAndAsAModule) {
  using Norm = typename TypeParam::template Norm<Long>;
  const Shape shape{3, 7};
  Norm norm(shape.channels);
  const auto residual = random_normal<TokenMatrix<Long>>(shape, Seed{111});
  const auto update = random_normal<TokenMatrix<Long>>(shape, Seed{112});
  const TokenMatrix<Long> expected_sum = residual + update;
  const TokenMatrix<Long> expected = norm(expected_sum);

  TokenMatrix<Long> sum = residual, y = update;
  norm.normalize_sum(sum, y, sum, y);
  EXPECT_EQ(sum, expected_sum);
  EXPECT_EQ(y, expected);

  TokenMatrix<Long> in_place = expected_sum;
  norm(in_place, in_place);
  EXPECT_EQ(in_place, expected);

  EXPECT_EQ(norm.forward(expected_sum), expected);
  const TokenMatrix<Long> dx = norm.backward(update);
  EXPECT_EQ(dx.rows(), shape.tokens);
  EXPECT_EQ(norm.gradients().scale.size(), shape.channels);
}

TYPED_TEST(GenericScalars, AutoDiffScalarOfFixedSizeWorks) {
  using Dual = Eigen::AutoDiffScalar<Eigen::Matrix<double, 3, 1>>;
  using Norm = typename TypeParam::template Norm<Dual>;
  const Norm norm(3);
  Eigen::Matrix<Dual, 1, 3> x;
  for (Index c = 0; c < 3; ++c)
    x(c) = Dual(static_cast<double>(c * c) - 1, Eigen::Vector3d::Unit(c));
  const Eigen::Matrix<Dual, 1, 3> y = norm(x);
  ExactMatrix plain_x(1, 3), seed = ExactMatrix::Zero(1, 3);
  for (Index c = 0; c < 3; ++c) plain_x(0, c) = static_cast<Long>(x(c).value());
  seed(0, 1) = 1;  // the gradient of y(1)
  const auto options = norm.options();
  const ForwardOracle forward = forward_oracle(spec_of(options), plain_x);
  const BackwardOracle backward = backward_oracle(spec_of(options), plain_x, seed);
  EXPECT_NEAR(y(1).value(), static_cast<double>(forward.y(0, 1)), 1e-14);
  for (Index c = 0; c < 3; ++c)
    EXPECT_NEAR(y(1).derivatives()(c), static_cast<double>(backward.dx(0, c)), 1e-13);
}

TYPED_TEST(GenericScalars, ShapeErrorsAreTheSame) {
  const typename TypeParam::template Norm<Long> norm(8);
  EXPECT_THROW(norm(TokenMatrix<Long>::Zero(2, 7)), std::invalid_argument);
}

}  // namespace
}  // namespace tokennorm::test

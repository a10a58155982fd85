// SPDX-License-Identifier: MIT
// Constant rows, rows at the ends of the range, and the promise that no finite row gives NaN.
#include "../support/edge_shapes.hpp"
#include "../support/hard_rows.hpp"
#include "../support/worst_case.hpp"
#include "compiled_norm.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>

namespace tokennorm::test {
namespace {

template <class TypedCase>
class NumericEdges : public ::testing::Test {
 protected:
  using Scalar = typename TypedCase::Scalar;

  /// Every row of this matrix has σ² = 0 for the kind: constants, or only zeros.
  template <class Matrix>
  static Matrix rows_without_spread(Index channels) {
    Matrix x(6, channels);
    const long double huge = HardSizes<Scalar>::huge, tiny = HardSizes<Scalar>::tiny;
    const long double values[] = {
        0.1L, -1e4L, huge, largest<Scalar>(), tiny, smallest_subnormal<Scalar>()};
    for (Index t = 0; t < 6; ++t)
      x.row(t).setConstant(TypedCase::Kind::centred ? finite<Scalar>(values[t])
                                                    : Scalar(t % 2 == 0 ? 0.0f : -0.0f));
    return x;
  }
};

TYPED_TEST_SUITE(NumericEdges, AllCases, CaseName);

TYPED_TEST(NumericEdges, RowWithoutSpreadAndEpsilonIsZeroWithoutGradient) {
  const auto check = [&](auto type, Index channels) {
    using Matrix = decltype(type);
    const auto x = this->template rows_without_spread<Matrix>(channels);
    const auto norm =
        random_affine<TypeParam>(channels, Seed{701}, affine_options<typename TypeParam::Kind>(0));
    const CompiledNorm<TypeParam> plain(channels, plain_options<typename TypeParam::Kind>(0));
    typename TypeParam::Statistics stats;
    typename TypeParam::Gradients g;
    Matrix y, dx;
    plain.normalize(x, y, stats);
    EXPECT_TRUE((exact(y).array() == 0).all());
    EXPECT_TRUE((stats.rstd.array() == 0).all());
    norm.normalize(x, y, stats);
    for (Index t = 0; t < x.rows(); ++t)
      EXPECT_EQ(exact(y.row(t)), exact(norm.shift()));  // x̂ = 0 leaves β
    EXPECT_TRUE((stats.rstd.array() == 0).all());
    norm.backpropagate(x, stats, random_normal<Matrix>({6, channels}, Seed{702}), dx, g);
    EXPECT_TRUE((exact(dx).array() == 0).all());
    EXPECT_TRUE((exact(g.scale).array() == 0).all());
    EXPECT_FALSE(exact(g.shift).hasNaN());
  };
  for (const Index channels : few_channels()) {
    SCOPED_TRACE(channels);
    check(typename TypeParam::RowMajor(), channels);
    check(typename TypeParam::ColMajor(), channels);
  }
}

TYPED_TEST(NumericEdges, ConstantRowGivesTheShiftToWithinTheBound) {
  if (!TypeParam::Kind::centred) GTEST_SKIP() << "RMSNorm does not remove the mean";
  using Value = typename TypeParam::Scalar;
  for (const Index channels : edge_channels()) {
    if (channels > 5000) continue;
    SCOPED_TRACE(channels);
    const auto x = this->template rows_without_spread<typename TypeParam::RowMajor>(channels);
    for (const double epsilon : {1e-12, 1e-5}) {
      const auto norm = random_affine<TypeParam>(channels, Seed{703},
                                                 affine_options<typename TypeParam::Kind>(epsilon));
      for (const auto& y :
           {norm(x), typename TypeParam::RowMajor(norm(typename TypeParam::ColMajor(x)))})
        for (Index t = 0; t < x.rows(); ++t)
          for (Index c = 0; c < channels; ++c) {
            const long double shift = to_exact(norm.shift()(c));
            const long double bound =
                unit<Value>() * (4 * std::fabs(to_exact(norm.scale()(c))) + std::fabs(shift));
            ASSERT_TRUE(rounds_from<Value>(y(t, c), shift, bound))
                << "y(" << t << ", " << c << ") is " << to_exact(y(t, c)) << ", shift " << shift;
          }
    }
  }
}

TYPED_TEST(NumericEdges, FiniteRowNeverGivesNaN) {
  const auto check = [&](auto type, Index channels, double epsilon) {
    using Matrix = decltype(type);
    const auto rows = hard_rows<typename TypeParam::Scalar>(channels, Seed{704});
    const Matrix x = stacked<Matrix>(rows);
    const auto norm = random_affine<TypeParam>(channels, Seed{705},
                                               affine_options<typename TypeParam::Kind>(epsilon));
    Matrix y, dx;
    typename TypeParam::Statistics stats;
    typename TypeParam::Gradients g;
    norm.normalize(x, y, stats);
    norm.backpropagate(x, stats, random_normal<Matrix>({x.rows(), channels}, Seed{706}), dx, g);
    EXPECT_FALSE(exact(stats.rstd).hasNaN());
    EXPECT_FALSE(exact(stats.mean).hasNaN());
    EXPECT_FALSE(exact(g.scale).hasNaN());
    EXPECT_FALSE(exact(g.shift).hasNaN());
    for (Index t = 0; t < x.rows(); ++t) {
      const std::string& name = rows[static_cast<std::size_t>(t)].name;
      EXPECT_TRUE(exact(y.row(t)).allFinite()) << "y of row \"" << name << "\", C = " << channels;
      EXPECT_FALSE(exact(dx.row(t)).hasNaN()) << "dx of row \"" << name << "\", C = " << channels;
    }
  };
  for (const Index channels : edge_channels()) {
    if (channels > 4097) continue;
    for (const double epsilon : {0.0, 1e-5}) {
      check(typename TypeParam::RowMajor(), channels, epsilon);
      check(typename TypeParam::ColMajor(), channels, epsilon);
    }
  }
}

TYPED_TEST(NumericEdges, LargestIncomingGradientGivesNoNaN) {
  using Value = typename TypeParam::Scalar;
  using Matrix = typename TypeParam::RowMajor;
  for (const Index channels : {2, 16, 33, 100}) {
    SCOPED_TRACE(channels);
    const Matrix x = random_normal<Matrix>({5, channels}, Seed{707}, 0, 10);
    Matrix dy = random_normal<Matrix>({5, channels}, Seed{708});
    for (Index i = 0; i < dy.size(); ++i)
      dy.data()[i] =
          finite<Value>(dy.data()[i] > Value(0) ? largest<Value>() / 2 : -largest<Value>() / 2);
    dy.row(0).setConstant(finite<Value>(largest<Value>()));
    const CompiledNorm<TypeParam> norm(channels);
    Matrix y, dx;
    typename TypeParam::Statistics stats;
    typename TypeParam::Gradients g;
    norm.normalize(x, y, stats);
    norm.backpropagate(x, stats, dy, dx, g);
    EXPECT_FALSE(exact(dx).hasNaN());
  }
}

TYPED_TEST(NumericEdges, OneChannelIsItsSignOrZero) {
  using Matrix = typename TypeParam::RowMajor;
  Matrix x(3, 1);
  x << typename TypeParam::Scalar(5), typename TypeParam::Scalar(-2), typename TypeParam::Scalar(0);
  const CompiledNorm<TypeParam> norm(1, plain_options<typename TypeParam::Kind>(0));
  const ExactMatrix y = exact(norm(x));
  const long double one = TypeParam::Kind::centred ? 0 : 1;
  EXPECT_EQ(y(0, 0), one);
  EXPECT_EQ(y(1, 0), -one);
  EXPECT_EQ(y(2, 0), 0);
}

}  // namespace
}  // namespace tokennorm::test

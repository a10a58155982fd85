// SPDX-License-Identifier: MIT
// normalize_sum is the addition followed by the norm, bit for bit; backpropagate_sum is the norm's
// gradient added to the one that comes along the residual stream.
#include "../support/edge_shapes.hpp"
#include "../support/exact_bits.hpp"
#include "../support/hard_rows.hpp"
#include "../support/memory_policy.hpp"
#include "../support/worst_case.hpp"
#include "norm_kinds.hpp"
#include "rounded_sum.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace tokennorm::test {
namespace {

template <class TypedCase>
class FusedSum : public ::testing::Test {
 protected:
  using Norm = typename TypedCase::Norm;

  template <class Matrix>
  void check(const Norm& norm, const Matrix& residual, const Matrix& update) {
    for (const bool manages : {false, true}) {
      SCOPED_TRACE(manages ? "managed" : "left to the machine");
      const ManagedMemory memory(manages);
      Matrix sum, y;
      norm.normalize_sum(residual, update, sum, y);
      EXPECT_TRUE(is_rounded_sum(sum, residual, update));
      Matrix expected;
      typename TypedCase::Statistics expected_stats;
      norm.normalize(sum, expected, expected_stats);  // of the sum as stored
      EXPECT_TRUE(same_bits(y, expected));

      {
        Matrix sum_again, y_again;
        typename TypedCase::Statistics stats;
        norm.normalize_sum(residual, update, sum_again, y_again, stats);
        EXPECT_TRUE(same_bits(sum_again, sum));
        EXPECT_TRUE(same_bits(y_again, expected));
        EXPECT_TRUE(same_bits(stats.rstd, expected_stats.rstd));
        EXPECT_TRUE(same_bits(stats.mean, expected_stats.mean));
      }
      {
        Matrix from_unstored;
        norm.normalize_sum(residual, update, from_unstored);
        EXPECT_TRUE(same_bits(from_unstored, expected));
      }
      {
        Matrix from_unstored;
        typename TypedCase::Statistics stats;
        norm.normalize_sum(residual, update, from_unstored, stats);
        EXPECT_TRUE(same_bits(from_unstored, expected));
        EXPECT_TRUE(same_bits(stats.rstd, expected_stats.rstd));
      }
    }
  }

  template <class Matrix>
  void check_aliases(const Norm& norm, const Matrix& residual, const Matrix& update) {
    const Matrix expected_sum = rounded_sum(residual, update);
    const Matrix expected = norm(expected_sum);
    const auto run = [&](const char* what, const auto& call) {
      SCOPED_TRACE(what);
      for (const bool manages : {false, true}) {
        SCOPED_TRACE(manages ? "managed" : "left to the machine");
        const ManagedMemory memory(manages);
        Matrix r = residual, u = update, s, y;
        const auto [sum, result] = call(r, u, s, y);
        if (sum != nullptr) {
          EXPECT_TRUE(same_bits(*sum, expected_sum));
        }
        EXPECT_TRUE(same_bits(*result, expected));
      }
    };
    using Results = std::pair<Matrix*, Matrix*>;
    run("sum is residual", [&](Matrix& r, Matrix& u, Matrix&, Matrix& y) {
      norm.normalize_sum(r, u, r, y);
      return Results{&r, &y};
    });
    run("sum is update", [&](Matrix& r, Matrix& u, Matrix&, Matrix& y) {
      norm.normalize_sum(r, u, u, y);
      return Results{&u, &y};
    });
    run("y is residual", [&](Matrix& r, Matrix& u, Matrix& s, Matrix&) {
      norm.normalize_sum(r, u, s, r);
      return Results{&s, &r};
    });
    run("y is update", [&](Matrix& r, Matrix& u, Matrix& s, Matrix&) {
      norm.normalize_sum(r, u, s, u);
      return Results{&s, &u};
    });
    run("sum is residual, y is update", [&](Matrix& r, Matrix& u, Matrix&, Matrix&) {
      norm.normalize_sum(r, u, r, u);
      return Results{&r, &u};
    });
    run("sum is update, y is residual", [&](Matrix& r, Matrix& u, Matrix&, Matrix&) {
      norm.normalize_sum(r, u, u, r);
      return Results{&u, &r};
    });
    run("without sum, y is residual", [&](Matrix& r, Matrix& u, Matrix&, Matrix&) {
      norm.normalize_sum(r, u, r);
      return Results{nullptr, &r};
    });
    run("without sum, y is update", [&](Matrix& r, Matrix& u, Matrix&, Matrix&) {
      norm.normalize_sum(r, u, u);
      return Results{nullptr, &u};
    });
  }
};

TYPED_TEST_SUITE(FusedSum, FusedCases, CaseName);

TYPED_TEST(FusedSum, EqualsAdditionThenNormBitForBit) {
  for (const Shape& shape : edge_shapes()) {
    SCOPED_TRACE(shape);
    const auto norm = random_norm<TypeParam>(shape.channels);
    const auto residual = random_normal<typename TypeParam::RowMajor>(shape, Seed{121}, 1, 2);
    const auto update = random_normal<typename TypeParam::RowMajor>(shape, Seed{122});
    this->check(norm, residual, update);
    this->check(norm, typename TypeParam::ColMajor(residual), typename TypeParam::ColMajor(update));
  }
}

TYPED_TEST(FusedSum, EqualsAdditionThenNormOnHardRows) {
  for (const Index channels : {1, 5, 16, 33, 100, 768}) {
    SCOPED_TRACE(channels);
    const auto rows = hard_rows<typename TypeParam::Scalar>(channels);
    typename TypeParam::RowMajor residual = stacked<typename TypeParam::RowMajor>(rows);
    const typename TypeParam::RowMajor update =
        residual * typename TypeParam::Scalar(-0.25);  // never overflows
    for (const double epsilon : {0.0, 1e-5}) {
      const typename TypeParam::Norm norm(channels,
                                          plain_options<typename TypeParam::Kind>(epsilon));
      this->check(norm, residual, update);
      this->check(norm, typename TypeParam::ColMajor(residual),
                  typename TypeParam::ColMajor(update));
    }
  }
}

TYPED_TEST(FusedSum, WorksInEveryPermittedAliasing) {
  for (const Shape& shape : {Shape{1, 16}, Shape{5, 33}, Shape{9, 100}, Shape{4, 5}}) {
    SCOPED_TRACE(shape);
    const auto norm = random_norm<TypeParam>(shape.channels);
    const auto residual = random_normal<typename TypeParam::RowMajor>(shape, Seed{131});
    const auto update = random_normal<typename TypeParam::RowMajor>(shape, Seed{132});
    this->check_aliases(norm, residual, update);
    this->check_aliases(norm, typename TypeParam::ColMajor(residual),
                        typename TypeParam::ColMajor(update));
  }
}

TYPED_TEST(FusedSum, ResidualMayBeAddedToItself) {
  using Matrix = typename TypeParam::RowMajor;
  const auto norm = random_norm<TypeParam>(33);
  Matrix x = random_normal<Matrix>({5, 33}, Seed{141});
  const Matrix doubled = rounded_sum(x, x);
  Matrix y;
  norm.normalize_sum(x, x, x, y);
  EXPECT_TRUE(same_bits(x, doubled));
  EXPECT_TRUE(same_bits(y, norm(doubled)));
}

/// The bound of backward, and one rounding of the final addition.
TYPED_TEST(FusedSum, BackpropagateSumIsTheSumOfBothPaths) {
  using Scalar = typename TypeParam::Scalar;
  using Matrix = typename TypeParam::RowMajor;
  for (const Shape& shape : edge_shapes()) {
    SCOPED_TRACE(shape);
    const auto norm = random_norm<TypeParam>(shape.channels);
    const auto sum = random_normal<Matrix>(shape, Seed{151}, 1, 2);
    const auto dy = random_normal<Matrix>(shape, Seed{152});
    const auto dsum = random_normal<Matrix>(shape, Seed{153});
    Matrix y;
    typename TypeParam::Statistics stats;
    norm.normalize(sum, y, stats);
    const BackwardOracle expected = backward_oracle_of(norm, exact(sum), exact(dy));
    const auto check = [&](const auto& order) {
      using Ordered = std::decay_t<decltype(order)>;
      Ordered dx;
      typename TypeParam::Gradients g;
      norm.backpropagate_sum(Ordered(sum), stats, Ordered(dy), Ordered(dsum), dx, g);
      for (Index t = 0; t < shape.tokens; ++t)
        for (Index c = 0; c < shape.channels; ++c) {
          const long double wanted = expected.dx(t, c) + to_exact(dsum(t, c));
          const long double bound = unit<Scalar>() * (8 * expected.dx_size(t) + std::fabs(wanted));
          EXPECT_TRUE(rounds_from(dx(t, c), wanted, bound))
              << "dx(" << t << ", " << c << ") is " << to_exact(dx(t, c)) << ", expected "
              << wanted;
        }
      for (Index c = 0; c < shape.channels; ++c) {
        EXPECT_LE(units_of_error(to_exact(g.scale(c)), expected.scale(c),
                                 unit<Scalar>() * expected.scale_size(c)),
                  8);
        EXPECT_LE(units_of_error(to_exact(g.shift(c)), expected.shift(c),
                                 unit<Scalar>() * expected.shift_size(c)),
                  8);
      }
    };
    check(Matrix());
    check(typename TypeParam::ColMajor());
  }
}

TYPED_TEST(FusedSum, BackpropagateSumMayOverwriteAnIncomingGradient) {
  using Matrix = typename TypeParam::RowMajor;
  for (const Shape& shape : {Shape{1, 16}, Shape{5, 33}, Shape{9, 100}}) {
    SCOPED_TRACE(shape);
    const auto norm = random_norm<TypeParam>(shape.channels);
    const auto sum = random_normal<Matrix>(shape, Seed{161});
    const auto dy = random_normal<Matrix>(shape, Seed{162});
    const auto dsum = random_normal<Matrix>(shape, Seed{163});
    Matrix y, expected;
    typename TypeParam::Statistics stats;
    typename TypeParam::Gradients g;
    norm.normalize(sum, y, stats);
    norm.backpropagate_sum(sum, stats, dy, dsum, expected, g);
    Matrix over_dy = dy, over_dsum = dsum, over_sum = sum;
    norm.backpropagate_sum(sum, stats, over_dy, dsum, over_dy, g);
    norm.backpropagate_sum(sum, stats, dy, over_dsum, over_dsum, g);
    norm.backpropagate_sum(over_sum, stats, dy, dsum, over_sum, g);
    EXPECT_TRUE(same_bits(over_dy, expected));
    EXPECT_TRUE(same_bits(over_dsum, expected));
    EXPECT_TRUE(same_bits(over_sum, expected));
  }
}

/// Also the channels that its statistics do not count.
TEST(FusedSumOfAPartialRMSNorm, HasEveryChannel) {
  for (const Index channels : {33, 100, 333, 1000})
    for (const Index counted : {Index{1}, channels / 2, channels - 1}) {
      SCOPED_TRACE(::testing::Message() << counted << " of " << channels << " channels");
      const RMSNorm<float> norm(channels, {.statistics_channels = counted});
      const auto check = [&](const auto& residual, const auto& update) {
        auto sum = residual, y = residual;
        sum.setZero();
        norm.normalize_sum(residual, update, sum, y);
        const auto expected = rounded_sum(residual, update);
        EXPECT_TRUE(same_bits(sum, expected));
        EXPECT_TRUE(same_bits(y, norm(expected)));
      };
      const auto residual = random_normal<TokenMatrix<float>>({9, channels}, Seed{171});
      const auto update = random_normal<TokenMatrix<float>>({9, channels}, Seed{172});
      check(residual, update);
      check(Eigen::MatrixXf(residual), Eigen::MatrixXf(update));
    }
}

}  // namespace
}  // namespace tokennorm::test

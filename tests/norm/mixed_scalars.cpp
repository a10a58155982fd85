// SPDX-License-Identifier: MIT
// x, y and the parameters may each be of another scalar type. Where one of them is double the
// arithmetic may be, and the result is at least as good as in float.
#include "../support/random_tokens.hpp"
#include "../support/worst_case.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>

namespace tokennorm::test {
namespace {

template <class TypedCase>
class MixedScalars : public ::testing::Test {
 protected:
  using Param = typename TypedCase::Scalar;
  static constexpr Index channels = 37;
  const typename TypedCase::Norm norm_ = random_affine<TypedCase>(channels);

  template <class X, class Y, int Order>
  void check() {
    using Matrix = Eigen::Matrix<X, Eigen::Dynamic, Eigen::Dynamic, Order>;
    using Result = Eigen::Matrix<Y, Eigen::Dynamic, Eigen::Dynamic, Order>;
    SCOPED_TRACE(::testing::Message()
                 << scalar_name<X>() << " to " << scalar_name<Y>() << ", parameters "
                 << scalar_name<Param>() << (Order == Eigen::RowMajor ? ", rows" : ", columns"));
    const auto x = random_normal<Matrix>({6, channels}, Seed{401}, 1, 2);
    const ForwardOracle expected = forward_oracle_of(norm_, exact(x));
    const ExactVector factor =
        applied_scale(spec_of(norm_.options()), exact_vector(norm_.scale()), channels);
    const bool all_double =
        std::is_same_v<X, double> && std::is_same_v<Y, double> && std::is_same_v<Param, double>;
    const long double u = all_double ? unit<double>() : unit<float>();
    Result y;
    norm_(x, y);
    for (Index t = 0; t < x.rows(); ++t)
      for (Index c = 0; c < channels; ++c) {
        const long double bound =
            u * (std::fabs(factor(c)) * 6 * std::fmax(1.0L, expected.largest(t)) +
                 std::fabs(expected.y(t, c)));
        EXPECT_TRUE(rounds_from<Y>(y(t, c), expected.y(t, c), bound))
            << "y(" << t << ", " << c << ") is " << to_exact(y(t, c)) << ", expected "
            << expected.y(t, c);
      }
  }

  template <class X>
  void check_all_results() {
    check<X, float, Eigen::RowMajor>();
    check<X, double, Eigen::RowMajor>();
    check<X, Eigen::half, Eigen::RowMajor>();
    check<X, Eigen::bfloat16, Eigen::RowMajor>();
    check<X, float, Eigen::ColMajor>();
    check<X, Eigen::bfloat16, Eigen::ColMajor>();
  }
};

TYPED_TEST_SUITE(MixedScalars, AllCases, CaseName);

TYPED_TEST(MixedScalars, EveryCombinationMatchesTheOracle) {
  this->template check_all_results<float>();
  this->template check_all_results<double>();
  this->template check_all_results<Eigen::half>();
  this->template check_all_results<Eigen::bfloat16>();
}

TYPED_TEST(MixedScalars, FusedSumIsRoundedToTheSumsType) {
  const auto residual = random_normal<TokenMatrix<float>>({6, 37}, Seed{402});
  const auto update = random_normal<TokenMatrix<Eigen::bfloat16>>({6, 37}, Seed{403});
  TokenMatrix<Eigen::bfloat16> sum;
  TokenMatrix<float> y;
  this->norm_.normalize_sum(residual, update, sum, y);
  for (Index i = 0; i < sum.size(); ++i)
    EXPECT_EQ(to_exact(sum.data()[i]), rounded_to<Eigen::bfloat16>(to_exact(residual.data()[i]) +
                                                                   to_exact(update.data()[i])));
  const ForwardOracle expected = forward_oracle_of(this->norm_, exact(sum));
  const long double size = 1 + exact_vector(this->norm_.scale()).cwiseAbs().maxCoeff();
  EXPECT_LE((exact(y) - expected.y).cwiseAbs().maxCoeff(),
            8 * unit<float>() * size * expected.largest.maxCoeff());
}

TYPED_TEST(MixedScalars, BackpropagateMatchesTheOracle) {
  using Accum = typename TypeParam::Accum;
  const auto x = random_normal<TokenMatrix<float>>({6, 37}, Seed{404}, 1, 2);
  const auto dy = random_normal<TokenMatrix<Eigen::bfloat16>>({6, 37}, Seed{405});
  TokenMatrix<float> y;
  TokenMatrix<Accum> dx;
  TokenStatistics<Accum> stats;
  NormGradients<Accum> g;
  this->norm_.normalize(x, y, stats);
  this->norm_.backpropagate(x, stats, dy, dx, g);
  const BackwardOracle expected = backward_oracle_of(this->norm_, exact(x), exact(dy));
  for (Index t = 0; t < 6; ++t)
    for (Index c = 0; c < 37; ++c)
      EXPECT_LE(units_of_error(to_exact(dx(t, c)), expected.dx(t, c),
                               unit<float>() * expected.dx_size(t)),
                8);
  for (Index c = 0; c < 37; ++c)
    EXPECT_LE(units_of_error(to_exact(g.scale(c)), expected.scale(c),
                             unit<float>() * expected.scale_size(c)),
              8);
}

}  // namespace
}  // namespace tokennorm::test

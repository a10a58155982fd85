// SPDX-License-Identifier: MIT
// Every gradient three ways: by hand (backpropagate), by central differences in long double, and by
// Eigen's forward-mode AutoDiffScalar, through the library's generic path. The oracle that judges
// the float and double kernels is checked by the same differences, against its own forward.
#include "../support/edge_shapes.hpp"
#include "../support/random_tokens.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>
#include <unsupported/Eigen/AutoDiff>

#include <functional>

namespace tokennorm::test {
namespace {

using Long = long double;
using LongMatrix = TokenMatrix<Long>;
using LongVector = Eigen::Matrix<Long, Eigen::Dynamic, 1>;

/// d loss / d values by central differences; the loss reads `values`.
template <class Values>
Values central_differences(Values& values, const std::function<Long()>& loss) {
  constexpr Long step = 1e-6L;
  Values gradient = values;
  for (Index i = 0; i < values.size(); ++i) {
    Long& value = values.data()[i];
    const Long before = value;
    value = before + step;
    const Long above = loss();
    value = before - step;
    const Long below = loss();
    value = before;
    gradient.data()[i] = (above - below) / (2 * step);
  }
  return gradient;
}

template <class A, class B>
void expect_near(const A& actual, const B& expected, Long tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  const Long size = std::fmax(1.0L, expected.cwiseAbs().maxCoeff());
  EXPECT_LE((actual - expected).cwiseAbs().maxCoeff(), tolerance * size);
}

/// Enough to find any wrong term; the differences themselves are right to about 1e-9.
constexpr Long difference_tolerance = 1e-8L;
const std::vector<Shape> small_shapes = {{1, 2}, {1, 5}, {3, 4}, {2, 17}, {4, 33}};

template <class Kind>
std::vector<typename Kind::Options> option_variants() {
  std::vector<typename Kind::Options> variants;
  for (const bool scale : {true, false})
    for (const double offset : {0.0, 1.0}) {
      auto options = affine_options<Kind>(1e-3);
      options.scale = scale;
      options.shift = scale;
      options.scale_offset = offset;
      variants.push_back(options);
    }
  if constexpr (!Kind::centred) {
    variants.push_back(variants.front());
    variants.back().statistics_channels = 2;
  }
  return variants;
}

template <class Kind>
class GradientCheck : public ::testing::Test {};
struct KindName {
  template <class Kind>
  static std::string GetName(int) {
    return Kind::name;
  }
};
using Kinds = ::testing::Types<LayerKind, RMSKind>;
TYPED_TEST_SUITE(GradientCheck, Kinds, KindName);

TYPED_TEST(GradientCheck, OracleBackwardMatchesDifferencesOfOracleForward) {
  for (const Shape& shape : small_shapes)
    for (const auto& options : option_variants<TypeParam>()) {
      SCOPED_TRACE(shape);
      const NormSpec spec = spec_of(options);
      auto x = random_normal<ExactMatrix>(shape, Seed{61}, 0.5);
      const auto dy = random_normal<ExactMatrix>(shape, Seed{62});
      ExactVector scale, shift;
      if (options.scale) scale = random_vector<Long>(shape.channels, Seed{63});
      if (options.shift) shift = random_vector<Long>(shape.channels, Seed{64});
      const auto loss = [&] {
        return forward_oracle(spec, x, scale, shift).y.cwiseProduct(dy).sum();
      };
      const BackwardOracle backward = backward_oracle(spec, x, dy, scale);
      expect_near(backward.dx, central_differences(x, loss), difference_tolerance);
      if (options.scale)
        expect_near(backward.scale, central_differences(scale, loss), difference_tolerance);
      if (options.shift)
        expect_near(backward.shift, central_differences(shift, loss), difference_tolerance);
    }
}

TYPED_TEST(GradientCheck, BackpropagateMatchesCentralDifferences) {
  using Norm = typename TypeParam::template Norm<Long>;
  for (const Shape& shape : small_shapes)
    for (const auto& options : option_variants<TypeParam>()) {
      SCOPED_TRACE(shape);
      Norm norm(shape.channels, options);
      auto x = random_normal<LongMatrix>(shape, Seed{71}, 0.5);
      const auto dy = random_normal<LongMatrix>(shape, Seed{72});
      if (options.scale) norm.scale() = random_vector<Long>(shape.channels, Seed{73});
      if (options.shift) norm.shift() = random_vector<Long>(shape.channels, Seed{74});
      const auto loss = [&]() -> Long { return norm(x).cwiseProduct(dy).sum(); };

      LongMatrix y, dx;
      TokenStatistics<Long> stats;
      NormGradients<Long> g;
      norm.normalize(x, y, stats);
      norm.backpropagate(x, stats, dy, dx, g);
      expect_near(dx, central_differences(x, loss), difference_tolerance);
      if (options.scale)
        expect_near(g.scale, central_differences(norm.scale(), loss), difference_tolerance);
      if (options.shift)
        expect_near(g.shift, central_differences(norm.shift(), loss), difference_tolerance);
    }
}

TYPED_TEST(GradientCheck, BackpropagateSumMatchesCentralDifferences) {
  using Norm = typename TypeParam::template Norm<Long>;
  for (const Shape& shape : small_shapes) {
    SCOPED_TRACE(shape);
    Norm norm(shape.channels);
    auto residual = random_normal<LongMatrix>(shape, Seed{81});
    auto update = random_normal<LongMatrix>(shape, Seed{82});
    const auto dy = random_normal<LongMatrix>(shape, Seed{83});
    const auto dsum = random_normal<LongMatrix>(shape, Seed{84});
    norm.scale() = random_vector<Long>(shape.channels, Seed{85});
    LongMatrix sum, y, dx;
    const auto loss = [&]() -> Long {
      norm.normalize_sum(residual, update, sum, y);
      return y.cwiseProduct(dy).sum() + sum.cwiseProduct(dsum).sum();
    };
    TokenStatistics<Long> stats;
    NormGradients<Long> g;
    norm.normalize_sum(residual, update, sum, y, stats);
    norm.backpropagate_sum(LongMatrix(sum), stats, dy, dsum, dx, g);
    expect_near(dx, central_differences(residual, loss), difference_tolerance);
    expect_near(dx, central_differences(update, loss), difference_tolerance);
    expect_near(g.scale, central_differences(norm.scale(), loss), difference_tolerance);
  }
}

// --- AutoDiffScalar --------------------------------------------------------------------------

using Dual = Eigen::AutoDiffScalar<Eigen::VectorXd>;

/// The variable of that index among so many.
Dual variable(double value, Index count, Index index) {
  return Dual(value, Eigen::VectorXd::Unit(count, index));
}

TYPED_TEST(GradientCheck, AutoDiffThroughTheNormMatchesTheOracle) {
  using Norm = typename TypeParam::template Norm<Dual>;
  using DualMatrix = TokenMatrix<Dual>;
  for (const Shape& shape : small_shapes)
    for (const auto& options : option_variants<TypeParam>()) {
      SCOPED_TRACE(shape);
      const auto x = random_normal<TokenMatrix<double>>(shape, Seed{91}, 0.5);
      const auto dy = random_normal<TokenMatrix<double>>(shape, Seed{92});
      const auto scale = random_vector<double>(shape.channels, Seed{93});
      const auto shift = random_vector<double>(shape.channels, Seed{94});

      // The variables: all of x, then γ, then β.
      const Index inputs = x.size();
      const Index variables = inputs + 2 * shape.channels;
      DualMatrix dual_x(shape.tokens, shape.channels);
      for (Index i = 0; i < inputs; ++i) dual_x.data()[i] = variable(x.data()[i], variables, i);
      Norm norm(shape.channels, options);
      for (Index c = 0; c < shape.channels; ++c) {
        if (options.scale) norm.scale()(c) = variable(scale(c), variables, inputs + c);
        if (options.shift)
          norm.shift()(c) = variable(shift(c), variables, inputs + shape.channels + c);
      }
      const DualMatrix y = norm(dual_x);
      Eigen::VectorXd derivatives = Eigen::VectorXd::Zero(variables);
      for (Index i = 0; i < inputs; ++i) derivatives += dy.data()[i] * y.data()[i].derivatives();

      const ExactVector exact_scale = options.scale ? exact_vector(scale) : ExactVector();
      const ExactVector exact_shift = options.shift ? exact_vector(shift) : ExactVector();
      const ForwardOracle forward =
          forward_oracle(spec_of(options), exact(x), exact_scale, exact_shift);
      const BackwardOracle backward =
          backward_oracle(spec_of(options), exact(x), exact(dy), exact_scale);
      for (Index i = 0; i < inputs; ++i) {
        EXPECT_NEAR(y.data()[i].value(), static_cast<double>(forward.y.data()[i]), 1e-12);
        EXPECT_NEAR(derivatives(i), static_cast<double>(backward.dx.data()[i]), 1e-10);
      }
      for (Index c = 0; c < shape.channels; ++c) {
        if (options.scale) {
          EXPECT_NEAR(derivatives(inputs + c), static_cast<double>(backward.scale(c)), 1e-11);
        }
        if (options.shift) {
          EXPECT_NEAR(derivatives(inputs + shape.channels + c),
                      static_cast<double>(backward.shift(c)), 1e-11);
        }
      }
    }
}

}  // namespace
}  // namespace tokennorm::test

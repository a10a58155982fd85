// SPDX-License-Identifier: MIT
#include "02_train_gpt/cross_entropy.hpp"

#include "gradient_check.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <span>
#include <vector>

namespace gpt::test {
namespace {

/// The definition, in long double, without the shift that keeps exponentials small.
template <class Scalar>
long double naive_loss(const TokenMatrix<Scalar>& logits, const std::vector<int>& targets) {
  long double sum = 0;
  for (Index t = 0; t < logits.rows(); ++t) {
    long double total = 0;
    for (Index j = 0; j < logits.cols(); ++j) {
      total += std::exp(static_cast<long double>(logits(t, j)));
    }
    const auto target = static_cast<long double>(logits(t, targets[static_cast<std::size_t>(t)]));
    sum -= std::log(std::exp(target) / total);
  }
  return sum / static_cast<long double>(logits.rows());
}

std::vector<int> some_targets(Index tokens, Index vocabulary) {
  std::vector<int> targets;
  for (Index t = 0; t < tokens; ++t) targets.push_back(static_cast<int>((5 * t + 2) % vocabulary));
  return targets;
}

template <class Scalar>
void expect_naive_loss(double tolerance) {
  for (const Index vocabulary : {1, 2, 7, 97}) {
    for (const double spread : {0.01, 1.0, 20.0, 1000.0}) {
      SCOPED_TRACE(::testing::Message() << vocabulary << " characters, logits about " << spread);
      const auto logits =
          random_normal<TokenMatrix<Scalar>>({9, vocabulary}, Seed{100}, 0.5, spread);
      const auto targets = some_targets(9, vocabulary);
      const auto expected = static_cast<double>(naive_loss<Scalar>(logits, targets));
      const double scale = std::max(1.0, spread);
      EXPECT_NEAR(static_cast<double>(cross_entropy<Scalar>(logits, targets)), expected,
                  tolerance * scale);
      auto gradient = logits;
      EXPECT_NEAR(static_cast<double>(cross_entropy_into_gradient<Scalar>(gradient, targets)),
                  expected, tolerance * scale);
    }
  }
}

TEST(CrossEntropy, MatchesTheDefinition) {
  expect_naive_loss<float>(2e-6);
  expect_naive_loss<double>(1e-14);
}

TEST(CrossEntropy, OfTwoHalvesIsThatOfTheWhole) {
  const auto logits = random_normal<TokenMatrix<double>>({10, 7}, Seed{120});
  const auto targets = some_targets(10, 7);
  TokenMatrix<double> whole = logits, top = logits.topRows(5), bottom = logits.bottomRows(5);
  const auto half = [&](auto& part, std::size_t first) {
    return cross_entropy_into_gradient<double>(part, std::span(targets).subspan(first, 5), 0.5);
  };
  EXPECT_NEAR(half(top, 0) + half(bottom, 5), cross_entropy_into_gradient<double>(whole, targets),
              1e-14);
  EXPECT_TRUE(top.isApprox(whole.topRows(5), 1e-14));
  EXPECT_TRUE(bottom.isApprox(whole.bottomRows(5), 1e-14));
}

TEST(CrossEntropy, GradientMatchesCentralDifferences) {
  auto logits = random_normal<TokenMatrix<long double>>({5, 7}, Seed{110});
  const auto targets = some_targets(5, 7);
  auto gradient = logits;
  cross_entropy_into_gradient<long double>(gradient, targets);
  expect_derivatives(logits, gradient, 1e-12,
                     [&] { return cross_entropy<long double>(logits, targets); });
}

TEST(CrossEntropy, UniformLogitsCostLogOfTheVocabulary) {
  const TokenMatrix<float> logits = TokenMatrix<float>::Constant(3, 8, 4.5F);
  EXPECT_NEAR(cross_entropy<float>(logits, some_targets(3, 8)), std::log(8.0), 1e-6);
}

TEST(CrossEntropy, SurvivesLargeLogits) {
  TokenMatrix<float> logits(1, 3);
  logits << 3e38F, -3e38F, 0;
  EXPECT_EQ(cross_entropy<float>(logits, std::vector{0}), 0);
  EXPECT_EQ(cross_entropy_into_gradient<float>(logits, std::vector{0}), 0);
  EXPECT_TRUE(logits.isZero(1e-30F));
}

}  // namespace
}  // namespace gpt::test

// SPDX-License-Identifier: MIT
// Scaled, LayerScale and DropPath: as sublayers for anybody, in a step, and what they refuse. Their
// gradients in every placement are in training.cpp.
#include "../support/exact_bits.hpp"
#include "../support/message_of.hpp"
#include "executors.hpp"
#include "placements.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<double>;
constexpr Index channels = 5;
const Tokens x = random_normal<Tokens>({8, channels}, Seed{8501});
const Tokens dy = random_normal<Tokens>({8, channels}, Seed{8502});

Linear<double> linear() { return {channels, {1}}; }
LayerNorm<double> norm() { return layer_norm<double>(channels, {2}); }

/// What the sublayer inside gives back for that gradient of its result.
Tokens backward_of_linear(const Tokens& du) {
  auto f = linear();
  f.forward(x);
  return f.backward(du);
}

TEST(ScaledSublayers, AreSublayersForAnybody) {
  const Tokens fx = linear()(x);
  Scaled scaled(linear(), -0.25);
  EXPECT_TRUE(same_bits(scaled(x), -0.25 * fx));
  EXPECT_TRUE(same_bits(scaled.forward(x), -0.25 * fx));
  EXPECT_TRUE(same_bits(scaled.backward(dy), backward_of_linear(-0.25 * dy)));

  LayerScale<Linear<double>, double> layer_scale(linear(), channels, 0.5);
  layer_scale.layer_scale()(2) = -3;
  const Eigen::VectorXd gamma = layer_scale.layer_scale();
  EXPECT_TRUE(same_bits(layer_scale(x), fx * gamma.asDiagonal()));
  EXPECT_TRUE(same_bits(layer_scale.forward(x), fx * gamma.asDiagonal()));
  EXPECT_TRUE(same_bits(layer_scale.backward(dy), backward_of_linear(dy * gamma.asDiagonal())));
  const Eigen::VectorXd expected = dy.cwiseProduct(fx).colwise().sum().transpose();
  EXPECT_TRUE(layer_scale.gradient().isApprox(expected, 1e-14));
  layer_scale.forward(x);
  layer_scale.backward(dy);
  EXPECT_TRUE(layer_scale.gradient().isApprox(2 * expected, 1e-14)) << "it is added to";
  layer_scale.zero_gradients();
  EXPECT_TRUE(layer_scale.gradient().isZero(0));

  DropPath drop_path(linear(), 0.5, 4, 3);
  EXPECT_TRUE(same_bits(drop_path(x), fx)) << "in inference: f";
  const Tokens dropped = drop_path.forward(x);
  for (const Index first : {0, 4}) {
    const bool is_dropped = dropped.middleRows(first, 4).isZero(0);
    EXPECT_TRUE(is_dropped || same_bits(Tokens(dropped.middleRows(first, 4)),
                                        Tokens(2 * fx.middleRows(first, 4))));
  }
}

TEST(ScaledSublayers, AreNamedByTheirPlace) {
  PreLN block(norm(),
              DropPath(LayerScale<Linear<double>, double>(linear(), channels, 0.5), 0.1, 1, 1),
              norm(), linear());
  std::vector<std::string> names;
  block.visit_parameters([&](const std::string& name, auto&, auto&) { names.push_back(name); });
  EXPECT_EQ(names, (std::vector<std::string>{
                       "attention_norm.scale", "attention_norm.shift", "attention.layer_scale",
                       "attention.weight", "attention.bias", "feed_forward_norm.scale",
                       "feed_forward_norm.shift", "feed_forward.weight", "feed_forward.bias"}));
  EXPECT_EQ(block.attention().sublayer().layer_scale()(0), 0.5);
}

TEST(ScaledSublayers, OneThatIsSharedIsVisitedOnce) {
  auto shared = linear();
  PreLN block(norm(), Scaled(std::ref(shared), 2), norm(), Scaled(std::ref(shared), 3));
  int weights = 0;
  block.visit_parameters(
      [&](const std::string& name, auto&&, auto&&) { weights += name.ends_with("weight"); });
  EXPECT_EQ(weights, 1);
}

/// Pre-LN with factors of all kinds, and its own copy of what DropPath draws.
auto with_all_factors(double probability) {
  return PreLNResidual(norm(), DropPath(LayerScale<Scaled<Linear<double>>, double>(
                                            Scaled(linear(), 1.5), channels, 0.5),
                                        probability, 2, 17));
}

TEST(ScaledSublayers, InAStepAreTheSameAsBySublayersOfTheirOwn) {
  for (const Index rows : {2, 8, 140}) {
    const auto in = random_normal<Tokens>({rows, channels}, Seed{8503});
    const auto gradient = random_normal<Tokens>({rows, channels}, Seed{8504});
    auto fused = with_all_factors(0.4);
    auto unfused = with_all_factors(0.4);
    auto& f = unfused.sublayer();
    const auto n = norm()(in);
    // x + f(norm(x)), one after the other.
    EXPECT_LE((fused.forward(in) - (in + f.forward(n))).cwiseAbs().maxCoeff(), 1e-14);
    auto module = norm();
    module.forward(in);
    const Tokens dx = gradient + module.backward(f.backward(gradient));
    EXPECT_LE((fused.backward(gradient) - dx).cwiseAbs().maxCoeff(), 1e-14);
    auto& fused_scale = fused.sublayer().sublayer();
    auto& unfused_scale = f.sublayer();
    EXPECT_TRUE(fused_scale.gradient().isApprox(unfused_scale.gradient(), 1e-13));
  }
}

TEST(ScaledSublayers, MultiplyTheirFactors) {
  const PreLNResidual nested(norm(), Scaled(Scaled(linear(), 1.5), -0.5));
  const Tokens expected = x - 0.75 * linear()(norm()(x));
  EXPECT_LE((nested(x) - expected).cwiseAbs().maxCoeff(), 1e-14);
}

TEST(ScaledSublayers, DropWholeSequencesAsTheSeedSays) {
  auto block = with_all_factors(0.5);
  auto same = with_all_factors(0.5);
  std::set<std::string> patterns;
  int dropped = 0;
  constexpr int draws = 200;
  for (int draw = 0; draw < draws; ++draw) {
    const Tokens y = block.forward(x);
    EXPECT_TRUE(same_bits(y, same.forward(x, TestExecutor{Division::one_by_one})));
    std::string pattern;
    for (const Index first : {0, 2, 4, 6}) {
      const bool is_dropped =
          same_bits(Tokens(y.middleRows(first, 2)), Tokens(x.middleRows(first, 2)));
      pattern += is_dropped ? '0' : '1';
      dropped += is_dropped;
    }
    patterns.insert(pattern);
    const Tokens dx = block.backward(dy);
    for (Index i = 0; i < 4; ++i) {
      EXPECT_EQ(same_bits(Tokens(dx.middleRows(2 * i, 2)), Tokens(dy.middleRows(2 * i, 2))),
                pattern[static_cast<std::size_t>(i)] == '0')
          << "a sequence that was dropped passes its gradient on as it is";
    }
    same.backward(dy);
  }
  EXPECT_EQ(patterns.size(), 16u);
  // 800 draws: six standard deviations.
  EXPECT_NEAR(dropped / (4.0 * draws), 0.5, 6 * std::sqrt(0.25 / (4 * draws)));
}

TEST(ScaledSublayers, RefuseWhatMakesNoSense) {
  EXPECT_EQ(message_of([] { Scaled(linear(), std::nan("")); }),
            "tokennorm: Scaled: factor is nan; expected a finite number");
  EXPECT_EQ(message_of([] { LayerScale(linear(), 0); }),
            "tokennorm: LayerScale: channels is 0; expected 1 or more");
  for (const double probability : {-0.1, 1.0, std::nan("")}) {
    EXPECT_NE(message_of([&] {
                DropPath(linear(), probability, 1, 0);
              }).find("expected 0 or more, below 1"),
              std::string::npos);
  }
  EXPECT_EQ(message_of([] { DropPath(linear(), 0.5, 0, 0); }),
            "tokennorm: DropPath: tokens_per_sequence is 0; expected 1 or more");
  EXPECT_EQ(message_of([] { PreLNResidual(norm(), LayerScale(linear(), 4)); }),
            "tokennorm: PreLNResidual(5): sublayer's layer_scale has 4 values; expected 5");
  EXPECT_EQ(message_of([] { PreLN(norm(), LayerScale(linear(), 4), norm(), linear()); }),
            "tokennorm: PreLN(5): attention's layer_scale has 4 values; expected 5");
  PreLNResidual odd(norm(), DropPath(linear(), 0.5, 3, 0));
  EXPECT_EQ(message_of([&] { odd.forward(x); }),
            "tokennorm: DropPath: there are 8 tokens; expected a multiple of 3, the tokens of a "
            "sequence");
  EXPECT_NO_THROW(odd(x)) << "inference drops nothing";
  TokenMatrix<double> y;
  TrainingRecord<double> record;
  EXPECT_ANY_THROW(odd.forward(x, y, record));
  EXPECT_EQ(y.rows(), 0) << "refused before y has its shape";
}

}  // namespace
}  // namespace tokennorm::test

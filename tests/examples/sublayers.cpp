// SPDX-License-Identifier: MIT
// The trainable sublayers of 02_train_gpt, in long double: linear, attention, feed-forward.
#include "02_train_gpt/attention.hpp"
#include "02_train_gpt/feed_forward.hpp"
#include "02_train_gpt/gated_feed_forward.hpp"
#include "02_train_gpt/linear.hpp"
#include "gradient_check.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <random>
#include <stdexcept>
#include <type_traits>

namespace gpt::test {
namespace {

using Real = long double;
using Tokens = TokenMatrix<Real>;

/// A linear layer that keeps what it was given.
struct KeepingLinear : Linear<Real> {
  using Linear::Linear;
  Tokens forward(const Tokens& given) { return (*this)(x = given); }
  Tokens backward(const Tokens& dy) { return Linear::backward(x, dy); }
  Tokens x;
};

/// A sublayer of a block in the middle of a batch, whose sequences have `length` tokens or fewer.
template <class Sublayer>
struct InBatch {
  using Tokens = typename Sublayer::Tokens;

  Tokens operator()(const Tokens& x) const {
    if constexpr (std::is_invocable_v<const Sublayer&, const Tokens&>) {
      return sublayer(x);
    } else {
      return sublayer(x, split_into_sequences(x.rows(), length));
    }
  }
  Tokens forward(const Tokens& x) {
    batch.sequences = split_into_sequences(x.rows(), length);
    batch.blocks.resize(3);
    return sublayer.forward(x, batch, BlockIndex{1});
  }
  Tokens backward(const Tokens& dy) { return sublayer.backward(dy, batch, BlockIndex{1}); }
  void visit_parameters(auto&& visitor) { sublayer.visit_parameters(visitor); }
  void zero_gradients() { sublayer.zero_gradients(); }

  Sublayer sublayer;
  Index length = 1;
  Batch<typename Tokens::Scalar> batch{};
};

TEST(Linear, MatchesCentralDifferences) {
  std::mt19937_64 rng(1);
  KeepingLinear linear(5, 3, rng);
  expect_sublayer_gradients(linear, 7, 5, 3, Seed{10});
}

TEST(Linear, IsTheProductWrittenOut) {
  std::mt19937_64 rng(2);
  Linear<Real> linear(4, 3, rng);
  shake(linear, Seed{20});
  Tokens weight, bias;
  linear.visit_parameters([&](const std::string& name, auto& value, auto&) {
    (name == "weight" ? weight : bias) = value;
  });
  const auto x = random_normal<Tokens>({5, 4}, Seed{21});
  const Tokens y = linear(x);
  for (Index t = 0; t < 5; ++t) {
    for (Index output = 0; output < 3; ++output) {
      Real expected = bias(0, output);
      for (Index input = 0; input < 4; ++input) expected += x(t, input) * weight(input, output);
      EXPECT_NEAR(static_cast<double>(y(t, output)), static_cast<double>(expected), 1e-15);
    }
  }
}

TEST(FeedForward, MatchesCentralDifferences) {
  std::mt19937_64 rng(3);
  InBatch<FeedForward<Real>> feed_forward{{4, rng}};
  expect_sublayer_gradients(feed_forward, 5, 4, 4, Seed{30});
}

TEST(Linear, WithoutABiasMatchesCentralDifferences) {
  std::mt19937_64 rng(1);
  KeepingLinear linear(5, 3, rng, 1, /*bias=*/false);
  expect_sublayer_gradients(linear, 7, 5, 3, Seed{11});
}

TEST(GatedFeedForward, MatchesCentralDifferences) {
  std::mt19937_64 rng(3);
  InBatch<GatedFeedForward<Real>> feed_forward{{3, rng}};
  expect_sublayer_gradients(feed_forward, 5, 3, 3, Seed{31});
}

TEST(Gelu, KnownValues) {
  Tokens h(1, 5);
  h << -10, -1, 0, 1, 10;
  const Tokens y = gelu<Real>(h);
  // x·Φ(x) to the accuracy of the tanh form: Φ(1) = 0.841345.
  EXPECT_NEAR(static_cast<double>(y(0)), 0, 1e-12);
  EXPECT_NEAR(static_cast<double>(y(1)), -0.158655, 3e-4);
  EXPECT_EQ(static_cast<double>(y(2)), 0);
  EXPECT_NEAR(static_cast<double>(y(3)), 0.841345, 3e-4);
  EXPECT_NEAR(static_cast<double>(y(4)), 10, 1e-12);
}

class AttentionGradient : public ::testing::TestWithParam<Index> {};  // the number of tokens

TEST_P(AttentionGradient, MatchesCentralDifferences) {
  std::mt19937_64 rng(4);
  InBatch<CausalSelfAttention<Real>> attention{{/*channels=*/6, /*heads=*/2, rng}, /*length=*/4};
  expect_sublayer_gradients(attention, GetParam(), 6, 6, Seed{40});
}

TEST_P(AttentionGradient, RotaryMatchesCentralDifferences) {
  std::mt19937_64 rng(4);
  const auto rotations = std::make_shared<const examples::Rotations<Real>>(4, 4, /*base=*/5);
  InBatch<CausalSelfAttention<Real>> attention{{8, /*heads=*/2, rng, 1, rotations}, /*length=*/4};
  expect_sublayer_gradients(attention, GetParam(), 8, 8, Seed{41});
}

// One short sequence, one whole one, and three.
INSTANTIATE_TEST_SUITE_P(TokenCounts, AttentionGradient, ::testing::Values(1, 3, 4, 12));

TEST(Attention, IsTheSumWrittenOut) {
  constexpr Index channels = 6, heads = 3, context = 5, tokens = 10, width = channels / heads;
  std::mt19937_64 rng(5);
  CausalSelfAttention<Real> attention(channels, heads, rng);
  shake(attention, Seed{50});
  std::vector<Tokens> parameters;  // input weight and bias, output weight and bias
  attention.visit_parameters(
      [&](const std::string&, auto& value, auto&) { parameters.push_back(value); });
  const auto x = random_normal<Tokens>({tokens, channels}, Seed{51});
  const Tokens y = attention(x, Sequences{tokens / context, context});

  const auto project = [&](Index t, Index column) {
    Real sum = parameters[1](0, column);
    for (Index c = 0; c < channels; ++c) sum += x(t, c) * parameters[0](c, column);
    return sum;
  };
  Tokens mixed(tokens, channels);
  for (Index t = 0; t < tokens; ++t) {
    for (Index head = 0; head < heads; ++head) {
      std::vector<Real> weights;
      Real total = 0;
      for (Index s = t / context * context; s <= t; ++s) {
        Real score = 0;
        for (Index d = head * width; d < (head + 1) * width; ++d) {
          score += project(t, d) * project(s, channels + d);
        }
        weights.push_back(std::exp(score / std::sqrt(Real(width))));
        total += weights.back();
      }
      for (Index d = head * width; d < (head + 1) * width; ++d) {
        mixed(t, d) = 0;
        for (std::size_t i = 0; i < weights.size(); ++i) {
          const Index s = t / context * context + static_cast<Index>(i);
          mixed(t, d) += weights[i] / total * project(s, 2 * channels + d);
        }
      }
    }
    for (Index c = 0; c < channels; ++c) {
      Real expected = parameters[3](0, c);
      for (Index d = 0; d < channels; ++d) expected += mixed(t, d) * parameters[2](d, c);
      EXPECT_NEAR(static_cast<double>(y(t, c)), static_cast<double>(expected), 1e-14);
    }
  }
}

TEST(Rotations, TurnPairsByTheirPosition) {
  const examples::Rotations<Real> rotations(/*context=*/8, /*head_channels=*/4, /*base=*/100);
  Tokens row(1, 8);  // two heads
  row << 1, 0, 0, 2, 0, 1, 3, 4;
  const Tokens before = row;
  rotations.rotate(7, row.row(0));
  const Real fast = 7, slow = 7 / Real(10);  // 100^(−2/4) is a tenth
  Tokens expected(1, 8);
  expected << std::cos(fast), std::sin(fast), -2 * std::sin(slow), 2 * std::cos(slow),
      -std::sin(fast), std::cos(fast), 3 * std::cos(slow) - 4 * std::sin(slow),
      3 * std::sin(slow) + 4 * std::cos(slow);
  EXPECT_LE(static_cast<double>((row - expected).cwiseAbs().maxCoeff()), 1e-15);
  rotations.rotate(7, row.row(0), -1);
  EXPECT_LE(static_cast<double>((row - before).cwiseAbs().maxCoeff()), 1e-15);
}

class AttentionOfASession : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Rotary, AttentionOfASession, ::testing::Bool());

TEST_P(AttentionOfASession, IsThatOfTheWholeSequence) {
  constexpr Index channels = 8, tokens = 7;
  std::mt19937_64 rng(8);
  const auto rotations = std::make_shared<const examples::Rotations<Real>>(9, 4, /*base=*/5);
  CausalSelfAttention<Real> attention(channels, /*heads=*/2, rng, 1,
                                      GetParam() ? rotations : nullptr);
  shake(attention, Seed{80});
  const auto x = random_normal<Tokens>({tokens, channels}, Seed{81});
  const Tokens expected = attention(x, Sequences{1, tokens});
  Session<Real> session(/*block_count=*/3, /*context=*/9, channels);
  for (const Index count : {3, 1, 2, 1}) {
    const Tokens y = attention(x.middleRows(session.position, count), session, BlockIndex{1});
    EXPECT_TRUE(y.isApprox(expected.middleRows(session.position, count), 1e-15L))
        << count << " tokens behind " << session.position;
    session.position += count;
  }
}

TEST(Attention, RefusesHeadsThatDoNotDivide) {
  std::mt19937_64 rng(6);
  EXPECT_THROW(CausalSelfAttention<float>(6, 4, rng), std::invalid_argument);
  EXPECT_THROW(CausalSelfAttention<float>(6, 0, rng), std::invalid_argument);
  const CausalSelfAttention<float> attention(6, 2, rng);
  EXPECT_EQ(attention(TokenMatrix<float>::Zero(0, 6), Sequences{0, 0}).rows(), 0);
}

TEST(Sequences, AreWholeOrOneThatIsShorter) {
  const auto expect_split = [](Index tokens, Index count, Index length) {
    const Sequences sequences = split_into_sequences(tokens, 4);
    EXPECT_EQ(sequences.count, count) << tokens << " tokens";
    EXPECT_EQ(sequences.length, length) << tokens << " tokens";
  };
  expect_split(0, 0, 0);
  expect_split(3, 1, 3);
  expect_split(4, 1, 4);
  expect_split(12, 3, 4);
  EXPECT_THROW(split_into_sequences(6, 4), std::invalid_argument);
}

TEST(Attention, SurvivesLargeScores) {
  std::mt19937_64 rng(7);
  const CausalSelfAttention<float> attention(4, 1, rng);
  const auto x = random_normal<TokenMatrix<float>>({6, 4}, Seed{70}, 0, 1e4);
  EXPECT_TRUE(attention(x, Sequences{1, 6}).allFinite());
}

}  // namespace
}  // namespace gpt::test

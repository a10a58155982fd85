// SPDX-License-Identifier: MIT
// Blocks and stacks whose channels are divided over the ranks compute what they compute undivided,
// forward and backward; gradients of tokens that are divided add up.
#include "../support/exact_bits.hpp"
#include "../support/message_of.hpp"
#include "ranks.hpp"
#include <tokennorm/tokennorm.hpp>

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tokennorm::test {
namespace {

constexpr Index channels = 24, token_count = 70;

/// A sublayer that works channel by channel, and so may be divided.
template <class Scalar>
struct Cubed {
  using Tokens = TokenMatrix<Scalar>;
  Tokens operator()(const Tokens& x) const { return x.array().cube().matrix() * Scalar(0.1); }
  Tokens forward(const Tokens& x) {
    saved = x;
    return (*this)(x);
  }
  Tokens backward(const Tokens& dy) const {
    return (Scalar(0.3) * saved.array().square() * dy.array()).matrix();
  }
  Tokens saved;
};

LayerNorm<double> layer_norm(int seed) {
  LayerNorm<double> norm(channels);
  norm.scale() = random_normal<Eigen::VectorXd>({channels, 1}, Seed{unsigned(seed)}, 0.25, 1);
  norm.shift() = random_normal<Eigen::VectorXd>({channels, 1}, Seed{unsigned(seed + 1)});
  return norm;
}
RMSNorm<double> rms_norm(int seed) {
  RMSNorm<double> norm(channels);
  norm.scale() = random_normal<Eigen::VectorXd>({channels, 1}, Seed{unsigned(seed)}, 0.25, 1);
  return norm;
}

/// What a block gives: y, in inference and training, dx, and the gradients by name.
template <class Block>
struct Results {
  TokenMatrix<double> inferred, y, dx;
  std::vector<std::pair<std::string, Eigen::VectorXd>> gradients;

  Results(Block block, const TokenMatrix<double>& x, const TokenMatrix<double>& dy) {
    inferred = block(x);
    y = block.forward(x);
    dx = block.backward(dy);
    block.visit_parameters([&](const std::string& name, auto&, auto& gradient) {
      gradients.emplace_back(name, gradient);
    });
  }
};

/// `make` is given a function that takes a norm or leaves this rank its part of it.
void expect_same_divided(const auto& make) {
  const auto x = random_normal<TokenMatrix<double>>({token_count, channels}, Seed{51}, 1, 2);
  const auto dy = random_normal<TokenMatrix<double>>({token_count, channels}, Seed{52});
  const Share share(channels);
  const Results whole(make([](const auto& norm) { return norm; }), x, dy);
  const Results part(make([](const auto& norm) { return shard_of(norm); }),
                     TokenMatrix<double>(share.of_channels(x)),
                     TokenMatrix<double>(share.of_channels(dy)));
  const auto expect_near = [](const auto& actual, const auto& expected) {
    EXPECT_LE((actual - expected).cwiseAbs().maxCoeff(),
              1e-12 * (1 + expected.cwiseAbs().maxCoeff()));
  };
  expect_near(part.inferred, share.of_channels(whole.inferred));
  EXPECT_TRUE(same_bits(part.inferred, part.y));
  expect_near(part.dx, share.of_channels(whole.dx));
  ASSERT_EQ(part.gradients.size(), whole.gradients.size());
  for (std::size_t i = 0; i < part.gradients.size(); ++i) {
    SCOPED_TRACE(whole.gradients[i].first);
    EXPECT_EQ(part.gradients[i].first, whole.gradients[i].first);
    expect_near(part.gradients[i].second,
                whole.gradients[i].second.segment(share.first, share.count));
  }
}

using F = Cubed<double>;

TEST(ShardedBlocks, PreLN) {
  expect_same_divided(
      [](const auto& of) { return PreLN(of(layer_norm(1)), F{}, of(rms_norm(3)), F{}); });
}
TEST(ShardedBlocks, PostLN) {
  expect_same_divided(
      [](const auto& of) { return PostLN(F{}, of(layer_norm(1)), F{}, of(layer_norm(3))); });
}
TEST(ShardedBlocks, SandwichLN) {
  expect_same_divided([](const auto& of) {
    return SandwichLN(of(layer_norm(1)), F{}, of(rms_norm(3)), of(rms_norm(4)), F{},
                      of(layer_norm(5)));
  });
}
TEST(ShardedBlocks, DeepNorm) {
  expect_same_divided(
      [](const auto& of) { return DeepNorm(F{}, of(layer_norm(1)), F{}, of(layer_norm(3)), 1.5); });
}
TEST(ShardedBlocks, ParallelLNWithScaledUpdates) {
  expect_same_divided([](const auto& of) {
    return ParallelLN(of(layer_norm(1)), Scaled(F{}, 0.5), of(rms_norm(3)), F{});
  });
}
TEST(ShardedBlocks, AStackOfThem) {
  expect_same_divided([](const auto& of) {
    const PreLN block(of(layer_norm(1)), F{}, of(layer_norm(3)), F{});
    return Stack(of(layer_norm(5)), std::vector{block, block}, of(rms_norm(7)));
  });
}
TEST(ShardedBlocks, TwoPlacements) {
  expect_same_divided([](const auto& of) {
    return Block(PreLNResidual(of(layer_norm(1)), F{}), ResPostLNResidual(F{}, of(rms_norm(3))));
  });
}

/// What a block refuses before its norms on one rank, the others are told in the first of them.
TEST(ShardedBlocks, WhatOneRankRefusesAllDo) {
  if (ranks() == 1) GTEST_SKIP() << "there is no other rank";
  const auto norm = sharded(LayerNorm<double>(8), MPI_COMM_WORLD);
  const PreLN block(norm, F{}, norm, F{});
  SandwichLNResidual sandwich(norm, F{}, norm);
  Stack stack(NoNorm{}, std::vector{block}, norm);
  const TokenMatrix<double> x = TokenMatrix<double>::Random(5, 8);
  const TokenMatrix<double> wide = TokenMatrix<double>::Random(5, 9);
  const TokenMatrix<double>& given = rank() == 1 ? wide : x;
  const auto expect_refused = [&](const std::string& reason, const auto& call) {
    EXPECT_EQ(message_of(call), rank() == 1
                                    ? "tokennorm: " + reason
                                    : "tokennorm: LayerNorm(8): rank 1 has refused its operands");
  };
  const std::string width = " is 5 x 9 (tokens x channels); expected 8 channels";
  const std::string shape = " is 5 x 9 (tokens x channels); expected 5 x 8";
  expect_refused("PreLN(8): x" + width, [&] { block(given); });
  expect_refused("Stack(8): x" + width, [&] { stack(given); });
  expect_refused("Stack(8): x" + width, [&] { stack.forward(given); });
  const TokenMatrix<double> y = stack.forward(x);
  expect_refused("Stack(8): dy" + shape, [&] { stack.backward(given); });
  sandwich.forward(x);
  expect_refused("SandwichLNResidual(8): dy" + shape, [&] { sandwich.backward(given); });

  // Where a sublayer comes first they are not told, for they may wait in that: only one rank calls.
  const PostLN post(F{}, norm, F{}, norm);
  if (rank() == 1) {
    EXPECT_EQ(message_of([&] { post(wide); }), "tokennorm: PostLN(8): x" + width);
  }
  EXPECT_TRUE(same_bits(y, stack(x)));
}

/// The stream in float, the sublayers in bfloat16: against the block undivided.
TEST(ShardedBlocks, InMixedPrecision) {
  using Narrow = TokenMatrix<Eigen::bfloat16>;
  const auto f = [](const Narrow& x) -> Narrow { return x; };
  const auto x = random_normal<TokenMatrix<float>>({token_count, channels}, Seed{53}, 1, 2);
  const Share share(channels);
  const TokenMatrix<float> mine = share.of_channels(x);
  const LayerNorm<float> norm(channels);
  Workspace<float, Eigen::bfloat16> workspace, other;
  TokenMatrix<float> y, whole;
  const auto shard = shard_of(norm);
  PreLN(shard, f, shard, f)(mine, y, workspace);
  PreLN(norm, f, norm, f)(x, whole, other);
  EXPECT_LE((y - share.of_channels(whole)).cwiseAbs().maxCoeff(), 0.05f);
}

/// Each rank has some tokens; the sums are those of all of them, and the same on all ranks.
TEST(AllReducedGradients, AreThoseOfAllTokens) {
  const auto x = random_normal<TokenMatrix<double>>({token_count, channels}, Seed{54}, 1, 2);
  const auto dy = random_normal<TokenMatrix<double>>({token_count, channels}, Seed{55});
  const Share share(token_count);
  const auto make = [] {
    const PreLN block(layer_norm(1), LayerScale(F{}, channels, 0.5), rms_norm(3), F{});
    return Stack(NoNorm{}, std::vector{block, block}, layer_norm(5));
  };
  auto whole = make(), part = make();
  whole.forward(x);
  whole.backward(dy);
  part.forward(TokenMatrix<double>(share.of_tokens(x)));
  part.backward(TokenMatrix<double>(share.of_tokens(dy)));
  all_reduce_gradients(part, MPI_COMM_WORLD);
  std::vector<Eigen::VectorXd> expected;
  whole.visit_parameters([&](const std::string&, auto&, auto& gradient) {
    expected.emplace_back(gradient.template cast<double>());
  });
  std::size_t i = 0;
  part.visit_parameters([&](const std::string& name, auto&, auto& gradient) {
    SCOPED_TRACE(name);
    using Scalar = typename std::remove_reference_t<decltype(gradient)>::Scalar;
    const Eigen::VectorXd sum = gradient.template cast<double>();
    EXPECT_LE((sum - expected[i]).cwiseAbs().maxCoeff(),
              1e4 * static_cast<double>(Eigen::NumTraits<Scalar>::epsilon()) *
                  (1 + expected[i].cwiseAbs().maxCoeff()));
    EXPECT_TRUE(same_bits_on_all_ranks(sum));
    ++i;
  });
  EXPECT_EQ(i, expected.size());
}

/// Sequences of a few tokens, dealt out to so many ranks: the bits are those of one rank with all.
TEST(AllReducedGradients, AsReproducibleSumsDoNotDependOnTheDivision) {
  const Index sequences = 9, length = 5;
  const auto x = random_normal<TokenMatrix<float>>({sequences * length, channels}, Seed{56}, 1, 2);
  const auto dy = random_normal<TokenMatrix<float>>({sequences * length, channels}, Seed{57});
  const LayerNorm<float> norm(channels);
  const auto make = [&] { return PreLN(norm, Cubed<float>{}, norm, Cubed<float>{}); };
  auto whole = make(), part = make();
  ReproducibleSum<float> sum_of_whole, sum;
  for (Index i = sequences; i-- > 0;) {  // in another order, too
    const auto run = [&](auto& block, auto& to) {
      block.forward(TokenMatrix<float>(x.middleRows(i * length, length)));
      block.backward(TokenMatrix<float>(dy.middleRows(i * length, length)));
      to.add(block);
    };
    run(whole, sum_of_whole);
    const Index j = (i * 5) % sequences;
    if (j % ranks() == rank()) run(part, sum);
  }
  sum_of_whole.move_to(whole);
  all_reduce_gradients(part, MPI_COMM_WORLD, sum);
  EXPECT_TRUE(
      same_bits(part.attention_norm().gradients().scale, whole.attention_norm().gradients().scale));
  EXPECT_TRUE(same_bits(part.feed_forward_norm().gradients().shift,
                        whole.feed_forward_norm().gradients().shift));
}

TEST(AllReducedGradients, OfDifferentModelsAreRefused) {
  if (ranks() == 1) GTEST_SKIP() << "one rank agrees with itself";
  LayerNorm<float> norm(rank() == 0 ? 8 : 9);
  EXPECT_EQ(message_of([&] { all_reduce_gradients(norm, MPI_COMM_WORLD); }),
            "tokennorm: all_reduce_gradients: the ranks have 16 to 18 gradients, of them 16 to 18 "
            "of float; expected as many on all");
}

}  // namespace
}  // namespace tokennorm::test

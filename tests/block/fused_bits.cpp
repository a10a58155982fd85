// SPDX-License-Identifier: MIT
// A step with a norm on the update has the bits of the same step done one by one, whatever the norm
// after it counts, for groups of rows that are not full, and beside a row that needs the wider
// type.
#include "../support/exact_bits.hpp"
#include "../support/random_tokens.hpp"
#include <tokennorm/tokennorm.hpp>

#include <gtest/gtest.h>

#include <tuple>

namespace tokennorm::test {
namespace {

using Matrix = TokenMatrix<float>;

template <class X>
X unchanged(const X& n) {
  return n;
}

/// h ← x + N₂(f(N₁(x))), y = h + N₄(f(N₃(h)))
template <class Post, class Pre, class X, class F = X (*)(const X&)>
void expect_bits_of_single_steps(const Post& post, const Pre& pre, const X& x, F f = unchanged<X>) {
  const LayerNorm<typename X::Scalar> plain(x.cols());
  const SandwichLN block(plain, f, post, pre, f, plain);
  const X h = x + post(f(plain(x)));
  const X y = h + plain(f(pre(h)));
  EXPECT_TRUE(same_bits(block(x), y)) << x.rows() << " x " << x.cols();
}

template <class Scalar>
class FusedBitsOf : public ::testing::Test {};
using Scalars = ::testing::Types<float, Eigen::bfloat16, double>;
TYPED_TEST_SUITE(FusedBitsOf, Scalars);

TEST(FusedBits, NormThatCountsFewChannelsAfterOneThatCountsMany) {
  for (const Index channels : {512, 2100}) {
    for (const Index tokens : {1, 2, 3, 4, 5, 8}) {
      const RMSNorm<float> partial(channels, {.statistics_channels = 16});
      const auto x = random_normal<Matrix>({tokens, channels}, Seed{7301}, 1, 2);
      expect_bits_of_single_steps(LayerNorm<float>(channels), partial, x);
      expect_bits_of_single_steps(RMSNorm<float>(channels), partial, x);
    }
  }
}

TEST(FusedBits, ScaleOffsetAndARestOfChannels) {
  for (const Index channels : {5, 19, 103, 515}) {
    const LayerNorm<float> post(channels, {.scale_offset = 1});
    auto x = random_normal<Matrix>({9, channels}, Seed{7302}, 1, 2);
    for (const bool slow : {false, true}) {
      if (slow) x(5, 1) = 1e30f;
      expect_bits_of_single_steps(post, RMSNorm<float>(channels), x);
      expect_bits_of_single_steps(post, LayerNorm<float>(channels), x);
    }
  }
}

/// The last update of a block is added in the first of the norms that read the sum; the second one
/// reads it again.
TEST(FusedBits, TwoNormsAfterASum) {
  const auto x = random_normal<Matrix>({9, 37}, Seed{7304}, 1, 2);
  const LayerNorm<float> first(37, {.epsilon = 0.5}), second(37);
  const RMSNorm<float> third(37);
  const ParallelLN block(first, unchanged<Matrix>, third, unchanged<Matrix>);
  const Stack stack(NoNorm{}, std::tuple(block, block), second);
  EXPECT_TRUE(same_bits(stack(x), second(block(block(x)))));
}

TEST(FusedBits, UpdatesOfWhichSomeNeedTheWiderType) {
  const auto some_huge = [](const Matrix& n) -> Matrix {
    Matrix update = n;
    for (const Index t : {1, 40, 66}) update.row(t) *= 1e30f;
    return update;
  };
  for (const Index channels : {5, 64, 103, 300, 700}) {
    const auto x = random_normal<Matrix>({67, channels}, Seed{7303}, 1, 2);
    expect_bits_of_single_steps(LayerNorm<float>(channels), RMSNorm<float>(channels), x, some_huge);
    expect_bits_of_single_steps(RMSNorm<float>(channels), LayerNorm<float>(channels), x, some_huge);
  }
}

/// The norms of an update are rounded before they are added.
TEST(FusedBits, Bfloat16) {
  for (const Index channels : {5, 64, 103, 300, 700}) {
    const auto x = random_normal<TokenMatrix<Eigen::bfloat16>>({67, channels}, Seed{7304}, 1, 2);
    expect_bits_of_single_steps(LayerNorm<Eigen::bfloat16>(channels),
                                RMSNorm<Eigen::bfloat16>(channels), x);
  }
}

/// One token is worked on by functions of its own.
template <class Block, class Tokens>
void expect_bits_of_the_batch(const Block& block, const Tokens& x) {
  const Tokens y = block(x);
  for (Index t = 0; t < x.rows(); ++t) {
    const Tokens token = x.row(t);
    EXPECT_TRUE(same_bits(block(token), Tokens(y.row(t)))) << "token " << t << " of " << x.cols();
  }
}

TYPED_TEST(FusedBitsOf, ATokenAloneHasTheBitsThatItHasInABatch) {
  using Tokens = TokenMatrix<TypeParam>;
  for (const Index channels : {1, 5, 16, 64, 103, 129, 300, 700}) {
    Tokens x = random_normal<Tokens>({7, channels}, Seed{7305}, 1, 2);
    x(2, 0) = TypeParam(1e30f);
    const LayerNorm<TypeParam> first(channels);
    const RMSNorm<TypeParam> second(channels);
    const auto f = unchanged<Tokens>;
    expect_bits_of_the_batch(PreLN(first, f, second, f), x);
    expect_bits_of_the_batch(PostLN(f, first, f, second), x);
    expect_bits_of_the_batch(SandwichLN(first, f, second, first, f, second), x);
    expect_bits_of_the_batch(SandwichLN(NoNorm{}, f, second, NoNorm{}, f, first), x);
  }
}

}  // namespace
}  // namespace tokennorm::test

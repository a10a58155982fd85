// SPDX-License-Identifier: MIT
// What with(…) gives goes through connections, blocks and stacks to the sublayers that take it, in
// inference and in training, and with it the number of the block.
#include "../support/exact_bits.hpp"
#include "../support/random_tokens.hpp"
#include <tokennorm/block/stack.hpp>

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <tuple>
#include <vector>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<float>;
constexpr Index channels = 6;
const Tokens x = random_normal<Tokens>({4, channels}, Seed{8301});
const Tokens dy = random_normal<Tokens>({4, channels}, Seed{8302});
const LayerNorm<float> norm(channels);

/// What a session is asked for, in order.
struct Session {
  float factor = 1;
  std::vector<Index> blocks = {};
};
struct Mask {
  float value = 0;
};

/// y = factor·n, of the session.
struct Attention {
  Tokens operator()(const Tokens& n, Session& session, BlockIndex block) const {
    session.blocks.push_back(block);
    return session.factor * n;
  }
  Tokens forward(const Tokens& n, Session& session, BlockIndex block) {
    session.blocks.push_back(block);
    return session.factor * n;
  }
  Tokens backward(const Tokens& du, Session& session, BlockIndex block) {
    session.blocks.push_back(-1 - block);
    return session.factor * du;
  }
};
/// The same, writing, and without the number.
struct WritingAttention {
  void operator()(const Tokens& n, Tokens& y, Session& session) const { y = session.factor * n; }
  void forward(const Tokens& n, Tokens& y, Session& session) { y = session.factor * n; }
  void backward(const Tokens& du, Tokens& dn, Session& session) { dn = session.factor * du; }
};
/// Takes none of it.
struct FeedForward {
  Tokens operator()(const Tokens& n) const { return n.cwiseAbs2(); }
  Tokens forward(const Tokens& n) { return (n_ = n).cwiseAbs2(); }
  Tokens backward(const Tokens& du) { return 2 * n_.cwiseProduct(du); }
  Tokens n_;
};

Tokens expected_block(const Tokens& in, float factor) {
  const Tokens h = in + factor * norm(in);
  const Tokens n = norm(h);
  return h + n.cwiseAbs2();
}

TEST(With, ReachesTheSublayersThatTakeIt) {
  const PreLN block(norm, Attention{}, norm, FeedForward{});
  Session session{3};
  EXPECT_TRUE(same_bits(block(x, with(session)), expected_block(x, 3)));
  Tokens y;
  block(x, y, with(session));
  EXPECT_TRUE(same_bits(y, expected_block(x, 3)));
  Workspace<float> workspace;
  session.factor = -2;
  block(x, y, workspace, with(session), serial);
  EXPECT_TRUE(same_bits(y, expected_block(x, -2)));
  block(x, y, workspace, with(session));
  block(x, y, with(session), serial);
  EXPECT_TRUE(same_bits(block(x, with(session), serial), expected_block(x, -2)));
  EXPECT_EQ(session.blocks, std::vector<Index>(6, 0)) << "a lone block is number 0";
}

TEST(With, ReachesWritingSublayersAndThoseOutside) {
  Session session{0.5f};
  const PreLN writing(norm, WritingAttention{}, norm, FeedForward{});
  EXPECT_TRUE(same_bits(writing(x, with(session)), expected_block(x, 0.5f)));
  const Attention attention;
  const PreLN outside(norm, std::ref(attention), norm, FeedForward{});
  EXPECT_TRUE(same_bits(outside(x, with(session)), expected_block(x, 0.5f)));
  const PreLNResidual lambda(norm, [](const Tokens& n, const Session& s, const Mask& mask) {
    return Tokens(n.array() * s.factor + mask.value);
  });
  const Mask mask{2};
  EXPECT_TRUE(same_bits(lambda(x, with(session, mask)), x + Tokens(norm(x).array() * 0.5f + 2)));
  EXPECT_TRUE(same_bits(lambda(x, with(session, Mask{2})), x + Tokens(norm(x).array() * 0.5f + 2)))
      << "a temporary lives as long as the call";
}

TEST(With, ASublayerMayTakeTheNumberOfItsBlockAlone) {
  const auto numbered = [](const Tokens& n, BlockIndex block) -> Tokens {
    return n * static_cast<float>(Index{block} + 1);
  };
  const Stack stack(NoNorm{}, std::vector(3, PreLNResidual(norm, numbered)), NoNorm{});
  Tokens h = x;
  for (const float factor : {1.0f, 2.0f, 3.0f}) h += factor * norm(h);
  EXPECT_TRUE(same_bits(stack(x), h));
  Session session;
  EXPECT_TRUE(same_bits(stack(x, with(session)), h)) << "and not what with(…) gives";

  struct Optional {  // as a function of its own it needs none
    Tokens operator()(const Tokens& n, BlockIndex block = {}) const {
      return n * static_cast<float>(block.value);
    }
  };
  const Stack optional(NoNorm{}, std::vector(2, PreLNResidual(norm, Optional{})), NoNorm{});
  EXPECT_TRUE(same_bits(optional(x), x + norm(x)));

  struct OfAnotherMeaning {
    Tokens operator()(const Tokens& n, Index power = 2) const {
      return n * static_cast<float>(power);
    }
  };
  const Stack other(NoNorm{}, std::vector(2, PreLNResidual(norm, OfAnotherMeaning{})), NoNorm{});
  const Tokens first = x + 2 * norm(x);
  EXPECT_TRUE(same_bits(other(x), first + 2 * norm(first))) << "an Index is no BlockIndex";
}

TEST(With, GoesThroughStacksInTraining) {
  Stack stack(norm, std::vector(2, PreLN(norm, Attention{}, norm, FeedForward{})), norm);
  Session session{2};
  const Tokens y = stack.forward(x, with(session));
  EXPECT_TRUE(same_bits(y, norm(expected_block(expected_block(norm(x), 2), 2))));
  stack.backward(dy, with(session));
  EXPECT_EQ(session.blocks, (std::vector<Index>{0, 1, -2, -1}));
  EXPECT_TRUE(same_bits(stack(x, with(session)), y));

  Stack writing(norm, std::vector(2, PreLN(norm, WritingAttention{}, norm, FeedForward{})), norm);
  EXPECT_TRUE(same_bits(writing.forward(x, with(session), serial), y));
  stack.forward(x, with(session));
  EXPECT_TRUE(
      same_bits(writing.backward(dy, with(session), serial), stack.backward(dy, with(session))));
  TrainingRecord<float> record;
  Tokens z, dx;
  writing.forward(x, z, record, with(session), serial);
  EXPECT_TRUE(same_bits(z, y));
  writing.backward(dy, dx, record, with(session), serial);
}

TEST(With, GoesThroughBlocksOfDifferentTypes) {
  const PreLN pre(norm, Attention{}, norm, FeedForward{});
  const PostLNResidual post(Attention{}, norm);
  const ParallelLN parallel(norm, Attention{}, FeedForward{});
  const Stack stack(NoNorm{}, std::tuple(pre, post, parallel), NoNorm{});
  Session session{2};
  const Tokens h = post(pre(x, with(session)), with(session));
  session.blocks.clear();
  const Tokens y = stack(x, with(session));
  EXPECT_EQ(session.blocks, (std::vector<Index>{0, 1, 2}));
  EXPECT_TRUE(same_bits(y, parallel(h, with(session))));
}

TEST(With, SublayersThatScaleAnotherPassItOn) {
  Session session{2};
  const PreLNResidual scaled(norm, Scaled(Attention{}, 0.5));
  EXPECT_TRUE(same_bits(scaled(x, with(session)), x + norm(x)));
  // As a sublayer for anybody.
  const Scaled attention(Attention{}, 0.5);
  EXPECT_TRUE(same_bits(attention(x, session, BlockIndex{3}), x));
  EXPECT_EQ(session.blocks.back(), 3);
}

}  // namespace
}  // namespace tokennorm::test

// SPDX-License-Identifier: MIT
// Norms and blocks can be replaced between two calls. What no longer fits together is refused,
// before anything is written or a sublayer is called, and so is a backward of what is not there.
#include "../support/exact_bits.hpp"
#include "../support/message_of.hpp"
#include "../support/random_tokens.hpp"
#include <tokennorm/block/stack.hpp>

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<float>;

LayerNorm<float> layer(Index channels) { return LayerNorm<float>(channels); }

int calls = 0;  // of any sublayer

struct Counted {
  Tokens operator()(const Tokens& x) const { return ++calls, x; }
  Tokens forward(const Tokens& x) { return ++calls, x; }
  Tokens backward(const Tokens& dy) { return ++calls, dy; }
};

using Pre = decltype(PreLN(layer(6), Counted{}, layer(6), Counted{}));
Pre pre(Index channels) { return {layer(channels), Counted{}, layer(channels), Counted{}}; }
auto stack() { return Stack(layer(6), std::vector(3, pre(6)), layer(6)); }

const Tokens x = random_normal<Tokens>({4, 6}, Seed{8101});
const Tokens dy = random_normal<Tokens>({4, 6}, Seed{8102});

/// What the calls say of a block in which something was replaced.
template <class Block, class Replace>
void expect_refused(Block block, const Replace& replace, const std::string& in_backward,
                    const std::string& else_where) {
  block.forward(x);
  replace(block);
  calls = 0;
  EXPECT_EQ(message_of([&] { block.backward(dy); }), in_backward);
  EXPECT_EQ(message_of([&] { block.forward(x); }), else_where);
  Tokens y = Tokens::Constant(4, 6, 7);
  EXPECT_EQ(message_of([&] { block(x, y); }), else_where);
  EXPECT_TRUE((y.array() == 7).all());
  EXPECT_EQ(calls, 0);
}
template <class Block, class Replace>
void expect_refused(const Block& block, const Replace& replace, const std::string& message) {
  expect_refused(block, replace, message, message);
}

TEST(ReplacedParts, ANormOfOtherChannelsIsNamed) {
  expect_refused(
      pre(6), [](auto& block) { block.feed_forward_norm() = layer(4); },
      "tokennorm: PreLN(6): feed_forward_norm has 4 channels; expected 6");
  expect_refused(
      SandwichLN(layer(6), Counted{}, layer(6), layer(6), Counted{}, layer(6)),
      [](auto& block) { block.attention_output_norm() = layer(7); },
      "tokennorm: SandwichLN(6): attention_output_norm has 7 channels; expected 6");
  expect_refused(
      PostLN(Counted{}, layer(6), Counted{}, layer(6)),
      [](auto& block) { block.feed_forward_norm() = layer(1); },
      "tokennorm: PostLN(6): feed_forward_norm has 1 channels; expected 6");
  expect_refused(
      SandwichLNResidual(layer(6), Counted{}, layer(6)),
      [](auto& block) { block.output_norm() = layer(4); },
      "tokennorm: SandwichLNResidual(6): output_norm has 4 channels; expected 6");
}

TEST(ReplacedParts, TheFirstNormsChannelsAreTheBlocks) {
  expect_refused(
      pre(6), [](auto& block) { block.attention_norm() = layer(4); },
      "tokennorm: PreLN(6): attention_norm has 4 channels; expected 6",
      "tokennorm: PreLN(4): feed_forward_norm has 6 channels; expected 4");
  expect_refused(
      PostLNResidual(Counted{}, layer(6)), [](auto& block) { block.norm() = layer(4); },
      "tokennorm: PostLNResidual(6): norm has 4 channels; expected 6",
      "tokennorm: PostLNResidual(4): x is 4 x 6 (tokens x channels); expected 4 channels");
  auto block = pre(6);
  block.attention_norm() = block.feed_forward_norm() = layer(9);
  EXPECT_EQ(block.channels(), 9);
  const auto wide = random_normal<Tokens>({4, 9}, Seed{8103});
  EXPECT_TRUE(same_bits(block(wide), pre(9)(wide)));
}

TEST(ReplacedParts, AStackNamesTheBlockToo) {
  expect_refused(
      stack(), [](auto& s) { s.blocks().push_back(pre(4)); },
      "tokennorm: Stack(6): block 3's attention_norm has 4 channels; expected 6");
  expect_refused(
      stack(), [](auto& s) { s.blocks()[1].feed_forward_norm() = layer(9); },
      "tokennorm: Stack(6): block 1's feed_forward_norm has 9 channels; expected 6");
  expect_refused(
      stack(), [](auto& s) { s.blocks()[0] = pre(4); },
      "tokennorm: Stack(6): block 0's attention_norm has 4 channels; expected 6",
      "tokennorm: Stack(4): embedding_norm has 6 channels; expected 4");
  expect_refused(
      stack(), [](auto& s) { s.embedding_norm() = layer(4); },
      "tokennorm: Stack(6): embedding_norm has 4 channels; expected 6");
  expect_refused(
      stack(), [](auto& s) { s.final_norm() = layer(4); },
      "tokennorm: Stack(6): final_norm has 4 channels; expected 6");
}

TEST(ReplacedParts, AStackOfNoBlocksIsRefused) {
  expect_refused(
      stack(), [](auto& s) { s.blocks().clear(); },
      "tokennorm: Stack: there are 0 blocks; expected 1 or more");
  auto none = stack();
  none.blocks().clear();
  EXPECT_EQ(none.channels(), 0);
  none.zero_gradients();
  std::vector<std::string> names;
  none.visit_parameters([&](const std::string& name, auto&, auto&) { names.push_back(name); });
  EXPECT_EQ(names, (std::vector<std::string>{"embedding_norm.scale", "embedding_norm.shift",
                                             "final_norm.scale", "final_norm.shift"}));
  none.blocks().push_back(pre(6));
  EXPECT_TRUE(same_bits(none(x), layer(6)(pre(6)(layer(6)(x)))));
}

TEST(ReplacedParts, ParametersAndGradientsThatLostTheirSizeAreRefused) {
  expect_refused(
      pre(6), [](auto& block) { block.feed_forward_norm().scale().resize(5); },
      "tokennorm: LayerNorm(6): scale has 5 values; expected 6");
  expect_refused(
      stack(), [](auto& s) { s.blocks()[2].attention_norm().shift().resize(7); },
      "tokennorm: LayerNorm(6): shift has 7 values; expected 6");
  auto block = pre(6);
  block.forward(x);
  auto& gradient = block.attention_norm().gradients().scale;  // the last that backward adds to
  gradient.resize(3);
  calls = 0;
  EXPECT_EQ(message_of([&] { block.backward(dy); }),
            "tokennorm: LayerNorm(6): the gradient of scale has 3 values; expected 6, or none yet");
  EXPECT_EQ(calls, 0);
  gradient.setZero(6);
  EXPECT_NO_THROW(block.backward(dy)) << "a refused call changes nothing";
}

/// The gradient of the stack after something was done behind its back.
template <class Replace>
void expect_backward_without_forward(const Replace& replace) {
  auto s = stack();
  s.forward(x);
  replace(s);
  calls = 0;
  EXPECT_THROW(s.backward(dy), std::logic_error);
  EXPECT_EQ(calls, 0);
}

TEST(ReplacedParts, AStackGoesBackOnlyFromItsOwnForward) {
  expect_backward_without_forward([](auto& s) { s.blocks()[0].forward(dy); });
  expect_backward_without_forward([](auto& s) { s.blocks()[2].forward(x.topRows(2)); });
  expect_backward_without_forward([](auto& s) { s.blocks()[1] = pre(6); });
  expect_backward_without_forward([](auto& s) { s.blocks().push_back(pre(6)); });
  expect_backward_without_forward([](auto& s) { s.blocks().pop_back(); });
  expect_backward_without_forward([](auto& s) {
    auto block = pre(6);
    block.forward(dy);
    s.blocks()[1] = std::move(block);
  });
  expect_backward_without_forward([](auto& s) { const auto moved = std::move(s); });
}

TEST(ReplacedParts, ABlockGoesBackOnlyFromItsOwnForward) {
  auto s = stack();
  s.blocks()[1].forward(dy);
  s.forward(x);
  EXPECT_THROW(s.blocks()[1].backward(dy), std::logic_error);
  EXPECT_NO_THROW(s.backward(dy)) << "a refused call changes nothing";
}

TEST(ReplacedParts, WhatForwardSavesMovesAlong) {
  auto s = stack();
  s.forward(x);
  const Tokens dx = s.backward(dy);
  s.forward(x);
  s.blocks().reserve(100);
  auto moved = std::move(s);
  EXPECT_TRUE(same_bits(moved.backward(dy), dx));
}

TEST(ReplacedParts, ANormOfTheSameChannelsMayBeReplacedBetweenForwardAndBackward) {
  // As an optimizer or a checkpoint changes it: the gradient is that of the new γ.
  auto block = PreLNResidual(layer(6), Counted{});
  block.forward(x);
  auto doubled = layer(6);
  doubled.scale().setConstant(2);
  block.norm() = doubled;
  doubled.forward(x);
  const Tokens expected = dy + doubled.backward(dy);  // added in a rounding of its own
  EXPECT_TRUE(Tokens(block.backward(dy)).isApprox(expected, 1e-6f));
}

}  // namespace
}  // namespace tokennorm::test

// SPDX-License-Identifier: MIT
// visit_parameters: which names are met in which order, and what a visitor may do.
#include "../support/exact_bits.hpp"
#include "equations.hpp"
#include "sublayers.hpp"
#include <tokennorm/block/stack.hpp>

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

namespace tokennorm::test {
namespace {

using Names = std::vector<std::string>;
constexpr Index channels = 5;

LayerNorm<float> layer() { return LayerNorm<float>(channels); }
RMSNorm<float> rms() { return RMSNorm<float>(channels); }
Linear<float> linear() { return Linear<float>(channels, {1}); }

/// Has neither parameters nor members to visit them.
struct Same {
  TokenMatrix<float> operator()(const TokenMatrix<float>& x) const { return x; }
};

/// Its first member is at its own address.
struct TwoLinears {
  Linear<float> first = linear(), second = linear();
  TokenMatrix<float> operator()(const TokenMatrix<float>& x) const { return second(first(x)); }
  template <class Visitor>
  void visit_parameters(Visitor&& visitor) {
    second.visit_parameters(visitor);
  }
};

template <class Block>
Names names_of(Block&& block) {
  Names names;
  block.visit_parameters([&](const std::string& name, auto& value, auto& gradient) {
    names.push_back(name);
    EXPECT_GT(value.size(), 0) << name;
    EXPECT_EQ(value.size(), gradient.size()) << name;
    EXPECT_TRUE(gradient.isZero(0)) << name << ": before training";
  });
  return names;
}

TEST(BlockParameters, OfResidualConnections) {
  EXPECT_EQ(names_of(PreLNResidual(layer(), linear())),
            (Names{"norm.scale", "norm.shift", "sublayer.weight", "sublayer.bias"}));
  EXPECT_EQ(names_of(PostLNResidual(linear(), rms())),
            (Names{"norm.scale", "sublayer.weight", "sublayer.bias"}));
  EXPECT_EQ(
      names_of(SandwichLNResidual(layer(), linear(), rms())),
      (Names{"norm.scale", "norm.shift", "output_norm.scale", "sublayer.weight", "sublayer.bias"}));
  EXPECT_EQ(names_of(ResPostLNResidual(linear(), rms())),
            (Names{"output_norm.scale", "sublayer.weight", "sublayer.bias"}));
  EXPECT_EQ(names_of(DeepNormResidual(linear(), rms(), 2)),
            (Names{"norm.scale", "sublayer.weight", "sublayer.bias"}));
}

TEST(BlockParameters, OfBlocks) {
  const Names pre = {"attention_norm.scale", "attention_norm.shift",    "attention.weight",
                     "attention.bias",       "feed_forward_norm.scale", "feed_forward.weight",
                     "feed_forward.bias"};
  EXPECT_EQ(names_of(PreLN(layer(), linear(), rms(), linear())), pre);
  EXPECT_EQ(names_of(PostLN(linear(), layer(), linear(), rms())), pre);
  EXPECT_EQ(names_of(DeepNorm(linear(), layer(), linear(), rms(), 2)), pre);
  EXPECT_EQ(names_of(ResPostLN(linear(), rms(), linear(), rms())),
            (Names{"attention_output_norm.scale", "attention.weight", "attention.bias",
                   "feed_forward_output_norm.scale", "feed_forward.weight", "feed_forward.bias"}));
  EXPECT_EQ(names_of(SandwichLN(layer(), linear(), rms(), rms(), linear(), layer())),
            (Names{"attention_norm.scale", "attention_norm.shift", "attention_output_norm.scale",
                   "attention.weight", "attention.bias", "feed_forward_norm.scale",
                   "feed_forward_output_norm.scale", "feed_forward_output_norm.shift",
                   "feed_forward.weight", "feed_forward.bias"}));
}

TEST(BlockParameters, OfStacks) {
  const std::vector blocks(2, PreLN(rms(), Same{}, rms(), linear()));
  const Names of_blocks = {"blocks.0.attention_norm.scale", "blocks.0.feed_forward_norm.scale",
                           "blocks.0.feed_forward.weight",  "blocks.0.feed_forward.bias",
                           "blocks.1.attention_norm.scale", "blocks.1.feed_forward_norm.scale",
                           "blocks.1.feed_forward.weight",  "blocks.1.feed_forward.bias"};
  EXPECT_EQ(names_of(Stack(NoNorm{}, blocks, NoNorm{})), of_blocks);
  Names all = {"embedding_norm.scale", "embedding_norm.shift"};
  all.insert(all.end(), of_blocks.begin(), of_blocks.end());
  all.push_back("final_norm.scale");
  EXPECT_EQ(names_of(Stack(layer(), blocks, rms())), all);
}

TEST(BlockParameters, WhatIsSwitchedOffOrHasNoneIsNotVisited) {
  const LayerNorm<float> plain(channels, {.scale = false, .shift = false});
  EXPECT_EQ(names_of(PreLNResidual(plain, Same{})), Names{});
  const auto lambda = [](const auto& x) { return x; };
  EXPECT_EQ(names_of(PreLNResidual(rms(), lambda)), Names{"norm.scale"});
}

TEST(BlockParameters, OfASublayerKeptOutsideAreVisited) {
  Linear<float> outside = linear();
  PreLNResidual connection(rms(), std::ref(outside));
  EXPECT_EQ(names_of(connection), (Names{"norm.scale", "sublayer.weight", "sublayer.bias"}));
  connection.visit_parameters([](const std::string&, auto& value, auto&) { value.setZero(); });
  EXPECT_TRUE(outside(TokenMatrix<float>(TokenMatrix<float>::Ones(1, channels))).isZero(0));
}

TEST(BlockParameters, OfASharedSublayerAreVisitedOnce) {
  Linear<float> shared = linear(), other = linear();
  const Names norms_and_shared = {"attention_norm.scale", "attention.weight", "attention.bias",
                                  "feed_forward_norm.scale"};
  EXPECT_EQ(names_of(PreLN(rms(), std::ref(shared), rms(), std::ref(shared))), norms_and_shared);

  PreLN block(rms(), std::ref(shared), rms(), std::ref(other));
  Names names = {"blocks.0.attention_norm.scale", "blocks.0.attention.weight",
                 "blocks.0.attention.bias",       "blocks.0.feed_forward_norm.scale",
                 "blocks.0.feed_forward.weight",  "blocks.0.feed_forward.bias"};
  for (const auto* block_number : {"1", "2"})
    for (const auto* norm : {".attention_norm.scale", ".feed_forward_norm.scale"})
      names.push_back(std::string("blocks.") + block_number + norm);
  Stack stack(NoNorm{}, std::vector(3, block), NoNorm{});
  EXPECT_EQ(names_of(stack), names) << "in a stack";
  EXPECT_EQ(names_of(stack), names) << "and as often at each visit";

  const auto weight = [](Linear<float>& of) {
    Eigen::VectorXf first;
    of.visit_parameters([&](const std::string&, auto&& value, auto&&) {
      if (first.size() == 0) first = value;
    });
    return first;
  };
  const Eigen::VectorXf before = weight(shared);
  stack.visit_parameters([](const std::string&, auto& value, auto&) { value.array() += 1; });
  EXPECT_TRUE(same_bits(weight(shared), (before.array() + 1).matrix())) << "an optimizer's step";
}

TEST(BlockParameters, OfASharedSublayerThatHasSublayersAreVisitedOnce) {
  Linear<float> inner = linear();
  PreLNResidual middle(rms(), std::ref(inner));
  EXPECT_EQ(names_of(PreLN(rms(), std::ref(middle), rms(), std::ref(middle))),
            (Names{"attention_norm.scale", "attention.norm.scale", "attention.sublayer.weight",
                   "attention.sublayer.bias", "feed_forward_norm.scale"}));
  // By value there are two norms, and one sublayer of both.
  EXPECT_EQ(
      names_of(PreLN(rms(), middle, rms(), middle)),
      (Names{"attention_norm.scale", "attention.norm.scale", "attention.sublayer.weight",
             "attention.sublayer.bias", "feed_forward_norm.scale", "feed_forward.norm.scale"}));
}

TEST(BlockParameters, OfASublayersFirstMemberAreNotTheSublayers) {
  TwoLinears outer;
  EXPECT_EQ(names_of(PreLN(rms(), std::ref(outer), rms(), std::ref(outer.first))),
            (Names{"attention_norm.scale", "attention.weight", "attention.bias",
                   "feed_forward_norm.scale", "feed_forward.weight", "feed_forward.bias"}));
}

TEST(BlockParameters, AVisitorMayTakeItsArgumentsInAnyWay) {
  Stack stack(layer(), std::vector(2, SandwichLN(rms(), linear(), rms(), rms(), linear(), rms())),
              NoNorm{});
  int calls = 0;
  stack.visit_parameters([&](const std::string&, auto, auto) { ++calls; });
  stack.visit_parameters([&](const std::string&, auto&, auto&) { ++calls; });
  stack.visit_parameters([&](const std::string&, auto&&, auto&&) { ++calls; });
  stack.visit_parameters([&](const std::string&, const auto&, const auto&) { ++calls; });
  stack.visit_parameters([&](std::string, auto&&, auto&&) { ++calls; });
  stack.visit_parameters([&](auto&&, auto&&, auto&&) { ++calls; });
  EXPECT_EQ(calls, 6 * (2 + 2 * 8));
}

TEST(BlockParameters, WritingToThemChangesTheBlock) {
  PreLN block(layer(), Same{}, rms(), Same{});
  block.visit_parameters([](const std::string& name, auto value, auto gradient) {
    value.setConstant(name == "attention_norm.shift" ? 3.0f : 2.0f);
    gradient.setConstant(1);
  });
  EXPECT_TRUE((block.attention_norm().scale().array() == 2).all());
  EXPECT_TRUE((block.attention_norm().shift().array() == 3).all());
  EXPECT_TRUE((block.feed_forward_norm().scale().array() == 2).all());
  EXPECT_TRUE((block.feed_forward_norm().gradients().scale.array() == 1).all());
  block.zero_gradients();
  EXPECT_TRUE(block.attention_norm().gradients().shift.isZero(0));
  EXPECT_TRUE(block.feed_forward_norm().gradients().scale.isZero(0));
}

TEST(BlockParameters, AccessorsGiveThePartsInTheOrderOfTheConstructor) {
  const auto norm = [](float scale) {
    RMSNorm<float> result(channels);
    result.scale().setConstant(scale);
    return result;
  };
  struct Numbered {
    int number;
    TokenMatrix<float> operator()(const TokenMatrix<float>& x) const { return x; }
  };
  const SandwichLN sandwich(norm(1), Numbered{2}, norm(3), norm(4), Numbered{5}, norm(6));
  EXPECT_EQ(sandwich.attention_norm().scale()(0), 1);
  EXPECT_EQ(sandwich.attention().number, 2);
  EXPECT_EQ(sandwich.attention_output_norm().scale()(0), 3);
  EXPECT_EQ(sandwich.feed_forward_norm().scale()(0), 4);
  EXPECT_EQ(sandwich.feed_forward().number, 5);
  EXPECT_EQ(sandwich.feed_forward_output_norm().scale()(0), 6);
  const PostLN post(Numbered{1}, norm(2), Numbered{3}, norm(4));
  EXPECT_EQ(post.attention().number, 1);
  EXPECT_EQ(post.attention_norm().scale()(0), 2);
  EXPECT_EQ(post.feed_forward().number, 3);
  EXPECT_EQ(post.feed_forward_norm().scale()(0), 4);
  SandwichLNResidual residual(norm(1), Numbered{2}, norm(3));
  EXPECT_EQ(residual.norm().scale()(0), 1);
  EXPECT_EQ(residual.sublayer().number, 2);
  EXPECT_EQ(residual.output_norm().scale()(0), 3);
  residual.output_norm().scale().setZero();  // not const: may be changed
  const TokenMatrix<float> x = TokenMatrix<float>::Ones(2, channels);
  EXPECT_TRUE(same_bits(residual(x), x));
}

}  // namespace
}  // namespace tokennorm::test

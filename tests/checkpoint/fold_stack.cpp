// SPDX-License-Identifier: MIT
// Whole models folded: the logits stay those of the original, computed in long double.
#include "foldable_models.hpp"
#include <tokennorm/checkpoint/fold_norm.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

namespace tokennorm::test {
namespace {

TEST(FoldNorms, KeepsTheLogitsOfPreLNModels) {
  double largest_exact = 0, largest = 0;
  const auto check = [&](auto stack, bool bias) {
    for (const bool tied : {false, true}) {
      SCOPED_TRACE(::testing::Message() << "tied " << tied << ", bias " << bias);
      Ends ends(tied, bias);
      if (tied && bias) ends.unembedding.bias.setZero();
      auto folded = stack;
      const ExactMatrix expected = ends.exact_logits(stack);
      const double unfolded = change(expected, exact(ends.logits(stack)));
      const TokenMatrix<float> embedding = ends.embedding;
      ends.fold(folded);
      EXPECT_TRUE(is_folded(folded));
      EXPECT_EQ(ends.embedding, embedding);
      const double of_weights = change(expected, ends.exact_logits(folded));
      const double of_run = change(expected, exact(ends.logits(folded)));
      EXPECT_LE(of_weights, 1e-6) << "by the rounding of the weights";
      EXPECT_LE(of_run, 3e-6) << "against " << unfolded << " of the original in float";
      largest_exact = std::max(largest_exact, of_weights);
      largest = std::max(largest, of_run);

      auto twice = folded;
      const auto weight = ends.unembedding.weight;
      ends.fold(twice);
      EXPECT_EQ(ends.unembedding.weight, weight);
      EXPECT_EQ(exact_stack(twice, ends.exact_input()), exact_stack(folded, ends.exact_input()));
    }
  };
  check(pre_ln(layer, true), true);
  check(pre_ln(rms, true), true);
  check(pre_ln(rms, false), false);
  std::cout << "largest relative logit change by folding: " << largest_exact
            << " by the weights' rounding, " << largest << " run in float\n";
}

TEST(FoldNorms, KeepsWhatABlockComputes) {
  auto stack = pre_ln(layer, true);
  auto& block = stack.blocks()[0];
  PreLNResidual connection(block.attention_norm(), block.attention());
  const ExactMatrix x = Ends(false, true).exact_input();
  const Stack before(NoNorm{}, std::vector{block}, NoNorm{});
  const Stack connection_before(NoNorm{}, std::vector{connection}, NoNorm{});
  fold_norms(block);
  fold_norms(connection);
  EXPECT_TRUE(is_folded(block));
  EXPECT_TRUE(is_folded(connection));
  const Stack after(NoNorm{}, std::vector{block}, NoNorm{});
  const Stack connection_after(NoNorm{}, std::vector{connection}, NoNorm{});
  EXPECT_LE(change(exact_stack(before, x), exact_stack(after, x)), 1e-6);
  EXPECT_LE(change(exact_stack(connection_before, x), exact_stack(connection_after, x)), 1e-6);
}

TEST(FoldNorms, LeavesTheOutputNormsOfASandwichAndAnEmbeddingNorm) {
  const SandwichLN block(rms(1), Attention(false, 10), rms(2), rms(3), GatedFeedForward(false, 20),
                         rms(4));
  Stack stack(layer(5), std::vector{block, block}, rms(6));
  Ends ends(true, false);
  const ExactMatrix expected = ends.exact_logits(stack);
  ends.fold(stack);
  EXPECT_LE(change(expected, ends.exact_logits(stack)), 1e-6);
  std::vector<std::string> left;
  stack.visit_parameters([&](const std::string& name, auto&, auto&) { left.push_back(name); });
  EXPECT_EQ(left, (std::vector<std::string>{"embedding_norm.scale", "embedding_norm.shift",
                                            "blocks.0.attention_output_norm.scale",
                                            "blocks.0.feed_forward_output_norm.scale",
                                            "blocks.1.attention_output_norm.scale",
                                            "blocks.1.feed_forward_output_norm.scale"}));
}

TEST(FoldNorms, ChangesNothingWhereAReaderDoesNotFit) {
  Ends ends(false, true);
  auto stack = pre_ln(layer, true);
  const auto fold = [&] { ends.fold(stack); };
  Linear& gate = stack.blocks()[1].feed_forward().gate;
  const auto bias = gate.bias;
  gate.bias.resize(0);
  expect_refused(stack, ends, "blocks.1.feed_forward: reader 1 has no bias", fold);
  gate.bias.setZero(hidden - 1);
  expect_refused(stack, ends, "blocks.1.feed_forward: reader 1's bias has 39 values", fold);
  gate.bias = bias;
  gate.out_in = false;
  expect_refused(stack, ends, "blocks.1.feed_forward: reader 1 has 40 inputs and 24 outputs", fold);
  gate.out_in = true;
  ends.unembedding.bias.resize(0);
  expect_refused(stack, ends, "the unembedding: reader 0 has no bias", fold);
}

TEST(FoldNorms, ChangesNothingWhereAResultDoesNotFit) {
  auto stack = pre_ln(layer, true);
  Ends ends(false, true);
  stack.blocks()[1].feed_forward_norm().scale()(5) = 2e20f;
  stack.blocks()[1].feed_forward().gate.weight(7, 5) = -3e20f;
  expect_refused(stack, ends,
                 "blocks.1.feed_forward: reader 1's weight of output 7 and input 5 would be "
                 "-6e+40; the largest float is 3.40282e+38",
                 [&] { ends.fold(stack); });
}

TEST(FoldNorms, RefusesAReaderOfTwoNorms) {
  Attention attention(false, 10);
  GatedFeedForward feed_forward(false, 20);
  const PreLN block(rms(1), std::ref(attention), rms(2), std::ref(feed_forward));
  Stack stack(NoNorm{}, std::vector{block, block}, rms(3));
  Ends ends(false, false);
  expect_refused(stack, ends, "blocks.1.attention: reader 0 shares memory with another reader",
                 [&] { ends.fold(stack); });
}

struct Nothing {
  TokenMatrix<float> operator()(const TokenMatrix<float>& x) const { return x; }
  void visit_readers(auto&&) {}
};

TEST(FoldNorms, RefusesAReaderThatIsAlsoAWriter) {
  PreLNResidual connection(rms(1), Tied{});
  const auto weight = connection.sublayer().weight;
  const std::string message = message_of<std::invalid_argument>([&] { fold_norms(connection); });
  EXPECT_NE(message.find("sublayer: reader 0 shares memory with a writer"), std::string::npos)
      << message;
  EXPECT_EQ(connection.sublayer().weight, weight);
  EXPECT_FALSE(is_folded(connection));

  auto stack = pre_ln(rms, false);
  Ends ends(true, false);
  auto& out = stack.blocks()[1].feed_forward().out.weight;
  expect_refused(stack, ends, "the unembedding: reader 0 shares memory with a writer",
                 [&] { fold_norms(stack, OutIn{out.transpose()}); });
}

TEST(FoldNorms, RefusesASublayerThatNamesNoReader) {
  PreLNResidual connection(rms(1), Nothing{});
  const std::string message = message_of<std::invalid_argument>([&] { fold_norms(connection); });
  EXPECT_NE(message.find("sublayer: it names no reader"), std::string::npos) << message;
  EXPECT_FALSE(is_folded(connection));
}

}  // namespace
}  // namespace tokennorm::test

// SPDX-License-Identifier: MIT
// Whole models centred: with RMSNorms the logits stay those of the original, computed in long
// double.
#include "foldable_models.hpp"
#include <tokennorm/checkpoint/center_weights.hpp>

#include <gtest/gtest.h>

#include <iostream>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tokennorm::test {
namespace {

TEST(CenterWriters, MakesRMSNormsOfLayerNormsAndKeepsTheLogits) {
  for (const bool folded : {false, true})
    for (const bool tied : {false, true}) {
      SCOPED_TRACE(::testing::Message() << "folded " << folded << ", tied " << tied);
      auto stack = pre_ln(layer, true);
      Ends ends(tied, true);
      const ExactMatrix expected = ends.exact_logits(stack);
      if (folded) ends.fold(stack);
      const auto weight = stack.blocks()[0].attention().out.weight;
      const auto centred = center_writers(stack, ends.embedding, ends.positions);
      static_assert(
          std::is_same_v<std::remove_cvref_t<decltype(centred.blocks()[0].attention_norm())>,
                         RMSNorm<float>>);
      static_assert(
          std::is_same_v<std::remove_cvref_t<decltype(centred.final_norm())>, RMSNorm<float>>);
      EXPECT_LE(ends.embedding.rowwise().mean().cwiseAbs().maxCoeff(), 1e-6f);
      EXPECT_LE(change(expected, ends.exact_logits(centred)), 1e-6);
      const double of_run = change(expected, exact(ends.logits(centred)));
      EXPECT_LE(of_run, 3e-6);
      EXPECT_EQ(stack.blocks()[0].attention().out.weight, weight) << "a copy was centred";
      EXPECT_LE(change(expected, ends.exact_logits(stack)), 1e-6) << "and the original still fits";
      if (folded) {
        std::cout << "relative logit change by folding and centring, run in float: " << of_run
                  << '\n';
      }
    }
}

TEST(CenterWriters, ChangesNothingWhereAWriterDoesNotFit) {
  Ends ends(false, true);
  auto stack = pre_ln(layer, true);
  const auto center = [&] { center_writers(stack, ends.embedding, ends.positions); };
  Linear& out = stack.blocks()[1].feed_forward().out;
  out.out_in = false;
  expect_refused(stack, ends,
                 "blocks.1.feed_forward: a writer has 24 inputs and 40 outputs; expected the 24",
                 center);
  out.out_in = true;
  out.bias.setZero(hidden);
  expect_refused(stack, ends, "blocks.1.feed_forward: a writer's bias has 40 values", center);
  out.bias.setZero(channels);
  expect_refused(stack, ends, "an embedding has 24 inputs and 11 outputs",
                 [&] { center_writers(stack, ends.positions, ends.embedding.transpose()); });
}

TEST(CenterWriters, ChangesNothingWhereAResultDoesNotFit) {
  Ends ends(false, true);
  auto stack = pre_ln(layer, true);
  const float largest = std::numeric_limits<float>::max();
  ends.positions.row(1).setConstant(-largest);
  ends.positions(1, 2) = largest;
  const std::string words = " of output 2 and input 1 would be 6.52";
  expect_refused(stack, ends, "an embedding's weight" + words,
                 [&] { center_writers(stack, ends.embedding, ends.positions); });
  ends.positions.setZero();
  Eigen::VectorXf& bias = stack.blocks()[1].feed_forward().out.bias;
  bias.setConstant(-largest);
  bias(3) = largest;
  expect_refused(stack, ends, "blocks.1.feed_forward: a writer's bias of output 3 would be 6.52",
                 [&] { center_writers(stack, ends.embedding, ends.positions); });
}

struct NoWriter : GatedFeedForward {
  using GatedFeedForward::GatedFeedForward;
  void visit_writers(auto&&) {}
};

TEST(CenterWriters, RefusesASublayerThatNamesNoWriter) {
  const PreLN block(layer(1), Attention(true, 10), layer(2), NoWriter(true, 20));
  Stack stack(NoNorm{}, std::vector{block}, layer(3));
  Ends ends(false, true);
  expect_refused(stack, ends, "blocks.0.feed_forward: it names no writer of its output",
                 [&] { center_writers(stack, ends.embedding, ends.positions); });
}

TEST(CenterWriters, RefusesAWriterThatIsAlsoAReader) {
  PreLNResidual connection(layer(1), Tied{});
  Stack stack(NoNorm{}, std::vector{connection}, layer(2));
  Ends ends(false, true);
  const TokenMatrix<float> embedding = ends.embedding;
  const std::string message = message_of<std::invalid_argument>(
      [&] { center_writers(std::move(stack), ends.embedding, ends.positions); });
  EXPECT_EQ(message.find("tokennorm: Stack(24): blocks.0.sublayer: reader 0 shares memory with a "
                         "writer"),
            0U)
      << message;
  EXPECT_EQ(ends.embedding, embedding);
}

TEST(CenterWriters, RefusesAnEmbeddingNormThatWritesAMean) {
  Ends ends(false, true);
  const auto blocks = pre_ln(layer, true).blocks();
  Stack bloom(layer(7), blocks, layer(8));
  expect_refused(bloom, ends, "center_writers: the embedding norm writes into the residual stream",
                 [&] { center_writers(bloom, ends.embedding); });
  Stack with_rms(RMSNorm<float>(channels, {.scale = false}), blocks, layer(8));
  expect_refused(with_rms, ends, "center_writers: the embedding norm",
                 [&] { center_writers(with_rms, ends.embedding); });
  const Stack plain(LayerNorm<float>(channels, {.scale = false, .shift = false}), blocks, layer(8));
  const ExactMatrix expected = ends.exact_logits(plain);
  EXPECT_LE(change(expected, ends.exact_logits(center_writers(plain))), 1e-6);
}

}  // namespace
}  // namespace tokennorm::test

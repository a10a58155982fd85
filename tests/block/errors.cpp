// SPDX-License-Identifier: MIT
// What a block refuses, and what it says.
#include "../support/exact_bits.hpp"
#include "../support/message_of.hpp"
#include "../support/random_tokens.hpp"
#include <tokennorm/block/stack.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<float>;

LayerNorm<float> layer(Index channels) { return LayerNorm<float>(channels); }

struct Same {
  Tokens operator()(const Tokens& x) const { return x; }
  Tokens forward(const Tokens& x) { return x; }
  Tokens backward(const Tokens& dy) { return dy; }
};

/// Loses the last token, here or there.
struct Short {
  bool in_call = true, in_forward = true, in_backward = true;
  static Tokens cut(const Tokens& x, bool really) { return x.topRows(x.rows() - really); }
  Tokens operator()(const Tokens& x) const { return cut(x, in_call); }
  Tokens forward(const Tokens& x) { return cut(x, in_forward); }
  Tokens backward(const Tokens& dy) { return cut(dy, in_backward); }
};

const Tokens x = random_normal<Tokens>({4, 6}, Seed{8001});

TEST(BlockErrors, AWrongResultNamesTheSublayerAndBothShapes) {
  EXPECT_EQ(
      message_of([] { PreLNResidual(layer(6), Short{})(x); }),
      "tokennorm: PreLNResidual(6): sublayer returned 3 x 6 (tokens x channels); expected 4 x 6");
  EXPECT_EQ(message_of([] { PreLN(layer(6), Short{}, layer(6), Same{})(x); }),
            "tokennorm: PreLN(6): attention returned 3 x 6 (tokens x channels); expected 4 x 6");
  EXPECT_EQ(
      message_of([] { PostLN(Same{}, layer(6), Short{}, layer(6))(x); }),
      "tokennorm: PostLN(6): feed_forward returned 3 x 6 (tokens x channels); expected 4 x 6");
  const auto wide = [](const Tokens& n) { return Tokens(n.rows(), n.cols() + 2); };
  EXPECT_EQ(
      message_of([&] { SandwichLN(layer(6), Same{}, layer(6), layer(6), wide, layer(6))(x); }),
      "tokennorm: SandwichLN(6): feed_forward returned 4 x 8 (tokens x channels); expected "
      "4 x 6");
}

TEST(BlockErrors, AWrongResultInAStackNamesTheSublayerToo) {
  const Stack stack(NoNorm{}, std::vector(2, PreLN(layer(6), Same{}, layer(6), Short{})), NoNorm{});
  const std::string message = message_of([&] { stack(x); });
  EXPECT_NE(message.find("feed_forward returned 3 x 6 (tokens x channels); expected 4 x 6"),
            std::string::npos)
      << message;
}

TEST(BlockErrors, AWritingSublayerThatResizesIsRefused) {
  const auto resizing = [](const Tokens&, Tokens& y) { y.resize(2, 3); };
  const std::string message = message_of([&] { PreLNResidual(layer(6), resizing)(x); });
  EXPECT_NE(message.find("PreLNResidual(6): sublayer"), std::string::npos) << message;
  EXPECT_NE(message.find("2 x 3 (tokens x channels); expected 4 x 6"), std::string::npos)
      << message;
  const auto widening = [](const Tokens&, Tokens& y) { y.resize(4, 7); };
  EXPECT_NE(message_of([&] {
              PreLNResidual(layer(6), widening)(x);
            }).find("4 x 7 (tokens x channels); expected 4 x 6"),
            std::string::npos);
}

TEST(BlockErrors, AWorkspaceThatIsAnOperandIsRefused) {
  const PreLN block(layer(6), Same{}, layer(6), Same{});
  Workspace<float> workspace;
  Tokens y;
  block(x, y, workspace);
  for (Tokens* const buffer : {&workspace.stream, &workspace.normed, &workspace.update}) {
    buffer->setOnes(4, 6);
    EXPECT_EQ(
        message_of([&] { block(x, *buffer, workspace); }),
        "tokennorm: PreLN(6): y shares memory with the workspace; expected memory of its own");
    EXPECT_EQ(
        message_of([&] { block(*buffer, y, workspace); }),
        "tokennorm: PreLN(6): x shares memory with the workspace; expected memory of its own");
  }
}

TEST(BlockErrors, AWrongResultInTrainingSaysWhichOfItsMembersGaveIt) {
  PreLNResidual forward(layer(6), Short{.in_backward = false});
  EXPECT_EQ(message_of([&] { forward.forward(x); }),
            "tokennorm: PreLNResidual(6): sublayer.forward returned 3 x 6 (tokens x channels); "
            "expected 4 x 6");
  EXPECT_THROW(forward.backward(x), std::logic_error) << "that forward did not happen";
  PreLNResidual backward(layer(6), Short{.in_forward = false});
  backward.forward(x);
  EXPECT_EQ(message_of([&] { backward.backward(x); }),
            "tokennorm: PreLNResidual(6): sublayer.backward returned 3 x 6 (tokens x channels); "
            "expected 4 x 6");
  EXPECT_THROW(backward.backward(x), std::logic_error) << "it got half-way";
}

TEST(BlockErrors, XOfOtherChannelsIsRefused) {
  PreLN block(layer(6), Same{}, layer(6), Same{});
  const Tokens narrow(4, 5);
  const char* const expected =
      "tokennorm: PreLN(6): x is 4 x 5 (tokens x channels); expected 6 channels";
  EXPECT_EQ(message_of([&] { block(narrow); }), expected);
  EXPECT_EQ(message_of([&] { block.forward(narrow); }), expected);
  const Stack stack(layer(6), std::vector{block}, NoNorm{});
  EXPECT_EQ(message_of([&] { stack(narrow); }),
            "tokennorm: Stack(6): x is 4 x 5 (tokens x channels); expected 6 channels");
}

TEST(BlockErrors, YOfAnotherShapeIsRefusedBeforeASublayerIsCalled) {
  int calls = 0;
  const PreLNResidual block(layer(6), [&](const Tokens& n) {
    ++calls;
    return n;
  });
  Tokens y(5, 6);
  EXPECT_EQ(message_of([&] { block(x, y.leftCols(6)); }),
            "tokennorm: PreLNResidual(6): y is 5 x 6 (tokens x channels); expected 4 x 6");
  EXPECT_EQ(calls, 0);
}

TEST(BlockErrors, NormsOfDifferentChannelsAreRefusedByTheConstructor) {
  EXPECT_EQ(message_of([] { PreLN(layer(6), Same{}, layer(7), Same{}); }),
            "tokennorm: PreLN(6): feed_forward_norm has 7 channels; expected 6");
  EXPECT_EQ(message_of([] { PostLN(Same{}, layer(6), Same{}, layer(5)); }),
            "tokennorm: PostLN(6): feed_forward_norm has 5 channels; expected 6");
  EXPECT_EQ(message_of([] { SandwichLN(layer(6), Same{}, layer(7), layer(6), Same{}, layer(6)); }),
            "tokennorm: SandwichLN(6): attention_output_norm has 7 channels; expected 6");
  EXPECT_EQ(message_of([] { SandwichLNResidual(layer(6), Same{}, layer(7)); }),
            "tokennorm: SandwichLNResidual(6): output_norm has 7 channels; expected 6");
  EXPECT_EQ(message_of([] { ResPostLN(Same{}, layer(6), Same{}, layer(7)); }),
            "tokennorm: ResPostLN(6): feed_forward_output_norm has 7 channels; expected 6");
}

TEST(BlockErrors, AnAlphaThatIsNotAboveZeroAndFiniteIsRefused) {
  EXPECT_EQ(message_of([] { DeepNorm(Same{}, layer(6), Same{}, layer(6), 0); }),
            "tokennorm: DeepNorm(6): alpha is 0.000000; expected a finite number above 0");
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double alpha : {-1.0, infinity, -infinity, std::nan("")}) {
    EXPECT_NE(message_of([&] {
                DeepNormResidual(Same{}, layer(6), alpha);
              }).find("expected a finite number above 0"),
              std::string::npos)
        << alpha;
  }
}

TEST(BlockErrors, AStackNamesThePartOfOtherChannels) {
  const auto block = [](Index channels) { return PostLNResidual(Same{}, layer(channels)); };
  EXPECT_EQ(message_of([&] { Stack(layer(7), std::vector{block(6)}, NoNorm{}); }),
            "tokennorm: Stack(6): embedding_norm has 7 channels; expected 6");
  EXPECT_EQ(message_of([&] { Stack(NoNorm{}, std::vector{block(6)}, layer(8)); }),
            "tokennorm: Stack(6): final_norm has 8 channels; expected 6");
  EXPECT_EQ(message_of([&] {
              Stack(NoNorm{}, std::vector{block(6), block(7)}, NoNorm{});
            }),
            "tokennorm: Stack(6): block 1's norm has 7 channels; expected 6");
}

TEST(BlockErrors, AStackOfNoBlocksIsRefused) {
  using Block = decltype(PostLNResidual(Same{}, layer(6)));
  EXPECT_THROW(Stack(layer(6), std::vector<Block>{}, layer(6)), std::invalid_argument);
}

TEST(BlockErrors, BackwardBeforeForwardSaysSo) {
  PostLNResidual block(Same{}, layer(6));
  const std::string message = message_of<std::logic_error>([&] { block.backward(x); });
  EXPECT_EQ(message.substr(0, 38), "tokennorm: PostLNResidual(6): backward") << message;
  EXPECT_NE(message.find("call forward(x) first"), std::string::npos) << message;
}

TEST(BlockErrors, AGradientOfAnotherShapeQuotesBoth) {
  PostLNResidual block(Same{}, layer(6));
  block.forward(x);
  EXPECT_EQ(message_of([&] { block.backward(Tokens(3, 6)); }),
            "tokennorm: PostLNResidual(6): dy is 3 x 6 (tokens x channels); expected 4 x 6");
}

TEST(BlockErrors, ParametersThatLostTheirSizeAreRefused) {
  PreLN block(layer(6), Same{}, layer(6), Same{});
  block.feed_forward_norm().scale().resize(5);
  EXPECT_THROW(block(x), std::invalid_argument);
  EXPECT_THROW(block.forward(x), std::invalid_argument);
  const Stack stack(NoNorm{}, std::vector{block}, NoNorm{});
  EXPECT_THROW(stack(x), std::invalid_argument);
}

TEST(BlockErrors, ASublayersOwnExceptionPassesAndLeavesTheBlockUsable) {
  bool fails = true;
  const PreLNResidual block(layer(6), [&](const Tokens& n) {
    if (fails) throw std::runtime_error("out of luck");
    return n;
  });
  Workspace<float> workspace;
  Tokens y;
  EXPECT_EQ(message_of<std::runtime_error>([&] { block(x, y, workspace); }), "out of luck");
  fails = false;
  block(x, y, workspace);
  EXPECT_TRUE(same_bits(y, x + layer(6)(x)));
}

}  // namespace
}  // namespace tokennorm::test

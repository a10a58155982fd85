// SPDX-License-Identifier: MIT
// Whole models folded and centred: the logits stay those of the original, computed in long double.
#include "../norm/norm_kinds.hpp"
#include "tensor_file.hpp"
#include <tokennorm/tokennorm.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <iostream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace tokennorm::test {
namespace {

constexpr Index tokens = 5, channels = 24, hidden = 40, vocabulary = 11, layers = 2;

/// Of either layout. Without bias it has an empty one.
struct Linear {
  bool out_in;
  TokenMatrix<float> weight;
  Eigen::VectorXf bias;

  Linear(Index inputs, Index outputs, bool rows_are_outputs, bool with_bias, Seed seed)
      : out_in(rows_are_outputs),
        weight(random_normal<TokenMatrix<float>>(
            out_in ? Shape{outputs, inputs} : Shape{inputs, outputs}, seed, 0.02,
            1 / std::sqrt(static_cast<double>(inputs)))),
        bias(random_vector<float>(with_bias ? outputs : 0, Seed{seed.value + 1000}, 0.1, 0.5)) {}

  template <class T>
  TokenMatrix<T> operator()(const TokenMatrix<T>& x) const {
    const TokenMatrix<T> w = weight.cast<T>();
    TokenMatrix<T> y = out_in ? TokenMatrix<T>(x * w.transpose()) : TokenMatrix<T>(x * w);
    if (bias.size() > 0) y.rowwise() += bias.transpose().cast<T>();
    return y;
  }
  template <class Visitor>
  void visit(Visitor&& visitor) {
    if (out_in) {
      visitor(OutIn{weight, bias});
    } else {
      visitor(InOut{weight, bias});
    }
  }
};

/// One head, causal.
struct Attention {
  Linear q, k, v, out;

  Attention(bool bias, std::uint64_t seed)
      : q(channels, channels, true, bias, {seed}),
        k(channels, channels, false, bias, {seed + 1}),
        v(channels, hidden, true, bias, {seed + 2}),
        out(hidden, channels, seed % 2 == 0, bias, {seed + 3}) {}

  template <class T>
  TokenMatrix<T> operator()(const TokenMatrix<T>& x) const {
    TokenMatrix<T> scores = q(x) * k(x).transpose() / static_cast<T>(5);
    for (Index i = 0; i < scores.rows(); ++i) {
      for (Index j = 0; j < scores.cols(); ++j)
        scores(i, j) = j > i ? T(0) : std::exp(scores(i, j));
      scores.row(i) /= scores.row(i).sum();
    }
    return out(TokenMatrix<T>(scores * v(x)));
  }
  template <class Visitor>
  void visit_readers(Visitor&& visitor) {
    for (Linear* linear : {&q, &k, &v}) linear->visit(visitor);
  }
  template <class Visitor>
  void visit_writers(Visitor&& visitor) {
    out.visit(visitor);
  }
};

struct GatedFeedForward {
  Linear in, gate, out;

  GatedFeedForward(bool bias, std::uint64_t seed)
      : in(channels, hidden, false, bias, {seed}),
        gate(channels, hidden, true, bias, {seed + 1}),
        out(hidden, channels, true, bias, {seed + 2}) {}

  template <class T>
  TokenMatrix<T> operator()(const TokenMatrix<T>& x) const {
    const TokenMatrix<T> opening = gate(x).unaryExpr([](T g) { return 1 / (1 + std::exp(-g)); });
    return out(TokenMatrix<T>(in(x).cwiseProduct(opening)));
  }
  template <class Visitor>
  void visit_readers(Visitor&& visitor) {
    in.visit(visitor);
    gate.visit(visitor);
  }
  template <class Visitor>
  void visit_writers(Visitor&& visitor) {
    out.visit(visitor);
  }
};

LayerNorm<float> layer(std::uint64_t seed) {
  return random_norm<Case<LayerKind, float>>(channels, {seed});
}
RMSNorm<float> rms(std::uint64_t seed) {
  return random_norm<Case<RMSKind, float>>(channels, {seed}, {.scale_offset = 1});
}

template <class MakeNorm>
auto pre_ln(const MakeNorm& norm, bool bias) {
  using Block = decltype(PreLN(norm(0), Attention(bias, 0), norm(0), GatedFeedForward(bias, 0)));
  std::vector<Block> blocks;
  for (std::uint64_t seed = 100; seed < 100 * (layers + 1); seed += 100)
    blocks.emplace_back(norm(seed), Attention(bias, seed + 10), norm(seed + 20),
                        GatedFeedForward(bias, seed + 31));
  return Stack(NoNorm{}, std::move(blocks), norm(90));
}

template <class Norm>
ExactMatrix exact_norm(const Norm& norm, const ExactMatrix& x) {
  if constexpr (detail::is_norm<Norm>) {
    return forward_oracle_of(norm, x).y;
  } else {
    return x;
  }
}

/// What a stack of Pre-LN or Sandwich-LN blocks computes, by the equations.
template <class AnyStack>
ExactMatrix exact_stack(const AnyStack& stack, const ExactMatrix& x) {
  ExactMatrix h = exact_norm(stack.embedding_norm(), x);
  for (const auto& block : stack.blocks()) {
    detail::Internals::each(block, [&](const auto& connection) {
      const auto& branch = connection.branch();
      h += exact_norm(branch.post, connection.sublayer()(exact_norm(branch.pre, h)));
    });
  }
  return exact_norm(stack.final_norm(), h);
}

/// Everything around the stack.
struct Ends {
  TokenMatrix<float> embedding =
      random_normal<TokenMatrix<float>>({vocabulary, channels}, Seed{1}, 0.3, 1);
  TokenMatrix<float> positions =
      random_normal<TokenMatrix<float>>({tokens, channels}, Seed{2}, -0.5, 0.5);
  Linear unembedding;

  Ends(bool tied, bool bias) : unembedding(channels, vocabulary, tied, bias, {3}) {
    if (tied) unembedding.weight = embedding;
  }
  TokenMatrix<float> input() const {
    TokenMatrix<float> x = positions;
    for (Index t = 0; t < tokens; ++t) x.row(t) += embedding.row((3 * t + 1) % vocabulary);
    return x;
  }
  ExactMatrix exact_input() const {
    ExactMatrix x = positions.cast<long double>();
    for (Index t = 0; t < tokens; ++t)
      x.row(t) += embedding.row((3 * t + 1) % vocabulary).cast<long double>();
    return x;
  }
  template <class AnyStack>
  ExactMatrix exact_logits(const AnyStack& stack) const {
    return unembedding(exact_stack(stack, exact_input()));
  }
  template <class AnyStack>
  TokenMatrix<float> logits(const AnyStack& stack) const {
    return unembedding(TokenMatrix<float>(stack(input())));
  }
  template <class AnyStack>
  void fold(AnyStack& stack) {
    unembedding.visit([&](auto&& map) { fold_norms(stack, map); });
  }
};

/// By how much the logits differ, in multiples of the largest.
double change(const ExactMatrix& from, const ExactMatrix& to) {
  EXPECT_GT(from.cwiseAbs().maxCoeff(), 1);
  return static_cast<double>((from - to).cwiseAbs().maxCoeff() / from.cwiseAbs().maxCoeff());
}

template <class AnyStack>
bool is_folded(AnyStack& stack) {
  int parameters = 0;
  stack.visit_parameters([&](const std::string&, auto&, auto&) { ++parameters; });
  return parameters == 0;
}

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

/// Every number of the model that folding and centring write.
template <class AnyStack>
std::vector<float> numbers(AnyStack& stack, Ends& ends) {
  std::vector<float> result;
  const auto take = [&](const auto& values) {
    for (Index r = 0; r < values.rows(); ++r)
      for (Index c = 0; c < values.cols(); ++c) result.push_back(values(r, c));
  };
  const auto take_map = [&](auto&& map) {
    take(map.weight);
    take(map.bias);
  };
  take(ends.embedding);
  take(ends.positions);
  ends.unembedding.visit(take_map);
  stack.visit_parameters([&](const std::string&, auto& value, auto&) { take(value); });
  for (auto& block : stack.blocks()) {
    block.attention().visit_readers(take_map);
    block.attention().visit_writers(take_map);
    block.feed_forward().visit_readers(take_map);
    block.feed_forward().visit_writers(take_map);
  }
  return result;
}

/// Refused in these words, with nothing written.
template <class AnyStack, class Call>
void expect_refused(AnyStack& stack, Ends& ends, const std::string& words, const Call& call) {
  const auto before = numbers(stack, ends);
  const std::string message = message_of<std::invalid_argument>(call);
  EXPECT_EQ(message.find("tokennorm: Stack(24): " + words), 0U) << message;
  EXPECT_EQ(numbers(stack, ends), before);
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

/// y = relu(x·Wᵀ)·W
struct Tied {
  TokenMatrix<float> weight = TokenMatrix<float>::Ones(hidden, channels);
  TokenMatrix<float> operator()(const TokenMatrix<float>& x) const {
    return (x * weight.transpose()).cwiseMax(0.0f) * weight;
  }
  void visit_readers(auto&& visitor) { visitor(OutIn{weight}); }
  void visit_writers(auto&& visitor) { visitor(InOut{weight}); }
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

// ---- centring -----------------------------------------------------------------------------------

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

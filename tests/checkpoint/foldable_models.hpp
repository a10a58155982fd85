// SPDX-License-Identifier: MIT
// Whole models to fold and to centre: stacks whose sublayers are linear maps of both layouts, what
// stands around them, and their logits by the equations, in long double.
#pragma once

#include "../norm/norm_kinds.hpp"
#include "tensor_file.hpp"
#include <tokennorm/tokennorm.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace tokennorm::test {

inline constexpr Index tokens = 5, channels = 24, hidden = 40, vocabulary = 11, layers = 2;

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

/// y = relu(x·Wᵀ)·W
struct Tied {
  TokenMatrix<float> weight = TokenMatrix<float>::Ones(hidden, channels);
  TokenMatrix<float> operator()(const TokenMatrix<float>& x) const {
    return (x * weight.transpose()).cwiseMax(0.0f) * weight;
  }
  void visit_readers(auto&& visitor) { visitor(OutIn{weight}); }
  void visit_writers(auto&& visitor) { visitor(InOut{weight}); }
};

inline LayerNorm<float> layer(std::uint64_t seed) {
  return random_norm<Case<LayerKind, float>>(channels, {seed});
}
inline RMSNorm<float> rms(std::uint64_t seed) {
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
inline double change(const ExactMatrix& from, const ExactMatrix& to) {
  EXPECT_GT(from.cwiseAbs().maxCoeff(), 1);
  return static_cast<double>((from - to).cwiseAbs().maxCoeff() / from.cwiseAbs().maxCoeff());
}

template <class AnyStack>
bool is_folded(AnyStack& stack) {
  int parameters = 0;
  stack.visit_parameters([&](const std::string&, auto&, auto&) { ++parameters; });
  return parameters == 0;
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

}  // namespace tokennorm::test

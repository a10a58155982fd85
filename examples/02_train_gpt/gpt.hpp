// SPDX-License-Identifier: MIT
/// The model:  logits = head(stack(embedding(ids))).
///
/// The stack is tokennorm's: an embedding norm or none, L blocks, a final norm or none. This file
/// says where the norms stand; everything between the residual connections is in attention.hpp
/// and feed_forward.hpp.
///
///     pre        h = h + f(N(h))           NoNorm, blocks, final norm      GPT-2, Llama
///     post       h = N(h + f(h))           embedding norm, blocks, NoNorm  Transformer 2017, BERT
///     sandwich   h = h + N(f(N(h)))        NoNorm, blocks, final norm      Gemma 2
///
/// Shapes     ids (T) · h (T, C) · logits (T, vocabulary); see sequences.hpp for T
/// Start      weights N(0, 1 / inputs), and those that write into the residual stream 1/√(2L) of
///            that, since 2L of them add up: Radford et al. 2019 (GPT-2), section 2.3. A sandwich's
///            output norms undo that factor, so their scales start at it instead: Pangu Ultra
///            2025, arXiv:2504.07866 (depth-scaled sandwich norm)
#pragma once

#include "attention.hpp"
#include "embedding.hpp"
#include "feed_forward.hpp"
#include "linear.hpp"
#include <tokennorm/tokennorm.hpp>

#include <cmath>
#include <random>
#include <span>
#include <utility>
#include <vector>

namespace gpt {

struct Shape {
  Index vocabulary;
  Index context = 64;
  Index layers = 4;
  Index channels = 128;
  Index heads = 4;
};

/// The three placements. `make_stack` draws the same weights for each of them.
struct PreLNPlacement {
  template <class Norm, class Scalar>
  static auto make_stack(const Shape& shape, std::mt19937_64& rng);
};
struct PostLNPlacement {
  template <class Norm, class Scalar>
  static auto make_stack(const Shape& shape, std::mt19937_64& rng);
};
struct SandwichLNPlacement {
  template <class Norm, class Scalar>
  static auto make_stack(const Shape& shape, std::mt19937_64& rng);
};

/// Placement is one of the three; Norm is tokennorm::LayerNorm<Scalar> or RMSNorm<Scalar>.
template <class Placement, class Norm, class ScalarType>
class Gpt {
 public:
  using Scalar = ScalarType;
  using Tokens = TokenMatrix<Scalar>;
  using Stack = decltype(Placement::template make_stack<Norm, Scalar>(
      std::declval<const Shape&>(), std::declval<std::mt19937_64&>()));

  Gpt(const Shape& shape, std::mt19937_64& rng)
      : embedding_(shape.vocabulary, shape.context, shape.channels, rng),
        stack_(Placement::template make_stack<Norm, Scalar>(shape, rng)),
        head_(shape.channels, shape.vocabulary, rng) {}
  Gpt(Embedding<Scalar> embedding, Stack stack, Linear<Scalar> head)
      : embedding_(std::move(embedding)), stack_(std::move(stack)), head_(std::move(head)) {}

  Index context() const { return embedding_.context(); }
  Embedding<Scalar>& embedding() { return embedding_; }
  Stack& stack() { return stack_; }
  Linear<Scalar>& head() { return head_; }

  Tokens operator()(std::span<const int> ids) const { return head_(stack_(embedding_(ids))); }

  Tokens forward(std::span<const int> ids) {
    return head_.forward(stack_.forward(embedding_.forward(ids)));
  }
  void backward(const Tokens& dlogits) {
    embedding_.backward(stack_.backward(head_.backward(dlogits)));
  }

  /// Names: `embedding.token`, `blocks.0.attention_norm.scale`, `blocks.0.attention.input.weight`,
  /// …, `head.bias`; those inside the stack are tokennorm's.
  template <class Visitor>
  void visit_parameters(Visitor&& visitor) {
    embedding_.visit_parameters(prefixed("embedding", visitor));
    stack_.visit_parameters(visitor);
    head_.visit_parameters(prefixed("head", visitor));
  }
  void zero_gradients() {
    embedding_.zero_gradients();
    stack_.zero_gradients();
    head_.zero_gradients();
  }

 private:
  Embedding<Scalar> embedding_;
  Stack stack_;
  Linear<Scalar> head_;
};

// ---------------------------------------------------------------------------------------------

namespace detail {

inline double residual_gain(const Shape& shape) {
  return 1 / std::sqrt(2 * static_cast<double>(shape.layers));
}

template <class Scalar>
auto make_attention(const Shape& shape, std::mt19937_64& rng) {
  return CausalSelfAttention<Scalar>(shape.channels, shape.heads, shape.context, rng,
                                     residual_gain(shape));
}

template <class Scalar>
auto make_feed_forward(const Shape& shape, std::mt19937_64& rng) {
  return FeedForward<Scalar>(shape.channels, rng, residual_gain(shape));
}

/// L blocks, each from the next attention and feed-forward layer.
template <class Scalar, class MakeBlock>
auto make_blocks(const Shape& shape, std::mt19937_64& rng, MakeBlock&& make_block) {
  using Block = decltype(make_block(make_attention<Scalar>(shape, rng),
                                    make_feed_forward<Scalar>(shape, rng)));
  std::vector<Block> blocks;
  for (Index layer = 0; layer < shape.layers; ++layer) {
    auto attention = make_attention<Scalar>(shape, rng);
    auto feed_forward = make_feed_forward<Scalar>(shape, rng);
    blocks.push_back(make_block(std::move(attention), std::move(feed_forward)));
  }
  return blocks;
}

}  // namespace detail

template <class Norm, class Scalar>
auto PreLNPlacement::make_stack(const Shape& shape, std::mt19937_64& rng) {
  const Norm norm(shape.channels);
  auto blocks = detail::make_blocks<Scalar>(shape, rng, [&](auto attention, auto feed_forward) {
    return tokennorm::PreLN(norm, std::move(attention), norm, std::move(feed_forward));
  });
  return tokennorm::Stack(tokennorm::NoNorm{}, std::move(blocks), norm);
}

template <class Norm, class Scalar>
auto PostLNPlacement::make_stack(const Shape& shape, std::mt19937_64& rng) {
  const Norm norm(shape.channels);
  auto blocks = detail::make_blocks<Scalar>(shape, rng, [&](auto attention, auto feed_forward) {
    return tokennorm::PostLN(std::move(attention), norm, std::move(feed_forward), norm);
  });
  return tokennorm::Stack(norm, std::move(blocks), tokennorm::NoNorm{});
}

template <class Norm, class Scalar>
auto SandwichLNPlacement::make_stack(const Shape& shape, std::mt19937_64& rng) {
  const Norm norm(shape.channels);
  Norm output_norm(shape.channels);
  output_norm.scale().setConstant(static_cast<Scalar>(detail::residual_gain(shape)));
  auto blocks = detail::make_blocks<Scalar>(shape, rng, [&](auto attention, auto feed_forward) {
    return tokennorm::SandwichLN(norm, std::move(attention), output_norm, norm,
                                 std::move(feed_forward), output_norm);
  });
  return tokennorm::Stack(tokennorm::NoNorm{}, std::move(blocks), norm);
}

}  // namespace gpt

// SPDX-License-Identifier: MIT
/// The model:  logits = head(stack(embedding(ids))).
///
/// The stack is tokennorm's: an embedding norm or none, L blocks, a final norm or none. This file
/// says where the norms stand; everything between the residual connections is in attention.hpp
/// and feed_forward.hpp. What belongs to one call and not to the model is given with it: a batch in
/// training, a session where a text is read on; see batch.hpp and session.hpp.
///
///     pre        h = h + f(N(h))           NoNorm, blocks, final norm      GPT-2, Llama
///     post       h = N(h + f(h))           embedding norm, blocks, NoNorm  Transformer 2017, BERT
///     sandwich   h = h + N(f(N(h)))        NoNorm, blocks, final norm      Gemma 2
///
/// A Llama is Pre-LN with RMSNorm, and has rotary positions in place of embedded ones, SwiGLU in
/// place of GELU, and no biases: Touvron et al. 2023, arXiv:2302.13971, section 2.2.
///
/// Shapes     ids (T) · h (T, C) · logits (T, vocabulary); see sequences.hpp for T. A session reads
///            on by any T for which the context still has room
/// Start      weights N(0, 1 / inputs), and those that write into the residual stream 1/√(2L) of
///            that, since 2L of them add up: Radford et al. 2019 (GPT-2), section 2.3. A sandwich's
///            output norms undo that factor, so their scales start at it instead: Pangu Ultra
///            2025, arXiv:2504.07866 (depth-scaled sandwich norm)
#pragma once

#include "attention.hpp"
#include "batch.hpp"
#include "embedding.hpp"
#include "feed_forward.hpp"
#include "gated_feed_forward.hpp"
#include "linear.hpp"
#include "session.hpp"
#include <tokennorm/tokennorm.hpp>

#include <cmath>
#include <memory>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
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
  static constexpr bool is_llama = false;
  template <class Norm, class Scalar>
  static auto make_stack(const Shape& shape, std::mt19937_64& rng);
};
struct PostLNPlacement {
  static constexpr bool is_llama = false;
  template <class Norm, class Scalar>
  static auto make_stack(const Shape& shape, std::mt19937_64& rng);
};
struct SandwichLNPlacement {
  static constexpr bool is_llama = false;
  template <class Norm, class Scalar>
  static auto make_stack(const Shape& shape, std::mt19937_64& rng);
};

/// Llama's, with parts of its own.
struct LlamaPlacement {
  static constexpr bool is_llama = true;
  template <class Norm, class Scalar>
  static auto make_stack(const Shape& shape, std::mt19937_64& rng);
};

/// Placement is one of these; Norm is tokennorm::LayerNorm<Scalar> or RMSNorm<Scalar>.
template <class Placement, class Norm, class ScalarType>
class Gpt {
 public:
  using Scalar = ScalarType;
  using Tokens = TokenMatrix<Scalar>;
  using Workspace = tokennorm::Workspace<Scalar>;
  using Record = tokennorm::TrainingRecord<Scalar>;
  using Stack = decltype(Placement::template make_stack<Norm, Scalar>(
      std::declval<const Shape&>(), std::declval<std::mt19937_64&>()));

  Gpt(const Shape& shape, std::mt19937_64& rng)
      : embedding_(shape.vocabulary, shape.context, shape.channels, rng,
                   /*positions=*/!Placement::is_llama),
        stack_(Placement::template make_stack<Norm, Scalar>(shape, rng)),
        head_(shape.channels, shape.vocabulary, rng, 1, /*bias=*/!Placement::is_llama) {}
  Gpt(Embedding<Scalar> embedding, Stack stack, Linear<Scalar> head)
      : embedding_(std::move(embedding)), stack_(std::move(stack)), head_(std::move(head)) {}

  Index context() const { return embedding_.context(); }
  Index layers() const { return static_cast<Index>(stack_.blocks().size()); }
  Embedding<Scalar>& embedding() { return embedding_; }
  const Embedding<Scalar>& embedding() const { return embedding_; }
  Stack& stack() { return stack_; }
  const Stack& stack() const { return stack_; }
  Linear<Scalar>& head() { return head_; }
  const Linear<Scalar>& head() const { return head_; }

  /// Inference of whole sequences.
  Tokens operator()(std::span<const int> ids) const;

  /// Inference of the next characters of a session. What it has read before is not computed again.
  Session<Scalar> new_session() const { return {layers(), context(), stack_.channels()}; }
  Tokens operator()(std::span<const int> ids, Workspace& workspace, Session<Scalar>& session) const;

  /// Training: all that `backward` needs of `forward` is in the record and in the batch.
  Tokens forward(std::span<const int> ids, Record& record, Batch<Scalar>& batch);
  void backward(const Tokens& dlogits, Record& record, Batch<Scalar>& batch);

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

template <class Placement, class Norm, class Scalar>
auto Gpt<Placement, Norm, Scalar>::operator()(std::span<const int> ids) const -> Tokens {
  const auto sequences = split_into_sequences(static_cast<Index>(ids.size()), context());
  return head_(stack_(embedding_(ids, sequences), tokennorm::with(sequences)));
}

template <class Placement, class Norm, class Scalar>
auto Gpt<Placement, Norm, Scalar>::operator()(std::span<const int> ids, Workspace& workspace,
                                              Session<Scalar>& session) const -> Tokens {
  const auto count = static_cast<Index>(ids.size());
  if (count > context() - session.position) {
    throw std::invalid_argument("gpt: " + std::to_string(count) + " characters do not fit behind " +
                                std::to_string(session.position) + " in a context of " +
                                std::to_string(context()) + "; start the session again");
  }
  Tokens y;
  stack_(embedding_(ids, {1, count}, session.position), y, workspace, tokennorm::with(session));
  session.position += count;
  return head_(y);
}

template <class Placement, class Norm, class Scalar>
auto Gpt<Placement, Norm, Scalar>::forward(std::span<const int> ids, Record& record,
                                           Batch<Scalar>& batch) -> Tokens {
  batch.sequences = split_into_sequences(static_cast<Index>(ids.size()), context());
  batch.ids.assign(ids.begin(), ids.end());
  batch.blocks.resize(stack_.blocks().size());
  stack_.forward(embedding_(ids, batch.sequences), batch.head_input, record,
                 tokennorm::with(batch));
  return head_(batch.head_input);
}

template <class Placement, class Norm, class Scalar>
void Gpt<Placement, Norm, Scalar>::backward(const Tokens& dlogits, Record& record,
                                            Batch<Scalar>& batch) {
  Tokens dx;
  stack_.backward(head_.backward(batch.head_input, dlogits), dx, record, tokennorm::with(batch));
  embedding_.backward(batch.ids, batch.sequences, dx);
}

namespace detail {

inline double residual_gain(const Shape& shape) {
  return 1 / std::sqrt(2 * static_cast<double>(shape.layers));
}

template <class Scalar>
auto make_attention(const Shape& shape, std::mt19937_64& rng) {
  return CausalSelfAttention<Scalar>(shape.channels, shape.heads, rng, residual_gain(shape));
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

template <class Norm, class Scalar>
auto LlamaPlacement::make_stack(const Shape& shape, std::mt19937_64& rng) {
  const Norm norm(shape.channels, {.epsilon = 1e-5});  // that of llama2.c's files
  const auto rotations = std::make_shared<const examples::Rotations<Scalar>>(
      shape.context, detail::head_channels(shape.channels, shape.heads), /*base=*/10000);
  const double gain = detail::residual_gain(shape);
  using Attention = CausalSelfAttention<Scalar>;
  using Block = tokennorm::PreLN<Norm, Attention, Norm, GatedFeedForward<Scalar>>;
  std::vector<Block> blocks;
  for (Index layer = 0; layer < shape.layers; ++layer) {
    Attention attention(shape.channels, shape.heads, rng, gain, rotations);
    blocks.emplace_back(norm, std::move(attention), norm,
                        GatedFeedForward<Scalar>(shape.channels, rng, gain));
  }
  return tokennorm::Stack(tokennorm::NoNorm{}, std::move(blocks), norm);
}

}  // namespace gpt

// SPDX-License-Identifier: MIT
/// Llama:  logits = final_norm(blocks(E[ids]))·Hᵀ.
///
/// The stack of Pre-LN blocks with RMSNorm is tokennorm's, residual connections included; the
/// sublayers are attention.hpp and feed_forward.hpp. A const model serves any number of sessions.
///
/// Shapes     ids (T) · E, H (vocabulary, C), H = E where they are tied · logits (1, vocabulary),
///            of what follows the last id
/// Throws     std::invalid_argument where a session has no room for the ids
/// Source     Touvron et al. 2023, arXiv:2302.13971, section 2.2
#pragma once

#include "attention.hpp"
#include "feed_forward.hpp"
#include <tokennorm/tokennorm.hpp>

#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace llama {

class Llama {
 public:
  using Norm = tokennorm::RMSNorm<float>;
  using Block = tokennorm::PreLN<Norm, Attention, Norm, FeedForward>;

  /// The tensors have their sizes, and no values yet.
  explicit Llama(const Config& config)
      : config_(config),
        embedding_(config.vocabulary, config.channels),
        head_(config.tied ? 0 : config.vocabulary, config.channels),
        stack_(tokennorm::NoNorm{}, make_blocks(config),
               Norm(config.channels, {.epsilon = config.epsilon})) {}

  const Config& config() const { return config_; }

  /// Reads the ids, numbers of the vocabulary, and leaves the logits in the session.
  const Tokens& operator()(std::span<const int> ids, Session& session,
                           const Threads& threads) const {
    const Index count = static_cast<Index>(ids.size()), context = session.blocks[0].keys.rows();
    if (count < 1 || count > context - session.position) {
      throw std::invalid_argument("llama: " + std::to_string(count) + " tokens behind " +
                                  std::to_string(session.position) + "; expected 1 or more, in a " +
                                  "context of " + std::to_string(context));
    }
    session.x.resize(count, config_.channels);
    for (Index t = 0; t < count; ++t) {
      session.x.row(t) = embedding_.row(ids[static_cast<std::size_t>(t)]);
    }
    stack_(session.x, session.y, session.workspace, tokennorm::with(session, threads), threads);
    session.position += count;
    session.x = session.y.bottomRows(1);
    multiply(session.x, config_.tied ? embedding_ : head_, session.logits, threads);
    return session.logits;
  }

  /// f(Meta's name, Hugging Face's name, matrix) of each tensor, in the order of llama2.c's file.
  template <class F>
  void each_tensor(const F& f);

 private:
  static std::vector<Block> make_blocks(const Config& config) {
    const auto rotations = std::make_shared<const Attention::Rotations>(
        config.context, config.head_channels(), config.rope_base);
    const Norm norm(config.channels, {.epsilon = config.epsilon});
    std::vector<Block> blocks;
    for (Index layer = 0; layer < config.layers; ++layer) {
      blocks.emplace_back(norm, Attention(config, rotations), norm, FeedForward(config));
    }
    return blocks;
  }

  Config config_;
  Tokens embedding_, head_;  // E, H
  tokennorm::Stack<tokennorm::NoNorm, Block, Norm> stack_;
};

template <class F>
void Llama::each_tensor(const F& f) {
  const auto rows = [](Tokens& matrix, Index first, Index count) {
    return Eigen::Map<Tokens>(matrix.row(first).data(), count, matrix.cols());
  };
  const auto all = [&](Tokens& matrix) { return rows(matrix, 0, matrix.rows()); };
  const auto scale = [](Norm& n) { return Eigen::Map<Tokens>(n.scale().data(), 1, n.channels()); };
  const auto each = [&](const std::string& meta, const std::string& hugging_face, auto tensor) {
    for (std::size_t i = 0; i < stack_.blocks().size(); ++i) {
      const std::string layer = "layers." + std::to_string(i) + ".";
      f(layer + meta, "model." + layer + hugging_face, tensor(stack_.blocks()[i]));
    }
  };
  const Index c = config_.channels, kv = config_.kv_channels();
  const auto input = [&](Index first, Index count) {
    return [=](Block& b) { return rows(b.attention().input, first, count); };
  };

  f("tok_embeddings", "model.embed_tokens", all(embedding_));
  each("attention_norm", "input_layernorm", [&](Block& b) { return scale(b.attention_norm()); });
  each("attention.wq", "self_attn.q_proj", input(0, c));
  each("attention.wk", "self_attn.k_proj", input(c, kv));
  each("attention.wv", "self_attn.v_proj", input(c + kv, kv));
  each("attention.wo", "self_attn.o_proj", [&](Block& b) { return all(b.attention().output); });
  each("ffn_norm", "post_attention_layernorm",
       [&](Block& b) { return scale(b.feed_forward_norm()); });
  each("feed_forward.w1", "mlp.gate_proj", [&](Block& b) { return all(b.feed_forward().gate); });
  each("feed_forward.w2", "mlp.down_proj", [&](Block& b) { return all(b.feed_forward().down); });
  each("feed_forward.w3", "mlp.up_proj", [&](Block& b) { return all(b.feed_forward().up); });
  f("norm", "model.norm", scale(stack_.final_norm()));
  if (!config_.tied) f("output", "lm_head", all(head_));
}

}  // namespace llama

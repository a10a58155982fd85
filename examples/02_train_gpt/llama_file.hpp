// SPDX-License-Identifier: MIT
/// A Llama that was trained here as files that run_llama and llama2.c read.
///
///     save_llama("out/llama.bin", model, heads);          and out/tokenizer.bin, of bytes
///
/// Throws     std::runtime_error where a file cannot be written
#pragma once

#include "common/llama2c.hpp"
#include "common/tokenizer.hpp"
#include "gpt.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace gpt {

using Llama = Gpt<LlamaPlacement, tokennorm::RMSNorm<float>, float>;

namespace detail {

/// As write_llama2c asks for it: W (outputs, inputs), Q, K and V each by itself.
struct LlamaTensors {
  const Llama& model;
  Index heads;

  examples::LlamaConfig config() const {
    const Index channels = model.stack().channels();
    return {.channels = channels,
            .hidden = GatedFeedForward<float>::hidden_channels(channels),
            .layers = model.layers(),
            .heads = heads,
            .kv_heads = heads,
            .vocabulary = model.head().weight().cols(),
            .context = model.context(),
            .tied = false};
  }

  template <class F>
  void each_tensor(const F& f) const {
    using Tokens = TokenMatrix<float>;
    const auto each = [&](const char* name, const auto& tensor) {
      for (const auto& block : model.stack().blocks()) f(name, "", Tokens(tensor(block)));
    };
    const auto input = [&](const auto& sublayer, Index part, Index width) {
      return sublayer.input().weight().middleCols(part * width, width).transpose();
    };
    const auto output = [](const auto& sublayer) { return sublayer.output().weight().transpose(); };
    const auto qkv = [&](Index part) {
      return [&, part](const auto& b) { return input(b.attention(), part, config().channels); };
    };
    const auto gate_and_up = [&](Index part) {
      return [&, part](const auto& b) { return input(b.feed_forward(), part, config().hidden); };
    };
    f("tok_embeddings", "", Tokens(model.embedding().token()));
    each("attention_norm", [](const auto& b) { return b.attention_norm().scale().transpose(); });
    for (Index part = 0; part < 3; ++part) each("attention.wq, wk, wv", qkv(part));
    each("attention.wo", [&](const auto& b) { return output(b.attention()); });
    each("ffn_norm", [](const auto& b) { return b.feed_forward_norm().scale().transpose(); });
    each("feed_forward.w1", gate_and_up(0));
    each("feed_forward.w2", [&](const auto& b) { return output(b.feed_forward()); });
    each("feed_forward.w3", gate_and_up(1));
    f("norm", "", Tokens(model.stack().final_norm().scale().transpose()));
    f("output", "", Tokens(model.head().weight().transpose()));
  }
};

}  // namespace detail

/// Where the tokenizer of a model's file is.
inline std::filesystem::path tokenizer_file(const std::filesystem::path& model_file) {
  return model_file.parent_path() / "tokenizer.bin";
}

inline void save_llama(const std::filesystem::path& file, const Llama& model, Index heads) {
  const detail::LlamaTensors tensors{model, heads};
  examples::write_llama2c(file, tensors);
  examples::Tokenizer::of_bytes().write(tokenizer_file(file));
}

}  // namespace gpt

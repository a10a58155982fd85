// SPDX-License-Identifier: MIT
// The families' names, written here as their checkpoints have them, and which are told apart.
#include "tensor_file.hpp"
#include <tokennorm/checkpoint/families.hpp>

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tokennorm::test {
namespace {

using Names = std::vector<std::string>;

struct Published {
  const Family& family;
  Names names;
};

/// Tensors of one layer (of the last of two, where that is shorter), norms and others.
std::vector<Published> published() {
  return {
      {families::gpt2,
       {"wte.weight", "wpe.weight", "h.0.ln_1.weight", "h.0.ln_1.bias", "h.0.attn.bias",
        "h.0.attn.c_attn.weight", "h.0.ln_2.weight", "h.0.ln_2.bias", "h.0.mlp.c_fc.bias",
        "ln_f.weight", "ln_f.bias"}},
      {families::gpt2,
       {"transformer.h.11.ln_1.weight", "transformer.h.11.ln_1.bias", "transformer.h.11.ln_2.bias",
        "transformer.h.11.ln_2.weight", "transformer.ln_f.weight", "transformer.ln_f.bias",
        "lm_head.weight"}},
      {families::gpt2_original,
       {"model/h0/ln_1/g", "model/h0/ln_1/b", "model/h0/ln_2/g", "model/h0/ln_2/b",
        "model/h0/attn/c_attn/w", "model/h0/attn/c_attn/b", "model/ln_f/g", "model/ln_f/b"}},
      {families::llms_from_scratch,
       {"trf_blocks.0.norm1.scale", "trf_blocks.0.norm1.shift", "trf_blocks.0.norm2.scale",
        "trf_blocks.0.norm2.shift", "trf_blocks.0.att.W_query.weight", "final_norm.scale",
        "final_norm.shift", "tok_emb.weight"}},
      {families::bert,
       {"bert.embeddings.LayerNorm.weight", "bert.embeddings.LayerNorm.bias",
        "bert.encoder.layer.0.attention.output.LayerNorm.weight",
        "bert.encoder.layer.0.attention.output.LayerNorm.bias",
        "bert.encoder.layer.0.output.LayerNorm.weight",
        "bert.encoder.layer.0.output.LayerNorm.bias", "cls.predictions.transform.LayerNorm.weight",
        "bert.pooler.dense.bias"}},
      {families::bert,
       {"embeddings.LayerNorm.gamma", "embeddings.LayerNorm.beta",
        "encoder.layer.0.attention.output.LayerNorm.gamma",
        "encoder.layer.0.attention.output.LayerNorm.beta", "encoder.layer.0.output.LayerNorm.gamma",
        "encoder.layer.0.output.LayerNorm.beta"}},
      {families::bloom,
       {"word_embeddings_layernorm.weight", "word_embeddings_layernorm.bias",
        "h.0.input_layernorm.weight", "h.0.input_layernorm.bias",
        "h.0.post_attention_layernorm.weight", "h.0.post_attention_layernorm.bias", "ln_f.weight",
        "ln_f.bias"}},
      {families::gemma2,
       {"model.layers.0.input_layernorm.weight", "model.layers.0.post_attention_layernorm.weight",
        "model.layers.0.pre_feedforward_layernorm.weight",
        "model.layers.0.post_feedforward_layernorm.weight", "model.norm.weight",
        "model.layers.0.self_attn.q_proj.weight"}},
      {families::olmo2,
       {"model.layers.0.post_attention_layernorm.weight",
        "model.layers.0.post_feedforward_layernorm.weight", "model.norm.weight",
        "model.layers.0.self_attn.q_norm.weight", "model.layers.0.self_attn.k_norm.weight"}},
      {families::t5,
       {"encoder.block.0.layer.0.layer_norm.weight", "encoder.block.0.layer.1.layer_norm.weight",
        "encoder.final_layer_norm.weight", "decoder.block.0.layer.0.layer_norm.weight",
        "decoder.block.0.layer.1.layer_norm.weight", "decoder.block.0.layer.2.layer_norm.weight",
        "decoder.final_layer_norm.weight", "shared.weight"}},
      {families::t5,
       {"encoder.block.0.layer.0.layer_norm.weight", "encoder.block.0.layer.1.layer_norm.weight",
        "encoder.final_layer_norm.weight", "shared.weight"}},
      {families::transformer_lens,
       {"blocks.0.ln1.w", "blocks.0.ln1.b", "blocks.0.ln2.w", "blocks.0.ln2.b", "ln_final.w",
        "ln_final.b", "embed.W_E"}},
      {families::transformer_lens_rms,
       {"blocks.0.ln1.w", "blocks.0.ln2.w", "ln_final.w", "unembed.b_U"}},
  };
}

Names llama_names() {
  return {"model.layers.0.input_layernorm.weight", "model.layers.0.post_attention_layernorm.weight",
          "model.norm.weight", "model.embed_tokens.weight"};
}

std::string error_of(const Names& names) {
  return message_of<std::runtime_error>([&] { detect_family(names); });
}

void expect_words(const std::string& message, const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    EXPECT_NE(message.find(word), std::string::npos) << message << "\n  lacks: " << word;
  }
}

TEST(DetectFamily, KnowsEachByItsNames) {
  for (const Published& example : published()) {
    EXPECT_EQ(detect_family(example.names).name, example.family.name);
    Names reversed(example.names.rbegin(), example.names.rend());
    EXPECT_EQ(detect_family(reversed).name, example.family.name) << "in another order";
  }
}

TEST(DetectFamily, NeedsEveryNormOfTheFamily) {
  for (const Published& example : published()) {
    for (std::size_t i = 0; i < example.names.size(); ++i) {
      const detail::NormName parts(example.names[i]);
      Names fewer = example.names;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
      bool of_family = false;
      for (std::size_t role = 0; role < detail::role_count; ++role) {
        of_family = of_family ||
                    detail::layer_of(example.family, static_cast<NormRole>(role), parts.norm) >= 0;
      }
      const std::string found = [&] {
        try {
          return std::string(detect_family(fewer).name);
        } catch (const std::runtime_error&) {
          return std::string();
        }
      }();
      const std::string name(example.family.name);
      // Without its encoder's norms, T5 still has its decoder's.
      const bool only_decoder = found == "t5_decoder" && example.names.size() > 4;
      EXPECT_TRUE(of_family ? found.empty() || only_decoder : found == name)
          << name << " without " << example.names[i] << ": " << found;
    }
  }
}

TEST(DetectFamily, DoesNotGuessBetweenFamiliesWithTheSameNames) {
  for (Names names : {llama_names(), Names{"layers.7.input_layernorm.weight", "norm.weight",
                                           "layers.7.post_attention_layernorm.weight"}}) {
    names.push_back("model.layers.0.self_attn.q_norm.weight");  // Qwen 3: under the attention
    EXPECT_EQ(error_of(names),
              "tokennorm: detect_family: the names fit llama (llama, mistral, mixtral, qwen2, "
              "qwen3) and gemma, whose keys are the same; name the family, or take it from the "
              "model's config.json with family_from_config(path)");
  }
}

TEST(DetectFamily, SaysWhatItLookedForWhereNothingFits) {
  expect_words(error_of({}), {"fits the file's 0 names", "gpt2", "transformer_lens"});
  expect_words(error_of({"encoder.layers.0.norm.a_2", "encoder.layers.0.norm.b_2"}),
               {"a_2 and b_2", "another formula"});
  // GPT-J has one norm for both sublayers, GPT-NeoX another prefix.
  expect_words(error_of({"transformer.h.0.ln_1.weight", "transformer.h.0.ln_1.bias",
                         "transformer.ln_f.weight", "transformer.ln_f.bias"}),
               {"none of the families fits the file's 4 names"});
  expect_words(error_of({"h.x.ln_1.weight", "h..ln_1.bias", "h.0", "", ".", "h.99999999999.ln_1.b",
                         "h.0.ln_1.weight.ln_f.weight"}),
               {"none of the families"});
}

TEST(Families, HaveTheKeysOfTheirCheckpoints) {
  using Role = NormRole;
  EXPECT_EQ(families::gpt2.key(Role::attention, 3), "h.3.ln_1");
  EXPECT_EQ(families::gpt2.key(Role::feed_forward, 11), "h.11.ln_2");
  EXPECT_EQ(families::gpt2.key(Role::final), "ln_f");
  EXPECT_EQ(families::gpt2_original.key(Role::feed_forward, 2), "model/h2/ln_2");
  EXPECT_EQ(families::llms_from_scratch.key(Role::attention, 0), "trf_blocks.0.norm1");
  EXPECT_EQ(families::bert.key(Role::embedding), "embeddings.LayerNorm");
  EXPECT_EQ(families::bert.key(Role::attention, 4), "encoder.layer.4.attention.output.LayerNorm");
  EXPECT_EQ(families::bert.key(Role::feed_forward, 4), "encoder.layer.4.output.LayerNorm");
  EXPECT_EQ(families::bloom.key(Role::feed_forward, 1), "h.1.post_attention_layernorm");
  EXPECT_EQ(families::llama.key(Role::feed_forward, 1), "model.layers.1.post_attention_layernorm");
  EXPECT_EQ(families::gemma2.key(Role::attention_output, 1),
            "model.layers.1.post_attention_layernorm");
  EXPECT_EQ(families::gemma2.key(Role::feed_forward, 1),
            "model.layers.1.pre_feedforward_layernorm");
  EXPECT_EQ(families::olmo2.key(Role::attention_output, 1),
            "model.layers.1.post_attention_layernorm");
  EXPECT_EQ(families::olmo2.key(Role::final), "model.norm");
  EXPECT_EQ(families::t5.key(Role::feed_forward, 5), "encoder.block.5.layer.1.layer_norm");
  EXPECT_EQ(families::t5_decoder.key(Role::feed_forward, 5), "decoder.block.5.layer.2.layer_norm");
  EXPECT_EQ(families::transformer_lens.key(Role::final), "ln_final");
}

TEST(Families, HaveTheNormsOfTheirModels) {
  EXPECT_EQ(families::bert.epsilon, 1e-12);
  EXPECT_EQ(families::bert.placement, Placement::post_ln);
  EXPECT_EQ(families::gpt2.epsilon, 1e-5);
  EXPECT_EQ(families::gpt2.norm, NormKind::layer_norm);
  EXPECT_EQ(families::llama.norm, NormKind::rms_norm);
  EXPECT_EQ(families::llama.scale_offset, 0);
  EXPECT_EQ(families::gemma.scale_offset, 1);
  EXPECT_EQ(families::gemma2.scale_offset, 1);
  EXPECT_EQ(families::gemma2.placement, Placement::sandwich_ln);
  EXPECT_EQ(families::olmo2.placement, Placement::residual_post_norm);
  static_assert(families::t5.epsilon == 1e-6);
}

TEST(Families, AreFoundByName) {
  for (const Family& family : families::all) EXPECT_EQ(&find_family(family.name), &family);
  expect_words(message_of<std::invalid_argument>([] { find_family("gtp2"); }),
               {"no family is called gtp2", "llms_from_scratch, bert"});
}

TEST(Families, RefuseARoleThatTheyDoNotHave) {
  EXPECT_FALSE(families::bert.has(NormRole::final));
  EXPECT_EQ(message_of<std::invalid_argument>([] { families::bert.key(NormRole::final); }),
            "tokennorm: bert: the family has no final norm");
  EXPECT_THROW(families::olmo2.key(NormRole::attention, 0), std::invalid_argument);
  EXPECT_THROW(families::gpt2.key(NormRole::attention, -1), std::invalid_argument);
}

}  // namespace
}  // namespace tokennorm::test

// SPDX-License-Identifier: MIT
// The families' names, written here as their checkpoints have them, and which are told apart.
#include "tensor_file.hpp"
#include <tokennorm/checkpoint/families.hpp>

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace tokennorm::test {
namespace {

using Names = std::vector<std::string>;

struct Published {
  const FamilyRow& family;
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
      {families::bert,
       {"roberta.embeddings.LayerNorm.weight", "roberta.embeddings.LayerNorm.bias",
        "roberta.encoder.layer.0.attention.output.LayerNorm.weight",
        "roberta.encoder.layer.0.attention.output.LayerNorm.bias",
        "roberta.encoder.layer.0.output.LayerNorm.weight",
        "roberta.encoder.layer.0.output.LayerNorm.bias", "lm_head.layer_norm.weight"}},
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

Names with_suffixes(const Names& norms, const Names& suffixes) {
  Names names;
  for (const std::string& norm : norms) {
    for (const std::string& suffix : suffixes) names.push_back(norm + suffix);
  }
  return names;
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

TEST(DetectFamily, LooksBehindEveryOptionalPrefix) {
  for (const std::string prefix :
       {"_orig_mod.", "module.", "_orig_mod.module.", "module._orig_mod.", "language_model.",
        "model.language_model.", "language_model.model.", "_orig_mod.module.transformer."}) {
    for (const Published& example : published()) {
      if (example.names.front().find('/') != std::string::npos) continue;
      Names names;
      for (const std::string& name : example.names) names.push_back(prefix + name);
      EXPECT_EQ(detect_family(names).name, example.family.name) << prefix;
    }
  }
}

TEST(DetectFamily, KnowsTheNamesOfTensorFlowsVariables) {
  EXPECT_EQ(detect_family(
                with_suffixes({"model/h0/ln_1", "model/h0/ln_2", "model/ln_f"}, {"/g:0", "/b:0"}))
                .name,
            "gpt2_original");
}

TEST(DetectFamily, NeedsEveryNormOfTheFamily) {
  for (const Published& example : published()) {
    for (std::size_t i = 0; i < example.names.size(); ++i) {
      const detail::NormName parts(example.names[i]);
      Names fewer = example.names;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
      bool of_family = false;
      detail::each_role_of(example.family, parts.norm, [&](NormRole role, Index) {
        of_family = of_family || detail::is_in_every_model(role);
      });
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
              "qwen2_moe, qwen3, qwen3_moe, phi3, minimax_m2, gpt_oss, llama4_text, deepseek_v2, "
              "deepseek_v3, kimi_k2, bitnet) and granite (granite, granitemoe, granitemoeshared) "
              "and gemma and qwen3_next (qwen3_next, qwen3_5, qwen3_5_text, qwen3_5_moe, "
              "qwen3_5_moe_text) and minimax, whose keys are the same; name the family, or take it "
              "from the model's config.json with family_from_config(path) of "
              "tokennorm/checkpoint/config.hpp");
  }
}

TEST(DetectFamily, TakesNoModelThatHasANormMore) {
  // Gemma 2 and BLOOM as TransformerLens names them; a Llama with one norm more; a GPT-2 and a BERT
  // that also attend to an encoder.
  const std::pair<Names, std::string> examples[] = {
      {with_suffixes(
           {"blocks.0.ln1", "blocks.0.ln1_post", "blocks.0.ln2", "blocks.0.ln2_post", "ln_final"},
           {".w"}),
       "nearest is transformer_lens_rms, but for blocks.0.ln1_post, which transformer_lens_rms has "
       "not"},
      {with_suffixes({"blocks.0.ln1", "blocks.0.ln2", "ln_final", "embed.ln"}, {".w", ".b"}),
       "transformer_lens, but for embed.ln, which transformer_lens has not"},
      {with_suffixes({"model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm",
                      "model.layers.0.post_something_layernorm", "model.norm"},
                     {".weight"}),
       "llama, but for model.layers.0.post_something_layernorm, which llama has not"},
      {with_suffixes({"h.0.ln_1", "h.0.ln_2", "h.0.ln_cross_attn", "ln_f"}, {".weight", ".bias"}),
       "gpt2, but for h.0.ln_cross_attn, which gpt2 has not"},
      {with_suffixes({"bert.embeddings.LayerNorm", "bert.encoder.layer.0.output.LayerNorm",
                      "bert.encoder.layer.0.attention.output.LayerNorm",
                      "bert.encoder.layer.0.crossattention.output.LayerNorm"},
                     {".weight", ".bias"}),
       "but for bert.encoder.layer.0.crossattention.output.LayerNorm, which bert has not"}};
  for (const auto& [names, words] : examples) {
    expect_words(error_of(names), {"none of the families fits", words});
  }
}

TEST(DetectFamily, NeedsEveryNormInEveryLayer) {
  const Names first = with_suffixes({"h.0.ln_1", "h.0.ln_2", "ln_f"}, {".weight", ".bias"});
  EXPECT_EQ(detect_family(first).name, "gpt2");
  for (const std::string missing : {"h.1.ln_1.weight", "h.1.ln_2.bias"}) {
    Names names = first;
    for (const std::string& name : with_suffixes({"h.1.ln_1", "h.1.ln_2"}, {".weight", ".bias"})) {
      if (name != missing) names.push_back(name);
    }
    EXPECT_EQ(error_of(names),
              "tokennorm: detect_family: none of the families fits the file's 9 names; nearest is "
              "gpt2, but for " +
                  missing + ", which the file has not");
  }
  expect_words(error_of({"model.layers.0.input_layernorm.weight", "model.norm.weight",
                         "model.layers.1.post_attention_layernorm.weight",
                         "model.layers.2.post_attention_layernorm.weight",
                         "model.layers.2.input_layernorm.weight"}),
               {"none of the families fits the file's 5 names; nearest is llama, but for "
                "model.layers.0.post_attention_layernorm.weight, which the file has not, and 1 "
                "more"});
}

TEST(DetectFamily, SaysWhatItLookedForWhereNothingFits) {
  expect_words(error_of({}), {"fits the file's 0 names; looked for the norms of gpt2, gpt2_or"});
  expect_words(error_of({"a.bias", "albert.LayerNorm.weight", "b.c", "d\x1b.norm.bias", "e", "f"}),
               {"the file's 6 names (albert.LayerNorm.weight, d\\x1b.norm.bias, …); looked for"});
  expect_words(error_of({"a.bias", "b.c", "d", "e", "f"}),
               {"the file's 5 names (a.bias, b.c, d, e, …); looked for"});
  expect_words(error_of({"a.bias", "b"}), {"the file's 2 names (a.bias, b); looked for"});
  expect_words(error_of({"encoder.layers.0.norm.a_2", "encoder.layers.0.norm.b_2"}),
               {"a_2 and b_2", "another formula"});
  for (const char* other : {"norm.gamma_2", "norm.lora_2", "norm.data_2"}) {
    EXPECT_EQ(error_of({other}).find("another formula"), std::string::npos) << other;
  }
  // nanoGPT's norms may have no bias.
  expect_words(error_of({"h.0.ln_1.weight", "h.0.ln_2.weight", "ln_f.weight"}),
               {"nearest is gpt2, but for h.0.ln_1.bias, which the file has not, and 2 more"});
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
  EXPECT_TRUE(families::bert.epsilon_varies) << "RoBERTa has the same names, and 1e-5";
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
  for (const FamilyRow& family : families::all) EXPECT_EQ(&find_family(family.name), &family);
  expect_words(message_of<std::invalid_argument>([] { find_family("gtp2"); }),
               {"no family is called gtp2", "llms_from_scratch, bloom"});
}

/// As a program has them that learns its prefix when it runs: nothing here outlives the call.
Family behind(const std::string& prefix) {
  Family mine = families::llama;
  mine.name = std::string_view(prefix);
  mine.layer = prefix + "model.layers.{}.";
  mine.keys[static_cast<std::size_t>(NormRole::final)] = (prefix + "model.norm").c_str();
  return mine;
}

TEST(Families, OwnWhatACopyOfThemIsGiven) {
  Family copy = families::gpt2;
  {
    const Family mine = behind("language_model.some_longer_prefix.");
    copy = mine;
    copy = std::as_const(copy);
    EXPECT_EQ(mine.key(NormRole::final), "language_model.some_longer_prefix.model.norm");
  }
  Family moved = std::move(copy);
  copy = families::gpt2;
  EXPECT_EQ(moved.name, "language_model.some_longer_prefix.");
  EXPECT_EQ(moved.key(NormRole::attention, 3),
            "language_model.some_longer_prefix.model.layers.3.input_layernorm");
  EXPECT_EQ(moved.key(NormRole::final), "language_model.some_longer_prefix.model.norm");
  EXPECT_EQ(copy.key(NormRole::attention, 3), "h.3.ln_1");
  moved.layer = "";
  EXPECT_TRUE(moved.layer.empty());
}

constexpr FamilyRow gpt2_with_another_end = [] {
  FamilyRow mine = families::gpt2;
  mine.keys[static_cast<std::size_t>(NormRole::final)] = "last_norm";
  return mine;
}();

TEST(Families, AreConstants) {
  static_assert(families::llama.layer == "model.layers.{}.");
  static_assert(&find_family("llama") == &families::llama);
  static_assert(gpt2_with_another_end.own_key(NormRole::final) == "last_norm");
  EXPECT_EQ(gpt2_with_another_end.key(NormRole::attention, 2), "h.2.ln_1");
}

TEST(Families, RefuseARoleThatTheyDoNotHave) {
  EXPECT_FALSE(families::bert.has(NormRole::final));
  EXPECT_EQ(message_of<std::invalid_argument>([] { families::bert.key(NormRole::final); }),
            "tokennorm: bert: the family has no final norm");
  EXPECT_THROW(families::olmo2.key(NormRole::attention, 0), std::invalid_argument);
  EXPECT_THROW(families::gpt2.key(NormRole::attention, -1), std::invalid_argument);
  Family no_number = families::gpt2;
  no_number.layer = "h.";
  expect_words(
      message_of<std::invalid_argument>([&] { no_number.key(NormRole::attention, 0); }),
      {"tokennorm: Family::key: what stands before the keys of a layer is h.; expected {} in it"});
  EXPECT_EQ(detail::in_layer(no_number, "h.0.ln_1").layer, -1);
}

}  // namespace
}  // namespace tokennorm::test

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

Names with_suffixes(const Names& norms, const Names& suffixes) {
  Names names;
  for (const std::string& norm : norms) {
    for (const std::string& suffix : suffixes) names.push_back(norm + suffix);
  }
  return names;
}

/// The names behind a prefix, with others.
Names behind(const std::string& prefix, const Names& names, const Names& others = {}) {
  Names all = others;
  for (const std::string& name : names) all.push_back(prefix + name);
  return all;
}

const Names weight = {".weight"}, weight_and_bias = {".weight", ".bias"};

/// Families of one placement more, or of norms inside sublayers: the names of the models' own code.
std::vector<Published> published_of_other_rules() {
  const auto with_bias = [](const Names& norms) { return with_suffixes(norms, weight_and_bias); };
  const auto plain = [](const Names& norms) { return with_suffixes(norms, weight); };
  const std::string layer = "model.layers.0.";
  return {
      {families::gptj, with_bias({"transformer.h.0.ln_1", "transformer.ln_f"})},
      {families::phi, with_bias({layer + "input_layernorm", "model.final_layernorm",
                                 layer + "self_attn.q_layernorm"})},
      {families::falcon, with_bias({"transformer.h.0.input_layernorm", "transformer.ln_f"})},
      {families::falcon_two_norms,
       with_bias({"transformer.h.0.ln_attn", "transformer.h.0.ln_mlp", "transformer.ln_f"})},
      {families::falcon_sequential,
       with_bias({"transformer.h.0.input_layernorm", "transformer.h.0.post_attention_layernorm",
                  "transformer.ln_f"})},
      {families::cohere, plain({layer + "input_layernorm", layer + "self_attn.q_norm",
                                layer + "self_attn.k_norm", "model.norm"})},
      {families::opt,
       with_bias({"model.decoder.layers.0.self_attn_layer_norm",
                  "model.decoder.layers.0.final_layer_norm", "model.decoder.final_layer_norm"})},
      {families::opt_350m,
       with_bias({"decoder.layers.0.self_attn_layer_norm", "decoder.layers.0.final_layer_norm"})},
      {families::whisper,
       with_bias({"model.encoder.layers.0.self_attn_layer_norm",
                  "model.encoder.layers.0.final_layer_norm", "model.encoder.layer_norm",
                  "model.decoder.layers.0.self_attn_layer_norm",
                  "model.decoder.layers.0.encoder_attn_layer_norm",
                  "model.decoder.layers.0.final_layer_norm", "model.decoder.layer_norm"})},
      {families::mpt,
       plain({"transformer.blocks.0.norm_1", "transformer.blocks.0.norm_2", "transformer.norm_f"})},
      {families::dinov2,
       behind("dinov2.", with_bias({"encoder.layer.0.norm1", "encoder.layer.0.norm2", "layernorm"}),
              {"dinov2.encoder.layer.0.layer_scale1.lambda1"})},
      {families::modernbert,
       plain({"model.embeddings.norm", "model.layers.0.mlp_norm", "model.layers.1.attn_norm",
              "model.layers.1.mlp_norm", "model.final_norm"})},
      {families::apertus,
       plain({layer + "attention_layernorm", layer + "feedforward_layernorm",
              layer + "self_attn.q_norm", layer + "self_attn.k_norm", "model.norm"})},
      {families::glm4,
       plain({layer + "input_layernorm", layer + "post_self_attn_layernorm",
              layer + "post_attention_layernorm", layer + "post_mlp_layernorm", "model.norm"})},
      {families::grok2, plain({layer + "pre_attn_norm", layer + "post_attn_norm",
                               layer + "pre_moe_norm", layer + "post_moe_norm", "model.norm"})},
      {families::lfm2, plain({layer + "operator_norm", layer + "ffn_norm",
                              layer + "self_attn.q_layernorm", "model.embedding_norm"})},
      {families::llama_meta, plain({"layers.0.attention_norm", "layers.0.ffn_norm", "norm"})},
      {families::t5gemma,
       plain({"model.encoder.layers.0.pre_self_attn_layernorm",
              "model.encoder.layers.0.post_self_attn_layernorm",
              "model.encoder.layers.0.pre_feedforward_layernorm",
              "model.encoder.layers.0.post_feedforward_layernorm", "model.encoder.norm"})},
      {families::glm4,  // with a layer that predicts further tokens
       plain({layer + "input_layernorm", layer + "post_self_attn_layernorm",
              layer + "post_attention_layernorm", layer + "post_mlp_layernorm", layer + "enorm",
              layer + "hnorm", layer + "shared_head.norm", "model.norm"})},
      {families::mamba,
       plain({"backbone.layers.0.norm", "backbone.layers.0.mixer.norm", "backbone.norm_f"})},
      {families::rwkv, with_bias({"blocks.0.ln0", "blocks.0.ln1", "blocks.0.ln2",
                                  "blocks.0.att.ln_x", "blocks.1.ln1", "blocks.1.ln2", "ln_out"})},
      {families::albert,
       behind("albert.",
              with_bias({"embeddings.LayerNorm",
                         "encoder.albert_layer_groups.0.albert_layers.0.attention.LayerNorm",
                         "encoder.albert_layer_groups.0.albert_layers.0.full_layer_layer_norm"}),
              {"predictions.LayerNorm.weight", "predictions.LayerNorm.bias"})},
      {families::deepseek_v4,
       behind("model.",
              plain({"layers.0.input_layernorm", "layers.0.post_attention_layernorm",
                     "layers.0.self_attn.kv_a_layernorm", "norm"}),
              {"model.layers.0.attn_hc.fn", "model.layers.0.ffn_hc.fn"})},
      {families::doge,
       behind("model.",
              plain({"layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm"}),
              {"model.layers.0.input_residual", "model.layers.0.post_attention_residual"})},
      {families::kimi_k3,
       behind("model.",
              plain({"layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm"}),
              {"model.layers.0.self_attention_res_proj.weight",
               "model.layers.0.self_attention_res_norm.weight"})},
      {families::gemma4,
       behind("model.language_model.",
              plain({"layers.0.input_layernorm", "layers.0.post_attention_layernorm",
                     "layers.0.pre_feedforward_layernorm", "layers.0.post_feedforward_layernorm",
                     "layers.0.post_feedforward_layernorm_1", "norm"}),
              {"model.language_model.layers.0.layer_scalar"})},
      {families::gemma3n,
       behind("model.language_model.",
              plain({"layers.0.input_layernorm", "layers.0.post_attention_layernorm",
                     "layers.0.pre_feedforward_layernorm", "layers.0.post_feedforward_layernorm",
                     "layers.0.post_per_layer_input_norm", "layers.0.laurel.post_laurel_norm",
                     "norm"}),
              {"model.language_model.layers.0.altup.router_norm.weight"})},
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

TEST(DetectFamily, KnowsThoseOfOtherRulesByTheirNames) {
  for (const Published& example : published_of_other_rules()) {
    EXPECT_EQ(detect_family(example.names).name, example.family.name);
    EXPECT_EQ(detect_family(behind("_orig_mod.", example.names)).name, example.family.name);
  }
}

TEST(DetectFamily, GuessesNoRuleWhereTwoHaveTheSameKeys) {
  const Names neox =
      with_suffixes({"gpt_neox.layers.0.input_layernorm",
                     "gpt_neox.layers.0.post_attention_layernorm", "gpt_neox.final_layer_norm"},
                    weight_and_bias);
  expect_words(error_of(neox), {"gpt_neox", " and gpt_neox_sequential"});
  const Names swin = behind(
      "swinv2.", with_suffixes({"embeddings.norm", "encoder.layers.0.blocks.0.layernorm_before",
                                "encoder.layers.0.blocks.0.layernorm_after",
                                "encoder.layers.0.downsample.norm", "layernorm"},
                               weight_and_bias));
  expect_words(error_of(swin), {"swinv2", " and swin"});
}

/// The names of all norms that each of a family's models has, in two layers.
Names names_of(const FamilyRow& family) {
  const auto& parameters = detail::parameter_names[static_cast<std::size_t>(family.naming)];
  Names names;
  for (std::size_t i = 0; i < detail::role_count; ++i) {
    const auto role = static_cast<NormRole>(i);
    if (!family.has(role) || !detail::is_in_every_model(role)) continue;
    for (Index layer = 0; layer < 2; ++layer) {
      if (!family.has(role, layer)) continue;
      names.push_back(detail::parameter_key(family.key(role, layer), parameters.scale));
      if (family.has_shift()) {
        names.push_back(detail::parameter_key(family.key(role, layer), parameters.shift));
      }
    }
  }
  if (const auto* rule = detail::rule_of(family.placement)) {
    names.push_back("model.layers.0." + std::string(rule->part) + ".weight");
  }
  return names;
}

TEST(DetectFamily, TakesNoFamilyForAnother) {
  for (const FamilyRow& family : families::all) {
    SCOPED_TRACE(family.name);
    const Names names = names_of(family);
    std::string message;
    try {
      EXPECT_EQ(detect_family(names).name, family.name);
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
    const std::string name(family.name);
    if (message.empty()) continue;
    EXPECT_NE(message.find(" " + name), std::string::npos) << message;
    const bool has_twins = name == "llama" || name == "granite" || name == "gemma" ||
                           name == "qwen3_next" || name == "minimax" || name == "nemotron" ||
                           name == "starcoder2" || name.starts_with("gpt_neox") ||
                           name.starts_with("swin");
    EXPECT_TRUE(has_twins && message.find("whose keys are the same") != std::string::npos)
        << message;
  }
}

TEST(DetectFamily, TakesNoModelWithAnotherRuleForTheResidualStream) {
  const std::pair<std::string, std::string> examples[] = {
      {"h.0.attn_hc.base", "mixes several residual streams"},
      {"h.0.input_residual", "multiplies the stream by learned vectors"},
      {"h.0.self_attention_res_norm.weight", "makes the stream from what earlier"},
      {"resid_lambdas", "multiplies the stream by learned vectors"},
      {"h.0.layer_scalar", "multiplies the stream by a learned number"},
      {"h.0.ls1.gamma", "multiplies updates by learned vectors (LayerScale)"}};
  const Names gpt2 = with_suffixes({"h.0.ln_1", "h.0.ln_2", "ln_f"}, weight_and_bias);
  for (const auto& [tensor, reason] : examples) {
    Names names = gpt2;
    names.push_back(tensor);
    expect_words(error_of(names),
                 {"nearest is gpt2, but for " + tensor + ": such a model " + reason});
  }
  // A norm more beside the layers, and one behind the last of them where Post-LN has none.
  const Names whisper =
      with_suffixes({"encoder.layers.0.self_attn_layer_norm", "encoder.layers.0.final_layer_norm",
                     "encoder.layer_norm", "encoder.layernorm_embedding"},
                    weight_and_bias);
  expect_words(error_of(whisper), {"whisper, but for encoder.layernorm_embedding, which whisper"});
  const Names bert =
      with_suffixes({"embeddings.LayerNorm", "encoder.layer.0.attention.output.LayerNorm",
                     "encoder.layer.0.output.LayerNorm"},
                    weight_and_bias);
  EXPECT_EQ(detect_family(bert).name, "bert");
  expect_words(error_of(behind("", bert, {"norm.weight"})), {"bert, but for norm, which bert"});
  expect_words(error_of(behind("", bert, {"encoder.norm.weight"})), {"bert, but for encoder.norm"});
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

}  // namespace
}  // namespace tokennorm::test

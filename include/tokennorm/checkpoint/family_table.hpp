// SPDX-License-Identifier: MIT
/// One row for each family of models: what it calls its norms, which norms they are, and its rule
/// for the residual stream. A new row makes its models known everywhere.
///
/// Throws   std::invalid_argument for a family that there is not
#pragma once

#include "tokennorm/checkpoint/family.hpp"
#include "tokennorm/core/checks.hpp"

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

namespace tokennorm {

namespace families {

/// The rows. Where several have a model type, the first is meant; ε is the usual one where it
/// varies.
inline constexpr auto all = [] {
  using enum NormKind;
  using enum NormRole;
  using enum Placement;
  using enum Naming;
  using Keys = detail::RoleKeys<std::string_view>;
  const std::string_view layers = "model.layers.{}.", blocks = "h.{}.";
  const Keys inside_attention = {{query, "self_attn.q_norm"}, {key, "self_attn.k_norm"}};
  // post_attention_layernorm stands before the feed-forward here, and on the attention's output in
  // Gemma 2 and OLMo 2.
  const Keys llama_keys = inside_attention.with({{attention, "input_layernorm"},
                                                 {feed_forward, "post_attention_layernorm"},
                                                 {final, "model.norm"},
                                                 {query_latent, "self_attn.q_a_layernorm"},
                                                 {key_value_latent, "self_attn.kv_a_layernorm"},
                                                 {attention_sub, "self_attn.attn_sub_norm"},
                                                 {feed_forward_sub, "mlp.ffn_sub_norm"}});
  const Keys gemma2_keys =
      inside_attention.with({{attention, "input_layernorm"},
                             {attention_output, "post_attention_layernorm"},
                             {feed_forward, "pre_feedforward_layernorm"},
                             {feed_forward_output, "post_feedforward_layernorm"},
                             {final, "model.norm"}});
  const Keys opt_keys = {{attention, "self_attn_layer_norm"}, {feed_forward, "final_layer_norm"}};
  const Keys t5gemma_keys = {{attention, "pre_self_attn_layernorm"},
                             {attention_output, "post_self_attn_layernorm"},
                             {feed_forward, "pre_feedforward_layernorm"},
                             {feed_forward_output, "post_feedforward_layernorm"}};
  const Keys neox_keys = {{attention, "input_layernorm"},
                          {feed_forward, "post_attention_layernorm"},
                          {final, "gpt_neox.final_layer_norm"}};
  const Keys lens_keys = {{attention, "ln1"}, {feed_forward, "ln2"}, {final, "ln_final"}};

  // clang-format off
  return std::to_array<FamilyRow>({
    // ---- one norm before attention, one before the feed-forward
    {.name = "gpt2", .model_types = "gpt2 gpt_neo gpt_bigcode",
     .norm = layer_norm, .epsilon = 1e-5, .layer = blocks,
     .keys = {{attention, "ln_1"}, {feed_forward, "ln_2"}, {final, "ln_f"}}},
    {.name = "gpt2_original", .model_types = "gpt2",
     .norm = layer_norm, .epsilon = 1e-5, .naming = g_b, .layer = "model/h{}/",
     .keys = {{attention, "ln_1"}, {feed_forward, "ln_2"}, {final, "model/ln_f"}}},
    {.name = "llms_from_scratch",
     .norm = layer_norm, .epsilon = 1e-5, .naming = scale_shift, .layer = "trf_blocks.{}.",
     .keys = {{attention, "norm1"}, {feed_forward, "norm2"}, {final, "final_norm"}}},
    {.name = "bloom", .model_types = "bloom",
     .norm = layer_norm, .epsilon = 1e-5, .layer = blocks,
     .keys = {{embedding, "word_embeddings_layernorm"}, {attention, "input_layernorm"},
              {feed_forward, "post_attention_layernorm"}, {final, "ln_f"}}},
    {.name = "llama",
     .model_types = "llama mistral mixtral qwen2 qwen2_moe qwen3 qwen3_moe phi3 minimax_m2 gpt_oss "
                    "llama4_text deepseek_v2 deepseek_v3 kimi_k2 bitnet",
     .norm = rms_norm, .epsilon = 1e-6, .epsilon_varies = true, .layer = layers,
     .keys = llama_keys},
    {.name = "llama_meta", .model_types = "internlm2",
     .norm = rms_norm, .epsilon = 1e-5, .epsilon_varies = true, .layer = "layers.{}.",
     .keys = {{attention, "attention_norm"}, {feed_forward, "ffn_norm"}, {final, "norm"}}},
    {.name = "granite", .model_types = "granite granitemoe granitemoeshared",
     .norm = rms_norm, .epsilon = 1e-6, .epsilon_varies = true,
     .residual_scale_key = "residual_multiplier", .layer = layers, .keys = llama_keys},
    {.name = "gemma", .model_types = "gemma",
     .norm = rms_norm, .epsilon = 1e-6, .scale_offset = 1, .layer = layers, .keys = llama_keys},
    // The gated norm has no offset.
    {.name = "qwen3_next",
     .model_types = "qwen3_next qwen3_5 qwen3_5_text qwen3_5_moe qwen3_5_moe_text",
     .norm = rms_norm, .epsilon = 1e-6, .epsilon_varies = true, .scale_offset = 1, .layer = layers,
     .keys = llama_keys.with({{gated, "linear_attn.norm"}})},
    {.name = "nemotron", .model_types = "nemotron",
     .norm = layer_norm, .epsilon = 1e-5, .epsilon_varies = true, .epsilon_key = "norm_eps",
     .scale_offset = 1, .layer = layers, .keys = llama_keys},
    {.name = "starcoder2", .model_types = "starcoder2",
     .norm = layer_norm, .epsilon = 1e-5, .epsilon_varies = true, .epsilon_key = "norm_epsilon",
     .layer = layers, .keys = llama_keys},
    {.name = "apertus", .model_types = "apertus",
     .norm = rms_norm, .epsilon = 1e-5, .epsilon_varies = true, .layer = layers,
     .keys = inside_attention.with({{attention, "attention_layernorm"},
                                    {feed_forward, "feedforward_layernorm"},
                                    {final, "model.norm"}})},
    {.name = "lfm2", .model_types = "lfm2 lfm2_moe",
     .norm = rms_norm, .epsilon = 1e-5, .epsilon_varies = true, .epsilon_key = "norm_eps",
     .layer = layers,
     .keys = {{attention, "operator_norm"}, {feed_forward, "ffn_norm"},
              {final, "model.embedding_norm"}, {query, "self_attn.q_layernorm"},
              {key, "self_attn.k_layernorm"}}},
    {.name = "mpt", .model_types = "mpt",
     .norm = layer_norm, .shift = false, .epsilon = 1e-5, .layer = "blocks.{}.",
     .keys = {{attention, "norm_1"}, {feed_forward, "norm_2"}, {final, "norm_f"},
              {query, "attn.q_ln"}, {key, "attn.k_ln"}}},
    {.name = "opt", .model_types = "opt",
     .norm = layer_norm, .epsilon = 1e-5, .layer = "decoder.layers.{}.",
     .keys = opt_keys.with({{final, "decoder.final_layer_norm"}})},
    {.name = "whisper", .model_types = "whisper",
     .norm = layer_norm, .epsilon = 1e-5, .layer = "encoder.layers.{}.",
     .keys = opt_keys.with({{final, "encoder.layer_norm"}})},
    {.name = "whisper_decoder", .model_types = "whisper",
     .norm = layer_norm, .epsilon = 1e-5, .layer = "decoder.layers.{}.",
     .keys = opt_keys.with({{cross_attention, "encoder_attn_layer_norm"},
                            {final, "decoder.layer_norm"}})},
    {.name = "t5", .model_types = "t5 mt5 umt5",
     .norm = rms_norm, .epsilon = 1e-6, .layer = "encoder.block.{}.",
     .keys = {{attention, "layer.0.layer_norm"}, {feed_forward, "layer.1.layer_norm"},
              {final, "encoder.final_layer_norm"}}},
    {.name = "t5_decoder", .model_types = "t5 mt5 umt5",
     .norm = rms_norm, .epsilon = 1e-6, .layer = "decoder.block.{}.",
     .keys = {{attention, "layer.0.layer_norm"}, {cross_attention, "layer.1.layer_norm"},
              {feed_forward, "layer.2.layer_norm"}, {final, "decoder.final_layer_norm"}}},
    {.name = "dinov2", .model_types = "dinov2 dinov2_with_registers",
     .norm = layer_norm, .epsilon = 1e-6, .layer_scale = true, .layer = "encoder.layer.{}.",
     .keys = {{attention, "norm1"}, {feed_forward, "norm2"}, {final, "layernorm"}}},
    {.name = "modernbert", .model_types = "modernbert",
     .norm = layer_norm, .shift = false, .epsilon = 1e-5, .epsilon_key = "norm_eps",
     .layer = layers, .first_layer_lacks = attention,
     .keys = {{embedding, "embeddings.norm"}, {attention, "attn_norm"},
              {feed_forward, "mlp_norm"}, {final, "final_norm"}}},
    {.name = "rwkv",
     .norm = layer_norm, .epsilon = 1e-5, .layer = "blocks.{}.",
     .keys = {{embedding, "blocks.0.ln0"}, {attention, "ln1"}, {feed_forward, "ln2"},
              {final, "ln_out"}}},
    {.name = "transformer_lens",
     .norm = layer_norm, .epsilon = 1e-5, .epsilon_varies = true, .naming = w_b,
     .layer = "blocks.{}.", .keys = lens_keys},
    {.name = "transformer_lens_rms",
     .norm = rms_norm, .epsilon = 1e-6, .epsilon_varies = true, .naming = w_b,
     .layer = "blocks.{}.", .keys = lens_keys},
    // One sublayer a layer.
    {.name = "mamba", .model_types = "mamba mamba2 nemotron_h",
     .norm = rms_norm, .epsilon = 1e-5, .epsilon_varies = true,
     .epsilon_key = "layer_norm_epsilon", .layer = "backbone.layers.{}.",
     .keys = {{mixer, "norm"}, {final, "backbone.norm_f"}, {gated, "mixer.norm"}}},

    // ---- attention and feed-forward side by side
    {.name = "gptj", .model_types = "gptj codegen",
     .norm = layer_norm, .epsilon = 1e-5, .placement = parallel, .layer = blocks,
     .keys = {{attention, "ln_1"}, {final, "ln_f"}}},
    // The same keys: use_parallel_residual in config.json tells.
    {.name = "gpt_neox", .model_types = "gpt_neox",
     .norm = layer_norm, .epsilon = 1e-5, .epsilon_varies = true, .placement = parallel_two_norms,
     .layer = "gpt_neox.layers.{}.", .keys = neox_keys},
    {.name = "gpt_neox_sequential", .model_types = "gpt_neox",
     .norm = layer_norm, .epsilon = 1e-5, .epsilon_varies = true, .layer = "gpt_neox.layers.{}.",
     .keys = neox_keys},
    {.name = "phi", .model_types = "phi",
     .norm = layer_norm, .epsilon = 1e-5, .epsilon_varies = true, .placement = parallel,
     .layer = layers,
     .keys = {{attention, "input_layernorm"}, {final, "model.final_layernorm"},
              {query, "self_attn.q_layernorm"}, {key, "self_attn.k_layernorm"}}},
    {.name = "falcon", .model_types = "falcon",
     .norm = layer_norm, .epsilon = 1e-5, .placement = parallel, .layer = blocks,
     .keys = {{attention, "input_layernorm"}, {final, "ln_f"}}},
    {.name = "falcon_two_norms", .model_types = "falcon",
     .norm = layer_norm, .epsilon = 1e-5, .placement = parallel_two_norms, .layer = blocks,
     .keys = {{attention, "ln_attn"}, {feed_forward, "ln_mlp"}, {final, "ln_f"}}},
    {.name = "falcon_sequential", .model_types = "falcon",
     .norm = layer_norm, .epsilon = 1e-5, .layer = blocks,
     .keys = {{attention, "input_layernorm"}, {feed_forward, "post_attention_layernorm"},
              {final, "ln_f"}}},
    {.name = "cohere", .model_types = "cohere cohere2",
     .norm = layer_norm, .shift = false, .epsilon = 1e-5, .epsilon_varies = true,
     .placement = parallel, .layer = layers,
     .keys = inside_attention.with({{attention, "input_layernorm"}, {final, "model.norm"}})},

    // ---- a norm behind each sum
    {.name = "bert", .model_types = "bert roberta camembert xlm-roberta electra",
     .norm = layer_norm, .epsilon = 1e-12, .epsilon_varies = true, .placement = post_ln,
     .layer = "encoder.layer.{}.",
     .keys = {{embedding, "embeddings.LayerNorm"}, {attention, "attention.output.LayerNorm"},
              {feed_forward, "output.LayerNorm"}}},
    // The embedding norm has the width of the embedding.
    {.name = "albert", .model_types = "albert",
     .norm = layer_norm, .epsilon = 1e-12, .epsilon_varies = true, .placement = post_ln,
     .layer = "encoder.albert_layer_groups.0.albert_layers.0.", .layers_share = true,
     .keys = {{embedding, "embeddings.LayerNorm"}, {attention, "attention.LayerNorm"},
              {feed_forward, "full_layer_layer_norm"}}},
    {.name = "opt_350m", .model_types = "opt",
     .norm = layer_norm, .epsilon = 1e-5, .placement = post_ln, .layer = "decoder.layers.{}.",
     .keys = opt_keys},

    // ---- a norm before each sublayer and one on what it gives
    {.name = "gemma2", .model_types = "gemma2 gemma3 gemma3_text",
     .norm = rms_norm, .epsilon = 1e-6, .scale_offset = 1, .placement = sandwich_ln,
     .layer = layers, .keys = gemma2_keys},
    {.name = "t5gemma", .model_types = "t5gemma t5_gemma_module",
     .norm = rms_norm, .epsilon = 1e-6, .scale_offset = 1, .placement = sandwich_ln,
     .layer = "model.encoder.layers.{}.",
     .keys = t5gemma_keys.with({{final, "model.encoder.norm"}})},
    {.name = "t5gemma_decoder", .model_types = "t5gemma t5_gemma_module",
     .norm = rms_norm, .epsilon = 1e-6, .scale_offset = 1, .placement = sandwich_ln,
     .layer = "model.decoder.layers.{}.",
     .keys = t5gemma_keys.with({{cross_attention, "pre_cross_attn_layernorm"},
                                {cross_attention_output, "post_cross_attn_layernorm"},
                                {final, "model.decoder.norm"}})},
    {.name = "glm4", .model_types = "glm4",
     .norm = rms_norm, .epsilon = 1e-5, .epsilon_varies = true, .placement = sandwich_ln,
     .layer = layers,
     .keys = {{attention, "input_layernorm"}, {attention_output, "post_self_attn_layernorm"},
              {feed_forward, "post_attention_layernorm"},
              {feed_forward_output, "post_mlp_layernorm"}, {final, "model.norm"}}},
    {.name = "grok2",
     .norm = rms_norm, .epsilon = 1e-5, .epsilon_varies = true, .placement = sandwich_ln,
     .layer = layers,
     .keys = {{attention, "pre_attn_norm"}, {attention_output, "post_attn_norm"},
              {feed_forward, "pre_moe_norm"}, {feed_forward_output, "post_moe_norm"},
              {final, "model.norm"}}},

    // ---- a norm on what each sublayer gives
    {.name = "olmo2", .model_types = "olmo2 olmo3 exaone4",
     .norm = rms_norm, .epsilon = 1e-6, .epsilon_varies = true, .placement = residual_post_norm,
     .layer = layers,
     .keys = inside_attention.with({{attention_output, "post_attention_layernorm"},
                                    {feed_forward_output, "post_feedforward_layernorm"},
                                    {final, "model.norm"}})},
    // Its first stage; the others have other widths. Change `layer` in a copy.
    {.name = "swinv2", .model_types = "swinv2",
     .norm = layer_norm, .epsilon = 1e-5, .placement = residual_post_norm,
     .layer = "encoder.layers.0.blocks.{}.",
     .keys = {{attention_output, "layernorm_before"}, {feed_forward_output, "layernorm_after"}}},

    // The same keys before the sublayers.
    {.name = "swin", .model_types = "swin donut-swin maskformer-swin",
     .norm = layer_norm, .epsilon = 1e-5, .layer = "encoder.layers.0.blocks.{}.",
     .keys = {{attention, "layernorm_before"}, {feed_forward, "layernorm_after"}}},

    // ---- rules that no block here computes
    {.name = "minimax", .model_types = "minimax",
     .norm = rms_norm, .epsilon = 1e-5, .epsilon_varies = true, .placement = normed_stream,
     .layer = layers, .keys = llama_keys},
    {.name = "doge", .model_types = "doge",
     .norm = rms_norm, .epsilon = 1e-6, .epsilon_varies = true, .placement = learned_residual,
     .layer = layers, .keys = llama_keys},
    {.name = "deepseek_v4", .model_types = "deepseek_v4 glm5_next",
     .norm = rms_norm, .epsilon = 1e-6, .epsilon_varies = true, .placement = multi_stream,
     .layer = layers, .keys = llama_keys},
    {.name = "kimi_k3", .model_types = "kimi_k3",
     .norm = rms_norm, .epsilon = 1e-5, .epsilon_varies = true, .placement = attention_residual,
     .layer = layers, .keys = llama_keys},
    {.name = "gemma3n", .model_types = "gemma3n gemma3n_text",
     .norm = rms_norm, .epsilon = 1e-6, .placement = multi_stream, .layer = layers,
     .keys = gemma2_keys.with({{per_layer_input_output, "post_per_layer_input_norm"}})},
    {.name = "gemma4", .model_types = "gemma4 gemma4_text",
     .norm = rms_norm, .epsilon = 1e-6, .placement = scaled_stream, .layer = layers,
     .keys = gemma2_keys.with({{per_layer_input_output, "post_per_layer_input_norm"},
                               {dense_output, "post_feedforward_layernorm_1"},
                               {experts, "pre_feedforward_layernorm_2"},
                               {experts_output, "post_feedforward_layernorm_2"}})},
  });
  // clang-format on
}();

}  // namespace families

/// The row of this name.
constexpr const FamilyRow& find_family(std::string_view name);

namespace detail {

/// Its number, or that of all rows where there is none. (An address is no constant to GCC with
/// -fsanitize=undefined, once it is compared with null.)
constexpr std::size_t row_number(std::string_view name) {
  std::size_t row = 0;
  while (row < families::all.size() && families::all[row].name != name) ++row;
  return row;
}
/// The row, or null.
constexpr const FamilyRow* row_named(std::string_view name) {
  const std::size_t row = row_number(name);
  return row < families::all.size() ? &families::all[row] : nullptr;
}

}  // namespace detail

// ---------------------------------------------------------------------------------------------

namespace detail {

[[noreturn, gnu::cold, gnu::noinline]] inline void fail_unknown_family(std::string_view name) {
  std::string known;
  for (const FamilyRow& family : families::all) {
    known += (known.empty() ? "" : ", ") + std::string(family.name);
  }
  fail({"find_family"},
       {"no family is called ", std::string(name).c_str(), "; there are ", known.c_str()});
}

}  // namespace detail

constexpr const FamilyRow& find_family(std::string_view name) {
  const std::size_t row = detail::row_number(name);
  if (row == families::all.size()) detail::fail_unknown_family(name);
  return families::all[row];
}

namespace families {

/// A family of the table above, by the name that it has there.
inline constexpr const FamilyRow& gpt2 = find_family("gpt2");
inline constexpr const FamilyRow& gpt2_original = find_family("gpt2_original");
inline constexpr const FamilyRow& llms_from_scratch = find_family("llms_from_scratch");
inline constexpr const FamilyRow& bloom = find_family("bloom");
inline constexpr const FamilyRow& llama = find_family("llama");
inline constexpr const FamilyRow& llama_meta = find_family("llama_meta");
inline constexpr const FamilyRow& granite = find_family("granite");
inline constexpr const FamilyRow& gemma = find_family("gemma");
inline constexpr const FamilyRow& qwen3_next = find_family("qwen3_next");
inline constexpr const FamilyRow& nemotron = find_family("nemotron");
inline constexpr const FamilyRow& starcoder2 = find_family("starcoder2");
inline constexpr const FamilyRow& apertus = find_family("apertus");
inline constexpr const FamilyRow& lfm2 = find_family("lfm2");
inline constexpr const FamilyRow& mpt = find_family("mpt");
inline constexpr const FamilyRow& opt = find_family("opt");
inline constexpr const FamilyRow& whisper = find_family("whisper");
inline constexpr const FamilyRow& whisper_decoder = find_family("whisper_decoder");
inline constexpr const FamilyRow& t5 = find_family("t5");
inline constexpr const FamilyRow& t5_decoder = find_family("t5_decoder");
inline constexpr const FamilyRow& dinov2 = find_family("dinov2");
inline constexpr const FamilyRow& modernbert = find_family("modernbert");
inline constexpr const FamilyRow& rwkv = find_family("rwkv");
inline constexpr const FamilyRow& transformer_lens = find_family("transformer_lens");
inline constexpr const FamilyRow& transformer_lens_rms = find_family("transformer_lens_rms");
inline constexpr const FamilyRow& mamba = find_family("mamba");
inline constexpr const FamilyRow& gptj = find_family("gptj");
inline constexpr const FamilyRow& gpt_neox = find_family("gpt_neox");
inline constexpr const FamilyRow& gpt_neox_sequential = find_family("gpt_neox_sequential");
inline constexpr const FamilyRow& swin = find_family("swin");
inline constexpr const FamilyRow& phi = find_family("phi");
inline constexpr const FamilyRow& falcon = find_family("falcon");
inline constexpr const FamilyRow& falcon_two_norms = find_family("falcon_two_norms");
inline constexpr const FamilyRow& falcon_sequential = find_family("falcon_sequential");
inline constexpr const FamilyRow& cohere = find_family("cohere");
inline constexpr const FamilyRow& bert = find_family("bert");
inline constexpr const FamilyRow& albert = find_family("albert");
inline constexpr const FamilyRow& opt_350m = find_family("opt_350m");
inline constexpr const FamilyRow& gemma2 = find_family("gemma2");
inline constexpr const FamilyRow& t5gemma = find_family("t5gemma");
inline constexpr const FamilyRow& t5gemma_decoder = find_family("t5gemma_decoder");
inline constexpr const FamilyRow& glm4 = find_family("glm4");
inline constexpr const FamilyRow& grok2 = find_family("grok2");
inline constexpr const FamilyRow& olmo2 = find_family("olmo2");
inline constexpr const FamilyRow& swinv2 = find_family("swinv2");
inline constexpr const FamilyRow& minimax = find_family("minimax");
inline constexpr const FamilyRow& doge = find_family("doge");
inline constexpr const FamilyRow& deepseek_v4 = find_family("deepseek_v4");
inline constexpr const FamilyRow& kimi_k3 = find_family("kimi_k3");
inline constexpr const FamilyRow& gemma3n = find_family("gemma3n");
inline constexpr const FamilyRow& gemma4 = find_family("gemma4");

}  // namespace families
}  // namespace tokennorm

// SPDX-License-Identifier: MIT
/// The family of a GGUF file from its metadata, under llama.cpp's names.
///
///     general.architecture                       the family, by gguf_architectures below; where
///                                                several have one, that whose norms are there
///     {architecture}.attention.layer_norm_rms_epsilon, of a LayerNorm .layer_norm_epsilon      ε
///     .use_parallel_residual, .residual_scale, .swin_norm, .rescale_every_n_layers,
///     .hyper_connection.*, .altup.*              the rule for the residual stream: what the
///                                                family's rule leaves open, or has; else refused
///
/// The same key means different norms here too: `post_attention_norm` stands on the attention's
/// output in Gemma 2 and OLMo 2, and before the feed-forward in gpt-oss and Qwen3-Next.
///
/// Throws   std::runtime_error that names the file, what it has and what was expected
/// Source   github.com/ggml-org/llama.cpp: gguf-py/gguf/constants.py, tensor_mapping.py; src/models
#pragma once

#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/checkpoint/families.hpp"
#include "tokennorm/checkpoint/gguf_reader.hpp"
#include "tokennorm/checkpoint/rounding.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <locale>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tokennorm::detail {

/// The architectures whose norms are those of a row.
struct GgufArchitectures {
  std::string_view family;
  std::string_view architectures;  // with blanks between
  std::string_view part = "";      // before every name of this part of the model
};
inline constexpr GgufArchitectures gguf_architectures[] = {
    {"gpt2", "gpt2 starcoder"},
    {"bloom", "bloom"},
    {"llama",
     "llama qwen2 qwen2moe qwen3 qwen3moe phi3 minimax-m2 gpt-oss llama4 deepseek2 bitnet"},
    {"llama_meta", "internlm2"},
    {"granite", "granite granitemoe"},
    {"gemma", "gemma"},
    {"qwen3_next", "qwen3next qwen35 qwen35moe"},
    {"nemotron", "nemotron"},
    {"starcoder2", "starcoder2"},
    {"apertus", "apertus"},
    {"lfm2", "lfm2 lfm2moe"},
    {"mpt", "mpt"},
    {"t5", "t5 t5encoder", "enc."},
    {"t5_decoder", "t5", "dec."},
    {"modernbert", "modern-bert"},
    {"mamba", "mamba mamba2 nemotron_h"},
    {"gptj", "gptj"},
    {"gpt_neox", "gptneox"},
    {"phi", "phi2"},
    {"falcon_two_norms", "falcon"},
    {"falcon", "falcon"},
    {"cohere", "command-r cohere2"},
    {"bert", "bert"},
    {"gemma2", "gemma2 gemma3 gemma-embedding"},
    {"glm4", "glm4"},
    {"grok2", "grok"},
    {"olmo2", "olmo2 exaone4"},
    {"deepseek_v4", "deepseek4"},
    {"gemma3n", "gemma3n"},
    {"gemma4", "gemma4"},
};

/// What norms are called. Those inside sublayers a file has or has not, whatever its family.
struct GgufKey {
  NormRole role;
  std::string_view key;
};
inline constexpr GgufKey gguf_keys[] = {
    {NormRole::embedding, "token_embd_norm"},
    {NormRole::attention, "attn_norm"},
    {NormRole::attention_output, "post_attention_norm"},
    {NormRole::cross_attention, "cross_attn_norm"},
    {NormRole::feed_forward, "ffn_norm"},
    {NormRole::feed_forward_output, "post_ffw_norm"},
    {NormRole::per_layer_input_output, "post_norm"},
    {NormRole::mixer, "attn_norm"},
    {NormRole::final, "output_norm"},
    {NormRole::query, "attn_q_norm"},
    {NormRole::key, "attn_k_norm"},
    {NormRole::query_latent, "attn_q_a_norm"},
    {NormRole::key_value_latent, "attn_kv_a_norm"},
    {NormRole::attention_sub, "attn_sub_norm"},
    {NormRole::feed_forward_sub, "ffn_sub_norm"},
    {NormRole::gated, "ssm_norm"},
    {NormRole::dense_output, "post_ffw_norm_1"},
    {NormRole::experts, "pre_ffw_norm_2"},
    {NormRole::experts_output, "post_ffw_norm_2"},
};

/// Where families or architectures call them otherwise.
struct GgufException {
  std::string_view names;  // of either, with blanks between
  NormRole role;
  std::string_view key;
};
inline constexpr GgufException gguf_exceptions[] = {
    {"bert", NormRole::attention, "attn_output_norm"},
    {"bert", NormRole::feed_forward, "layer_output_norm"},
    {"gpt-oss qwen3_next", NormRole::feed_forward, "post_attention_norm"},
    {"lfm2", NormRole::final, "token_embd_norm"},
    {"falcon_two_norms", NormRole::attention, "attn_norm_2"},
    {"falcon_two_norms", NormRole::feed_forward, "attn_norm"},
    {"grok2", NormRole::attention_output, "attn_output_norm"},
};

/// The number that was written down, where the file has it as a float: 1e-5, not 9.9999997e-06.
inline double decimal_of(double value) {
  const auto as_float = [](double number) {
    return static_cast<double>(static_cast<float>(number));
  };
  if (as_float(value) != value) return value;  // a double
  for (const int precision : {6, 7, 8, 9}) {
    std::stringstream digits;
    digits.imbue(std::locale::classic());
    digits.precision(precision);
    double decimal = 0;
    digits << value;
    digits >> decimal;
    if (as_float(decimal) == value) return decimal;
  }
  return value;
}

/// "true", "0.25", "an array"
[[gnu::cold, gnu::noinline]] inline std::string gguf_text(const GgufValue& value) {
  struct Text {
    std::string operator()(std::uint64_t number) const { return std::to_string(number); }
    std::string operator()(std::int64_t number) const { return std::to_string(number); }
    std::string operator()(double number) const { return number_text(number, 0); }
    std::string operator()(bool truth) const { return truth ? "true" : "false"; }
    std::string operator()(const std::string& text) const { return in_quotes(text); }
    std::string operator()(const GgufArray&) const { return "an array"; }
  };
  return std::visit(Text{}, value);
}

/// What one file says of its norms: its metadata, and which tensors it has.
class GgufModel {
 public:
  using HasTensor = std::function<bool(const std::string&)>;
  GgufModel(const std::string& file, const GgufMetadata& metadata, HasTensor has_tensor);

  /// Of this row, which is one of the architecture's; of the one that fits where there is none.
  Family family(const FamilyRow* row) const;

 private:
  Family find(const FamilyRow* row) const;
  Family with_names(const FamilyRow& row, std::string_view part) const;
  bool has_first_layer(const Family& family) const;
  void take_epsilon(Family& family) const;
  void take_residual_rule(Family& family) const;

  const GgufValue* value(const std::string& key) const {
    const auto at = metadata_.find(key);
    return at == metadata_.end() ? nullptr : &at->second;
  }
  /// A number of this key; fails where it is another thing, or none.
  double number(const std::string& key, const char* what) const;
  [[noreturn, gnu::cold, gnu::noinline]] void fail(const std::string& what) const {
    fail_in_file({"family_from_gguf"}, file_ + ": " + what);
  }

  const std::string& file_;
  const GgufMetadata& metadata_;
  HasTensor has_tensor_;
  std::string architecture_;
};

inline GgufModel::GgufModel(const std::string& file, const GgufMetadata& metadata,
                            HasTensor has_tensor)
    : file_(file), metadata_(metadata), has_tensor_(std::move(has_tensor)) {
  const GgufValue* const architecture = value("general.architecture");
  if (architecture == nullptr) fail("has no general.architecture");
  const auto* const name = std::get_if<std::string>(architecture);
  if (name == nullptr) {
    fail("general.architecture is " + gguf_text(*architecture) + "; expected a string");
  }
  architecture_ = *name;
}

inline Family GgufModel::family(const FamilyRow* row) const {
  Family family = find(row);
  take_residual_rule(family);
  take_epsilon(family);
  return family;
}

inline Family GgufModel::find(const FamilyRow* row) const {
  std::vector<Family> candidates;
  std::string known, rows;
  for (const GgufArchitectures& entry : gguf_architectures) {
    if (!is_listed(known, entry.architectures)) {  // as the second part of a T5
      known.append(known.empty() ? "" : " ").append(entry.architectures);
    }
    if (!is_listed(entry.architectures, architecture_)) continue;
    if (row != nullptr && row->name == entry.family) return with_names(*row, entry.part);
    candidates.push_back(with_names(find_family(entry.family), entry.part));
    rows.append(rows.empty() ? "" : " or ").append(entry.family);
  }
  const std::string is = "general.architecture is " + in_quotes(architecture_);
  if (candidates.empty()) fail(is + "; expected one of " + known);
  if (row != nullptr) fail(is + ", which is no " + std::string(row->name) + "; expected " + rows);
  if (candidates.size() == 1) return candidates.front();
  for (const Family& candidate : candidates) {
    if (has_first_layer(candidate)) return candidate;
  }
  fail(is + ", and the first layer has not all norms of " + rows);
}

inline Family GgufModel::with_names(const FamilyRow& row, std::string_view part) const {
  Family family = row;
  family.scale_offset = 0;
  family.naming = Naming::weight_bias;
  family.layer = std::string(part) + "blk.{}.";
  family.keys = {};
  for (const GgufKey& usual : gguf_keys) {
    if (!row.has(usual.role) && !is_inside_sublayer(usual.role)) continue;
    std::string& key = family.keys[usual.role];
    key = usual.key;
    for (const GgufException& exception : gguf_exceptions) {
      const bool meant =
          is_listed(exception.names, row.name) || is_listed(exception.names, architecture_);
      if (meant && exception.role == usual.role) key = exception.key;
    }
    if (usual.role == NormRole::final) key.insert(0, part);
  }
  return family;
}

inline bool GgufModel::has_first_layer(const Family& family) const {
  for (std::size_t i = 0; i < role_count; ++i) {
    const auto role = static_cast<NormRole>(i);
    if (!is_of_layer(role) || is_inside_sublayer(role) || !family.has(role, 0)) continue;
    if (!has_tensor_(family.key(role, 0) + ".weight")) return false;
  }
  return true;
}

inline double GgufModel::number(const std::string& key, const char* what) const {
  const GgufValue* const found = value(key);
  if (found == nullptr) fail("has no " + printable(key) + "; expected one, the " + what);
  const auto* const number = std::get_if<double>(found);
  if (number == nullptr || !is_finite(*number) || !(*number >= 0)) {
    fail(printable(key) + " is " + gguf_text(*found) +
         "; expected a floating-point number, 0 or more");
  }
  return decimal_of(*number);
}

inline void GgufModel::take_epsilon(Family& family) const {
  const bool is_rms = family.norm == NormKind::rms_norm;
  family.epsilon = number(architecture_ + (is_rms ? ".attention.layer_norm_rms_epsilon"
                                                  : ".attention.layer_norm_epsilon"),
                          "epsilon");
  family.epsilon_varies = false;
}

inline void GgufModel::take_residual_rule(Family& family) const {
  const auto refuse = [&](const std::string& key, const GgufValue& found,
                          const std::string& expected) {
    fail(printable(key) + " is " + gguf_text(found) + "; expected " + expected + " for " +
         family.name);
  };
  const auto is_none = [](const GgufValue* found) {
    return found == nullptr || *found == GgufValue(false) || *found == GgufValue(std::uint64_t{0});
  };
  const std::string parallel = architecture_ + ".use_parallel_residual";
  const GgufValue* const found = value(parallel);
  if (family.placement == Placement::parallel_two_norms) {
    if (found != nullptr && !std::holds_alternative<bool>(*found)) {
      refuse(parallel, *found, "true or false");
    }
    if (found != nullptr && is_none(found)) family.placement = Placement::pre_ln;
  } else if (!is_none(found) && family.placement != Placement::parallel) {
    refuse(parallel, *found, "false, or none");
  }
  for (const char* own_key : {".swin_norm", ".rescale_every_n_layers"}) {
    const std::string key = architecture_ + own_key;
    if (!is_none(value(key))) refuse(key, *value(key), "none");
  }

  const std::string scale = architecture_ + ".residual_scale";
  if (!family.residual_scale_key.empty()) {
    family.residual_scale = number(scale, "factor of updates");
    family.residual_scale_key.clear();
  } else if (value(scale) != nullptr && number(scale, "") != family.residual_scale) {
    refuse(scale, *value(scale), number_text(family.residual_scale, 0) + ", or none");
  }

  if (family.placement == Placement::multi_stream) return;
  for (const char* group : {".hyper_connection.", ".altup."}) {
    const auto at = metadata_.lower_bound(architecture_ + group);
    if (at == metadata_.end() || !at->first.starts_with(architecture_ + group)) continue;
    refuse(at->first, at->second, "none");
  }
}

}  // namespace tokennorm::detail

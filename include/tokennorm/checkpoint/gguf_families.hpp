// SPDX-License-Identifier: MIT
/// The family of a GGUF file from its metadata, under llama.cpp's names.
///
///     general.architecture                       the family, by gguf_architectures below
///     {architecture}.attention.layer_norm_rms_epsilon, of a LayerNorm .layer_norm_epsilon      ε
///     .use_parallel_residual, .swin_norm, .residual_scale, .hyper_connection.*
///                                                the residual rule, which must be the family's
///
/// The same key means different norms here too: `post_attention_norm` stands on the attention's
/// output in Gemma 2 and OLMo 2, and before the feed-forward in gpt-oss and Qwen3-Next.
///
/// Throws   std::runtime_error that names the file, what it has and what was expected
/// Source   github.com/ggml-org/llama.cpp: gguf-py/gguf/constants.py and tensor_mapping.py;
/// src/models
#pragma once

#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/checkpoint/families.hpp"
#include "tokennorm/checkpoint/gguf_reader.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <locale>
#include <sstream>
#include <string>
#include <string_view>
#include <variant>

namespace tokennorm::detail {

/// The architectures whose norms are those of a row. Where several rows have one, the first is
/// meant.
struct GgufArchitectures {
  std::string_view family;
  std::string_view architectures;  // with blanks between
  std::string_view part = "";      // before every name of this part of the model
};
inline constexpr GgufArchitectures gguf_architectures[] = {
    {"gpt2", "gpt2 starcoder"},
    {"bert", "bert"},
    {"bloom", "bloom"},
    {"llama", "llama qwen2 qwen2moe qwen3 qwen3moe phi3 minimax-m2 gpt-oss"},
    {"gemma", "gemma"},
    {"gemma2", "gemma2 gemma3 gemma-embedding"},
    {"olmo2", "olmo2 exaone4"},
    {"t5", "t5 t5encoder", "enc."},
    {"t5_decoder", "t5", "dec."},
};

/// What norms are called. A model has those inside sublayers or has not: no family says.
struct GgufKey {
  NormRole role;
  std::string_view key;
  bool is_of_stream = true;
};
inline constexpr GgufKey gguf_keys[] = {
    {NormRole::embedding, "token_embd_norm"},
    {NormRole::attention, "attn_norm"},
    {NormRole::attention_output, "post_attention_norm"},
    {NormRole::cross_attention, "cross_attn_norm"},
    {NormRole::feed_forward, "ffn_norm"},
    {NormRole::feed_forward_output, "post_ffw_norm"},
    {NormRole::per_layer_input_output, "post_norm"},
    {NormRole::final, "output_norm"},
    {NormRole::query, "attn_q_norm", false},
    {NormRole::key, "attn_k_norm", false},
    {NormRole::query_latent, "attn_q_a_norm", false},
    {NormRole::key_value_latent, "attn_kv_a_norm", false},
    {NormRole::attention_sub, "attn_sub_norm", false},
    {NormRole::feed_forward_sub, "ffn_sub_norm", false},
    {NormRole::gated, "ssm_norm", false},
};

/// Where architectures call them otherwise.
struct GgufException {
  std::string_view architectures;
  NormRole role;
  std::string_view key;
};
inline constexpr GgufException gguf_exceptions[] = {
    {"bert", NormRole::attention, "attn_output_norm"},
    {"bert", NormRole::feed_forward, "layer_output_norm"},
    {"gpt-oss qwen3next qwen35 qwen35moe glm4moe", NormRole::feed_forward, "post_attention_norm"},
    {"lfm2 lfm2moe", NormRole::final, "token_embd_norm"},
};

/// The number that was written down, and rounded to float in the file: 1e-5, not 9.9999997e-06.
inline double decimal_of(double value) {
  for (const int precision : {6, 7, 8, 9}) {
    std::stringstream digits;
    digits.imbue(std::locale::classic());
    digits.precision(precision);
    double decimal = 0;
    digits << value;
    digits >> decimal;
    if (static_cast<float>(decimal) == static_cast<float>(value)) return decimal;
  }
  return value;
}

/// What the metadata of one file says of its norms.
class GgufModel {
 public:
  GgufModel(const std::string& file, const GgufMetadata& metadata);

  /// Of this row, which is one of the architecture's; the first one where there is none.
  Family family(const FamilyRow* row) const;

 private:
  const GgufArchitectures& find(const FamilyRow* row) const;
  std::string_view key_of(const GgufKey& usual) const;
  double epsilon(NormKind norm) const;
  void check_residual_rule(const FamilyRow& row) const;

  const GgufValue* value(const std::string& own_key) const {
    const auto at = metadata_.find(architecture_ + own_key);
    return at == metadata_.end() ? nullptr : &at->second;
  }
  [[noreturn, gnu::cold, gnu::noinline]] void fail(const std::string& what) const {
    fail_in_file({"family_from_gguf"}, file_ + ": " + what);
  }

  const std::string& file_;
  const GgufMetadata& metadata_;
  std::string architecture_;
};

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

inline GgufModel::GgufModel(const std::string& file, const GgufMetadata& metadata)
    : file_(file), metadata_(metadata) {
  const GgufValue* const architecture = value("general.architecture");
  if (architecture == nullptr) fail("has no general.architecture");
  const auto* const name = std::get_if<std::string>(architecture);
  if (name == nullptr) {
    fail("general.architecture is " + gguf_text(*architecture) + "; expected a string");
  }
  architecture_ = *name;
}

inline const GgufArchitectures& GgufModel::find(const FamilyRow* row) const {
  std::string known, rows;
  for (const GgufArchitectures& family : gguf_architectures) {
    if (!known.empty()) known += ' ';
    known += family.architectures;
    if (!is_listed(family.architectures, architecture_)) continue;
    if (row == nullptr || row->name == family.family) return family;
    rows.append(rows.empty() ? "" : " or ").append(family.family);
  }
  const std::string is = "general.architecture is " + in_quotes(architecture_);
  if (rows.empty()) fail(is + "; expected one of " + known);
  fail(is + ", which is no " + std::string(row->name) + "; expected " + rows);
}

inline std::string_view GgufModel::key_of(const GgufKey& usual) const {
  for (const GgufException& exception : gguf_exceptions) {
    if (exception.role == usual.role && is_listed(exception.architectures, architecture_)) {
      return exception.key;
    }
  }
  return usual.key;
}

inline double GgufModel::epsilon(NormKind norm) const {
  const std::string key = norm == NormKind::rms_norm ? ".attention.layer_norm_rms_epsilon"
                                                     : ".attention.layer_norm_epsilon";
  const GgufValue* const found = value(key);
  if (found == nullptr) fail("has no " + architecture_ + key + "; expected one, the epsilon");
  const auto* const epsilon = std::get_if<double>(found);
  if (epsilon == nullptr || !is_finite(*epsilon) || !(*epsilon >= 0)) {
    fail(architecture_ + key + " is " + gguf_text(*found) +
         "; expected a floating-point number, 0 or more");
  }
  return decimal_of(*epsilon);
}

inline void GgufModel::check_residual_rule(const FamilyRow& row) const {
  const auto refuse = [&](const std::string& key, const GgufValue& found,
                          const std::string& expected) {
    fail(printable(key) + " is " + gguf_text(found) + "; expected " + expected + " for " +
         std::string(row.name));
  };
  for (const char* key : {".use_parallel_residual", ".swin_norm"}) {
    const GgufValue* const found = value(key);
    if (found != nullptr && *found != GgufValue(false)) {
      refuse(architecture_ + key, *found, "false, or none");
    }
  }
  if (const GgufValue* const scale = value(".residual_scale")) {
    const auto* const number = std::get_if<double>(scale);
    if (number == nullptr || *number != 1)
      refuse(architecture_ + ".residual_scale", *scale, "1, or none");
  }
  const std::string hyper = architecture_ + ".hyper_connection.";
  const auto at = metadata_.lower_bound(hyper);
  if (at != metadata_.end() && at->first.starts_with(hyper)) refuse(at->first, at->second, "none");
}

inline Family GgufModel::family(const FamilyRow* given) const {
  const GgufArchitectures& found = find(given);
  const FamilyRow& row = given != nullptr ? *given : find_family(found.family);
  check_residual_rule(row);

  Family family = row;
  family.epsilon = epsilon(row.norm);
  family.epsilon_varies = false;
  family.scale_offset = 0;
  family.naming = Naming::weight_bias;
  family.layer = std::string(found.part) + "blk.{}.";
  for (const GgufKey& usual : gguf_keys) {
    std::string& key = family.keys[static_cast<std::size_t>(usual.role)];
    if (usual.is_of_stream && key.empty()) continue;
    key = key_of(usual);
    if (usual.role == NormRole::final) key.insert(0, found.part);
  }
  return family;
}

inline Family family_of_gguf(const std::string& file, const GgufMetadata& metadata,
                             const FamilyRow* row = nullptr) {
  return GgufModel(file, metadata).family(row);
}

}  // namespace tokennorm::detail

// SPDX-License-Identifier: MIT
/// What the families of models call their norms, and which norms they are: one row for each.
///
///     const Family& family = detect_family(file.names());   // or families::gpt2, …
///     family.norm, family.epsilon, family.scale_offset, family.placement
///     family.key(NormRole::attention, 3)                    // "h.3.ln_1"
///
/// The same key means different norms in different families: `post_attention_layernorm` stands
/// before the feed-forward in Llama and BLOOM, on the attention's output in Gemma 2 and OLMo 2. So
/// the family must be known, and what fits several is not guessed.
///
/// Throws   std::runtime_error where the names fit no family or several;
///          std::invalid_argument for a role or a family that there is not
#pragma once

#include "tokennorm/core/checks.hpp"

#include <array>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

namespace tokennorm {

/// Where a norm stands: the prefixes that blocks and stacks use in visit_parameters, without their
/// `_norm`. In Post-LN, `attention` and `feed_forward` are the norms after these sublayers.
enum class NormRole {
  embedding,
  attention,
  attention_output,
  feed_forward,
  feed_forward_output,
  final
};

enum class NormKind { layer_norm, rms_norm };

/// y = x + f(N(x)), N(x + f(x)), x + N(f(N(x))), x + N(f(x))
enum class Placement { pre_ln, post_ln, sandwich_ln, residual_post_norm };

/// What γ and β are called.
enum class Naming { scale_shift, weight_bias, gamma_beta, g_b, w_b };

/// A family of models. To say that a model differs, change a copy:
///
///     Family mine = families::gpt2;
///     mine.epsilon = 1e-6;
struct Family {
  std::string_view name;
  std::string_view model_types;  // those of config.json, with blanks between
  NormKind norm;
  double epsilon;
  bool epsilon_varies;  // from model to model: it stands in config.json only; this is a usual one
  double scale_offset;
  Placement placement;
  Naming naming;             // what is written; whatever naming is there is read
  std::string_view layer;    // before the keys of a layer; {} is its number
  std::string_view keys[6];  // by NormRole; "" for a norm that the family does not have

  bool has(NormRole role) const { return !own_key(role).empty(); }

  /// The name of a norm, without that of its parameter.
  std::string key(NormRole role, Index layer_number = 0) const;

  constexpr std::string_view own_key(NormRole role) const {
    return keys[static_cast<std::size_t>(role)];
  }
};

namespace detail {

/// What some files have before every name and others do not; keys are compared without it.
inline constexpr std::string_view optional_prefixes[] = {"transformer.", "model.", "bert."};

constexpr std::string_view without_optional_prefix(std::string_view name) {
  for (const std::string_view prefix : optional_prefixes) {
    if (name.starts_with(prefix)) return name.substr(prefix.size());
  }
  return name;
}

inline constexpr std::size_t role_count = 6;
inline constexpr const char* role_names[role_count] = {
    "embedding", "attention", "attention_output", "feed_forward", "feed_forward_output", "final"};

constexpr bool is_of_layer(NormRole role) {
  return role != NormRole::embedding && role != NormRole::final;
}

constexpr const char* name_of(NormRole role) { return role_names[static_cast<std::size_t>(role)]; }
constexpr const char* name_of(NormKind kind) {
  return kind == NormKind::layer_norm ? "LayerNorm" : "RMSNorm";
}
constexpr const char* name_of(Placement placement) {
  constexpr const char* names[] = {"Pre-LN", "Post-LN", "Sandwich-LN", "residual-post-norm"};
  return names[static_cast<std::size_t>(placement)];
}

/// The names of γ and β, by Naming.
struct ParameterNames {
  std::string_view scale, shift;
};
inline constexpr ParameterNames parameter_names[] = {
    {"scale", "shift"}, {"weight", "bias"}, {"gamma", "beta"}, {"g", "b"}, {"w", "b"}};

/// Another formula under names like these: unbiased σ, and ε outside the root.
inline constexpr std::string_view foreign_scale = "a_2";
inline constexpr const char* foreign_reason =
    "a_2 and b_2 are the parameters of another formula (unbiased standard deviation, epsilon "
    "outside the root: The Annotated Transformer, old OpenNMT-py), which LayerNorm does not "
    "compute";

[[noreturn, gnu::cold, gnu::noinline]] inline void fail_in_file(Who who, const std::string& what) {
  fail_with<std::runtime_error>(who, {what.c_str()});
}

/// "llama" or "llama (llama, mistral)", as errors name a family.
[[gnu::cold, gnu::noinline]] inline std::string described(const Family& family) {
  std::string text(family.name);
  if (family.model_types.empty() || family.model_types == family.name) return text;
  text += " (";
  for (const char c : family.model_types) text += c == ' ' ? std::string(", ") : std::string(1, c);
  return text + ")";
}

}  // namespace detail

namespace families {

/// One row a family. Where several have a model type, the first is meant.
inline constexpr auto all = [] {
  using enum NormKind;
  using enum Placement;
  using enum Naming;
  constexpr bool fixed = false, varies = true;
  // clang-format off
  return std::to_array<Family>({
    // name, model types                      norm        ε, of all?  offset, placement, naming
    //   layer, {embedding, attention, its output, feed-forward, its output, final}
    {"gpt2", "gpt2",                          layer_norm, 1e-5,  fixed,  0, pre_ln,  weight_bias,
     "h.{}.", {"", "ln_1", "", "ln_2", "", "ln_f"}},
    {"gpt2_original", "gpt2",                 layer_norm, 1e-5,  fixed,  0, pre_ln,  g_b,
     "model/h{}/", {"", "ln_1", "", "ln_2", "", "model/ln_f"}},
    {"llms_from_scratch", "",                 layer_norm, 1e-5,  fixed,  0, pre_ln,  scale_shift,
     "trf_blocks.{}.", {"", "norm1", "", "norm2", "", "final_norm"}},
    {"bert", "bert",                          layer_norm, 1e-12, fixed,  0, post_ln, weight_bias,
     "encoder.layer.{}.", {"embeddings.LayerNorm", "attention.output.LayerNorm", "",
                           "output.LayerNorm", "", ""}},
    {"bloom", "bloom",                        layer_norm, 1e-5,  fixed,  0, pre_ln,  weight_bias,
     "h.{}.", {"word_embeddings_layernorm", "input_layernorm", "",
               "post_attention_layernorm", "", "ln_f"}},
    {"llama", "llama mistral mixtral qwen2 qwen3",
                                              rms_norm,   1e-6,  varies, 0, pre_ln,  weight_bias,
     "model.layers.{}.", {"", "input_layernorm", "",
                          "post_attention_layernorm", "", "model.norm"}},
    {"gemma", "gemma",                        rms_norm,   1e-6,  fixed,  1, pre_ln,  weight_bias,
     "model.layers.{}.", {"", "input_layernorm", "",
                          "post_attention_layernorm", "", "model.norm"}},
    {"gemma2", "gemma2 gemma3_text",          rms_norm,   1e-6,  fixed,  1, sandwich_ln,
                                                                                     weight_bias,
     "model.layers.{}.", {"", "input_layernorm", "post_attention_layernorm",
                          "pre_feedforward_layernorm", "post_feedforward_layernorm",
                          "model.norm"}},
    {"olmo2", "olmo2",                        rms_norm,   1e-6,  varies, 0, residual_post_norm,
                                                                                     weight_bias,
     "model.layers.{}.", {"", "", "post_attention_layernorm",
                          "", "post_feedforward_layernorm", "model.norm"}},
    {"t5", "t5",                              rms_norm,   1e-6,  fixed,  0, pre_ln,  weight_bias,
     "encoder.block.{}.", {"", "layer.0.layer_norm", "",
                           "layer.1.layer_norm", "", "encoder.final_layer_norm"}},
    {"t5_decoder", "t5",                      rms_norm,   1e-6,  fixed,  0, pre_ln,  weight_bias,
     "decoder.block.{}.", {"", "layer.0.layer_norm", "",  // layer.1 is the cross-attention
                           "layer.2.layer_norm", "", "decoder.final_layer_norm"}},
    {"transformer_lens", "",                  layer_norm, 1e-5,  varies, 0, pre_ln,  w_b,
     "blocks.{}.", {"", "ln1", "", "ln2", "", "ln_final"}},
    {"transformer_lens_rms", "",              rms_norm,   1e-6,  varies, 0, pre_ln,  w_b,
     "blocks.{}.", {"", "ln1", "", "ln2", "", "ln_final"}},
  });
  // clang-format on
}();

}  // namespace families

/// The row of this name.
constexpr const Family& find_family(std::string_view name);

// ---------------------------------------------------------------------------------------------

namespace detail {

[[noreturn, gnu::cold, gnu::noinline]] inline void fail_unknown_family(std::string_view name) {
  std::string known;
  for (const Family& family : families::all) {
    known += (known.empty() ? "" : ", ") + std::string(family.name);
  }
  fail({"find_family"},
       {"no family is called ", std::string(name).c_str(), "; there are ", known.c_str()});
}

}  // namespace detail

constexpr const Family& find_family(std::string_view name) {
  for (const Family& family : families::all) {
    if (family.name == name) return family;
  }
  detail::fail_unknown_family(name);
}

namespace families {

inline constexpr const Family& gpt2 = find_family("gpt2");
inline constexpr const Family& gpt2_original = find_family("gpt2_original");
inline constexpr const Family& llms_from_scratch = find_family("llms_from_scratch");
inline constexpr const Family& bert = find_family("bert");
inline constexpr const Family& bloom = find_family("bloom");
inline constexpr const Family& llama = find_family("llama");
inline constexpr const Family& gemma = find_family("gemma");
inline constexpr const Family& gemma2 = find_family("gemma2");
inline constexpr const Family& olmo2 = find_family("olmo2");
inline constexpr const Family& t5 = find_family("t5");
inline constexpr const Family& t5_decoder = find_family("t5_decoder");
inline constexpr const Family& transformer_lens = find_family("transformer_lens");
inline constexpr const Family& transformer_lens_rms = find_family("transformer_lens_rms");

}  // namespace families

inline std::string Family::key(NormRole role, Index layer_number) const {
  const std::string_view own = own_key(role);
  if (own.empty()) {
    const std::string who(name);
    detail::fail({who.c_str()}, {"the family has no ", detail::name_of(role), " norm"});
  }
  if (!detail::is_of_layer(role)) return std::string(own);
  if (layer_number < 0) {
    detail::fail({"Family::key"}, {"the layer is ", layer_number, "; expected 0 or more"});
  }
  std::string result(layer);
  return result.replace(result.find("{}"), 2, std::to_string(layer_number)).append(own);
}

namespace detail {

/// A tensor's name that ends like a norm's parameter, taken apart.
struct NormName {
  std::string_view norm;  // "transformer.h.3.ln_1"
  bool is_scale = false, is_shift = false;

  explicit NormName(std::string_view name) {
    const std::size_t end = name.find_last_of("./");
    if (end == std::string_view::npos) return;
    norm = name.substr(0, end);
    const std::string_view parameter = name.substr(end + 1);
    for (const ParameterNames& names : parameter_names) {
      is_scale = is_scale || parameter == names.scale;
      is_shift = is_shift || parameter == names.shift;
    }
  }
};

/// The number of the layer if this is the family's name for a norm in this role; else −1. Norms
/// outside the layers have 0.
[[gnu::noinline]] inline Index layer_of(const Family& family, NormRole role,
                                        std::string_view norm) {
  const std::string_view own = family.own_key(role);
  if (own.empty()) return -1;
  std::string_view rest = without_optional_prefix(norm);
  if (!is_of_layer(role)) return rest == without_optional_prefix(own) ? 0 : -1;
  const std::string_view layer = without_optional_prefix(family.layer);
  const std::size_t number = layer.find("{}");
  if (!rest.starts_with(layer.substr(0, number))) return -1;
  rest.remove_prefix(number);
  std::size_t digits = 0;
  Index result = 0;
  while (digits < rest.size() && digits < 9 && rest[digits] >= '0' && rest[digits] <= '9') {
    result = 10 * result + (rest[digits++] - '0');
  }
  if (digits == 0) return -1;
  rest.remove_prefix(digits);
  const std::string_view before_own = layer.substr(number + 2);
  if (!rest.starts_with(before_own)) return -1;
  return rest.substr(before_own.size()) == own ? result : -1;
}

/// Gathers which norms of which family a file's names could be.
class FamilySearch {
 public:
  void add(std::string_view name) {
    const NormName parts(name);
    ++names_;
    foreign_ = foreign_ || name.ends_with(foreign_scale);
    if (!parts.is_scale && !parts.is_shift) return;
    for (std::size_t f = 0; f < family_count; ++f) {
      for (std::size_t role = 0; role < role_count; ++role) {
        if (layer_of(families::all[f], static_cast<NormRole>(role), parts.norm) < 0) continue;
        if (parts.is_scale) seen_[f].scale[role] = true;
        if (parts.is_shift) seen_[f].shift[role] = true;
      }
    }
  }

  /// The family that fits, if there is one such.
  [[gnu::noinline]] const Family& result() const {
    const Family* found = nullptr;
    bool several = false;
    std::string candidates;
    for (std::size_t f = 0; f < family_count; ++f) {
      const Family& family = families::all[f];
      if (!fits(f)) continue;
      if (found == nullptr) {
        found = &family;
        candidates = described(family);
      } else if (family.model_types.empty() || family.model_types != found->model_types) {
        several = true;
        candidates += " and " + described(family);
      }
    }
    if (found == nullptr || several) fail_without(candidates);
    return *found;
  }

 private:
  static constexpr std::size_t family_count = families::all.size();
  struct Seen {
    bool scale[role_count] = {}, shift[role_count] = {};
  };

  /// Whether all the family's norms are there, with the parameters of its kind of norm, and none
  /// that other families have beside them.
  bool fits(std::size_t f) const {
    const Family& family = families::all[f];
    for (std::size_t role = 0; role < role_count; ++role) {
      if (!family.has(static_cast<NormRole>(role))) continue;
      const bool expected_shift = family.norm == NormKind::layer_norm;
      if (!seen_[f].scale[role] || seen_[f].shift[role] != expected_shift) return false;
    }
    for (std::size_t other = 0; other < family_count; ++other) {
      if (families::all[other].layer != family.layer) continue;
      for (std::size_t role = 0; role < role_count; ++role) {
        if (!seen_[other].scale[role]) continue;
        bool known = false;
        for (const std::string_view key : family.keys) {
          known = known || key == families::all[other].keys[role];
        }
        if (!known) return false;
      }
    }
    return true;
  }

  [[noreturn, gnu::cold, gnu::noinline]] void fail_without(const std::string& candidates) const {
    if (!candidates.empty()) {
      fail_in_file({"detect_family"},
                   "the names fit " + candidates +
                       ", whose keys are the same; name the family, or take it from the model's "
                       "config.json with family_from_config(path)");
    }
    std::string looked_for;
    for (const Family& family : families::all) {
      looked_for += (looked_for.empty() ? "" : ", ") + std::string(family.name);
    }
    fail_in_file({"detect_family"}, "none of the families fits the file's " +
                                        std::to_string(names_) +
                                        " names; looked for the norms of " + looked_for +
                                        (foreign_ ? ". " + std::string(foreign_reason) : ""));
  }

  Seen seen_[family_count];
  std::size_t names_ = 0;
  bool foreign_ = false;
};

}  // namespace detail

/// The family whose norms these are, from the names of a file's tensors. Tensors of other kinds do
/// not disturb.
template <class Names>
const Family& detect_family(const Names& names) {
  detail::FamilySearch search;
  for (const auto& name : names) search.add(name);
  return search.result();
}

}  // namespace tokennorm

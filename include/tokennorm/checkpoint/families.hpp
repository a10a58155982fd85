// SPDX-License-Identifier: MIT
/// What the families of models call their norms, and which norms they are: one row for each.
///
///     const Family family = detect_family(file.names());   // or families::gpt2, …
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

#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/checkpoint/family.hpp"
#include "tokennorm/core/checks.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tokennorm {

namespace families {

/// One row a family. Where several have a model type, the first is meant.
inline constexpr auto all = [] {
  using enum NormKind;
  using enum Placement;
  using enum Naming;
  constexpr bool fixed = false, varies = true;
  // clang-format off
  return std::to_array<FamilyRow>({
    // name, model types                      norm        ε, of all?  offset, placement, naming
    //   layer, {embedding, attention, its output, feed-forward, its output, final, cross-attention}
    {"gpt2", "gpt2 gpt_neo gpt_bigcode",      layer_norm, 1e-5,  fixed,  0, pre_ln,  weight_bias,
     "h.{}.", {"", "ln_1", "", "ln_2", "", "ln_f"}},
    {"gpt2_original", "gpt2",                 layer_norm, 1e-5,  fixed,  0, pre_ln,  g_b,
     "model/h{}/", {"", "ln_1", "", "ln_2", "", "model/ln_f"}},
    {"llms_from_scratch", "",                 layer_norm, 1e-5,  fixed,  0, pre_ln,  scale_shift,
     "trf_blocks.{}.", {"", "norm1", "", "norm2", "", "final_norm"}},
    {"bert", "bert roberta camembert xlm-roberta electra",
                                              layer_norm, 1e-12, varies, 0, post_ln, weight_bias,
     "encoder.layer.{}.", {"embeddings.LayerNorm", "attention.output.LayerNorm", "",
                           "output.LayerNorm", "", ""}},
    {"bloom", "bloom",                        layer_norm, 1e-5,  fixed,  0, pre_ln,  weight_bias,
     "h.{}.", {"word_embeddings_layernorm", "input_layernorm", "",
               "post_attention_layernorm", "", "ln_f"}},
    {"llama", "llama mistral mixtral qwen2 qwen2_moe qwen3 qwen3_moe phi3 minimax_m2 gpt_oss",
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
    {"olmo2", "olmo2 olmo3 exaone4",          rms_norm,   1e-6,  varies, 0, residual_post_norm,
                                                                                     weight_bias,
     "model.layers.{}.", {"", "", "post_attention_layernorm",
                          "", "post_feedforward_layernorm", "model.norm"}},
    {"t5", "t5 mt5 umt5",                     rms_norm,   1e-6,  fixed,  0, pre_ln,  weight_bias,
     "encoder.block.{}.", {"", "layer.0.layer_norm", "",
                           "layer.1.layer_norm", "", "encoder.final_layer_norm"}},
    {"t5_decoder", "t5 mt5 umt5",             rms_norm,   1e-6,  fixed,  0, pre_ln,  weight_bias,
     "decoder.block.{}.", {"", "layer.0.layer_norm", "", "layer.2.layer_norm", "",
                           "decoder.final_layer_norm", "layer.1.layer_norm"}},
    {"transformer_lens", "",                  layer_norm, 1e-5,  varies, 0, pre_ln,  w_b,
     "blocks.{}.", {"", "ln1", "", "ln2", "", "ln_final"}},
    {"transformer_lens_rms", "",              rms_norm,   1e-6,  varies, 0, pre_ln,  w_b,
     "blocks.{}.", {"", "ln1", "", "ln2", "", "ln_final"}},
  });
  // clang-format on
}();

}  // namespace families

/// The row of this name.
constexpr const FamilyRow& find_family(std::string_view name);

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
  for (const FamilyRow& family : families::all) {
    if (family.name == name) return family;
  }
  detail::fail_unknown_family(name);
}

namespace families {

inline constexpr const FamilyRow& gpt2 = find_family("gpt2");
inline constexpr const FamilyRow& gpt2_original = find_family("gpt2_original");
inline constexpr const FamilyRow& llms_from_scratch = find_family("llms_from_scratch");
inline constexpr const FamilyRow& bert = find_family("bert");
inline constexpr const FamilyRow& bloom = find_family("bloom");
inline constexpr const FamilyRow& llama = find_family("llama");
inline constexpr const FamilyRow& gemma = find_family("gemma");
inline constexpr const FamilyRow& gemma2 = find_family("gemma2");
inline constexpr const FamilyRow& olmo2 = find_family("olmo2");
inline constexpr const FamilyRow& t5 = find_family("t5");
inline constexpr const FamilyRow& t5_decoder = find_family("t5_decoder");
inline constexpr const FamilyRow& transformer_lens = find_family("transformer_lens");
inline constexpr const FamilyRow& transformer_lens_rms = find_family("transformer_lens_rms");

}  // namespace families

namespace detail {

/// Whether `word` is one of the words of `list`.
inline bool is_listed(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const std::string_view first = list.substr(0, list.find(' '));
    if (first == word) return true;
    list.remove_prefix(first.size() < list.size() ? first.size() + 1 : first.size());
  }
  return false;
}

/// What some files have before every name and others do not, one or several: the model's name
/// ("bert."), what wraps a model (a compiled one, one on several devices), the part of one that
/// also sees images. Keys are compared without them.
inline constexpr std::string_view optional_prefixes[] = {
    "transformer.", "model.",     "bert.",   "roberta.",
    "electra.",     "_orig_mod.", "module.", "language_model."};

constexpr std::string_view without_optional_prefixes(std::string_view name) {
  for (bool found = true; found;) {
    found = false;
    for (const std::string_view prefix : optional_prefixes) {
      if (!name.starts_with(prefix)) continue;
      name.remove_prefix(prefix.size());
      found = true;
    }
  }
  return name;
}

/// Another formula under names like these: unbiased σ, and ε outside the root.
inline constexpr std::string_view foreign_scale = "a_2";
inline constexpr const char* foreign_reason =
    "a_2 and b_2 are the parameters of another formula (unbiased standard deviation, epsilon "
    "outside the root: The Annotated Transformer, old OpenNMT-py), which LayerNorm does not "
    "compute";

/// A tensor's name taken apart, and whether it ends like a norm's parameter.
struct NormName {
  std::string_view norm;       // "transformer.h.3.ln_1"
  std::string_view parameter;  // "weight"
  bool is_scale = false, is_shift = false;

  explicit NormName(std::string_view name) : parameter(name) {
    const std::size_t end = name.find_last_of("./");
    if (end == std::string_view::npos) return;
    norm = name.substr(0, end);
    parameter = name.substr(end + 1);
    if (parameter.ends_with(variable_suffix)) parameter.remove_suffix(variable_suffix.size());
    for (const ParameterNames& names : parameter_names) {
      is_scale = is_scale || parameter == names.scale;
      is_shift = is_shift || parameter == names.shift;
    }
  }
};

/// A name inside a layer of the family: the layer's number, or −1 where it is outside, and the
/// rest.
struct InLayer {
  Index layer = -1;
  std::string_view own;  // "ln_1"
};

[[gnu::noinline]] inline InLayer in_layer(const FamilyRow& family, std::string_view norm) {
  std::string_view rest = without_optional_prefixes(norm);
  const std::string_view layer = without_optional_prefixes(family.layer);
  const std::size_t number = layer.find("{}");
  if (number == std::string_view::npos || !rest.starts_with(layer.substr(0, number))) return {};
  rest.remove_prefix(number);
  std::size_t digits = 0;
  Index result = 0;
  while (digits < rest.size() && digits < 9 && rest[digits] >= '0' && rest[digits] <= '9') {
    result = 10 * result + (rest[digits++] - '0');
  }
  if (digits == 0) return {};
  rest.remove_prefix(digits);
  const std::string_view before_own = layer.substr(number + 2);
  if (!rest.starts_with(before_own)) return {};
  return {result, rest.substr(before_own.size())};
}

/// The number of the layer if this is the family's name for a norm in this role; else −1. Norms
/// outside the layers have 0.
[[gnu::noinline]] inline Index layer_of(const FamilyRow& family, NormRole role,
                                        std::string_view norm) {
  const std::string_view own = family.own_key(role);
  if (own.empty()) return -1;
  if (!is_of_layer(role)) {
    return without_optional_prefixes(norm) == without_optional_prefixes(own) ? 0 : -1;
  }
  const InLayer place = in_layer(family, norm);
  return place.own == own ? place.layer : -1;
}

/// Norms of the residual stream that no row has, in models whose other names a row has: those of
/// TransformerLens' BLOOM, and of a BERT that is a decoder.
struct OtherNorm {
  std::string_view layer, key;
};
inline constexpr OtherNorm other_norms[] = {
    {"blocks.{}.", "embed.ln"}, {"encoder.layer.{}.", "crossattention.output.LayerNorm"}};

inline bool looks_like_norm(std::string_view own) {
  return own.starts_with("ln") || own.find("norm") != std::string_view::npos ||
         own.find("Norm") != std::string_view::npos;
}

/// Whether a model that has this norm is not of the family, though it may have all the family's
/// norms: the norm is one that another family with such layers has, or stands right in a layer
/// ("model.layers.3.post_mlp_layernorm"; norms of q and k stand deeper). A key that was taken from
/// a copy of a row stays known.
[[gnu::noinline]] inline bool is_of_another(const FamilyRow& family, std::string_view norm) {
  const InLayer place = in_layer(family, norm);
  const bool is_in_layer = place.layer >= 0;
  const std::string_view own = is_in_layer ? place.own : without_optional_prefixes(norm);
  const auto has_key = [&](const FamilyRow& row) {
    for (const std::string_view key : row.keys) {
      if (!key.empty() && (is_in_layer ? key : without_optional_prefixes(key)) == own) return true;
    }
    return false;
  };
  bool elsewhere = false;
  if (has_key(family)) return false;
  for (const FamilyRow& row : families::all) {
    if (!has_key(row)) continue;
    if (row.name == family.name) return false;
    elsewhere = elsewhere || row.layer == family.layer;
  }
  for (const OtherNorm& other : other_norms) {
    elsewhere = elsewhere || (other.layer == family.layer && other.key == own);
  }
  return elsewhere ||
         (is_in_layer && looks_like_norm(own) && own.find_first_of("./") == std::string_view::npos);
}

/// Gathers which norms of which family a file's names could be.
class FamilySearch {
 public:
  void add(std::string_view name) {
    const NormName parts(name);
    ++names_;
    std::vector<std::string>& shown = looks_like_norm(parts.norm) ? norms_shown_ : others_shown_;
    if (shown.size() < names_shown) shown.push_back(printable(name));
    foreign_ = foreign_ || parts.parameter == foreign_scale;
    if (!parts.is_scale && !parts.is_shift) return;
    for (std::size_t f = 0; f < family_count; ++f) {
      const FamilyRow& family = families::all[f];
      if (parts.is_scale && other_[f].empty() && is_of_another(family, parts.norm)) {
        other_[f] = parts.norm;
      }
      for (std::size_t i = 0; i < role_count; ++i) {
        const auto role = static_cast<NormRole>(i);
        const Index layer = layer_of(family, role, parts.norm);
        if (layer < 0) continue;
        Seen& seen = is_of_layer(role) ? layers_[f][layer] : outside_[f];
        if (parts.is_scale) seen.scale[i] = true;
        if (parts.is_shift) seen.shift[i] = true;
      }
    }
  }

  /// The family that fits, if there is one such.
  [[gnu::noinline]] const FamilyRow& result() const {
    const FamilyRow* found = nullptr;
    bool several = false;
    std::string candidates;
    for (std::size_t f = 0; f < family_count; ++f) {
      const FamilyRow& family = families::all[f];
      if (!compare(f).fits()) continue;
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

  /// How many of the parameters that the family's norms have, in every layer of which there is one,
  /// are there, and what is amiss.
  struct Comparison {
    bool any_layer = false;
    std::size_t there = 0, amiss = 0;
    std::string first_amiss;  // "h.1.ln_2.bias, which the file has not"

    bool fits() const { return any_layer && amiss == 0; }
    bool nearer_than(const Comparison& other) const {
      if (!any_layer || !other.any_layer) return any_layer;
      return there * (other.there + other.amiss) > other.there * (there + amiss);
    }
  };
  Comparison compare(std::size_t f) const {
    const FamilyRow& family = families::all[f];
    const ParameterNames& names = parameter_names[static_cast<std::size_t>(family.naming)];
    Comparison result;
    const auto add_amiss = [&](const std::string& name, std::string_view has_not) {
      if (result.amiss++ > 0) return;
      result.first_amiss = name + ", which " + std::string(has_not) + " has not";
    };
    if (!other_[f].empty()) add_amiss(printable(other_[f]), family.name);
    const auto count = [&](const Seen& seen, NormRole role, Index layer) {
      const auto i = static_cast<std::size_t>(role);
      if (!family.has(role)) return;
      const auto expect = [&](bool is_there, bool expected, std::string_view parameter) {
        result.there += is_there && expected;
        if (is_there == expected) return;
        const std::string norm = family.key(role, layer);
        add_amiss(parameter_key(norm, parameter), is_there ? family.name : "the file");
      };
      expect(seen.scale[i], true, names.scale);
      expect(seen.shift[i], family.norm == NormKind::layer_norm, names.shift);
    };
    for (const auto& [layer, seen] : layers_[f]) {
      for (std::size_t i = 0; i < role_count; ++i) {
        const auto role = static_cast<NormRole>(i);
        if (is_of_layer(role)) count(seen, role, layer);
      }
    }
    count(outside_[f], NormRole::embedding, 0);
    count(outside_[f], NormRole::final, 0);
    result.any_layer = !layers_[f].empty();
    return result;
  }

  [[noreturn, gnu::cold, gnu::noinline]] void fail_without(const std::string& candidates) const {
    if (!candidates.empty()) {
      fail_in_file({"detect_family"},
                   "the names fit " + candidates +
                       ", whose keys are the same; name the family, or take it from the model's "
                       "config.json with family_from_config(path) of "
                       "tokennorm/checkpoint/config.hpp");
    }
    std::string looked_for, details;
    Comparison nearest;
    std::string nearest_name;
    for (std::size_t f = 0; f < family_count; ++f) {
      const std::string name(families::all[f].name);
      looked_for += (looked_for.empty() ? "" : ", ") + name;
      Comparison found = compare(f);
      if (!found.nearer_than(nearest)) continue;
      nearest = std::move(found);
      nearest_name = name;
    }
    if (nearest.any_layer) {
      details = "; nearest is " + nearest_name + ", but for " + nearest.first_amiss;
      if (nearest.amiss > 1) details += ", and " + std::to_string(nearest.amiss - 1) + " more";
    } else {
      const auto& shown = norms_shown_.empty() ? others_shown_ : norms_shown_;
      for (const std::string& name : shown) details += (details.empty() ? " (" : ", ") + name;
      if (!shown.empty()) details += names_ > shown.size() ? ", …)" : ")";
      details += "; looked for the norms of " + looked_for;
    }
    fail_in_file({"detect_family"}, "none of the families fits the file's " +
                                        std::to_string(names_) + " names" + details +
                                        (foreign_ ? ". " + std::string(foreign_reason) : ""));
  }

  static constexpr std::size_t names_shown = 4;
  Seen outside_[family_count];
  std::map<Index, Seen> layers_[family_count];
  std::string other_[family_count];  // a norm that speaks against the family
  std::size_t names_ = 0;
  std::vector<std::string> norms_shown_, others_shown_;  // the first of the names
  bool foreign_ = false;
};

}  // namespace detail

/// The family whose norms these are, from the names of a file's tensors. Tensors of other kinds do
/// not disturb, but a norm beside the family's does: such a model computes something else.
template <class Names>
const FamilyRow& detect_family(const Names& names) {
  detail::FamilySearch search;
  for (const auto& name : names) search.add(name);
  return search.result();
}

}  // namespace tokennorm

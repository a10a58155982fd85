// SPDX-License-Identifier: MIT
/// The names of a file's tensors as a family reads them: which is a norm's, in which layer and
/// role, and which say that the model is not of the family.
#pragma once

#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/checkpoint/family_table.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <string>
#include <string_view>

namespace tokennorm::detail {

/// What some files have before every name and others do not, one or several: the model's name
/// ("bert."), what wraps a model (a compiled one, one on several devices), the part of one that
/// also sees images. Keys are compared without them.
inline constexpr std::string_view optional_prefixes[] = {
    "transformer.", "model.",    "bert.",     "roberta.",   "electra.", "albert.",        "dinov2.",
    "swinv2.",      "gpt_neox.", "backbone.", "_orig_mod.", "module.",  "language_model."};

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

/// What Family::under put before every name of the family; empty where nothing.
inline std::string_view tower_of(const FamilyRow& family) {
  const FamilyRow* const row = row_named(family.name);
  if (row == nullptr || !family.layer.ends_with(row->layer)) return {};
  return without_optional_prefixes(family.layer.substr(0, family.layer.size() - row->layer.size()));
}

/// The name without what stands before every name of its tower.
inline std::string_view inside_tower(std::string_view name, std::string_view tower) {
  name = without_optional_prefixes(name);
  if (tower.empty() || !name.starts_with(tower)) return name;
  return without_optional_prefixes(name.substr(tower.size()));
}

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

/// The number that text begins with, which loses it; −1 where it begins with none.
inline Index take_number(std::string_view& text) {
  std::size_t digits = 0;
  Index result = 0;
  while (digits < text.size() && digits < 9 && text[digits] >= '0' && text[digits] <= '9') {
    result = 10 * result + (text[digits++] - '0');
  }
  text.remove_prefix(digits);
  return digits == 0 ? -1 : result;
}

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
  if (family.layers_share) {
    if (!rest.starts_with(layer)) return {};
    return {0, rest.substr(layer.size())};
  }
  if (number == std::string_view::npos || !rest.starts_with(layer.substr(0, number))) return {};
  rest.remove_prefix(number);
  const Index result = take_number(rest);
  const std::string_view before_own = layer.substr(number + 2);
  if (result < 0 || !rest.starts_with(before_own)) return {};
  return {result, rest.substr(before_own.size())};
}

/// f(role, layer) for each role in which this is the family's name for a norm; the layer is 0
/// outside the layers.
template <class F>
void each_role_of(const FamilyRow& family, std::string_view norm, const F& f) {
  const InLayer place = in_layer(family, norm);
  const std::string_view bare = without_optional_prefixes(norm);
  for (std::size_t i = 0; i < role_count; ++i) {
    const auto role = static_cast<NormRole>(i);
    const std::string_view key = family.own_key(role);
    if (key.empty()) continue;
    if (!is_of_layer(role)) {
      if (bare == without_optional_prefixes(key)) f(role, Index{0});
    } else if (place.layer >= 0 && place.own == key && family.has(role, place.layer)) {
      f(role, place.layer);
    }
  }
}

/// Norms of the residual stream that no row has, in models whose other names a row has: those of
/// TransformerLens' BLOOM, and of a BERT that is a decoder.
struct OtherNorm {
  std::string_view layer, key;
};
inline constexpr OtherNorm other_norms[] = {
    {"blocks.{}.", "embed.ln"}, {"encoder.layer.{}.", "crossattention.output.LayerNorm"}};

/// By the last part of its name, which is what a module is called.
inline bool looks_like_norm(std::string_view norm) {
  const std::string_view own = norm.substr(norm.find_last_of("./") + 1);
  return own.starts_with("ln") || own.ends_with("_ln") ||
         own.find("norm") != std::string_view::npos || own.find("Norm") != std::string_view::npos;
}

/// The layers of the rows, as names are compared with them.
inline constexpr auto bare_layers = [] {
  std::array<std::string_view, families::all.size()> bare;
  for (std::size_t f = 0; f < bare.size(); ++f) {
    bare[f] = without_optional_prefixes(families::all[f].layer);
  }
  return bare;
}();

/// Whether the norm has one of the family's keys.
inline bool has_key(const FamilyRow& family, std::string_view norm, const InLayer& place) {
  const std::string_view bare = without_optional_prefixes(norm);
  for (std::size_t i = 0; i < role_count; ++i) {
    const std::string_view key = family.keys[i];
    if (key.empty()) continue;
    if (is_of_layer(static_cast<NormRole>(i)) ? place.layer >= 0 && place.own == key
                                              : without_optional_prefixes(key) == bare) {
      return true;
    }
  }
  return false;
}

/// Whether it is the norm that the family's first layer does not have, in the first layer.
inline bool is_lacking(const FamilyRow& family, const InLayer& place) {
  return place.layer == 0 && family.first_layer_lacks.has_value() &&
         family.own_key(*family.first_layer_lacks) == place.own;
}

/// Whether a norm outside the layers, directly beside them, ends the model ("ln_f" beside "h.3.…").
inline bool is_final_of_any(std::string_view bare) {
  return std::any_of(families::all.begin(), families::all.end(), [&](const FamilyRow& row) {
    const std::string_view key = without_optional_prefixes(row.own_key(NormRole::final));
    return key == bare && bare.find_first_of("./") == std::string_view::npos;
  });
}

/// A part of a tensor's name that tells the rule of its model's residual stream.
struct RuleInName {
  std::string_view part;
  Placement placement;
};
inline constexpr RuleInName rules_in_names[] = {
    {"attn_hc", Placement::multi_stream},
    {"ffn_hc", Placement::multi_stream},
    {"mlp_hc", Placement::multi_stream},
    {"hc_attn_fn", Placement::multi_stream},
    {"hc_ffn_fn", Placement::multi_stream},
    {"altup", Placement::multi_stream},
    {"self_attention_res_norm", Placement::attention_residual},
    {"mlp_res_norm", Placement::attention_residual},
    {"output_attn_res_norm", Placement::attention_residual},
    {"input_residual", Placement::learned_residual},
    {"post_attention_residual", Placement::learned_residual},
    {"resid_lambdas", Placement::learned_residual},
    {"x0_lambdas", Placement::learned_residual},
    {"layer_scalar", Placement::scaled_stream},
    {"layer_output_scale", Placement::scaled_stream}};
/// How the tensors of such a model tell it; null where they do not.
inline const RuleInName* rule_of(Placement placement) {
  for (const RuleInName& rule : rules_in_names) {
    if (rule.placement == placement) return &rule;
  }
  return nullptr;
}
/// Those of LayerScale.
inline constexpr std::string_view layer_scale_parts[] = {"layer_scale1", "layer_scale2", "ls1",
                                                         "ls2",          "gamma_1",      "gamma_2"};

/// What a tensor's name says of the residual stream of a family's models. Other parts of a model,
/// such as one that sees images, may have other rules: of what is outside the layers only what
/// stands beside them counts.
struct NamedRule {
  const RuleInName* rule = nullptr;
  bool layer_scale = false;
};
inline NamedRule rule_in(const FamilyRow& family, std::string_view name) {
  const InLayer place = in_layer(family, name);
  std::string_view rest = place.layer >= 0 ? place.own : inside_tower(name, tower_of(family));
  NamedRule found;
  while (!rest.empty()) {
    const std::string_view part = rest.substr(0, rest.find_first_of("./"));
    for (const RuleInName& rule : rules_in_names) {
      if (part == rule.part) found.rule = &rule;
    }
    for (const std::string_view scale : layer_scale_parts) {
      found.layer_scale = found.layer_scale || part == scale;
    }
    if (place.layer < 0) break;
    rest.remove_prefix(std::min(rest.size(), part.size() + 1));
  }
  return found;
}

/// Whether any family's rule may be told by a tensor of this name: most have none of the words.
inline bool may_tell_rule(std::string_view name) {
  for (const RuleInName& rule : rules_in_names) {
    if (name.find(rule.part) != std::string_view::npos) return true;
  }
  return std::any_of(
      std::begin(layer_scale_parts), std::end(layer_scale_parts),
      [&](std::string_view part) { return name.find(part) != std::string_view::npos; });
}

/// Whether it is a norm that only a layer has which predicts further tokens (DeepSeek V3's last):
/// models come with such layers behind their stack and run without them. In a GGUF it is
/// "nextn.enorm".
inline bool is_of_prediction_layer(const InLayer& place) {
  std::string_view own = place.own;
  if (own.starts_with("nextn.")) own.remove_prefix(6);
  return place.layer >= 0 && (own == "enorm" || own == "hnorm");
}

/// Whether a model that has this norm is not of the family, though it may have all the family's
/// norms: the norm is one that another family with such layers has, or stands right in a layer
/// ("model.layers.3.post_mlp_layernorm"; norms of q and k stand deeper) or right beside the layers
/// ("encoder.layernorm_embedding"), or is a final norm where the family has none. A key that was
/// taken from a copy of a row stays known.
[[gnu::noinline]] inline bool is_of_another(const FamilyRow& family, std::string_view norm) {
  if (!looks_like_norm(norm)) return false;
  const RuleInName* rule = rule_in(family, norm).rule;
  if (rule != nullptr && rule->placement == family.placement) return false;
  const InLayer place = in_layer(family, norm);
  if (has_key(family, norm, place)) return is_lacking(family, place);
  if (is_of_prediction_layer(place)) return false;
  const std::string_view tower = tower_of(family);
  if (!without_optional_prefixes(norm).starts_with(tower)) return false;
  const std::string_view bare = inside_tower(norm, tower);
  const std::string_view layer = inside_tower(family.layer, tower);
  bool elsewhere = false;
  for (std::size_t f = 0; f < families::all.size(); ++f) {
    const FamilyRow& row = families::all[f];
    const bool related = bare_layers[f] == layer || row.name == family.name;
    if (!related || !has_key(row, bare, place)) continue;
    if (row.name == family.name) return false;
    elsewhere = true;
  }
  for (const OtherNorm& other : other_norms) {
    elsewhere =
        elsewhere || (other.layer == layer && other.key == (place.layer < 0 ? bare : place.own));
  }
  if (elsewhere) return true;
  if (place.layer >= 0) {
    return place.own.find_first_of("./") == std::string_view::npos;
  }
  if (family.placement == Placement::post_ln && !family.has(NormRole::final) &&
      is_final_of_any(bare)) {
    return true;
  }
  if (family.layers_share) {  // another group of layers
    return bare.starts_with(layer.substr(0, layer.find_first_of("0123456789")));
  }
  std::string_view beside = layer.substr(0, layer.find_first_of("./") + 1);
  if (layer.substr(beside.size()).starts_with("{}")) beside = {};  // "layers.{}."
  return layer.substr(beside.size()).find("{}") != std::string_view::npos &&
         bare.starts_with(beside) &&
         bare.find_first_of("./", beside.size()) == std::string_view::npos;
}

/// Why a file with a tensor of this name has another rule than the family; empty if it has not.
[[gnu::noinline]] inline std::string other_rule(const FamilyRow& family, std::string_view name) {
  if (!may_tell_rule(name)) return {};
  const NamedRule found = rule_in(family, name);
  const bool is_other = found.rule != nullptr && found.rule->placement != family.placement;
  if (!is_other && (!found.layer_scale || family.layer_scale)) return {};
  return printable(name) + ": such a model " +
         (is_other ? refusal_of(found.rule->placement)
                   : "multiplies updates by learned vectors (LayerScale)");
}

}  // namespace tokennorm::detail

// SPDX-License-Identifier: MIT
/// What the families of models call their norms, and which norms they are.
///
///     const Family family = detect_family(file.names());   // or families::gpt2, …
///     family.norm, family.epsilon, family.scale_offset, family.placement
///     family.key(NormRole::attention, 3)                    // "h.3.ln_1"
///
/// The same key means different norms in different families: `post_attention_layernorm` stands
/// before the feed-forward in Llama and BLOOM, on the attention's output in Gemma 2 and OLMo 2. So
/// the family must be known, and what fits several is not guessed. A tensor that tells another rule
/// for the residual stream (`attn_hc`, `input_residual`, `layer_scalar`) speaks against a family.
///
/// Throws   std::runtime_error where the names fit no family or several;
///          std::invalid_argument for a role or a family that there is not
#pragma once

#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/checkpoint/family_names.hpp"
#include "tokennorm/checkpoint/family_table.hpp"
#include "tokennorm/core/checks.hpp"

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tokennorm {

namespace detail {

/// The norms that every model of a family has: of those inside sublayers some models have none, and
/// of sublayers that are a choice.
constexpr bool is_in_every_model(NormRole role) {
  return !is_inside_sublayer(role) && role != NormRole::per_layer_input_output;
}

/// Gathers which norms of which family a file's names could be.
class FamilySearch {
 public:
  void add(std::string_view name) {
    const NormName parts(name);
    ++names_;
    const bool is_norm = looks_like_norm(parts.norm);
    std::vector<std::string>& shown = is_norm ? norms_shown_ : others_shown_;
    if (shown.size() < names_shown) shown.push_back(printable(name));
    foreign_ = foreign_ || parts.parameter == foreign_scale;
    if (may_tell_rule(name)) add_rule(name);
    if (!is_norm || (!parts.is_scale && !parts.is_shift)) return;
    for (std::size_t f = 0; f < family_count; ++f) {
      const FamilyRow& family = families::all[f];
      if (is_of_another(family, parts.norm)) {
        if (others_[f]++ == 0) other_[f] = parts.norm;
      }
      each_role_of(family, parts.norm, [&](NormRole role, Index layer) {
        if (!is_in_every_model(role)) return;
        Seen& seen = is_of_layer(role) ? layers_[f][layer] : outside_[f];
        if (parts.is_scale) seen.scale[static_cast<std::size_t>(role)] = true;
        if (parts.is_shift) seen.shift[static_cast<std::size_t>(role)] = true;
      });
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
      } else if (family.model_types.empty() || family.model_types != found->model_types ||
                 family.placement != found->placement) {
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

  void add_rule(std::string_view name) {
    for (std::size_t f = 0; f < family_count; ++f) {
      const FamilyRow& family = families::all[f];
      const RuleInName* rule = rule_in(family, name).rule;
      own_rule_[f] = own_rule_[f] || (rule != nullptr && rule->placement == family.placement);
      if (other_rule_[f].empty()) other_rule_[f] = other_rule(family, name);
    }
  }

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
    const auto add_amiss = [&](const std::string& what) {
      if (result.amiss++ == 0) result.first_amiss = what;
    };
    const auto add_missing = [&](const std::string& name, std::string_view has_not) {
      add_amiss(name + ", which " + std::string(has_not) + " has not");
    };
    if (!other_rule_[f].empty()) add_amiss(other_rule_[f]);
    const RuleInName* rule = rule_of(family.placement);
    if (rule != nullptr && !own_rule_[f]) add_missing(std::string(rule->part), "the file");
    if (!other_[f].empty()) {
      add_missing(printable(other_[f]), family.name);
      result.amiss += others_[f] - 1;
    }
    const auto count = [&](const Seen& seen, NormRole role, Index layer) {
      const auto i = static_cast<std::size_t>(role);
      if (!family.has(role, layer) || !is_in_every_model(role)) return;
      const auto expect = [&](bool is_there, bool expected, std::string_view parameter) {
        result.there += is_there && expected;
        if (is_there == expected) return;
        const std::string norm = family.key(role, layer);
        add_missing(parameter_key(norm, parameter), is_there ? family.name : "the file");
      };
      expect(seen.scale[i], true, names.scale);
      expect(seen.shift[i], family.has_shift(), names.shift);
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
  std::size_t others_[family_count] = {};  // norms that speak against the family
  std::string other_[family_count];        // the first of them
  bool own_rule_[family_count] = {};       // whether a tensor tells the family's
  std::string other_rule_[family_count];   // what the first one says that tells another
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

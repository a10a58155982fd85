// SPDX-License-Identifier: MIT
/// The family of a model from its config.json, with what stands only there: ε, and the factors of
/// the residual stream.
///
///     const Family family = family_from_config("model/config.json");
///
/// Models of several types have one family's norms: Mistral's and Qwen's are Llama's. Of a model of
/// several parts the one that reads text is meant, whose config is nested (`text_config`). A key
/// that tells another rule for the residual stream than the family's (`residual_multiplier`,
/// `hc_mult`, `use_parallel_residual`, …) changes the family where one has that rule, and is
/// refused where none has. Needs nlohmann-json.
///
/// Throws   std::runtime_error, naming the file, what it has and the model types that are known
#pragma once

#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/checkpoint/families.hpp"
#include "tokennorm/checkpoint/random_access_file.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace tokennorm {

/// The family's row with this model's ε and residual scale, which load_norms then expects of a
/// stack.
Family family_from_config(const std::filesystem::path& path);

// ---------------------------------------------------------------------------------------------

namespace detail {

inline const FamilyRow* family_of_model_type(std::string_view model_type) {
  for (const FamilyRow& family : families::all) {
    if (is_listed(family.model_types, model_type)) return &family;
  }
  return nullptr;
}

/// What a model's config says, and how its file is named in errors.
class ModelConfig {
 public:
  ModelConfig(const std::filesystem::path& path, const nlohmann::json& config)
      : path_(path), all_(config), config_(&config) {
    for (const char* part : {"text_config", "llm_config", "language_config", "encoder"}) {
      const auto nested = all_.find(part);
      if (nested == all_.end() || !nested->is_object()) continue;
      const bool has_no_type = !nested->contains("model_type") && row_of(all_) != nullptr;
      if (!has_no_type && row_of(*nested) == nullptr) continue;
      // An encoder reads text in a model that is known as a whole (T5Gemma), images in others.
      if (std::string_view(part) == "encoder" && row_of(all_) == nullptr) continue;
      config_ = &*nested;
      return;
    }
  }

  [[noreturn]] void fail_because(const std::string& what) const {
    fail_in_file({"family_from_config"}, path_.string() + ": " + what);
  }

  /// The row of the model's type: that of the nested config, or else of all.
  const FamilyRow& row() const;

  /// The value, null where there is none.
  const nlohmann::json* find(const std::string& key) const {
    for (const nlohmann::json* config : {config_, &all_}) {
      const auto value = config->find(key);
      if (value != config->end() && !value->is_null()) return &*value;
    }
    return nullptr;
  }
  bool is(const char* key, bool expected) const {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return false;
    if (value->is_boolean()) return value->get<bool>() == expected;
    fail_because(std::string(key) + " is " + text_of(*value) + "; expected true or false");
  }
  double number(const std::string& key, const nlohmann::json& value) const {
    if (value.is_number() && value.get<double>() >= 0) return value.get<double>();
    fail_because(key + " is " + text_of(value) + "; expected a number, 0 or more");
  }
  const nlohmann::json& values() const { return *config_; }

  /// Only what is flat is quoted: dump() takes a stack frame for each level.
  static std::string text_of(const nlohmann::json& value) {
    if (value.is_structured()) return std::string("an ") + value.type_name();
    return printable(value.dump());
  }

 private:
  static const FamilyRow* row_of(const nlohmann::json& config) {
    const auto type = config.find("model_type");
    if (type == config.end() || !type->is_string()) return nullptr;
    return family_of_model_type(type->get_ref<const std::string&>());
  }

  const std::filesystem::path& path_;
  const nlohmann::json& all_;
  const nlohmann::json* config_;
};

inline const FamilyRow& ModelConfig::row() const {
  if (const FamilyRow* row = row_of(*config_)) return *row;
  if (const FamilyRow* row = row_of(all_)) return *row;
  std::string known;
  for (const FamilyRow& row : families::all) {
    const std::string_view first = row.model_types.substr(0, row.model_types.find(' '));
    if (family_of_model_type(first) != &row) continue;  // a sibling, or of no model type
    known.append(known.empty() ? "" : " ").append(row.model_types);
  }
  const auto type = all_.find("model_type");
  if (type == all_.end() || !type->is_string()) {
    fail_because("has no model_type; expected one of " + known);
  }
  fail_because("model_type is " + in_quotes(type->get_ref<const std::string&>()) +
               "; expected one of " + known);
}

/// The family of this model: where one model type has several rules, the one that the config tells.
inline Family ruled_family(const ModelConfig& config) {
  const FamilyRow& row = config.row();
  Family family = row;
  if (&row == &families::falcon) {
    if (config.is("parallel_attn", false)) family = families::falcon_sequential;
    const nlohmann::json* norms = config.find("num_ln_in_parallel_attn");
    if (config.is("new_decoder_architecture", true) && (norms == nullptr || *norms == 2)) {
      family = families::falcon_two_norms;
    }
  } else if (&row == &families::opt) {
    if (config.is("do_layer_norm_before", false)) family = families::opt_350m;
    if (config.is("_remove_final_layer_norm", true)) family.keys[NormRole::final].clear();
  } else if (&row == &families::gpt_neox && config.is("use_parallel_residual", false)) {
    family = families::gpt_neox_sequential;
  }
  if (config.is("norm_bias", true)) family.shift = true;
  return family;
}

/// Fails where a key tells a rule for the residual stream that the family has not.
inline void check_rule(const ModelConfig& config, const Family& family) {
  const auto refuse = [&](const std::string& key, const nlohmann::json& value) {
    config.fail_because(key + " is " + ModelConfig::text_of(value) +
                        ", which is another rule for the residual stream than that of " +
                        family.name);
  };
  struct KeyOfRule {
    const char* key;
    double none;  // the value at which it tells nothing
    Placement placement;
  };
  constexpr KeyOfRule keys[] = {
      {"hc_mult", 1, Placement::multi_stream},
      {"num_residual_streams", 1, Placement::multi_stream},
      {"altup_num_inputs", 1, Placement::multi_stream},
      {"attn_res_block_size", 0, Placement::attention_residual},
      {"apply_residual_connection_post_layernorm", 0, Placement::normed_stream},
      {"use_parallel_residual", 0, Placement::parallel_two_norms}};
  for (const KeyOfRule& rule : keys) {
    const nlohmann::json* value = config.find(rule.key);
    if (value == nullptr || rule.placement == family.placement) continue;
    // One norm or two, sublayers are parallel.
    const bool is_parallel = family.placement == Placement::parallel;
    if (is_parallel && rule.placement == Placement::parallel_two_norms) continue;
    const bool tells = value->is_number()    ? value->get<double>() != rule.none
                       : value->is_boolean() ? value->get<bool>()
                                             : true;
    if (tells) refuse(rule.key, *value);
  }
  for (const auto& [key, value] : config.values().items()) {
    const std::string_view view = key;
    const bool is_factor =
        view.ends_with("_alpha_factor") || view.ends_with("_beta_factor") ||
        (view.starts_with("layernorm_") && (view.ends_with("_alpha") || view.ends_with("_beta")));
    if (is_factor && family.placement != Placement::normed_stream && value != 1) refuse(key, value);
    if (view == "residual_multiplier" && family.residual_scale_key != view && value != 1) {
      refuse(key, value);
    }
    if ((view == "num_hidden_groups" || view == "inner_group_num") && value != 1) {
      refuse(key, value);
    }
  }
}

/// Takes ε and the residual scale, or fails where the config has none and it varies.
inline void take_numbers(const ModelConfig& config, Family& family) {
  std::string found;
  const auto take_epsilon = [&](const std::string& key) {
    const nlohmann::json* value = config.find(key);
    if (value == nullptr) return;
    const double epsilon = config.number(key, *value);
    if (!found.empty() && epsilon != family.epsilon) {
      config.fail_because(found + " is " + number_text(family.epsilon, epsilon) + " and " + key +
                          " " + number_text(epsilon, family.epsilon) + "; expected one epsilon");
    }
    found = key;
    family.epsilon = epsilon;
  };
  std::string expected = family.epsilon_key;
  if (expected.empty()) {
    expected = "rms_norm_eps, layer_norm_eps or layer_norm_epsilon";
    take_epsilon("rms_norm_eps");
    take_epsilon("layer_norm_eps");
    take_epsilon("layer_norm_epsilon");
  } else {
    take_epsilon(expected);
  }
  if (found.empty() && family.epsilon_varies) {
    config.fail_because("has no epsilon, which differs between models of " + family.name +
                        "; expected " + expected);
  }
  family.epsilon_varies = false;

  if (family.residual_scale_key.empty()) return;
  const nlohmann::json* value = config.find(family.residual_scale_key);
  family.residual_scale = value == nullptr ? 1 : config.number(family.residual_scale_key, *value);
  family.residual_scale_key.clear();
}

}  // namespace detail

inline Family family_from_config(const std::filesystem::path& path) {
  const auto fail_because = [&](const std::string& what) {
    detail::fail_in_file({"family_from_config"}, path.string() + ": " + what);
  };
  constexpr std::uint64_t most = 10'000'000;
  const std::string text = detail::read_text(path, "the config", most);
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    const std::string_view kind = detail::known_kind(text);
    fail_because(kind.empty() ? "is not JSON, or has a number beyond those of double"
                              : "is " + std::string(kind));
  }
  if (!json.is_object()) fail_because("is not a JSON object");

  const detail::ModelConfig config(path, json);
  Family family = detail::ruled_family(config);
  detail::check_rule(config, family);
  detail::take_numbers(config, family);
  return family;
}

}  // namespace tokennorm

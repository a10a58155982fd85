// SPDX-License-Identifier: MIT
/// The family of a model from its config.json, with the ε that stands only there.
///
///     const Family family = family_from_config("model/config.json");
///
/// Read are `model_type` and `rms_norm_eps`, `layer_norm_eps` or `layer_norm_epsilon`. Models of
/// several types have one family's norms: Mistral's and Qwen's are Llama's. Needs nlohmann-json.
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

/// The family's row with this model's ε, which load_norms then expects of a stack.
Family family_from_config(const std::filesystem::path& path);

// ---------------------------------------------------------------------------------------------

namespace detail {

inline const FamilyRow* family_of_model_type(std::string_view model_type) {
  for (const FamilyRow& family : families::all) {
    if (is_listed(family.model_types, model_type)) return &family;
  }
  return nullptr;
}

}  // namespace detail

inline Family family_from_config(const std::filesystem::path& path) {
  const auto fail_because = [&](const std::string& what) {
    detail::fail_in_file({"family_from_config"}, path.string() + ": " + what);
  };
  constexpr std::uint64_t most = 10'000'000;
  const std::string text = detail::read_text(path, "the config", most);
  const auto config = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (config.is_discarded()) {
    const std::string_view kind = detail::known_kind(text);
    fail_because(kind.empty() ? "is not JSON, or has a number beyond those of double"
                              : "is " + std::string(kind));
  }
  if (!config.is_object()) fail_because("is not a JSON object");

  std::string known;
  for (const FamilyRow& row : families::all) {
    const std::string_view first = row.model_types.substr(0, row.model_types.find(' '));
    if (detail::family_of_model_type(first) != &row) continue;  // a sibling, or of no model type
    known.append(known.empty() ? "" : " ").append(row.model_types);
  }
  const auto type = config.find("model_type");
  if (type == config.end() || !type->is_string()) {
    fail_because("has no model_type; expected one of " + known);
  }
  const auto& model_type = type->get_ref<const std::string&>();
  const FamilyRow* row = detail::family_of_model_type(model_type);
  if (row == nullptr) {
    fail_because("model_type is " + detail::in_quotes(model_type) + "; expected one of " + known);
  }

  Family family = *row;
  std::string found;
  for (const char* key : {"rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon"}) {
    const auto value = config.find(key);
    if (value == config.end()) continue;
    if (!value->is_number() || !(value->get<double>() >= 0)) {
      // Only what is flat is quoted: dump() takes a stack frame for each level.
      const bool nested = value->is_structured();
      fail_because(
          std::string(key) + " is " +
          (nested ? std::string("an ") + value->type_name() : detail::printable(value->dump())) +
          "; expected a number, 0 or more");
    }
    if (!found.empty() && value->get<double>() != family.epsilon) {
      fail_because(found + " and " + key + " differ");
    }
    found = key;
    family.epsilon = value->get<double>();
  }
  if (found.empty() && family.epsilon_varies) {
    fail_because("has no epsilon, which differs between models of " + family.name +
                 "; expected rms_norm_eps, layer_norm_eps or layer_norm_epsilon");
  }
  family.epsilon_varies = false;
  return family;
}

}  // namespace tokennorm

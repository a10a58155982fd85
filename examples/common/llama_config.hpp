// SPDX-License-Identifier: MIT
/// The sizes of a Llama and its two constants, from the head of a file of llama2.c's, or from
/// Hugging Face's config.json.
///
/// Throws     std::runtime_error that names the file and what does not fit
#pragma once

#include "file_fault.hpp"
#include <tokennorm/checkpoint/config.hpp>

#include <Eigen/Core>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <string>
#include <type_traits>

namespace examples {

using Eigen::Index;

struct LlamaConfig {
  Index channels, hidden, layers, heads, kv_heads, vocabulary, context;
  bool tied = true;       // the output's matrix is the embedding
  double epsilon = 1e-5;  // that of every file in llama2.c's format
  double rope_base = 10000;

  Index head_channels() const { return channels / heads; }
  Index kv_channels() const { return kv_heads * head_channels(); }

  /// Sizes that a model can have.
  void check(const std::filesystem::path& file) const;
};

/// config.json of a Llama that has nothing but what is here.
LlamaConfig read_config(const std::filesystem::path& file);

// ---------------------------------------------------------------------------------------------

inline void LlamaConfig::check(const std::filesystem::path& file) const {
  const auto check_size = [&](const char* name, Index size, Index largest) {
    if (size >= 1 && size <= largest) return;
    fail(file, std::string(name) + " is " + std::to_string(size) + "; expected 1 to " +
                   std::to_string(largest));
  };
  constexpr Index largest = 1 << 20;  // so that no product of sizes overflows
  check_size("the number of channels", channels, largest);
  check_size("the number of hidden channels", hidden, largest);
  check_size("the number of layers", layers, 4096);
  check_size("the number of heads", heads, channels);
  check_size("the number of kv heads", kv_heads, heads);
  check_size("the vocabulary", vocabulary, largest);
  if (vocabulary < 3) fail(file, "the vocabulary is below 3: <unk>, begin and end of a text");
  check_size("the context", context, largest);
  if (!(rope_base >= 1)) fail(file, "rope_theta is below 1");
  if (channels % (2 * heads) != 0 || heads % kv_heads != 0) {
    fail(file, "has " + std::to_string(channels) + " channels, " + std::to_string(heads) +
                   " heads and " + std::to_string(kv_heads) +
                   " kv heads; expected heads that divide the channels into even parts, and kv "
                   "heads that divide the heads");
  }
}

inline LlamaConfig read_config(const std::filesystem::path& file) {
  const tokennorm::Family family = tokennorm::family_from_config(file);  // which checks the JSON
  std::ifstream stream(file);
  auto json = nlohmann::json::parse(stream);
  if (const auto rope = json.find("rope_parameters"); rope != json.end() && rope->is_object()) {
    for (const auto& [key, value] : rope->items()) {  // as transformers 5 has them
      if (key == "rope_theta") {
        json[key] = value;
      } else if (key != "rope_type" || value != "default") {
        fail(file, "rope_parameters has " + key + "; this example has only the default RoPE");
      }
    }
  }
  const auto expect = [&](const char* key, const nlohmann::json& expected) {
    if (!json.contains(key) || json[key].is_null() || json[key] == expected) return;
    // Only what is flat is quoted: dump() takes a stack frame for each level.
    const bool nested = json[key].is_structured();
    fail(file, std::string(key) + " is " +
                   (nested ? std::string("an ") + json[key].type_name() : json[key].dump()) +
                   "; this example has only " +
                   (expected.is_null() ? "models without it" : expected.dump()));
  };
  expect("model_type", "llama");
  expect("hidden_act", "silu");
  expect("attention_bias", false);
  expect("mlp_bias", false);
  expect("rope_scaling", nullptr);
  const auto number = [&]<class Number>(const char* key, Number otherwise) {
    if ((!json.contains(key) || json[key].is_null()) && otherwise > 0) return otherwise;
    constexpr bool whole = std::is_integral_v<Number>;
    if (!json.contains(key) || !(whole ? json[key].is_number_integer() : json[key].is_number())) {
      fail(file, std::string(key) + (whole ? " is no whole number" : " is no number"));
    }
    return json[key].get<Number>();
  };
  const auto size = [&](const char* key, Index otherwise = 0) { return number(key, otherwise); };
  const LlamaConfig config{.channels = size("hidden_size"),
                           .hidden = size("intermediate_size"),
                           .layers = size("num_hidden_layers"),
                           .heads = size("num_attention_heads"),
                           .kv_heads = size("num_key_value_heads", size("num_attention_heads")),
                           .vocabulary = size("vocab_size"),
                           .context = size("max_position_embeddings", 2048),
                           .epsilon = family.epsilon,
                           .rope_base = number("rope_theta", 10000.0)};
  config.check(file);
  expect("head_dim", config.head_channels());
  return config;
}

}  // namespace examples

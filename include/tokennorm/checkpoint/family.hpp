// SPDX-License-Identifier: MIT
/// What a family of models calls its norms, and which norms they are. The rows are in families.hpp.
///
/// Throws   std::invalid_argument for a role that the family does not have
#pragma once

#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/core/checks.hpp"

#include <atomic>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>

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

/// What γ and β are called. Flax has scale and bias, Haiku scale and offset.
enum class Naming { scale_shift, weight_bias, gamma_beta, g_b, w_b, scale_bias, scale_offset };

namespace detail {
std::string_view kept(std::string_view text);
}

/// Text of a family. A constant has the literal itself; whatever else it is given is copied, so
/// that nobody need keep it. The copy, one for each text that differs, stays as long as the
/// program: a Family is copied like a few numbers.
class FamilyText : public std::string_view {
 public:
  constexpr FamilyText(std::string_view text = {})
      : std::string_view(std::is_constant_evaluated() ? text : detail::kept(text)) {}
  constexpr FamilyText(const char* text) : FamilyText(std::string_view(text)) {}
  FamilyText(const std::string& text) : FamilyText(std::string_view(text)) {}
};

/// A family of models. To say that a model differs, change a copy:
///
///     Family mine = families::llama;
///     mine.epsilon = 1e-5;
///     mine.layer = prefix + "model.layers.{}.";
struct Family {
  FamilyText name;
  FamilyText model_types;  // those of config.json, with blanks between
  NormKind norm;
  double epsilon;
  bool epsilon_varies;  // from model to model: it stands in config.json only; this is a usual one
  double scale_offset;
  Placement placement;
  Naming naming;       // what is written; whatever naming is there is read
  FamilyText layer;    // before the keys of a layer; {} is its number
  FamilyText keys[6];  // by NormRole; "" for a norm that the family does not have

  bool has(NormRole role) const { return !own_key(role).empty(); }

  /// The name of a norm, without that of its parameter.
  std::string key(NormRole role, Index layer_number = 0) const;

  constexpr std::string_view own_key(NormRole role) const {
    return keys[static_cast<std::size_t>(role)];
  }
};

namespace detail {

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
    {"scale", "shift"}, {"weight", "bias"}, {"gamma", "beta"},  {"g", "b"},
    {"w", "b"},         {"scale", "bias"},  {"scale", "offset"}};

/// What TensorFlow has behind every name of a variable.
inline constexpr std::string_view variable_suffix = ":0";

/// "h.0.ln_1.weight"; names of the original GPT-2 have slashes.
[[gnu::noinline]] inline std::string parameter_key(const std::string& prefix,
                                                   std::string_view parameter) {
  if (prefix.empty()) return std::string(parameter);
  std::string key = prefix;
  key += prefix.find('/') == std::string::npos ? '.' : '/';
  return key.append(parameter);
}

/// "llama" or "llama (llama, mistral)", as errors name a family.
[[gnu::cold, gnu::noinline]] inline std::string described(const Family& family) {
  std::string text(family.name);
  if (family.model_types.empty() || family.model_types == family.name) return text;
  text += " (";
  for (const char c : family.model_types) text += c == ' ' ? std::string(", ") : std::string(1, c);
  return text + ")";
}

/// The copy of a text that stays. Threads may ask at once: copies are only ever added, in front.
[[gnu::noinline]] inline std::string_view kept(std::string_view text) {
  struct Copy {
    std::string text;
    Copy* next;
  };
  static std::atomic<Copy*> first = nullptr;
  for (const Copy* copy = first.load(); copy != nullptr; copy = copy->next) {
    if (copy->text == text) return copy->text;
  }
  Copy* const added = new Copy{std::string(text), first.load()};
  while (!first.compare_exchange_weak(added->next, added)) {
  }
  return added->text;
}

}  // namespace detail

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
  const std::size_t number = result.find("{}");
  if (number == std::string::npos) {
    detail::fail({"Family::key"}, {"what stands before the keys of a layer is ", result.c_str(),
                                   "; expected {} in it, for the layer's number"});
  }
  return result.replace(number, 2, std::to_string(layer_number)).append(own);
}

}  // namespace tokennorm

// SPDX-License-Identifier: MIT
/// What a family of models calls its norms, and which norms they are. The rows are in families.hpp.
///
/// Throws   std::invalid_argument for a role that the family does not have
#pragma once

#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/core/checks.hpp"
#include "tokennorm/norm/parameters.hpp"

#include <cstddef>
#include <iterator>
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
  final,
  cross_attention,  // of a decoder, between attention and feed-forward
  // Inside sublayers, where a stack does not see them: on q, k and v, on what these are made from
  // in latent attention, and on what goes into the last matrix of attention and feed-forward.
  query,
  key,
  value,
  query_latent,
  key_value_latent,
  attention_sub,
  feed_forward_sub,
  cross_attention_output,
  per_layer_input_output,  // of a third sublayer, which reads the embedding once more
  gated                    // the output of a recurrent sublayer, times its gate
};

/// y = x + f(N(x)), N(x + f(x)), x + N(f(N(x))), x + N(f(x))
enum class Placement { pre_ln, post_ln, sandwich_ln, residual_post_norm };

/// What γ and β are called. Flax has scale and bias, Haiku scale and offset.
enum class Naming { scale_shift, weight_bias, gamma_beta, g_b, w_b, scale_bias, scale_offset };

namespace detail {

inline constexpr const char* role_names[] = {"embedding",
                                             "attention",
                                             "attention_output",
                                             "feed_forward",
                                             "feed_forward_output",
                                             "final",
                                             "cross_attention",
                                             "query",
                                             "key",
                                             "value",
                                             "query_latent",
                                             "key_value_latent",
                                             "attention_sub",
                                             "feed_forward_sub",
                                             "cross_attention_output",
                                             "per_layer_input_output",
                                             "gated"};
inline constexpr std::size_t role_count = std::size(role_names);

/// A family of models, with its texts in a type that refers to them or owns them.
template <class Text>
struct FamilyOf {
  Text name{};
  Text model_types{};  // those of config.json, with blanks between
  NormKind norm{};
  double epsilon = 0;
  bool epsilon_varies = false;  // from model to model: it stands in config.json only; this is usual
  double scale_offset = 0;
  Placement placement{};
  Naming naming{};             // what is written; whatever naming is there is read
  Text layer{};                // before the keys of a layer; {} is its number
  Text keys[role_count] = {};  // by NormRole; "" for a norm that the family does not have

  constexpr bool has(NormRole role) const { return !own_key(role).empty(); }

  /// The name of a norm, without that of its parameter.
  std::string key(NormRole role, Index layer_number = 0) const;

  constexpr std::string_view own_key(NormRole role) const {
    return keys[static_cast<std::size_t>(role)];
  }
};

/// From one type of text to the other.
template <class To, class From>
constexpr void copy_family(const From& from, To& to) {
  using Text = std::remove_cvref_t<decltype(to.name)>;
  to.name = Text(from.name);
  to.model_types = Text(from.model_types);
  to.norm = from.norm;
  to.epsilon = from.epsilon;
  to.epsilon_varies = from.epsilon_varies;
  to.scale_offset = from.scale_offset;
  to.placement = from.placement;
  to.naming = from.naming;
  to.layer = Text(from.layer);
  for (std::size_t i = 0; i < role_count; ++i) to.keys[i] = Text(from.keys[i]);
}

}  // namespace detail

/// A row of the table, which is a constant.
using FamilyRow = detail::FamilyOf<std::string_view>;

/// A family of models, which owns its texts. To say that a model differs, change a copy of a row:
///
///     Family mine = families::llama;
///     mine.epsilon = 1e-5;
///     mine.layer = prefix + "model.layers.{}.";
struct Family : detail::FamilyOf<std::string> {
  Family() = default;
  Family(const FamilyRow& row) { detail::copy_family(row, *this); }

  /// The same for who only reads it, as long as this one stays what it is.
  operator FamilyRow() const {
    FamilyRow row;
    detail::copy_family(*this, row);
    return row;
  }
};

namespace detail {

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
[[gnu::cold, gnu::noinline]] inline std::string described(const FamilyRow& family) {
  std::string text(family.name);
  if (family.model_types.empty() || family.model_types == family.name) return text;
  text += " (";
  for (const char c : family.model_types) text += c == ' ' ? std::string(", ") : std::string(1, c);
  return text + ")";
}

template <class Text>
std::string FamilyOf<Text>::key(NormRole role, Index layer_number) const {
  const std::string_view own = own_key(role);
  if (own.empty()) {
    const std::string who(name);
    fail({who.c_str()}, {"the family has no ", name_of(role), " norm"});
  }
  if (!is_of_layer(role)) return std::string(own);
  if (layer_number < 0) {
    fail({"Family::key"}, {"the layer is ", layer_number, "; expected 0 or more"});
  }
  std::string result(layer);
  const std::size_t number = result.find("{}");
  if (number == std::string::npos) {
    fail({"Family::key"}, {"what stands before the keys of a layer is ", result.c_str(),
                           "; expected {} in it, for the layer's number"});
  }
  return result.replace(number, 2, std::to_string(layer_number)).append(own);
}

}  // namespace detail
}  // namespace tokennorm

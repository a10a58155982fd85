// SPDX-License-Identifier: MIT
/// What a family of models calls its norms, which norms they are, and by which rule its sublayers
/// write to the residual stream. The rows are in family_table.hpp.
///
///     Family mine = families::llama;        // a row, to be changed where a model differs
///     mine.epsilon = 1e-5;
///     mine.keys[NormRole::final] = "";      // it has no final norm
///     families::llama.under("thinker.")     // the row with "thinker." before every name
///
/// Throws   std::invalid_argument for a role that the family does not have
#pragma once

#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/core/checks.hpp"
#include "tokennorm/norm/parameters.hpp"

#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <optional>
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
  gated,                   // inside: the output of a recurrent sublayer, times its gate
  mixer,                   // before the one sublayer of a layer, whatever it is
  // Inside a feed-forward that is a dense one and experts, side by side.
  dense_output,
  experts,
  experts_output,
  unknown  // of a norm in a file whose family is not known
};

/// How sublayers f, g write to the stream h, with norms N.
enum class Placement {
  pre_ln,              // h + f(N(h))
  post_ln,             // N(h + f(h))
  sandwich_ln,         // h + N(f(N(h)))
  residual_post_norm,  // h + N(f(h))
  parallel,            // h + f(n) + g(n), n = N(h)
  parallel_two_norms,  // h + f(N(h)) + g(N(h))
  // No block here computes these, and load_norms refuses them.
  multi_stream,        // several streams, mixed: hyper-connections, AltUp
  attention_residual,  // h is a weighted sum of what earlier blocks left
  learned_residual,    // a∘h + f(N(h)), a learned
  normed_stream,       // a·n + b·f(n), n = N(h)
  scaled_stream        // as Sandwich-LN, and the stream times a learned number after each block
};

/// What γ and β are called. Flax has scale and bias, Haiku scale and offset, Tensor2Tensor
/// layer_norm_scale and layer_norm_bias, PaddlePaddle w_0 and b_0.
enum class Naming {
  scale_shift,
  weight_bias,
  gamma_beta,
  g_b,
  w_b,
  scale_bias,
  scale_offset,
  layer_norm_scale_bias,
  w_0_b_0
};

struct Family;

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
                                             "gated",
                                             "mixer",
                                             "dense_output",
                                             "experts",
                                             "experts_output",
                                             "unknown"};
inline constexpr std::size_t role_count = std::size(role_names);

constexpr bool is_of_layer(NormRole role) {
  return role != NormRole::embedding && role != NormRole::final && role != NormRole::unknown;
}

}  // namespace detail

/// Whether the norm stands inside a sublayer, which loads it: a stack has no such norm.
constexpr bool is_inside_sublayer(NormRole role) {
  using enum NormRole;
  return (role >= query && role <= feed_forward_sub) || role == gated ||
         (role >= dense_output && role <= experts_output);
}

namespace detail {

/// The names of a family's norms by their roles; "" for one that it does not have.
template <class Text>
class RoleKeys {
 public:
  struct Entry {
    NormRole role;
    std::string_view key;
  };
  constexpr RoleKeys() = default;
  constexpr RoleKeys(std::initializer_list<Entry> entries) {
    for (const Entry& entry : entries) (*this)[entry.role] = Text(entry.key);
  }

  constexpr Text& operator[](std::size_t role) { return keys_[role]; }
  constexpr const Text& operator[](std::size_t role) const { return keys_[role]; }
  constexpr Text& operator[](NormRole role) { return keys_[static_cast<std::size_t>(role)]; }
  constexpr const Text& operator[](NormRole role) const {
    return keys_[static_cast<std::size_t>(role)];
  }
  constexpr auto begin() const { return std::begin(keys_); }
  constexpr auto end() const { return std::end(keys_); }

  /// These and others.
  constexpr RoleKeys with(std::initializer_list<Entry> entries) const {
    RoleKeys all = *this;
    for (const Entry& entry : entries) all[entry.role] = Text(entry.key);
    return all;
  }

 private:
  Text keys_[role_count] = {};
};

/// A family of models, with its texts in a type that refers to them or owns them.
template <class Text>
struct FamilyOf {
  Text name{};
  Text model_types{};  // those of config.json, with blanks between
  NormKind norm{};
  bool shift = true;  // of LayerNorms, whether they have one
  double epsilon = 0;
  bool epsilon_varies = false;  // from model to model: it stands in config.json only; this is usual
  Text epsilon_key{};           // where config.json has it under one name and no other
  double scale_offset = 0;
  Placement placement{};
  double alpha = 1;                     // α·h in place of h, as in DeepNorm
  double residual_scale = 1;            // s·f in place of f
  Text residual_scale_key{};            // where s varies: what config.json calls it
  bool layer_scale = false;             // γ∘f in place of f, γ learned
  Naming naming = Naming::weight_bias;  // what is written; whatever naming is there is read
  Text layer{};                         // before the keys of a layer; {} is its number
  bool layers_share = false;            // all layers are one, which has no number
  std::optional<NormRole> first_layer_lacks{};
  RoleKeys<Text> keys{};

  constexpr bool has(NormRole role) const { return !own_key(role).empty(); }
  constexpr bool has(NormRole role, Index layer_number) const {
    return has(role) && (layer_number != 0 || role != first_layer_lacks);
  }
  constexpr bool has_shift() const { return norm == NormKind::layer_norm && shift; }

  /// The name of a norm, without that of its parameter.
  std::string key(NormRole role, Index layer_number = 0) const;

  /// The family of models whose names all have this before them.
  Family under(std::string_view prefix) const;

  constexpr std::string_view own_key(NormRole role) const { return keys[role]; }
};

/// From one type of text to the other.
template <class To, class From>
constexpr void copy_family(const From& from, To& to) {
  using Text = std::remove_cvref_t<decltype(to.name)>;
  to.name = Text(from.name);
  to.model_types = Text(from.model_types);
  to.norm = from.norm;
  to.shift = from.shift;
  to.epsilon = from.epsilon;
  to.epsilon_varies = from.epsilon_varies;
  to.epsilon_key = Text(from.epsilon_key);
  to.scale_offset = from.scale_offset;
  to.placement = from.placement;
  to.alpha = from.alpha;
  to.residual_scale = from.residual_scale;
  to.residual_scale_key = Text(from.residual_scale_key);
  to.layer_scale = from.layer_scale;
  to.naming = from.naming;
  to.layer = Text(from.layer);
  to.layers_share = from.layers_share;
  to.first_layer_lacks = from.first_layer_lacks;
  for (std::size_t i = 0; i < role_count; ++i) to.keys[i] = Text(from.keys[i]);
}

}  // namespace detail

/// A row of the table, which is a constant.
using FamilyRow = detail::FamilyOf<std::string_view>;

/// A family of models, which owns its texts.
struct Family : detail::FamilyOf<std::string> {
  Family() = default;
  /// A copy, to change.
  Family(const FamilyRow& row) { detail::copy_family(row, *this); }

  /// The same for who only reads it, as long as this one stays what it is.
  explicit operator FamilyRow() const {
    FamilyRow row;
    detail::copy_family(*this, row);
    return row;
  }
};

namespace detail {

constexpr const char* name_of(NormRole role) { return role_names[static_cast<std::size_t>(role)]; }
constexpr const char* name_of(NormKind kind) {
  return kind == NormKind::layer_norm ? "LayerNorm" : "RMSNorm";
}
constexpr const char* name_of(Placement placement) {
  constexpr const char* names[] = {"Pre-LN",
                                   "Post-LN",
                                   "Sandwich-LN",
                                   "residual-post-norm",
                                   "parallel with one norm",
                                   "parallel with two norms",
                                   "of several residual streams",
                                   "of attention residuals",
                                   "of a learned residual",
                                   "of a normed stream",
                                   "of a scaled stream"};
  return names[static_cast<std::size_t>(placement)];
}

/// What such models do that no block here does; null where there is a block.
constexpr const char* refusal_of(Placement placement) {
  switch (placement) {
    case Placement::multi_stream:
      return "mixes several residual streams";
    case Placement::attention_residual:
      return "makes the stream from what earlier blocks left, by learned weights";
    case Placement::learned_residual:
      return "multiplies the stream by learned vectors before each sum";
    case Placement::normed_stream:
      return "adds updates to the normed stream, both times factors";
    case Placement::scaled_stream:
      return "multiplies the stream by a learned number after each block";
    default:
      return nullptr;
  }
}

/// The names of γ and β, by Naming.
struct ParameterNames {
  std::string_view scale, shift;
};
inline constexpr ParameterNames parameter_names[] = {
    {"scale", "shift"},  {"weight", "bias"},
    {"gamma", "beta"},   {"g", "b"},
    {"w", "b"},          {"scale", "bias"},
    {"scale", "offset"}, {"layer_norm_scale", "layer_norm_bias"},
    {"w_0", "b_0"}};

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

/// Whether `word` is one of the words of `list`, which has blanks between them.
inline bool is_listed(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    const std::string_view first = list.substr(0, list.find(' '));
    if (first == word) return true;
    list.remove_prefix(first.size() < list.size() ? first.size() + 1 : first.size());
  }
  return false;
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
  const std::string who(name);
  if (own.empty()) fail({who.c_str()}, {"the family has no ", name_of(role), " norm"});
  if (!is_of_layer(role)) return std::string(own);
  if (layer_number < 0) {
    fail({"Family::key"}, {"the layer is ", layer_number, "; expected 0 or more"});
  }
  if (!has(role, layer_number)) {
    fail({who.c_str()}, {"the first layer has no ", name_of(role), " norm"});
  }
  std::string result(layer);
  if (layers_share) return result.append(own);
  const std::size_t number = result.find("{}");
  if (number == std::string::npos) {
    fail({"Family::key"}, {"what stands before the keys of a layer is ", result.c_str(),
                           "; expected {} in it, for the layer's number"});
  }
  return result.replace(number, 2, std::to_string(layer_number)).append(own);
}

template <class Text>
Family FamilyOf<Text>::under(std::string_view prefix) const {
  Family result;
  copy_family(*this, result);
  result.layer.insert(0, prefix);
  for (const NormRole role : {NormRole::embedding, NormRole::final}) {
    if (result.has(role)) result.keys[role].insert(0, prefix);
  }
  return result;
}

}  // namespace detail
}  // namespace tokennorm

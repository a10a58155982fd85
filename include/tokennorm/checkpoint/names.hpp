// SPDX-License-Identifier: MIT
/// Norms from and to checkpoints, whatever they are called there.
///
///     load_norm(norm, file, "trf_blocks.0.norm1");           // whichever naming is there
///     save_norm(norm, writer, "h.0.ln_1", Naming::weight_bias);
///     load_norms(stack, file, families::gpt2);               // every norm of a Stack
///     save_norms(stack, writer, families::gpt2);
///     for (const NormInFile& norm : find_norms(file, families::gpt2)) …      // without a stack
///     for (const NormInFile& norm : find_norms(file)) …                      // or a family
///     load_norm(q_norm, file, families::llama.key(NormRole::query, 3));      // inside a sublayer
///
/// Every Naming is read, with or without TensorFlow's ":0" behind it, of shape (C) or (1, …, 1, C).
/// γ is stored without the scale offset, which the norm's options have, so values are taken as they
/// are; but with it in a GGUF, whose norms have a scale offset of 0.
///
/// Where there is nothing under a prefix it is looked for with and without what models and wrappers
/// put before every name: `transformer.`, `model.`, `bert.`, `_orig_mod.`, `module.`, …
/// (optional_prefixes in family_names.hpp), or several of them. The prefix "" is that of a norm
/// saved alone.
///
/// Loading is all or nothing: where it fails, no norm has changed.
///
/// Throws   std::runtime_error where a parameter is missing, has no place in the norm or another
///          shape, or where two namings or `a_2`, `b_2` are there: it lists what was found and what
///          was looked for; where a value is beyond the norm's scalar; where a stack's norms or its
///          rule for the residual stream, or the file's, are not those of the family;
///          std::invalid_argument where the family has no norm in a role that the stack has
#pragma once

#include "tokennorm/block/stack.hpp"
#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/checkpoint/families.hpp"
#include "tokennorm/checkpoint/read_norm.hpp"
#include "tokennorm/checkpoint/stack_rule.hpp"
#include "tokennorm/core/internals.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace tokennorm {

/// What norms are loaded from: Safetensors, Gguf, or anything else that has its tensors by name.
/// One whose scales have the scale offset in them says `static constexpr bool includes_scale_offset
/// = true`, and is not loaded into norms that add it.
template <class File>
concept TensorSource = requires(const File& file, const std::string& name) {
  file.names().begin() != file.names().end();  // of strings
  { file.contains(name) } -> std::convertible_to<bool>;
  file.shape(name).size();  // of numbers
  file.template matrix<double>(name)(0, 0);
};

/// What norms are saved to.
template <class Writer, class Vector>
concept TensorSink = requires(Writer& writer, const std::string& name, const Vector& vector) {
  writer.add(name, vector);
};

/// γ and β of a norm, from `prefix.scale` and `prefix.shift` or however they are called there.
template <class Norm, TensorSource File>
void load_norm(Norm& norm, const File& file, const std::string& prefix);

/// The same the other way, under one naming.
template <class Norm, TensorSink<typename Norm::Vector> Writer>
void save_norm(const Norm& norm, Writer& writer, const std::string& prefix, Naming naming);

/// Every norm of the stack, by its role. The norms must be those of the family, ε included unless
/// it varies in the family, and the blocks must add updates by its rule: its placement, alpha,
/// Scaled by its residual scale, with LayerScale (whose γ the caller loads) where it has that.
/// Refused is a file with more layers than the stack has, or fewer; with a norm that the family
/// does not have; with one where the stack has a NoNorm; or with a tensor that tells another rule.
/// To leave a norm out, take its key from a copy of the family:
///
///     Family mine = families::gpt2;
///     mine.keys[NormRole::final] = "";
///
/// Norms inside sublayers are not the stack's: load_norm loads them.
template <class EmbeddingNorm, class Block, class FinalNorm, TensorSource File>
void load_norms(Stack<EmbeddingNorm, Block, FinalNorm>& stack, const File& file,
                const Family& family);

/// The same the other way, under the family's names.
template <class EmbeddingNorm, class Block, class FinalNorm, class Writer>
void save_norms(const Stack<EmbeddingNorm, Block, FinalNorm>& stack, Writer& writer,
                const Family& family);

/// A norm that a file has.
struct NormInFile {
  NormRole role;       ///< where it stands, as far as the family tells
  Index layer;         ///< 0 for the embedding norm and the final norm
  std::string prefix;  ///< as the file has it: "transformer.h.3.ln_1"
  Index channels;      ///< all values of its scale: with a γ for each head, those of all heads
};

/// All norms under the family's names, layer by layer; also those inside sublayers.
template <TensorSource File>
std::vector<NormInFile> find_norms(const File& file, const Family& family);

/// What looks like a norm in any file: by its name, or by γ's. Its role is not known; the layer is
/// the first number in its name.
template <TensorSource File>
std::vector<NormInFile> find_norms(const File& file);

// ---------------------------------------------------------------------------------------------

template <class Norm, TensorSource File>
void load_norm(Norm& norm, const File& file, const std::string& prefix) {
  detail::read_parameters(norm, file, detail::locate_norm(file, prefix)).move_to(norm);
}

template <class Norm, TensorSink<typename Norm::Vector> Writer>
void save_norm(const Norm& norm, Writer& writer, const std::string& prefix, Naming naming) {
  const detail::ParameterNames& names = detail::parameter_names[static_cast<std::size_t>(naming)];
  detail::Internals::check_parameters(norm);
  if (norm.options().scale) writer.add(detail::parameter_key(prefix, names.scale), norm.scale());
  if (norm.options().shift) writer.add(detail::parameter_key(prefix, names.shift), norm.shift());
}

// ---- stacks -------------------------------------------------------------------------------------

namespace detail {

/// Fails where a tensor of the file says that its model is not of the family.
template <class File>
void check_names(Who who, const File& file, const Family& family) {
  const FamilyRow row(family);
  for (const auto& name : file.names()) {
    const std::string rule = other_rule(row, name);
    if (!rule.empty()) {
      fail_in_file(who,
                   file_of(file, name) + rule + "; expected the file of a model of " + family.name);
    }
    const NormName parts(name);
    if ((!parts.is_scale && !parts.is_shift) || !is_of_another(row, parts.norm)) continue;
    fail_in_file(who, file_of(file, name) + "the file has " + printable(parts.norm) + ", which " +
                          family.name + " has not; expected the file of such a model");
  }
}

/// The file's norms that a stack of the family has: neither those inside sublayers, nor those of
/// layers that predict further tokens.
template <class File>
std::vector<NormInFile> norms_of_stack(const File& file, const Family& family) {
  const FamilyRow row(family);
  std::set<Index> prediction_layers;
  for (const auto& name : file.names()) {
    const InLayer place = in_layer(row, NormName(name).norm);
    if (is_of_prediction_layer(place)) prediction_layers.insert(place.layer);
  }
  std::vector<NormInFile> norms = find_norms(file, family);
  std::erase_if(norms, [&](const NormInFile& norm) {
    return is_inside_sublayer(norm.role) ||
           (is_of_layer(norm.role) && prediction_layers.count(norm.layer) != 0);
  });
  return norms;
}

/// Fails unless the file's norms, which are returned, are those of the family, in the stack's roles
/// and layers.
template <class AnyStack, class File>
std::vector<NormInFile> check_file(const AnyStack& stack, const File& file, const Family& family) {
  const Who who = Internals::who(stack);
  check_names(who, file, family);
  Index layers = 0;
  Internals::each_block(stack, [&](const auto&, Index) { ++layers; });
  std::set<std::pair<NormRole, Index>> in_stack;
  each_norm(stack, [&](NormRole role, Index layer, const auto&) {
    in_stack.insert({role, family.layers_share ? 0 : layer});
  });
  std::set<Index> layers_there;
  Index end_of_layers = family.layers_share ? layers : 0;
  const std::vector<NormInFile> norms = norms_of_stack(file, family);
  for (const NormInFile& norm : norms) {
    const bool is_in_layer = is_of_layer(norm.role);
    if (is_in_layer && !family.layers_share) {
      layers_there.insert(norm.layer);
      end_of_layers = std::max(end_of_layers, norm.layer + 1);
    }
    if (is_in_layer && norm.layer >= layers) continue;
    if (in_stack.count({norm.role, norm.layer}) != 0) continue;
    const FoundParameters found = find_parameters(file, norm.prefix);
    fail_in_file(who,
                 file_of(file, found.scale.empty() ? found.shift : found.scale) + "the file has " +
                     printable(norm.prefix) + ", and the stack no " +
                     place_text(std::string(name_of(norm.role)) + " norm", norm.role, norm.layer) +
                     "; expected one, or a copy of the family without its key");
  }
  if (end_of_layers != layers) {
    const std::size_t count = layers_there.size();
    const bool has_gaps = static_cast<Index>(count) != end_of_layers;
    fail_in_file(
        who, "the file has norms of " + std::to_string(count) +
                 (count == 1 ? " layer" : " layers") +
                 (has_gaps ? ", the last of them " + std::to_string(end_of_layers - 1) + "," : "") +
                 " under " + family.name + "'s names; expected the " + std::to_string(layers) +
                 " of the stack");
  }
  return norms;
}

/// Fails where a norm has no scale, or a shift that the family's norms do not have: what is saved
/// would be no file of the family.
template <class AnyStack>
void check_parameters_of_family(const AnyStack& stack, const Family& family) {
  each_norm(stack, [&](NormRole role, Index layer, const auto& norm) {
    const bool lacks_scale = !norm.options().scale;
    if (!lacks_scale && (!norm.options().shift || family.has_shift())) return;
    fail_in_file(Internals::who(stack),
                 place_text(std::string(name_of(role)) + "_norm", role, layer) +
                     (lacks_scale ? " has no scale; expected one for "
                                  : " has a shift; expected none for ") +
                     family.name);
  });
}

/// Fails unless each layer of the stack has the norms of the first, which are saved for all.
template <class AnyStack>
void check_layers_are_equal(const AnyStack& stack, const Family& family) {
  using Vector = Eigen::Matrix<typename AnyStack::Param, Eigen::Dynamic, 1>;
  std::map<NormRole, std::pair<Vector, Vector>> first;
  each_norm(stack, [&](NormRole role, Index layer, const auto& norm) {
    if (!is_of_layer(role)) return;
    const auto [at, is_first] = first.try_emplace(role, Vector(norm.scale()), Vector(norm.shift()));
    const auto& [scale, shift] = at->second;
    const auto same = [](const auto& one, const auto& other) {
      return one.size() == other.size() && one == other;
    };
    if (is_first || (same(scale, norm.scale()) && same(shift, norm.shift()))) return;
    fail_in_file(Internals::who(stack),
                 place_text(std::string(name_of(role)) + "_norm", role, layer) +
                     " is not that of layer 0; expected one for all layers for " + family.name);
  });
}

}  // namespace detail

template <class EmbeddingNorm, class Block, class FinalNorm, TensorSource File>
void load_norms(Stack<EmbeddingNorm, Block, FinalNorm>& stack, const File& file,
                const Family& family) {
  const detail::Who who = detail::Internals::who(stack);
  detail::check_scale_offset<File>(who, family.name + "'s ", family.scale_offset);
  detail::each_norm(stack, [&](NormRole, Index, const auto& norm) {
    detail::check_scale_offset<File>(who, "a norm's ", norm.options().scale_offset);
  });
  detail::check_fits(stack, family);
  std::map<std::pair<NormRole, Index>, std::vector<std::string>> prefixes;
  for (NormInFile& norm : detail::check_file(stack, file, family)) {
    prefixes[{norm.role, norm.layer}].push_back(std::move(norm.prefix));
  }
  using Param = typename Stack<EmbeddingNorm, Block, FinalNorm>::Param;
  std::vector<detail::LoadedParameters<Param>> loaded;
  detail::each_norm(stack, [&](NormRole role, Index layer, const auto& norm) {
    const std::string prefix = detail::chosen_prefix(
        family.key(role, layer), prefixes[{role, family.layers_share ? 0 : layer}]);
    loaded.push_back(detail::read_parameters(norm, file, prefix));
  });
  auto next = loaded.begin();
  detail::each_norm(stack, [&](NormRole, Index, auto& norm) { next++->move_to(norm); });
}

template <class EmbeddingNorm, class Block, class FinalNorm, class Writer>
void save_norms(const Stack<EmbeddingNorm, Block, FinalNorm>& stack, Writer& writer,
                const Family& family) {
  detail::check_fits(stack, family);
  detail::check_parameters_of_family(stack, family);
  if (family.layers_share) detail::check_layers_are_equal(stack, family);
  detail::each_norm(stack, [&](NormRole role, Index layer, const auto& norm) {
    if (family.layers_share && layer > 0) return;
    save_norm(norm, writer, family.key(role, layer), family.naming);
  });
}

namespace detail {

/// A norm's channels, from the shape of one of its parameters.
template <class Shape>
Index channels_in(const Shape& shape) {
  Index channels = 1;
  for (const auto extent : shape) channels *= static_cast<Index>(extent);
  return channels;
}

/// Sorts them by their layers and roles, each once: its two parameters were two.
[[gnu::noinline]] inline void put_in_order(std::vector<NormInFile>& norms) {
  const auto place = [](const NormInFile& norm) {
    const int part = norm.role == NormRole::embedding ? 0 : norm.role == NormRole::final ? 2 : 1;
    return std::tuple(part, norm.layer, norm.role, std::string_view(norm.prefix));
  };
  std::stable_sort(norms.begin(), norms.end(), [&](const NormInFile& one, const NormInFile& other) {
    return place(one) < place(other);
  });
  norms.erase(std::unique(norms.begin(), norms.end(),
                          [&](const NormInFile& one, const NormInFile& other) {
                            return place(one) == place(other);
                          }),
              norms.end());
}

/// The first number that is a part of a name: "model.layers.3.norm" has 3; 0 where there is none.
inline Index first_number(std::string_view name) {
  while (!name.empty()) {
    std::string_view part = name.substr(0, name.find_first_of("./"));
    name.remove_prefix(std::min(name.size(), part.size() + 1));
    const Index number = take_number(part);
    if (number >= 0 && part.empty()) return number;
  }
  return 0;
}

}  // namespace detail

template <TensorSource File>
std::vector<NormInFile> find_norms(const File& file, const Family& family) {
  const FamilyRow row(family);
  std::vector<NormInFile> norms;
  for (const auto& name : file.names()) {
    const detail::NormName parts(name);
    if (!parts.is_scale && !parts.is_shift) continue;
    detail::each_role_of(row, parts.norm, [&](NormRole role, Index layer) {
      norms.push_back(
          {role, layer, std::string(parts.norm), detail::channels_in(file.shape(name))});
    });
  }
  detail::put_in_order(norms);
  return norms;
}

template <TensorSource File>
std::vector<NormInFile> find_norms(const File& file) {
  std::vector<NormInFile> norms;
  for (const auto& name : file.names()) {
    const detail::NormName parts(name);
    const bool is_gamma = parts.parameter == "gamma" || parts.parameter == "layer_norm_scale";
    if (!parts.is_scale || (!is_gamma && !detail::looks_like_norm(parts.norm))) continue;
    const std::string prefix(parts.norm);
    // Statistics of a whole batch: another kind of norm.
    if (file.contains(detail::parameter_key(prefix, "running_mean"))) continue;
    norms.push_back({NormRole::unknown, detail::first_number(prefix), prefix,
                     detail::channels_in(file.shape(name))});
  }
  detail::put_in_order(norms);
  return norms;
}

}  // namespace tokennorm

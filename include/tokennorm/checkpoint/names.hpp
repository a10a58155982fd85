// SPDX-License-Identifier: MIT
/// Norms from and to checkpoints, whatever they are called there.
///
///     load_norm(norm, file, "trf_blocks.0.norm1");           // whichever naming is there
///     save_norm(norm, writer, "h.0.ln_1", Naming::weight_bias);
///     load_norms(stack, file, families::gpt2);               // every norm of a Stack
///     save_norms(stack, writer, families::gpt2);
///     for (const NormInFile& norm : find_norms(file, families::gpt2)) …      // without a stack
///
/// scale/shift, weight/bias, gamma/beta, g/b, w/b, Flax's scale/bias and Haiku's scale/offset are
/// read, with or without TensorFlow's ":0" behind them, of shape (C) or (1, …, 1, C). γ is stored
/// without the scale offset, which the norm's options have, so values are taken as they are; but
/// with it in a GGUF, whose norms have a scale offset of 0.
///
/// Where there is nothing under a prefix it is looked for with and without what models and wrappers
/// put before every name: `transformer.`, `model.`, `bert.`, `roberta.`, `electra.`, `_orig_mod.`,
/// `module.`, `language_model.`, or several of them. The prefix "" is that of a norm saved alone.
///
/// Loading is all or nothing: where it fails, no norm has changed.
///
/// Throws   std::runtime_error where a parameter is missing, has no place in the norm or another
///          shape, or where two namings or `a_2`, `b_2` are there: it lists what was found and what
///          was looked for; where a value is beyond the norm's scalar; where a stack's norms, or
///          the file's, are not those of the family;
///          std::invalid_argument where the family has no norm in a role that the stack has
#pragma once

#include "tokennorm/block/stack.hpp"
#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/checkpoint/families.hpp"
#include "tokennorm/checkpoint/read_norm.hpp"
#include "tokennorm/core/internals.hpp"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <map>
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
/// it varies in the family. Refused is a file with more layers than the stack has, or fewer; with a
/// norm that the family does not have; or with one where the stack has a NoNorm. To leave that one
/// out, take its key from a copy of the family:
///
///     Family mine = families::gpt2;
///     mine.keys[static_cast<std::size_t>(NormRole::final)] = "";
template <class EmbeddingNorm, class Block, class FinalNorm, TensorSource File>
void load_norms(Stack<EmbeddingNorm, Block, FinalNorm>& stack, const File& file,
                const Family& family);

template <class EmbeddingNorm, class Block, class FinalNorm, class Writer>
void save_norms(const Stack<EmbeddingNorm, Block, FinalNorm>& stack, Writer& writer,
                const Family& family);

/// A norm that a file has.
struct NormInFile {
  NormRole role;
  Index layer;         // 0 for the embedding norm and the final norm
  std::string prefix;  // as the file has it: "transformer.h.3.ln_1"
  Index channels;
};

/// All norms under the family's names, in data order.
template <TensorSource File>
std::vector<NormInFile> find_norms(const File& file, const Family& family);

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

/// The role of a norm that a block calls "attention_norm".
[[gnu::noinline]] inline NormRole role_of(const std::string& part, const char* what) {
  const std::string name_in_block = part.empty() ? what : part + "_" + what;
  for (std::size_t role = 0; role < role_count; ++role) {
    if (name_in_block == std::string(role_names[role]) + "_norm")
      return static_cast<NormRole>(role);
  }
  fail({"Stack"}, {"a block's norm is called ", name_in_block.c_str(),
                   ", which is no role in a family; expected blocks of attention and feed_forward, "
                   "such as PreLN"});
}

/// That of each of its branches; two of them that stand side by side are Pre-LN to a checkpoint.
template <class ConnectionType>
inline constexpr Placement placement_of = placement_of<typename ConnectionType::Parts>;
template <class Out, class First, class... Others>
inline constexpr Placement placement_of<Connection<Out, First, Others...>> =
    is_norm<Out>                        ? Placement::post_ln
    : !is_norm<typename First::PreNorm> ? Placement::residual_post_norm
    : is_norm<typename First::PostNorm> ? Placement::sandwich_ln
                                        : Placement::pre_ln;

/// f(role, layer, norm) for every norm of a stack.
template <class AnyStack, class F>
void each_norm(AnyStack& stack, const F& f) {
  const auto visit = [&](NormRole role, Index layer, auto& norm) {
    if constexpr (is_norm<decltype(norm)>) f(role, layer, norm);
  };
  visit(NormRole::embedding, 0, stack.embedding_norm());
  Internals::each_block(stack, [&](auto& block, Index layer) {
    Internals::each(block, [&](auto& connection) {
      each_norm_of(connection, [&](auto& norm, const std::string& part, const char* what) {
        if constexpr (is_norm<decltype(norm)>) f(role_of(part, what), layer, norm);
      });
    });
  });
  visit(NormRole::final, 0, stack.final_norm());
}

/// Fails unless the norm is of the family's kind.
template <class Norm>
void check_kind(Who who, const Family& family, NormRole role, Index layer, const Norm& norm) {
  const auto fail_because = [&](const std::string& is, const std::string& expected) {
    fail_in_file(who, std::string(name_of(role)) + "_norm" +
                          (is_of_layer(role) ? " of layer " + std::to_string(layer) : "") + " " +
                          is + "; expected " + expected + " for " + std::string(family.name));
  };
  const auto check_number = [&](const char* what, double value, double expected,
                                const char* advice) {
    // A config that was written from float has 9.999999747378752e-06 for 1e-5.
    if (std::abs(value - expected) <= 0x1p-24 * std::abs(expected)) return;
    fail_because(std::string("has ") + what + " " + number_text(value, expected),
                 number_text(expected, value) + advice);
  };
  const auto with_article = [](NormKind kind) {
    return (kind == NormKind::rms_norm ? "an " : "a ") + std::string(name_of(kind));
  };
  const NormKind kind = norm.kind();
  const auto& options = norm.options();
  if (kind != family.norm) fail_because("is " + with_article(kind), with_article(family.norm));
  if constexpr (requires { options.statistics_channels; }) {
    if (options.statistics_channels != 0 && options.statistics_channels != norm.channels()) {
      fail_because("has statistics_channels " + std::to_string(options.statistics_channels), "0");
    }
  }
  check_number("scale_offset", options.scale_offset, family.scale_offset, "");
  if (!family.epsilon_varies) {
    check_number("epsilon", options.epsilon, family.epsilon,
                 " (if the model has another, give a copy of the family with that epsilon)");
  }
}

/// Fails unless the stack's norms and placement are those of the family.
template <class AnyStack>
void check_fits(const AnyStack& stack, const Family& family) {
  Internals::each_block(stack, [&](const auto& block, Index) {
    Internals::each(block, [&](const auto& connection) {
      constexpr Placement placement = placement_of<std::remove_cvref_t<decltype(connection)>>;
      if (placement != family.placement || connection.alpha != 1) {
        const std::string alpha =
            connection.alpha == 1 ? "" : " with alpha " + number_text(connection.alpha, 1);
        fail_in_file(Internals::who(stack), std::string("the blocks are ") + name_of(placement) +
                                                alpha + "; expected " + name_of(family.placement) +
                                                " for " + std::string(family.name));
      }
    });
  });
  each_norm(stack, [&](NormRole role, Index layer, const auto& norm) {
    check_kind(Internals::who(stack), family, role, layer, norm);
  });
}

/// Fails unless the file's norms, which are returned, are those of the family, in the stack's roles
/// and layers.
template <class AnyStack, class File>
std::vector<NormInFile> check_file(const AnyStack& stack, const File& file, const Family& family) {
  const auto fail_because = [&](const std::string& what) {
    fail_in_file(Internals::who(stack), what);
  };
  const std::string family_name(family.name);
  for (const auto& name : file.names()) {
    const NormName parts(name);
    if (!parts.is_scale || !is_of_another(family, parts.norm)) continue;
    fail_because("the file has " + printable(parts.norm) + ", which " + family_name +
                 " has not; expected the file of such a model (detect_family(file.names()) says "
                 "what it fits)");
  }
  bool in_stack[role_count] = {};
  each_norm(stack, [&](NormRole role, Index, const auto&) {
    in_stack[static_cast<std::size_t>(role)] = true;
  });
  Index layers = 0;
  Internals::each_block(stack, [&](const auto&, Index) { ++layers; });
  Index layers_there = 0;
  std::vector<NormInFile> norms = find_norms(file, family);
  for (const NormInFile& norm : norms) {
    if (is_of_layer(norm.role)) {
      layers_there = std::max(layers_there, norm.layer + 1);
    } else if (!in_stack[static_cast<std::size_t>(norm.role)]) {
      fail_because("the file has " + printable(norm.prefix) + ", and the stack no " +
                   name_of(norm.role) + " norm; expected one, or a copy of the family without " +
                   "its key");
    }
  }
  if (layers_there != layers) {
    fail_because("the file has norms of " + std::to_string(layers_there) +
                 (layers_there == 1 ? " layer" : " layers") + " under " + family_name +
                 "'s names; expected the " + std::to_string(layers) + " of the stack");
  }
  return norms;
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
    const std::string prefix =
        detail::chosen_prefix(family.key(role, layer), prefixes[{role, layer}]);
    loaded.push_back(detail::read_parameters(norm, file, prefix));
  });
  auto next = loaded.begin();
  detail::each_norm(stack, [&](NormRole, Index, auto& norm) { next++->move_to(norm); });
}

template <class EmbeddingNorm, class Block, class FinalNorm, class Writer>
void save_norms(const Stack<EmbeddingNorm, Block, FinalNorm>& stack, Writer& writer,
                const Family& family) {
  detail::check_fits(stack, family);
  detail::each_norm(stack, [&](NormRole role, Index layer, const auto& norm) {
    save_norm(norm, writer, family.key(role, layer), family.naming);
  });
}

template <TensorSource File>
std::vector<NormInFile> find_norms(const File& file, const Family& family) {
  std::vector<NormInFile> norms;
  for (const auto& name : file.names()) {
    const detail::NormName parts(name);
    if (!parts.is_scale && !parts.is_shift) continue;
    for (std::size_t i = 0; i < detail::role_count; ++i) {
      const auto role = static_cast<NormRole>(i);
      const Index layer = detail::layer_of(family, role, parts.norm);
      if (layer < 0) continue;
      Index channels = 1;
      for (const auto extent : file.shape(name)) channels *= static_cast<Index>(extent);
      norms.push_back({role, layer, std::string(parts.norm), channels});
    }
  }
  const auto place = [](const NormInFile& norm) {
    const int part = norm.role == NormRole::embedding ? 0 : norm.role == NormRole::final ? 2 : 1;
    return std::tuple(part, norm.layer, norm.role, std::string_view(norm.prefix));
  };
  std::stable_sort(norms.begin(), norms.end(), [&](const NormInFile& one, const NormInFile& other) {
    return place(one) < place(other);
  });
  // A norm's two parameters stand together now.
  norms.erase(std::unique(norms.begin(), norms.end(),
                          [&](const NormInFile& one, const NormInFile& other) {
                            return place(one) == place(other);
                          }),
              norms.end());
  return norms;
}

}  // namespace tokennorm

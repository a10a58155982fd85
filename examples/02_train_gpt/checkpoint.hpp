// SPDX-License-Identifier: MIT
/// The GPT as a safetensors checkpoint, under the names of a family that has its norms and their
/// placement: Pre-LN with LayerNorm. One table says what each tensor is called there.
///
///     save_gpt("gpt.safetensors", model, heads, vocabulary, tokennorm::families::gpt2);
///     SavedGpt saved = load_gpt(Safetensors::open("gpt.safetensors"), tokennorm::families::gpt2);
///
/// gpt2                as Hugging Face's GPT2LMHeadModel: Conv1D inside the blocks, which is
///                     W (inputs, outputs), and Q, K and V side by side in c_attn
/// llms_from_scratch   as GPTModel of rasbt/LLMs-from-scratch, chapters 4 and 5, with qkv_bias:
///                     PyTorch's Linear, W (outputs, inputs)
///
/// Both have a head W (outputs, inputs) without bias; this one's bias is a tensor more. Metadata
/// `heads`, and `characters`, the code points of the vocabulary, are what the tensors do not tell.
///
/// Throws   std::runtime_error on a file that does not have such a model, or cannot be written;
///          std::invalid_argument for a family that is not in the table
#pragma once

#include "corpus.hpp"
#include "gpt.hpp"
#include <tokennorm/checkpoint/safetensors.hpp>

#include <algorithm>
#include <array>
#include <filesystem>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gpt {

/// The model that checkpoints are written of.
using SavableGpt = Gpt<PreLNPlacement, tokennorm::LayerNorm<float>, float>;

struct SavedGpt {
  SavableGpt model;
  Index heads;
  Vocabulary vocabulary;
};

void save_gpt(const std::filesystem::path& path, SavableGpt& model, Index heads,
              const Vocabulary& vocabulary, const tokennorm::Family& family);

/// Whether the file says that it was written by save_gpt.
bool has_gpt(const tokennorm::Safetensors& file);

SavedGpt load_gpt(const tokennorm::Safetensors& file, const tokennorm::Family& family);

/// A family's name as options write it, "llms-from-scratch", and back.
std::string option_name(const tokennorm::Family& family);
const tokennorm::FamilyRow& family_of_option(std::string name);

// ---- names --------------------------------------------------------------------------------------

namespace detail {

/// A linear map or an embedding. {} is the layer; of three names, each has a third of the outputs.
struct TensorNames {
  std::string_view here;
  std::array<std::string_view, 3> there;
  bool transposed = false;  // of W (inputs, outputs), which it is here
};

struct Layout {
  std::string_view family;
  std::array<TensorNames, 7> names;
};

inline constexpr Layout layouts[] = {
    {"gpt2",
     {{{"embedding.token", {"wte"}},
       {"embedding.position", {"wpe"}},
       {"blocks.{}.attention.input", {"h.{}.attn.c_attn"}},
       {"blocks.{}.attention.output", {"h.{}.attn.c_proj"}},
       {"blocks.{}.feed_forward.input", {"h.{}.mlp.c_fc"}},
       {"blocks.{}.feed_forward.output", {"h.{}.mlp.c_proj"}},
       {"head", {"lm_head"}, true}}}},
    {"llms_from_scratch",
     {{{"embedding.token", {"tok_emb"}},
       {"embedding.position", {"pos_emb"}},
       {"blocks.{}.attention.input",
        {"trf_blocks.{}.att.W_query", "trf_blocks.{}.att.W_key", "trf_blocks.{}.att.W_value"},
        true},
       {"blocks.{}.attention.output", {"trf_blocks.{}.att.out_proj"}, true},
       {"blocks.{}.feed_forward.input", {"trf_blocks.{}.ff.layers.0"}, true},
       {"blocks.{}.feed_forward.output", {"trf_blocks.{}.ff.layers.2"}, true},
       {"head", {"out_head"}, true}}}},
};

inline const Layout& layout_of(const tokennorm::Family& family) {
  for (const Layout& layout : layouts) {
    if (layout.family == family.name) return layout;
  }
  throw std::invalid_argument("gpt: the tensors of " + std::string(family.name) +
                              " are not this model's; expected gpt2 or llms_from_scratch");
}

/// "blocks.3.attention.input.bias" taken apart.
struct NameParts {
  std::string map;        // "blocks.{}.attention.input"
  std::string layer;      // "3"
  std::string parameter;  // "bias"

  explicit NameParts(const std::string& name) : map(name), parameter("weight") {
    for (const std::string_view end : {".weight", ".bias"}) {
      if (!map.ends_with(end)) continue;
      parameter = end.substr(1);
      map.erase(map.size() - end.size());
    }
    const std::string_view blocks = "blocks.";
    if (!map.starts_with(blocks)) return;
    layer = map.substr(blocks.size(), map.find('.', blocks.size()) - blocks.size());
    map.replace(blocks.size(), layer.size(), "{}");
  }
};

/// What it is called in the file; part 1 and 2 are those of K and V.
inline std::string name_in_file(const TensorNames& names, std::size_t part,
                                const NameParts& parts) {
  std::string name(names.there[part]);
  if (const auto number = name.find("{}"); number != name.npos) {
    name.replace(number, 2, parts.layer);
  }
  return name + "." + parts.parameter;
}

/// f(name, tensor) for every tensor of the model but those of norms: what the file calls it, and a
/// view of the model's memory in the file's layout, to read or write.
template <class F>
void each_tensor(SavableGpt& model, const Layout& layout, const F& f) {
  model.visit_parameters([&](const std::string& name, auto& value, auto&) {
    const NameParts parts(name);
    const auto* const names =
        std::find_if(layout.names.begin(), layout.names.end(),
                     [&](const TensorNames& row) { return row.here == parts.map; });
    if (names == layout.names.end()) return;  // a norm
    const bool is_split = !names->there[1].empty();
    const Index width = is_split ? value.cols() / 3 : value.cols();
    for (std::size_t part = 0; part < (is_split ? 3U : 1U); ++part) {
      auto columns = value.middleCols(static_cast<Index>(part) * width, width);
      const std::string there = name_in_file(*names, part, parts);
      if constexpr (!std::decay_t<decltype(value)>::IsVectorAtCompileTime) {
        if (names->transposed) {
          f(there, columns.transpose());
          continue;
        }
      }
      f(there, columns);
    }
  });
}

// ---- reading ------------------------------------------------------------------------------------

inline std::string shape_text(const std::vector<Index>& shape) {
  std::string text;
  for (const Index size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

/// Rows and columns of an embedding.
inline std::pair<Index, Index> embedding_shape(const tokennorm::Safetensors& file,
                                               const TensorNames& names) {
  const std::string name = name_in_file(names, 0, NameParts(std::string(names.here)));
  const std::vector<Index>& shape = file.shape(name);
  if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1) {
    throw std::runtime_error("gpt: " + name + " is " + shape_text(shape) +
                             "; expected an embedding, (count, channels)");
  }
  return {shape[0], shape[1]};
}

/// The whole numbers that stand in a metadata value.
inline std::vector<unsigned long> numbers_in(const tokennorm::Safetensors& file,
                                             const std::string& key) {
  std::vector<unsigned long> numbers;
  std::istringstream text(file.metadata().at(key));
  for (unsigned long number = 0; text >> number;) numbers.push_back(number);
  if (!text.eof() || numbers.empty()) {
    throw std::runtime_error("gpt: the metadata " + key + " is not a list of numbers");
  }
  return numbers;
}

inline Vocabulary read_vocabulary(const tokennorm::Safetensors& file) {
  std::u32string characters;
  for (const unsigned long number : numbers_in(file, "characters")) {
    characters.push_back(static_cast<char32_t>(number));
  }
  return Vocabulary(characters);
}

}  // namespace detail

inline bool has_gpt(const tokennorm::Safetensors& file) {
  return file.metadata().contains("heads") && file.metadata().contains("characters");
}

inline SavedGpt load_gpt(const tokennorm::Safetensors& file, const tokennorm::Family& family) {
  const detail::Layout& layout = detail::layout_of(family);
  if (!has_gpt(file)) {
    throw std::runtime_error("gpt: the metadata has no heads and characters, as save_gpt writes");
  }
  const Vocabulary vocabulary = detail::read_vocabulary(file);
  const auto [tokens, channels] = detail::embedding_shape(file, layout.names[0]);
  const auto [context, position_channels] = detail::embedding_shape(file, layout.names[1]);
  if (tokens != vocabulary.size() || position_channels != channels) {
    throw std::runtime_error("gpt: the embeddings have " + std::to_string(tokens) + " x " +
                             std::to_string(channels) + " and " + std::to_string(context) + " x " +
                             std::to_string(position_channels) + " values; expected one row for " +
                             "each of the " + std::to_string(vocabulary.size()) +
                             " characters, and the same channels");
  }
  const auto norms = tokennorm::find_norms(file, family);
  const auto layers = std::count_if(norms.begin(), norms.end(), [](const auto& norm) {
    return norm.role == tokennorm::NormRole::attention;
  });
  const auto heads = static_cast<Index>(detail::numbers_in(file, "heads").front());

  std::mt19937_64 rng;  // what is drawn is overwritten
  SavedGpt saved{SavableGpt({tokens, context, layers, channels, heads}, rng), heads, vocabulary};
  tokennorm::load_norms(saved.model.stack(), file, family);
  detail::each_tensor(saved.model, layout, [&](const std::string& name, auto&& tensor) {
    std::vector<Index> expected{tensor.rows(), tensor.cols()};
    if (std::decay_t<decltype(tensor)>::IsVectorAtCompileTime) expected = {tensor.size()};
    if (file.shape(name) != expected) {
      throw std::runtime_error("gpt: " + name + " is " + detail::shape_text(file.shape(name)) +
                               "; expected " + detail::shape_text(expected));
    }
    tensor = file.matrix<float>(name);
  });
  return saved;
}

// ---- writing ------------------------------------------------------------------------------------

inline void save_gpt(const std::filesystem::path& path, SavableGpt& model, Index heads,
                     const Vocabulary& vocabulary, const tokennorm::Family& family) {
  tokennorm::SafetensorsWriter writer;
  detail::each_tensor(model, detail::layout_of(family),
                      [&](const std::string& name, auto&& tensor) { writer.add(name, tensor); });
  tokennorm::save_norms(model.stack(), writer, family);
  std::string characters;
  for (const char32_t character : vocabulary.characters()) {
    characters +=
        (characters.empty() ? "" : " ") + std::to_string(static_cast<unsigned long>(character));
  }
  writer.metadata("characters", characters);
  writer.metadata("heads", std::to_string(heads));
  writer.save(path);
}

inline std::string option_name(const tokennorm::Family& family) {
  std::string name(family.name);
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

inline const tokennorm::FamilyRow& family_of_option(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return tokennorm::find_family(name);
}

}  // namespace gpt

// SPDX-License-Identifier: MIT
/// A Llama from safetensors, under Meta's names or Hugging Face's. Its config is in another file.
///
/// Throws     std::runtime_error that names the file and what does not fit
#pragma once

#include "model.hpp"
#include <tokennorm/checkpoint/safetensors.hpp>

#include <filesystem>
#include <string>
#include <vector>

namespace llama {

using examples::fail;

inline Llama read_safetensors(const std::filesystem::path& file,
                              const std::filesystem::path& config_file) {
  const auto tensors = tokennorm::Safetensors::open(file);
  Config config = examples::read_config(config_file);
  const bool is_metas = tensors.contains("tok_embeddings.weight");
  config.tied = !tensors.contains(is_metas ? "output.weight" : "lm_head.weight");
  Llama model(config);
  std::vector<std::string> left = tensors.names();
  model.each_tensor([&](const std::string& meta, const std::string& hugging_face, auto tensor) {
    const std::string name = (is_metas ? meta : hugging_face) + ".weight";
    Tokens values = tensors.matrix<float>(name);
    const auto shape = [](const auto& matrix) {
      return std::to_string(matrix.rows()) + " x " + std::to_string(matrix.cols());
    };
    if (shape(values) != shape(tensor)) {
      fail(file,
           name + " is " + shape(values) + "; expected " + shape(tensor) + ", as the config says");
    }
    if (!values.allFinite()) fail(file, name + " has a value that is not finite");
    const bool is_rotated = meta.ends_with("wq") || meta.ends_with("wk");
    tensor = is_metas || !is_rotated ? values
                                     : examples::pairs_side_by_side(values, config.head_channels());
    std::erase(left, name);
  });
  std::erase_if(left, [](const auto& name) { return name.ends_with("rotary_emb.inv_freq"); });
  if (!left.empty()) fail(file, "has " + left.front() + ", which is no part of a Llama");
  return model;
}

}  // namespace llama

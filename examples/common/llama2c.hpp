// SPDX-License-Identifier: MIT
/// Llama models in llama2.c's format, version 0: seven numbers (channels, hidden, layers, heads, kv
/// heads, vocabulary, below 0 where the output has a matrix of its own, context), then float32
/// tensors; behind the last norm two tables of RoPE, which are not used any more.
///
///     auto model = read_llama2c<Llama>("stories260K.bin");      Llama(LlamaConfig)
///     write_llama2c("model.bin", model);
///
/// A model has config(), and each_tensor(f), which calls f(Meta's name, Hugging Face's name,
/// matrix) in the order of the file: each kind of tensor for all layers.
///
/// Throws     std::runtime_error that names the file and what does not fit
/// Source     karpathy/llama2.c: run.c, export.py (legacy_export)
#pragma once

#include "llama_config.hpp"

#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace examples {

template <class Model>
Model read_llama2c(const std::filesystem::path& file);
template <class Model>
void write_llama2c(const std::filesystem::path& file, Model&& model);

// ---------------------------------------------------------------------------------------------

namespace detail {

using Llama2cHeader = std::array<std::int32_t, 7>;

inline std::streamsize bytes_of(auto floats) { return static_cast<std::streamsize>(4 * floats); }

inline std::streamsize rope_tables(const LlamaConfig& config) {
  return bytes_of(config.context * config.head_channels());
}

inline std::streamsize llama2c_bytes(const LlamaConfig& config) {
  const Index c = config.channels;
  const Index layer = 2 * c + 2 * c * c + 2 * c * config.kv_channels() + 3 * c * config.hidden;
  const Index rest = config.vocabulary * c * (config.tied ? 1 : 2) + c;
  return static_cast<std::streamsize>(sizeof(Llama2cHeader)) +
         bytes_of(config.layers * layer + rest) + rope_tables(config);
}

}  // namespace detail

template <class Model>
Model read_llama2c(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  detail::Llama2cHeader head{};
  stream.read(reinterpret_cast<char*>(head.data()), sizeof head);
  if (!stream) fail(file, "cannot be read, or is too short for the seven numbers of llama2.c");
  if (head[0] == 0x616b3432) {
    fail(file, "is version " + std::to_string(head[1]) + " of llama2.c's format; expected 0");
  }
  const LlamaConfig config{head[0], head[1],    head[2], head[3], head[4], std::abs(Index{head[5]}),
                           head[6], head[5] > 0};
  config.check(file);
  const auto size = static_cast<std::streamsize>(std::filesystem::file_size(file));
  if (const std::streamsize expected = detail::llama2c_bytes(config); size != expected) {
    fail(file, "has " + std::to_string(size) + " bytes; expected " + std::to_string(expected) +
                   ", as its first seven numbers say");
  }
  Model model(config);
  model.each_tensor([&](const std::string& name, const std::string&, auto tensor) {
    if (name == "output") stream.ignore(detail::rope_tables(config));
    stream.read(reinterpret_cast<char*>(tensor.data()), detail::bytes_of(tensor.size()));
    if (!stream) fail(file, "reading " + name + " failed");
    if (!tensor.allFinite()) fail(file, name + " has a value that is not finite");
  });
  return model;
}

template <class Model>
void write_llama2c(const std::filesystem::path& file, Model&& model) {
  const LlamaConfig config = model.config();
  const Index sizes[] = {config.channels, config.hidden,     config.layers, config.heads,
                         config.kv_heads, config.vocabulary, config.context};
  detail::Llama2cHeader head{};
  for (std::size_t i = 0; i < head.size(); ++i) head[i] = static_cast<std::int32_t>(sizes[i]);
  if (!config.tied) head[5] = -head[5];
  std::ofstream stream(file, std::ios::binary);
  stream.write(reinterpret_cast<const char*>(head.data()), sizeof head);
  model.each_tensor([&](const std::string& name, const std::string&, const auto& tensor) {
    stream.write(reinterpret_cast<const char*>(tensor.data()), detail::bytes_of(tensor.size()));
    if (name == "norm") {
      const std::string zeros(static_cast<std::size_t>(detail::rope_tables(config)), '\0');
      stream.write(zeros.data(), detail::rope_tables(config));
    }
  });
  if (!stream.flush()) fail(file, "cannot be written");
}

}  // namespace examples

// SPDX-License-Identifier: MIT
/// Reads checkpoints in the GGUF format, as llama.cpp's converter writes them.
///
///     const Gguf file = Gguf::open("model.gguf");
///     load_norms(stack, file, family_from_gguf(file));       // names, ε and placement are there
///     file.matrix<float>("blk.0.attn_norm.weight");
///
/// Shapes   matrix(name): the leading dimensions are rows: (2, 3, 5) is 6 x 5, (5) is 1 x 5,
///          () is 1 x 1. The file lists the fastest dimension first, shape(name) last
/// Values   F64, F32, F16 and BF16 are converted, rounded once to nearest even; one that is finite
///          and beyond the scalar that is asked for is an error. Tensors of other types, quantized
///          ones among them, have names, shapes and dtypes, and no matrix
/// Scale    the +1 of Gemma, Nemotron and Qwen3-Next is in the file's values already: the norms
/// that
///          it is loaded into have scale_offset 0, and another is refused
/// Files    opening reads the header and checks it (gguf_header.hpp says what); a tensor's bytes
/// are
///          read when it is asked for, from a map of the file where the system can
/// Threads  a Gguf is const once it is open; copies are cheap and share the file
/// Throws   std::runtime_error that names the file, the tensor and the fault
/// Not covered: a file that another program shortens or overwrites while it is open; big-endian
///          files and version 1, which are refused by name; the other files of a model that is
///          split
/// Source   github.com/ggml-org/ggml, docs/gguf.md
#pragma once

#include "tokennorm/checkpoint/gguf_families.hpp"
#include "tokennorm/checkpoint/gguf_header.hpp"
#include "tokennorm/checkpoint/open_tensors.hpp"

#include <filesystem>
#include <memory>
#include <string_view>
#include <variant>

namespace tokennorm {

/// A checkpoint that is open for reading: names(), metadata(), contains(name), shape(name),
/// dtype(name), file_name(name), matrix<Scalar>(name).
class Gguf : public detail::OpenTensors<GgufMetadata> {
 public:
  static Gguf open(const std::filesystem::path& path);

  /// Who loads norms from here asks for this.
  static constexpr bool includes_scale_offset = true;

  /// The value of this key as a T of GgufValue's types; null where there is none, or of another
  /// type.
  template <class T>
  const T* metadata_if(std::string_view key) const {
    const auto at = metadata().find(key);
    return at == metadata().end() ? nullptr : std::get_if<T>(&at->second);
  }

 private:
  using OpenTensors::OpenTensors;
};

/// The family of the model that the file is of, under the file's names: with the ε that stands in
/// its metadata, and without a scale offset. Refused is a model whose metadata names another
/// residual rule than the family's.
inline Family family_from_gguf(const Gguf& file) {
  return detail::family_of_gguf(file.name(), file.metadata());
}

/// The same for an architecture of which there are several rows, as of T5 (the encoder's, which is
/// the first) and families::t5_decoder.
inline Family family_from_gguf(const Gguf& file, const FamilyRow& row) {
  return detail::family_of_gguf(file.name(), file.metadata(), &row);
}

// ---------------------------------------------------------------------------------------------

inline Gguf Gguf::open(const std::filesystem::path& path) {
  const auto file = std::make_shared<const File>(path);
  return Gguf(contents_of(file, detail::read_gguf_header(file->name, file->bytes)));
}

}  // namespace tokennorm

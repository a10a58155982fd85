// SPDX-License-Identifier: MIT
/// Reads checkpoints in the GGUF format, as llama.cpp's converter writes them.
///
///     const Gguf file = Gguf::open("model.gguf");
///     load_norms(stack, file, family_from_gguf(file));       // names, ε, rule: all is in the file
///     file.matrix<float>("blk.0.attn_norm.weight");
///
/// Shapes   matrix(name): the leading dimensions are rows: (2, 3, 5) is 6 x 5, (5) is 1 x 5,
///          () is 1 x 1. The file lists the fastest dimension first, shape(name) last
/// Values   F64, F32, F16 and BF16 are converted, rounded once to nearest even; one that is finite
///          and beyond the scalar that is asked for is an error. Tensors of other types, quantized
///          ones among them, have names, shapes and dtypes, and no matrix
/// Scale    the +1 of Gemma, Nemotron and Qwen3-Next is in the file's values already: norms that
///          they are loaded into have scale_offset 0, and another is refused. A norm with 16-bit
///          parameters would round γ with the 1; give it float ones
/// Files    opening reads the header and checks it (gguf_header.hpp says what); a tensor's bytes
///          are read when it is asked for: a file that was shortened by then is an error. Each
///          file stays open. "model-00001-of-00003.gguf" opens the other two beside it with it as
///          one checkpoint
/// Threads  a Gguf is const once it is open; copies are cheap and share the file
/// Throws   std::runtime_error that names the file, the tensor and the fault
/// Not covered: a file that another program overwrites while it is open; big-endian files and
///          version 1, which are refused by name
/// Source   github.com/ggml-org/ggml, docs/gguf.md
#pragma once

#include "tokennorm/checkpoint/gguf_families.hpp"
#include "tokennorm/checkpoint/gguf_header.hpp"
#include "tokennorm/checkpoint/open_tensors.hpp"

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace tokennorm {

/// A checkpoint that is open for reading: names(), metadata(), contains(name), shape(name),
/// dtype(name), file_name(name), matrix<Scalar>(name).
class Gguf : public detail::OpenTensors<GgufMetadata> {
 public:
  /// A file of tensors, or the first one of several that a model is split into, with the others
  /// beside it. The metadata is that of the first.
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
  static Contents read_file(const std::filesystem::path& path);
  static void add_other_files(Contents& contents, const std::filesystem::path& path);
};

/// The family of the model that the file is of, under the file's names: with the ε and the residual
/// scale that stand in its metadata, and without a scale offset. Refused is a model whose metadata
/// tells another rule for the residual stream than the family's.
Family family_from_gguf(const Gguf& file);

/// The same of this row, for an architecture that has several: families::t5_decoder, where the file
/// has the encoder too.
Family family_from_gguf(const Gguf& file, const FamilyRow& row);

// ---------------------------------------------------------------------------------------------

namespace detail {

inline Family family_of_file(const Gguf& file, const FamilyRow* row) {
  const auto has_tensor = [&](const std::string& name) { return file.contains(name); };
  return GgufModel(file.name(), file.metadata(), has_tensor).family(row);
}

}  // namespace detail

inline Family family_from_gguf(const Gguf& file) { return detail::family_of_file(file, nullptr); }
inline Family family_from_gguf(const Gguf& file, const FamilyRow& row) {
  return detail::family_of_file(file, &row);
}

inline Gguf Gguf::open(const std::filesystem::path& path) {
  Contents contents = read_file(path);
  add_other_files(contents, path);
  return Gguf(std::move(contents));
}

inline Gguf::Contents Gguf::read_file(const std::filesystem::path& path) {
  const auto file = std::make_shared<const File>(path);
  return contents_of(file, detail::read_gguf_header(file->name, file->bytes));
}

namespace detail {

/// A whole number of metadata, whatever its width; `otherwise` where there is none.
inline std::int64_t whole_number(const GgufMetadata& metadata, std::string_view key,
                                 std::int64_t otherwise) {
  const auto at = metadata.find(key);
  if (at == metadata.end()) return otherwise;
  if (const auto* number = std::get_if<std::int64_t>(&at->second)) return *number;
  const auto* number = std::get_if<std::uint64_t>(&at->second);
  return number != nullptr ? static_cast<std::int64_t>(*number) : otherwise;
}

/// "-00002-of-00003.gguf", the end of the name of the second file of three.
inline std::string split_suffix(std::int64_t number, std::int64_t count) {
  char text[64];
  std::snprintf(text, sizeof text, "-%05lld-of-%05lld.gguf", static_cast<long long>(number),
                static_cast<long long>(count));
  return text;
}

}  // namespace detail

inline void Gguf::add_other_files(Contents& contents, const std::filesystem::path& path) {
  const std::int64_t count = detail::whole_number(contents.metadata, "split.count", 1);
  if (count <= 1) return;
  const std::string first = detail::split_suffix(1, count), name = path.filename().string();
  if (!name.ends_with(first)) {
    detail::fail_file(contents.name, "is one of " + std::to_string(count) +
                                         " files that a model is split into; " +
                                         "expected the first, whose name ends in " + first);
  }
  const std::string stem = name.substr(0, name.size() - first.size());
  const auto check_number = [&](const Contents& file, std::int64_t number) {
    const std::int64_t number_there = detail::whole_number(file.metadata, "split.no", -1) + 1;
    const std::int64_t count_there = detail::whole_number(file.metadata, "split.count", 1);
    if (number_there == number && count_there == count) return;
    detail::fail_file(file.name, "is file " + std::to_string(number_there) + " of " +
                                     std::to_string(count_there) + "; expected " +
                                     std::to_string(number) + " of " + std::to_string(count));
  };
  check_number(contents, 1);
  for (std::int64_t number = 2; number <= count; ++number) {
    Contents other = read_file(path.parent_path() / (stem + detail::split_suffix(number, count)));
    check_number(other, number);
    contents.tensors.merge(other.tensors);
    if (other.tensors.empty()) continue;
    detail::fail_tensor(other.name, other.tensors.begin()->first,
                        "stands in another file of the model too; expected once");
  }
  const auto there = static_cast<std::int64_t>(contents.tensors.size());
  const std::int64_t expected =
      detail::whole_number(contents.metadata, "split.tensors.count", there);
  if (there != expected) {
    detail::fail_file(contents.name, "the model's " + std::to_string(count) + " files have " +
                                         std::to_string(there) + " tensors; expected " +
                                         std::to_string(expected));
  }
}

}  // namespace tokennorm

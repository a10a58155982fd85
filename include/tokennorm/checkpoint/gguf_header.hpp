// SPDX-License-Identifier: MIT
/// The header of a GGUF file: bytes in, checked entries out.
///
///     "GGUF", version (u32), count of tensors (u64), count of metadata (u64)
///     metadata         key, type (u32), value; of an array type (u32), length (u64), elements
///     tensors          name, number of dimensions (u32), dimensions (u64), fastest first,
///                      type (u32), offset (u64)
///     padding, data    offsets count from its first byte, and are multiples of general.alignment
///
/// Strings are a length (u64) and so many bytes. All is little-endian.
///
/// What is checked: version 2 or 3; each count and length against the bytes that are left, before
/// memory is taken; each key and each name once; types; general.alignment; sizes, without overflow;
/// data inside the file, aligned and without overlap. Of a type that is not known, of which there
/// are new ones with time, the size is not checked. A header has 100 MB at most.
///
/// Throws   std::runtime_error that names the file, the tensor and the fault
/// Source   github.com/ggml-org/ggml, docs/gguf.md; sizes of types as in llama.cpp's gguf-py
#pragma once

#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/checkpoint/gguf_reader.hpp"
#include "tokennorm/checkpoint/stored_tensor.hpp"
#include "tokennorm/core/scalar.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tokennorm {

namespace detail {

struct GgufHeader {
  std::map<std::string, TensorEntry, std::less<>> tensors;
  GgufMetadata metadata;
};

/// The header of a file, of which `bytes` has size() and read(begin, to, count).
template <class Bytes>
GgufHeader read_gguf_header(const std::string& file, const Bytes& bytes);

/// A type of tensors: so many elements, along the fastest dimension, in so many bytes.
struct GgufType {
  std::uint32_t number;
  std::string_view name;
  std::uint64_t elements, bytes;
};
// clang-format off
inline constexpr GgufType gguf_types[] = {
    {0, "F32", 1, 4},         {1, "F16", 1, 2},          {30, "BF16", 1, 2},
    {28, "F64", 1, 8},        {24, "I8", 1, 1},          {25, "I16", 1, 2},
    {26, "I32", 1, 4},        {27, "I64", 1, 8},
    {2, "Q4_0", 32, 18},      {3, "Q4_1", 32, 20},       {6, "Q5_0", 32, 22},
    {7, "Q5_1", 32, 24},      {8, "Q8_0", 32, 34},       {9, "Q8_1", 32, 40},
    {10, "Q2_K", 256, 84},    {11, "Q3_K", 256, 110},    {12, "Q4_K", 256, 144},
    {13, "Q5_K", 256, 176},   {14, "Q6_K", 256, 210},    {15, "Q8_K", 256, 292},
    {16, "IQ2_XXS", 256, 66}, {17, "IQ2_XS", 256, 74},   {22, "IQ2_S", 256, 82},
    {18, "IQ3_XXS", 256, 98}, {21, "IQ3_S", 256, 110},   {19, "IQ1_S", 256, 50},
    {29, "IQ1_M", 256, 56},   {20, "IQ4_NL", 32, 18},    {23, "IQ4_XS", 256, 136},
    {34, "TQ1_0", 256, 54},   {35, "TQ2_0", 256, 66},    {39, "MXFP4", 32, 17},
    {40, "NVFP4", 64, 36},    {41, "Q1_0", 128, 18}};
// clang-format on

inline const GgufType* gguf_type(std::uint32_t number) {
  for (const GgufType& type : gguf_types)
    if (type.number == number) return &type;
  return nullptr;
}

/// The first bytes: fails unless they are those of a file that is read here.
template <class Reader>
void read_gguf_version(Reader& reader, const std::string& file, std::string_view begin,
                       std::uint64_t file_size) {
  if (!begin.starts_with("GGUF")) {
    fail_other_kind(file, begin);
    if (begin.size() > 8 && begin[8] == '{') {
      fail_file(file, "is a safetensors file; open it with Safetensors::open");
    }
    fail_file(file,
              "the file starts with " + in_quotes(begin.substr(0, 4)) + "; expected \"GGUF\"");
  }
  constexpr std::uint64_t least = 24;
  if (file_size < least) {
    fail_file(file, "the file has " + std::to_string(file_size) +
                        " bytes; expected at least 24, the beginning of a header");
  }
  reader.skip(4, "");
  const auto version = reader.template number<std::uint32_t>("the version");
  if (version > 0 && (version & 0xffff) == 0) {
    fail_file(file, "is a big-endian GGUF file; expected a little-endian one");
  }
  if (version != 2 && version != 3) {
    fail_file(file, "is GGUF of version " + std::to_string(version) + "; expected 2 or 3");
  }
}

/// Fails unless the header has room for so many of at least `size` bytes each.
template <class Reader>
void check_gguf_count(const Reader& reader, const char* what, std::uint64_t count,
                      std::uint64_t size) {
  if (count <= reader.room_for(size)) return;
  reader.fail(std::string(what) + " is " + std::to_string(count) + "; expected at most the " +
              std::to_string(reader.room_for(size)) + " that the header has room for");
}

template <class Reader>
GgufMetadata read_gguf_metadata(Reader& reader, std::uint64_t count) {
  GgufMetadata metadata;
  for (std::uint64_t i = 0; i < count; ++i) {
    reader.subject = "metadata " + std::to_string(i) + ": ";
    const std::string key = reader.string("its key");
    reader.subject = "metadata " + in_quotes(key) + ": ";
    if (metadata.contains(key)) reader.fail("stands there twice; expected once");
    metadata.emplace(key, read_gguf_value(reader));
  }
  return metadata;
}

/// What offsets are multiples of.
inline std::uint64_t gguf_alignment(const std::string& file, const GgufMetadata& metadata) {
  const auto at = metadata.find("general.alignment");
  if (at == metadata.end()) return 32;
  const auto* const alignment = std::get_if<std::uint64_t>(&at->second);
  if (alignment == nullptr) fail_file(file, "general.alignment is no u32; expected one");
  if (*alignment == 0 || *alignment % 8 != 0 ||
      *alignment > std::numeric_limits<std::uint32_t>::max()) {
    fail_file(file, "general.alignment is " + std::to_string(*alignment) +
                        "; expected a multiple of 8, below 2³²");
  }
  return *alignment;
}

/// One tensor, its bytes counted from the first one of the data.
template <class Reader>
TensorEntry read_gguf_tensor(Reader& reader, const std::string& file, const std::string& name) {
  TensorEntry tensor;
  const auto dimensions = reader.template number<std::uint32_t>("its number of dimensions");
  constexpr std::uint32_t most = 4;
  if (dimensions > most) {
    reader.fail("has " + std::to_string(dimensions) + " dimensions; expected at most 4");
  }
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    const auto size = reader.template number<std::uint64_t>("its shape");
    if (size > static_cast<std::uint64_t>(std::numeric_limits<Index>::max())) {
      reader.fail("shape holds " + std::to_string(size) + "; expected at most 2⁶³ - 1");
    }
    tensor.shape.insert(tensor.shape.begin(), static_cast<Index>(size));
  }
  const auto number = reader.template number<std::uint32_t>("its type");
  tensor.begin = tensor.end = reader.template number<std::uint64_t>("its offset");

  const GgufType* const type = gguf_type(number);
  tensor.dtype = type == nullptr ? "type " + std::to_string(number) : std::string(type->name);
  const auto fail_shape = [&](const char* expected) {
    fail_tensor(
        file, name,
        "shape is " + shape_text(tensor.shape) + " of " + tensor.dtype + "; expected " + expected);
  };
  Index elements = 1;
  std::uint64_t size = 0;
  if (!multiply_dimensions(tensor.shape, elements)) fail_shape("less than 2⁶³ elements");
  if (type == nullptr || tensor.rows() * tensor.columns() == 0) return tensor;
  if (static_cast<std::uint64_t>(tensor.columns()) % type->elements != 0) {
    fail_shape(("rows of a multiple of " + std::to_string(type->elements)).c_str());
  }
  if (__builtin_mul_overflow(static_cast<std::uint64_t>(elements) / type->elements, type->bytes,
                             &size) ||
      __builtin_add_overflow(tensor.begin, size, &tensor.end)) {
    fail_shape("less than 2⁶⁴ bytes up to its end");
  }
  return tensor;
}

/// Fails unless all data is inside the file, aligned and each tensor's own.
inline void check_gguf_places(const std::string& file, const GgufHeader& header,
                              std::uint64_t alignment, std::uint64_t data_size) {
  using Named = std::map<std::string, TensorEntry, std::less<>>::value_type;
  std::vector<const Named*> by_offset;
  for (const Named& named : header.tensors) {
    const auto& [name, tensor] = named;
    if (tensor.begin % alignment != 0) {
      fail_tensor(file, name,
                  "offset is " + std::to_string(tensor.begin) + "; expected a multiple of " +
                      std::to_string(alignment));
    }
    if (tensor.end > data_size) {
      fail_tensor(file, name,
                  "stands at bytes [" + std::to_string(tensor.begin) + ", " +
                      std::to_string(tensor.end) + "] of the data; expected at most the " +
                      std::to_string(data_size) + " bytes of data that the file has");
    }
    if (tensor.end > tensor.begin) by_offset.push_back(&named);
  }
  std::sort(by_offset.begin(), by_offset.end(), [](const Named* a, const Named* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  for (std::size_t i = 1; i < by_offset.size(); ++i) {
    const auto& [name, tensor] = *by_offset[i];
    const auto& [before, other] = *by_offset[i - 1];
    if (tensor.begin >= other.end) continue;
    fail_tensor(file, name,
                "begins at byte " + std::to_string(tensor.begin) + " of the data, inside tensor " +
                    in_quotes(before) + ", which ends at " + std::to_string(other.end) +
                    "; expected no overlap");
  }
}

template <class Bytes>
GgufHeader read_gguf_header(const std::string& file, const Bytes& bytes) {
  const std::uint64_t size = bytes.size();
  std::string begin(std::min<std::uint64_t>(size, 64), '\0');
  bytes.read(0, begin.data(), begin.size());
  GgufReader<Bytes> reader(file, bytes);
  read_gguf_version(reader, file, begin, size);
  const auto tensor_count = reader.template number<std::uint64_t>("the number of tensors");
  const auto metadata_count = reader.template number<std::uint64_t>("the number of metadata");
  // A tensor takes at least the lengths of its name and shape, type and offset; metadata the length
  // of its key, type and a byte.
  check_gguf_count(reader, "the number of tensors", tensor_count, 24);
  check_gguf_count(reader, "the number of metadata", metadata_count, 13);

  GgufHeader header;
  header.metadata = read_gguf_metadata(reader, metadata_count);
  const std::uint64_t alignment = gguf_alignment(file, header.metadata);
  for (std::uint64_t i = 0; i < tensor_count; ++i) {
    reader.subject = "tensor " + std::to_string(i) + ": ";
    const std::string name = reader.string("its name");
    reader.subject = "tensor " + in_quotes(name) + ": ";
    if (header.tensors.contains(name)) reader.fail("stands there twice; expected once");
    header.tensors.emplace(name, read_gguf_tensor(reader, file, name));
  }
  const std::uint64_t data = (reader.position() + alignment - 1) / alignment * alignment;
  if (tensor_count > 0 && data > size) {
    fail_file(file, "the file has " + std::to_string(size) + " bytes; expected at least the " +
                        std::to_string(data) + " before the data");
  }
  check_gguf_places(file, header, alignment, size > data ? size - data : 0);
  for (auto& named : header.tensors) {
    named.second.begin += data;
    named.second.end += data;
  }
  return header;
}

}  // namespace detail
}  // namespace tokennorm

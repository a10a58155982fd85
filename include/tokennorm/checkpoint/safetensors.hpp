// SPDX-License-Identifier: MIT
/// Reads and writes checkpoints in the safetensors format.
///
///     const Safetensors file = Safetensors::open("model.safetensors");
///     const TokenMatrix<float> weight = file.matrix<float>("h.0.ln_1.weight");
///
///     SafetensorsWriter writer;
///     writer.add("h.0.ln_1.weight", norm.scale());
///     writer.save("norms.safetensors");
///
/// Shapes   matrix(name): the leading dimensions are rows: (2, 3, 5) is 6 x 5, (5) is 1 x 5,
///          () is 1 x 1. add(name, m): what is a vector at compile time is (n), else (rows,
///          columns)
/// Values   F64, F32, F16 and BF16 are converted, rounded once to nearest even; one that is finite
///          and beyond the scalar that is asked for is an error. Each is written as what it is
/// Files    opening reads the header and checks it (safetensors_header.hpp says what); a tensor's
///          bytes are read when it is asked for: a file that was shortened by then is an error.
///          Each file stays open. "model.safetensors.index.json" opens the shards that stand
///          beside it as one checkpoint; links are followed, as caches of downloads have them
/// Threads  a Safetensors is const once it is open; copies are cheap and share the files
/// Throws   std::runtime_error that names the file, the tensor and the fault; of a writer that is
///          given the same name twice, std::invalid_argument
/// Not covered: a file that another program overwrites while it is open
/// Needs    the CMake target tokennorm::safetensors, or nlohmann-json
/// Source   github.com/huggingface/safetensors
#pragma once

#include "tokennorm/checkpoint/config.hpp"  // what reads a model reads its config.json too
#include "tokennorm/checkpoint/file_aside.hpp"
#include "tokennorm/checkpoint/open_tensors.hpp"
#include "tokennorm/checkpoint/random_access_file.hpp"
#include "tokennorm/checkpoint/safetensors_header.hpp"
#include "tokennorm/checkpoint/shard_index.hpp"
#include "tokennorm/checkpoint/stored_tensor.hpp"
#include "tokennorm/core/concepts.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace tokennorm {

/// A checkpoint that is open for reading: names(), metadata(), contains(name), shape(name),
/// dtype(name), file_name(name), matrix<Scalar>(name).
class Safetensors : public detail::OpenTensors<std::map<std::string, std::string>> {
 public:
  /// A file of tensors, or, where the name ends in ".json", the index of several. Of their tensors
  /// those that the index names are there; of their metadata all, the first shard's where two have
  /// the same key.
  static Safetensors open(const std::filesystem::path& path);

 private:
  using OpenTensors::OpenTensors;
  static Contents read_file(const std::filesystem::path& path);
  static Contents read_shards(const std::filesystem::path& index);
};

/// Gathers tensors, and writes them as one file. Holds a copy of each.
class SafetensorsWriter {
 public:
  /// An Eigen dense expression of double, float, half or bfloat16.
  template <class Derived>
  void add(const std::string& name, const Eigen::DenseBase<Derived>& matrix);
  /// An entry of "__metadata__".
  void metadata(const std::string& key, const std::string& value);

  /// The file is written under another name in the same folder, then renamed: a reader sees what
  /// was there before or all of the new one. A symbolic link is followed, the mode of a file that
  /// is replaced stays, and what is no file (a folder, a device) is refused.
  void save(const std::filesystem::path& path) const;

 private:
  struct Tensor {
    std::string name;
    std::string dtype;
    std::vector<Index> shape;
    std::string bytes;
  };

  std::string header() const;

  /// By the bytes of a scalar, the widest first, so that each stands aligned.
  std::map<std::size_t, std::vector<Tensor>, std::greater<>> tensors_;
  std::set<std::string> names_;
  std::map<std::string, std::string> metadata_;
};

// ---- reading

inline Safetensors Safetensors::open(const std::filesystem::path& path) {
  const bool sharded = path.extension() == ".json";
  return Safetensors(sharded ? read_shards(path) : read_file(path));
}

inline Safetensors::Contents Safetensors::read_file(const std::filesystem::path& path) {
  const auto file = std::make_shared<const File>(path);
  return contents_of(file, detail::read_header(file->name, file->bytes));
}

inline Safetensors::Contents Safetensors::read_shards(const std::filesystem::path& index) {
  const std::string index_name = index.string();
  const std::string text = detail::read_text(index, "the index", detail::largest_header);

  Contents contents{index_name, {}, {}};
  std::map<std::string, Contents> shards;
  for (const auto& [name, shard] : detail::parse_shard_index(index_name, text)) {
    auto at = shards.find(shard);
    if (at == shards.end()) {
      at = shards.emplace(shard, read_file(index.parent_path() / shard)).first;
    }
    const auto tensor = at->second.tensors.find(name);
    if (tensor == at->second.tensors.end()) {
      detail::fail_tensor(index_name, name, "is not in " + shard + ", where the index has it");
    }
    contents.tensors.emplace_hint(contents.tensors.end(), name, tensor->second);
  }
  for (const auto& named : shards)
    contents.metadata.insert(named.second.metadata.begin(), named.second.metadata.end());
  return contents;
}

// ---- writing

namespace detail {

/// `text` as JSON writes it. A name that is not UTF-8 has no such form.
inline std::string json_string(const char* what, const std::string& text) {
  std::string json = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') json += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) {
      json += c;
    } else {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c));
      json += escaped;
    }
  }
  json += '"';
  if (!nlohmann::json::accept(json)) {
    fail({"SafetensorsWriter"}, {what, " ", in_quotes(text).c_str(), " is not UTF-8"});
  }
  return json;
}

}  // namespace detail

template <class Derived>
void SafetensorsWriter::add(const std::string& name, const Eigen::DenseBase<Derived>& matrix) {
  using Scalar = typename Derived::Scalar;
  static_assert(NativeScalar<Scalar>,
                "SafetensorsWriter::add: expected a matrix of float, double, Eigen::half or "
                "Eigen::bfloat16; give it, for instance, x.cast<double>().");
  detail::json_string("the name", name);
  if (name == "__metadata__") {
    detail::fail({"SafetensorsWriter"},
                 {"the name \"__metadata__\" is reserved by the format; expected another"});
  }
  if (names_.contains(name)) {
    detail::fail({"SafetensorsWriter"}, {"tensor ", detail::in_quotes(name).c_str(),
                                         " is there already; expected a new name"});
  }

  const TokenMatrix<Scalar> values = matrix.derived().matrix();
  const auto size = static_cast<std::size_t>(values.size());
  Tensor tensor{name, detail::dtype_of<Scalar>, {values.rows(), values.cols()}, {}};
  if (Derived::IsVectorAtCompileTime) tensor.shape = {values.size()};
  tensor.bytes.assign(reinterpret_cast<const char*>(values.data()), size * sizeof(Scalar));
  names_.insert(name);
  tensors_[sizeof(Scalar)].push_back(std::move(tensor));
}

inline void SafetensorsWriter::metadata(const std::string& key, const std::string& value) {
  detail::json_string("the metadata key", key);
  detail::json_string("the metadata value", value);
  if (!metadata_.emplace(key, value).second) {
    detail::fail({"SafetensorsWriter"}, {"metadata ", detail::in_quotes(key).c_str(),
                                         " is there already; expected a new key"});
  }
}

inline std::string SafetensorsWriter::header() const {
  std::string text = "{";
  const auto member = [&](const std::string& name) {
    if (text.back() != '{') text += ',';
    text += detail::json_string("the name", name) + ":";
  };
  if (!metadata_.empty()) {
    member("__metadata__");
    text += '{';
    for (const auto& [key, value] : metadata_) {
      member(key);
      text += detail::json_string("the metadata value", value);
    }
    text += '}';
  }
  std::size_t begin = 0;
  for (const auto& [width, tensors] : tensors_) {
    for (const Tensor& tensor : tensors) {
      const std::size_t end = begin + tensor.bytes.size();
      member(tensor.name);
      text += "{\"dtype\":\"" + tensor.dtype + "\",\"shape\":[";
      for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
        if (i > 0) text += ',';
        text += std::to_string(tensor.shape[i]);
      }
      text += "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(end) + "]}";
      begin = end;
    }
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that data starts at a multiple of 8
  return text;
}

inline void SafetensorsWriter::save(const std::filesystem::path& path) const {
  const std::string text = header();
  if (text.size() > detail::largest_header) {
    detail::fail_file(path.string(), "the header would have " + std::to_string(text.size()) +
                                         " bytes; the format has at most 100000000");
  }
  const auto length = std::bit_cast<std::array<char, 8>>(std::uint64_t{text.size()});
  detail::FileAside file(path);
  file.write({length.data(), length.size()});
  file.write(text);
  for (const auto& [width, tensors] : tensors_) {
    for (const Tensor& tensor : tensors) file.write(tensor.bytes);
  }
  file.rename();
}

}  // namespace tokennorm

// SPDX-License-Identifier: MIT
/// What every checkpoint that is open for reading has, whatever its format: tensors by name, each
/// in one of its files, and metadata.
///
/// Throws   std::runtime_error that names the file, the tensor and the fault
#pragma once

#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/checkpoint/random_access_file.hpp"
#include "tokennorm/checkpoint/stored_tensor.hpp"
#include "tokennorm/core/concepts.hpp"

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tokennorm::detail {

template <class Metadata>
class OpenTensors {
 public:
  // Without a move, which would leave a checkpoint that has not even an empty list of names.
  OpenTensors(const OpenTensors&) = default;
  OpenTensors& operator=(const OpenTensors&) = default;

  /// The file that was opened.
  const std::string& name() const { return contents_->name; }
  /// Of the tensors, sorted.
  std::vector<std::string> names() const;
  const Metadata& metadata() const { return contents_->metadata; }
  bool contains(std::string_view name) const { return contents_->tensors.contains(name); }

  const std::vector<Index>& shape(std::string_view name) const { return find(name).entry.shape; }
  /// As the file has it: "F32", "BF16", "I64", …, or one that is not known here.
  const std::string& dtype(std::string_view name) const { return find(name).entry.dtype; }
  /// The file that has the tensor: of a sharded checkpoint one of several.
  const std::string& file_name(std::string_view name) const { return find(name).file->name; }
  template <class Scalar>
  TokenMatrix<Scalar> matrix(std::string_view name) const;

 protected:
  struct File {
    explicit File(const std::filesystem::path& path) : name(path.string()), bytes(path) {}
    std::string name;
    RandomAccessFile bytes;
  };
  struct Tensor {
    std::shared_ptr<const File> file;
    TensorEntry entry;
  };
  struct Contents {
    std::string name;
    std::map<std::string, Tensor, std::less<>> tensors;
    Metadata metadata;
  };

  explicit OpenTensors(Contents contents)
      : contents_(std::make_shared<const Contents>(std::move(contents))) {}
  ~OpenTensors() = default;

  /// What the header of one file says.
  template <class Header>
  static Contents contents_of(const std::shared_ptr<const File>& file, Header header);

 private:
  const Tensor& find(std::string_view name) const;

  std::shared_ptr<const Contents> contents_;
};

template <class Metadata>
std::vector<std::string> OpenTensors<Metadata>::names() const {
  std::vector<std::string> names;
  names.reserve(contents_->tensors.size());
  for (const auto& named : contents_->tensors) names.push_back(named.first);
  return names;
}

template <class Metadata>
template <class Scalar>
TokenMatrix<Scalar> OpenTensors<Metadata>::matrix(std::string_view name) const {
  constexpr bool is_native = NativeScalar<Scalar>;  // of a concept Clang says more, of no use here
  static_assert(is_native,
                "tokennorm: a tensor is read as float, double, Eigen::half or Eigen::bfloat16; "
                "name one of these, and cast from double to any other scalar.");
  if constexpr (is_native) {
    const auto& [file, entry] = find(name);
    return read_tensor<Scalar>(file->name, file->bytes, name, entry);
  } else {
    return {};
  }
}

template <class Metadata>
auto OpenTensors<Metadata>::find(std::string_view name) const -> const Tensor& {
  const auto at = contents_->tensors.find(name);
  if (at == contents_->tensors.end()) {
    fail_tensor(
        contents_->name, name,
        "is not among the " + std::to_string(contents_->tensors.size()) + " that there are");
  }
  return at->second;
}

template <class Metadata>
template <class Header>
auto OpenTensors<Metadata>::contents_of(const std::shared_ptr<const File>& file, Header header)
    -> Contents {
  Contents contents{file->name, {}, std::move(header.metadata)};
  for (auto& [name, entry] : header.tensors)
    contents.tensors.emplace_hint(contents.tensors.end(), name, Tensor{file, std::move(entry)});
  return contents;
}

}  // namespace tokennorm::detail

// SPDX-License-Identifier: MIT
// A GGUF file put together by hand: nothing here goes through the library.
#pragma once

#include <tokennorm/core/scalar.hpp>

#include <Eigen/Core>

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace tokennorm::test {

/// The bytes of a number.
template <class Number>
std::string raw(Number number) {
  return {reinterpret_cast<const char*>(&number), sizeof number};
}
inline std::string gguf_text(std::string_view text) {
  return raw(std::uint64_t{text.size()}).append(text);
}

template <class Number>
constexpr std::uint32_t gguf_kind_of() {
  if (std::is_same_v<Number, bool>) return 7;
  if (std::is_same_v<Number, float>) return 6;
  if (std::is_same_v<Number, double>) return 12;
  constexpr std::uint32_t by_width[] = {0, 0, 2, 0, 4, 0, 0, 0, 10};
  return by_width[sizeof(Number)] + (std::is_signed_v<Number> ? 1 : 0);
}

template <class Scalar>
inline constexpr std::uint32_t gguf_type_of = 0;
template <>
inline constexpr std::uint32_t gguf_type_of<Eigen::half> = 1;
template <>
inline constexpr std::uint32_t gguf_type_of<double> = 28;
template <>
inline constexpr std::uint32_t gguf_type_of<Eigen::bfloat16> = 30;

class GgufFile {
 public:
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;  // written down by the test, where it is another

  /// The value as its type and bytes.
  GgufFile& value(std::string_view key, std::uint32_t kind, const std::string& bytes) {
    metadata_ += gguf_text(key) + raw(kind) + bytes;
    ++metadata_count_;
    return *this;
  }
  template <class Number>
  GgufFile& number(std::string_view key, Number value_) {
    return value(key, gguf_kind_of<Number>(), raw(value_));
  }
  GgufFile& text(std::string_view key, std::string_view value_) {
    return value(key, 8, gguf_text(value_));
  }

  /// A tensor of this shape, the fastest dimension last.
  GgufFile& add(std::string_view name, const std::vector<std::uint64_t>& shape, std::uint32_t type,
                const std::string& bytes) {
    data_.resize((data_.size() + alignment - 1) / alignment * alignment, '\0');
    return add_at(name, shape, type, data_.size(), bytes);
  }
  GgufFile& add_at(std::string_view name, const std::vector<std::uint64_t>& shape,
                   std::uint32_t type, std::uint64_t offset, const std::string& bytes = "") {
    tensors_ += gguf_text(name) + raw(static_cast<std::uint32_t>(shape.size()));
    for (auto size = shape.rbegin(); size != shape.rend(); ++size) tensors_ += raw(*size);
    tensors_ += raw(type) + raw(offset);
    ++tensor_count_;
    data_ += bytes;
    return *this;
  }
  template <class Scalar>
  GgufFile& add(std::string_view name, const Eigen::Matrix<Scalar, Eigen::Dynamic, 1>& vector) {
    const auto size = static_cast<std::size_t>(vector.size());
    return add(name, {size}, gguf_type_of<Scalar>,
               {reinterpret_cast<const char*>(vector.data()), size * sizeof(Scalar)});
  }

  std::string header() const {
    std::string bytes = "GGUF" + raw(version) + raw(tensor_count_) + raw(metadata_count_);
    return bytes + metadata_ + tensors_;
  }
  std::string bytes() const {
    std::string bytes = header();
    bytes.resize((bytes.size() + alignment - 1) / alignment * alignment, '\0');
    return bytes + data_;
  }

 private:
  std::string metadata_, tensors_, data_;
  std::uint64_t metadata_count_ = 0, tensor_count_ = 0;
};

}  // namespace tokennorm::test

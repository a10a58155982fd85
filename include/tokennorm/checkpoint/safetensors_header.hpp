// SPDX-License-Identifier: MIT
/// The header of a safetensors file: JSON text in, checked entries out. Files are not touched here.
///
///     bytes 0…7        n, the length of the header, little-endian
///     bytes 8…7+n      {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …,
///                       "__metadata__": {"key": "value", …}}, padded with spaces
///     the rest         the data; offsets count from its first byte
///
/// What is checked: everything the format asks for. n of at most 100 MB and inside the file; JSON
/// that starts with '{'; each name, each member of an entry and each metadata key once; sizes that
/// match dtype and shape, without overflow; data that the tensors fill without gap, overlap or
/// rest. Of a dtype that is not known the size is not checked. The parser is nlohmann's, event by
/// event, which needs no stack for depth; and whatever stands where the format has no place for it
/// ends the reading at once.
///
/// Throws   std::runtime_error that names the file, the tensor and the fault
/// Source   github.com/huggingface/safetensors, README.md, "Format"
#pragma once

#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/checkpoint/json_events.hpp"
#include "tokennorm/checkpoint/stored_tensor.hpp"
#include "tokennorm/core/checks.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tokennorm::detail {

struct SafetensorsHeader {
  std::map<std::string, TensorEntry, std::less<>> tensors;
  std::map<std::string, std::string> metadata;
};

/// The number of bytes of header that the first eight of the file announce; `begin` has a few more.
std::uint64_t header_length(const std::string& file, std::uint64_t file_size,
                            std::string_view begin);

/// The header, from its text; `data_size` bytes stand behind it.
SafetensorsHeader parse_header(const std::string& file, std::string_view text,
                               std::uint64_t data_size);

/// The header of a file, of which `bytes` has size() and read(begin, to, count).
template <class Bytes>
SafetensorsHeader read_header(const std::string& file, const Bytes& bytes);

/// The bits of one element, 0 for a dtype that is not known: newer ones come with time.
inline std::uint64_t dtype_bits(std::string_view dtype) {
  struct Row {
    std::string_view name;
    std::uint64_t bits;
  };
  static constexpr Row table[] = {
      {"F64", 64},    {"F32", 32},    {"F16", 16},        {"BF16", 16},       {"I64", 64},
      {"U64", 64},    {"C64", 64},    {"I32", 32},        {"U32", 32},        {"I16", 16},
      {"U16", 16},    {"I8", 8},      {"U8", 8},          {"BOOL", 8},        {"F8_E4M3", 8},
      {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"F6_E2M3", 6},
      {"F6_E3M2", 6}, {"F4", 4}};
  for (const Row& row : table)
    if (row.name == dtype) return row.bits;
  return 0;
}

/// Builds a SafetensorsHeader from the events, each judged by where it stands.
class HeaderReader final : public JsonEvents {
 public:
  explicit HeaderReader(const std::string& file) : JsonEvents(file, "the header") {}

  SafetensorsHeader header;

 private:
  enum class Place { outside, tensors, metadata, tensor, shape, offsets };

  void open(char bracket) override;
  void close() override;
  void take_key(std::string& name) override;
  void take(std::string& text) override;
  void number(std::uint64_t value) override;
  [[noreturn, gnu::cold]] void unexpected(const std::string& found) override;
  void check_complete() const;

  Place place_ = Place::outside;
  std::string name_;    // the tensor or "__metadata__" that was opened last
  std::string member_;  // the last key inside it
  bool has_metadata_ = false;
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;  // the tensor that is open
  std::vector<std::uint64_t> offsets_;
  TensorEntry* entry_ = nullptr;
};

inline void HeaderReader::open(char bracket) {
  const bool object = bracket == '{';
  if (place_ == Place::outside && object) {
    place_ = Place::tensors;
  } else if (place_ == Place::tensors && object) {
    place_ = name_ == "__metadata__" ? Place::metadata : Place::tensor;
    has_dtype_ = has_shape_ = has_offsets_ = false;
    offsets_.clear();
  } else if (place_ == Place::tensor && !object && member_ == "shape") {
    place_ = Place::shape;
  } else if (place_ == Place::tensor && !object && member_ == "data_offsets") {
    place_ = Place::offsets;
  } else {
    unexpected(object ? "an object" : "an array");
  }
}

inline void HeaderReader::close() {
  switch (place_) {
    case Place::shape:
    case Place::offsets:
      place_ = Place::tensor;
      break;
    case Place::tensor:
      check_complete();
      entry_->begin = offsets_[0];
      entry_->end = offsets_[1];
      [[fallthrough]];
    case Place::metadata:
      place_ = Place::tensors;
      break;
    case Place::tensors:
    case Place::outside:
      place_ = Place::outside;
  }
}

inline void HeaderReader::take_key(std::string& name) {
  if (place_ == Place::tensors) {
    name_ = std::move(name);
    if (name_ == "__metadata__") {
      if (has_metadata_) fail_file(file_, "__metadata__ stands there twice; expected once");
      has_metadata_ = true;
    } else {
      const auto [at, added] = header.tensors.try_emplace(name_);
      if (!added) fail_tensor(file_, name_, "stands there twice; expected once");
      entry_ = &at->second;
    }
  } else if (place_ == Place::metadata) {
    if (header.metadata.contains(name)) {
      fail_file(file_, "metadata " + in_quotes(name) + " stands there twice; expected once");
    }
    member_ = std::move(name);
  } else {
    bool* const seen = name == "dtype"          ? &has_dtype_
                       : name == "shape"        ? &has_shape_
                       : name == "data_offsets" ? &has_offsets_
                                                : nullptr;
    if (seen == nullptr) {
      fail_tensor(
          file_, name_,
          "has a member " + in_quotes(name) + "; expected dtype, shape and data_offsets only");
    }
    if (*seen) fail_tensor(file_, name_, name + " stands there twice; expected once");
    *seen = true;
    member_ = std::move(name);
  }
}

inline void HeaderReader::take(std::string& text) {
  if (place_ == Place::metadata) {
    header.metadata.emplace(member_, std::move(text));
  } else if (place_ == Place::tensor && member_ == "dtype") {
    entry_->dtype = std::move(text);
  } else {
    unexpected(in_quotes(text));
  }
}

inline void HeaderReader::number(std::uint64_t value) {
  if (place_ == Place::shape) {
    if (value > static_cast<std::uint64_t>(std::numeric_limits<Index>::max())) {
      unexpected(std::to_string(value));
    }
    entry_->shape.push_back(static_cast<Index>(value));
  } else if (place_ == Place::offsets) {
    offsets_.push_back(value);
  } else {
    unexpected(std::to_string(value));
  }
}

inline void HeaderReader::unexpected(const std::string& found) {
  switch (place_) {
    case Place::tensors:
      if (name_ != "__metadata__")
        fail_tensor(file_, name_, "is " + found + "; expected an object");
      fail_file(file_, "__metadata__ is " + found + "; expected an object");
    case Place::metadata:
      fail_file(file_, "metadata " + in_quotes(member_) + " is " + found + "; expected a string");
    case Place::tensor:
      fail_tensor(file_, name_,
                  member_ + " is " + found + "; expected " +
                      (member_ == "dtype" ? "a string" : "an array of whole numbers"));
    case Place::shape:
    case Place::offsets:
    case Place::outside:  // not met: the text starts with '{'
      break;
  }
  fail_tensor(file_, name_,
              member_ + " holds " + found + "; expected whole numbers from 0 to 2⁶³ - 1");
}

inline void HeaderReader::check_complete() const {
  if (!has_dtype_) fail_tensor(file_, name_, "has no dtype");
  if (!has_shape_) fail_tensor(file_, name_, "has no shape");
  if (!has_offsets_) fail_tensor(file_, name_, "has no data_offsets");
  if (offsets_.size() != 2) {
    fail_tensor(file_, name_,
                "data_offsets holds " + std::to_string(offsets_.size()) +
                    " numbers; expected 2, begin and end");
  }
}

/// The bytes that dtype and shape ask for; 0 for a dtype that is not known.
inline std::uint64_t byte_count(const std::string& file, const std::string& name,
                                const TensorEntry& tensor) {
  const std::uint64_t bits_per_element = dtype_bits(tensor.dtype);
  const bool empty = std::find(tensor.shape.begin(), tensor.shape.end(), 0) != tensor.shape.end();
  Index elements = 1;
  std::uint64_t bits = 0;
  bool overflow = !multiply_dimensions(tensor.shape, elements);
  if (!empty) {
    overflow |=
        __builtin_mul_overflow(static_cast<std::uint64_t>(elements), bits_per_element, &bits);
  }
  if (overflow) {
    fail_tensor(file, name,
                "shape is " + shape_text(tensor.shape) + " of " + printable(tensor.dtype) +
                    "; expected less than 2⁶³ elements and 2⁶⁴ bits");
  }
  if (bits % 8 != 0) {
    fail_tensor(file, name,
                "shape is " + shape_text(tensor.shape) + " of " + tensor.dtype +
                    ", which ends inside a byte; expected whole bytes");
  }
  return bits / 8;
}

inline std::uint64_t header_length(const std::string& file, std::uint64_t file_size,
                                   std::string_view begin) {
  if (file_size < 8) {
    fail_other_kind(file, begin);
    fail_file(file, "the file has " + std::to_string(file_size) +
                        " bytes; expected at least 8, the length of the header");
  }
  std::uint64_t length = 0;
  std::memcpy(&length, begin.data(), sizeof length);
  const std::uint64_t most = std::min(largest_header, file_size - 8);
  if (length > most) {
    fail_other_kind(file, begin);
    fail_file(file, "the header's length is " + std::to_string(length) + "; expected at most " +
                        (most == largest_header
                             ? "100000000"
                             : "the " + std::to_string(most) + " bytes that the file has left"));
  }
  return length;
}

inline SafetensorsHeader parse_header(const std::string& file, std::string_view text,
                                      std::uint64_t data_size) {
  HeaderReader reader(file);
  reader.read(text);

  using Named = std::map<std::string, TensorEntry, std::less<>>::value_type;
  std::vector<const Named*> by_offset;
  by_offset.reserve(reader.header.tensors.size());
  for (const Named& named : reader.header.tensors) {
    const std::string& name = named.first;
    const TensorEntry& tensor = named.second;
    const auto fail_range = [&](const std::string& fault) {
      fail_tensor(file, name,
                  "data_offsets is [" + std::to_string(tensor.begin) + ", " +
                      std::to_string(tensor.end) + "]" + fault);
    };
    const std::uint64_t size = byte_count(file, name, tensor);
    if (tensor.begin > tensor.end) fail_range("; expected begin ≤ end");
    if (tensor.end > data_size) {
      fail_range("; expected at most the " + std::to_string(data_size) +
                 " bytes of data that the file has");
    }
    const bool known = dtype_bits(tensor.dtype) != 0 || tensor.rows() * tensor.columns() == 0;
    if (known && tensor.end - tensor.begin != size) {
      fail_range(", " + std::to_string(tensor.end - tensor.begin) + " bytes; expected " +
                 std::to_string(size) + " for " + printable(tensor.dtype) + " of shape " +
                 shape_text(tensor.shape));
    }
    by_offset.push_back(&named);
  }

  std::sort(by_offset.begin(), by_offset.end(), [](const Named* a, const Named* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  std::uint64_t filled = 0;
  for (const Named* named : by_offset) {
    const auto& [name, tensor] = *named;
    if (tensor.begin != filled) {
      fail_tensor(file, name,
                  "begins at byte " + std::to_string(tensor.begin) + " of the data; expected " +
                      std::to_string(filled) + ", where the one before it ends: " +
                      (tensor.begin < filled ? "they overlap" : "there is a gap"));
    }
    filled = tensor.end;
  }
  if (filled != data_size) {
    fail_file(file, "the file has " + std::to_string(data_size) + " bytes of data; expected the " +
                        std::to_string(filled) + " that its tensors fill");
  }
  for (auto& named : reader.header.tensors) {
    named.second.begin += 8 + text.size();
    named.second.end += 8 + text.size();
  }
  return std::move(reader.header);
}

template <class Bytes>
SafetensorsHeader read_header(const std::string& file, const Bytes& bytes) {
  const std::uint64_t size = bytes.size();
  std::string begin(std::min<std::uint64_t>(size, 64), '\0');
  bytes.read(0, begin.data(), begin.size());
  std::string text(header_length(file, size, begin), '\0');
  bytes.read(8, text.data(), text.size());
  if (!text.starts_with('{')) fail_other_kind(file, begin);
  return parse_header(file, text, size - 8 - text.size());
}

}  // namespace tokennorm::detail

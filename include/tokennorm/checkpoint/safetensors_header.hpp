// SPDX-License-Identifier: MIT
/// The header of a safetensors file, and the index of a sharded checkpoint: JSON text in, checked
/// entries out. Files are not touched here.
///
///     bytes 0…7        n, the length of the header, little-endian
///     bytes 8…7+n      {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …,
///                       "__metadata__": {"key": "value", …}}, padded with spaces
///     the rest         the data; offsets count from its first byte
///
/// What is checked: everything the format asks for. n of at most 100 MB and inside the file; JSON
/// that starts with '{'; each name, each member of an entry and each metadata key once; a known
/// dtype; sizes that match dtype and shape, without overflow; data that the tensors fill without
/// gap, overlap or rest. The parser is nlohmann's, event by event, which needs no stack for depth;
/// and whatever stands where the format has no place for it ends the reading at once.
///
/// Throws   std::runtime_error that names the file, the tensor and the fault
/// Source   github.com/huggingface/safetensors, README.md, "Format"
#pragma once

#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/core/checks.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tokennorm::detail {

/// Where one tensor stands, and what it is.
struct TensorEntry {
  std::string dtype;
  std::vector<Index> shape;
  std::uint64_t begin = 0, end = 0;  ///< its bytes, counted from the first one of the file

  /// The leading dimensions are rows: (2, 3, 5) is 6 x 5, (5) is 1 x 5, () is 1 x 1.
  Index rows() const;
  Index columns() const { return shape.empty() ? 1 : shape.back(); }
};

struct SafetensorsHeader {
  std::map<std::string, TensorEntry, std::less<>> tensors;
  std::map<std::string, std::string> metadata;
};

/// The number of bytes of header that the first eight of the file announce.
std::uint64_t header_length(const std::string& file, std::uint64_t file_size,
                            const std::array<char, 8>& first);

/// The header, from its text; `data_size` bytes stand behind it.
SafetensorsHeader parse_header(const std::string& file, std::string_view text,
                               std::uint64_t data_size);

/// The header of a file, of which `bytes` has size() and read(begin, to, count).
template <class Bytes>
SafetensorsHeader read_header(const std::string& file, const Bytes& bytes);

/// The weight map of model.safetensors.index.json: tensor → shard.
std::map<std::string, std::string> parse_shard_index(const std::string& file,
                                                     std::string_view text);

/// A header, or an index, is this long at most.
inline constexpr std::uint64_t largest_header = 100'000'000;

/// "tokennorm: model.safetensors: tensor "x": no shape"
[[noreturn, gnu::cold, gnu::noinline]] inline void fail_file(const std::string& file,
                                                             const std::string& fault) {
  fail_with<std::runtime_error>({file.c_str()}, {fault.c_str()});
}
[[noreturn, gnu::cold, gnu::noinline]] inline void fail_tensor(const std::string& file,
                                                               std::string_view tensor,
                                                               const std::string& fault) {
  fail_file(file, "tensor " + in_quotes(tensor) + ": " + fault);
}

/// The bits of one element, 0 for a dtype that the format does not have.
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

inline Index TensorEntry::rows() const {
  Index rows = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  return rows;
}

/// What nlohmann's parser reports, with all that neither a header nor an index can use gathered in
/// `other`. A fault is reported from inside an event, so that none is refused.
class JsonEvents {
 public:
  JsonEvents(const std::string& file, const char* document) : file_(file), document_(document) {}
  JsonEvents(const JsonEvents&) = delete;
  JsonEvents& operator=(const JsonEvents&) = delete;

  /// Reads all of the text.
  void read(std::string_view text);

  bool null() { return other("null"); }
  bool boolean(bool value) { return other(value ? "true" : "false"); }
  bool number_integer(std::int64_t value) { return other(std::to_string(value)); }
  bool number_float(double, const std::string& text) { return other(text); }
  bool binary(nlohmann::json::binary_t&) { return other("bytes"); }
  bool number_unsigned(std::uint64_t value) {
    number(value);
    return true;
  }
  bool string(std::string& text) {
    take(text);
    return true;
  }
  bool start_object(std::size_t) {
    open('{');
    return true;
  }
  bool end_object() {
    close();
    return true;
  }
  bool start_array(std::size_t) {
    open('[');
    return true;
  }
  bool end_array() {
    close();
    return true;
  }
  bool key(std::string& name) {
    take_key(name);
    return true;
  }
  bool parse_error(std::size_t position, const std::string& last, const nlohmann::json::exception&);

 protected:
  ~JsonEvents() = default;
  virtual void open(char bracket) = 0;
  virtual void close() = 0;
  virtual void take_key(std::string& name) = 0;
  virtual void take(std::string& text) = 0;
  virtual void number(std::uint64_t value) = 0;
  virtual void unexpected(const std::string& found) = 0;

  const std::string& file_;

 private:
  bool other(const std::string& found) {
    unexpected(found);
    return true;
  }

  const char* document_;
};

inline void JsonEvents::read(std::string_view text) {
  // The parser would take white space and a byte order mark before the object, and a NUL for the
  // end of the text.
  if (!text.starts_with('{')) {
    fail_file(file_, std::string(document_) + " starts with " + in_quotes(text.substr(0, 1)) +
                         "; expected '{'");
  }
  if (const auto nul = text.find('\0'); nul != text.npos) {
    fail_file(file_, std::string(document_) + " is not JSON: a NUL at byte " + std::to_string(nul));
  }
  nlohmann::json::sax_parse(text.begin(), text.end(), this);
}

inline bool JsonEvents::parse_error(std::size_t position, const std::string& last,
                                    const nlohmann::json::exception&) {
  const std::size_t shown = std::min<std::size_t>(last.size(), 40);
  fail_file(file_, std::string(document_) + " is not JSON at byte " + std::to_string(position) +
                       ", after " + in_quotes(std::string_view(last).substr(last.size() - shown)));
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

/// The bytes that dtype and shape ask for.
inline std::uint64_t byte_count(const std::string& file, const std::string& name,
                                const TensorEntry& tensor) {
  const std::uint64_t bits_per_element = dtype_bits(tensor.dtype);
  if (bits_per_element == 0) {
    fail_tensor(file, name,
                "dtype is " + in_quotes(tensor.dtype) + "; expected one of the format's");
  }
  // Of an empty tensor too the other dimensions must have a product: rows() is one of some of them.
  const bool empty = std::find(tensor.shape.begin(), tensor.shape.end(), 0) != tensor.shape.end();
  Index elements = 1;
  std::uint64_t bits = 0;
  bool overflow = false;
  for (const Index dimension : tensor.shape) {
    if (dimension > 0) overflow |= __builtin_mul_overflow(elements, dimension, &elements);
  }
  if (!empty) {
    overflow |=
        __builtin_mul_overflow(static_cast<std::uint64_t>(elements), bits_per_element, &bits);
  }
  if (overflow) {
    fail_tensor(file, name,
                "shape is " + shape_text(tensor.shape) + " of " + tensor.dtype +
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
                                   const std::array<char, 8>& first) {
  if (file_size < 8) {
    fail_file(file, "the file has " + std::to_string(file_size) +
                        " bytes; expected at least 8, the length of the header");
  }
  static_assert(std::endian::native == std::endian::little,
                "tokennorm: safetensors are little-endian, and are read and written by plain "
                "copies. On a big-endian machine convert the file elsewhere.");
  std::uint64_t length = 0;
  std::memcpy(&length, first.data(), sizeof length);
  const std::uint64_t most = std::min(largest_header, file_size - 8);
  if (length > most) {
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
    if (tensor.end - tensor.begin != size) {
      fail_range(", " + std::to_string(tensor.end - tensor.begin) + " bytes; expected " +
                 std::to_string(size) + " for " + tensor.dtype + " of shape " +
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
  std::array<char, 8> first{};
  bytes.read(0, first.data(), static_cast<std::size_t>(std::min<std::uint64_t>(size, 8)));
  std::string text(header_length(file, size, first), '\0');
  bytes.read(8, text.data(), text.size());
  return parse_header(file, text, size - 8 - text.size());
}

/// Collects weight_map; whatever else the index has, however deep, is passed over.
class ShardIndexReader final : public JsonEvents {
 public:
  explicit ShardIndexReader(const std::string& file) : JsonEvents(file, "the index") {}

  std::map<std::string, std::string> shards;
  bool has_map = false;

 private:
  void open(char bracket) override {
    if (depth_ == 1 && member_ == "weight_map") {
      if (bracket != '{') unexpected("an array");
      in_map_ = true;
    } else if (in_map_) {
      unexpected(bracket == '{' ? "an object" : "an array");
    }
    ++depth_;
  }
  void close() override {
    --depth_;
    if (depth_ == 1) in_map_ = false;
  }
  void take_key(std::string& name) override {
    if (depth_ == 1 && name == "weight_map") {
      if (has_map) fail_file(file_, "weight_map stands there twice; expected once");
      has_map = true;
    }
    if (in_map_ && shards.contains(name)) {
      fail_tensor(file_, name, "stands there twice; expected once");
    }
    if (in_map_ || depth_ == 1) member_ = std::move(name);
  }
  void take(std::string& text) override {
    if (!in_map_) return unexpected(in_quotes(text));
    // A shard stands beside the index: a path would lead a reader out of the checkpoint's folder.
    if (text.empty() || text == "." || text == ".." ||
        text.find_first_of(std::string_view("/\\:\0", 4)) != text.npos) {
      fail_tensor(
          file_, member_,
          "its shard is " + in_quotes(text) + "; expected the name of a file in this folder");
    }
    shards.emplace(member_, std::move(text));
  }
  void number(std::uint64_t value) override { unexpected(std::to_string(value)); }
  void unexpected(const std::string& found) override {
    if (in_map_) fail_tensor(file_, member_, "its shard is " + found + "; expected a string");
    if (depth_ == 1 && member_ == "weight_map") {
      fail_file(file_, "weight_map is " + found + "; expected an object");
    }
  }

  std::size_t depth_ = 0;
  bool in_map_ = false;
  std::string member_;
};

inline std::map<std::string, std::string> parse_shard_index(const std::string& file,
                                                            std::string_view text) {
  ShardIndexReader reader(file);
  reader.read(text);
  if (!reader.has_map) fail_file(file, "the index has no weight_map");
  return std::move(reader.shards);
}

}  // namespace tokennorm::detail

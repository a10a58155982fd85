// SPDX-License-Identifier: MIT
/// The parts of a GGUF file's header: numbers, strings and values of metadata, none of them read
/// beyond the end, and none given memory before it is known to be there.
///
/// The elements of arrays, such as a tokenizer's words, are measured and passed over, however deep
/// they are nested.
///
/// Throws   std::runtime_error that names the file, the tensor or metadata, and the fault
#pragma once

#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/checkpoint/stored_tensor.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

namespace tokennorm {

/// An array of metadata, of which the elements are not kept.
struct GgufArray {
  std::uint64_t size = 0;                             ///< of the outermost one
  bool operator==(const GgufArray&) const = default;  ///< of as many elements
};

/// A value of metadata; whole numbers of every width are 64 bits wide, floating-point ones double.
using GgufValue = std::variant<std::uint64_t, std::int64_t, double, bool, std::string, GgufArray>;

/// What a file says beside its tensors, by key.
using GgufMetadata = std::map<std::string, GgufValue, std::less<>>;

namespace detail {

/// Reads from front to back, a piece of the file at a time, and never beyond its end.
template <class Bytes>
class GgufReader {
 public:
  GgufReader(const std::string& file, const Bytes& bytes)
      : file_(file), bytes_(bytes), end_(std::min<std::uint64_t>(bytes.size(), largest_header)) {}

  std::uint64_t position() const { return position_; }
  /// How many of at least `size` bytes each the file has left at most.
  std::uint64_t room_for(std::uint64_t size) const { return (end_ - position_) / size; }

  template <class Number>
  Number number(std::string_view what);
  std::string string(std::string_view what);
  /// Past the elements of an array, and of those in it.
  GgufArray array();
  void skip(std::uint64_t count, std::string_view what);
  [[noreturn, gnu::cold, gnu::noinline]] void fail(const std::string& fault) const;

  std::string subject;  ///< of errors: "tensor "x": "

 private:
  void check_left(std::uint64_t count, std::string_view what) const;
  void copy(char* to, std::size_t count);

  const std::string& file_;
  const Bytes& bytes_;
  std::uint64_t position_ = 0, end_;
  std::string piece_;  // bytes of the file from piece_begin_ on
  std::uint64_t piece_begin_ = 0;
};

template <class Bytes>
void GgufReader<Bytes>::fail(const std::string& fault) const {
  fail_file(file_, subject + fault);
}

template <class Bytes>
void GgufReader<Bytes>::check_left(std::uint64_t count, std::string_view what) const {
  if (count <= end_ - position_) return;
  fail(std::string(what) + " takes " + std::to_string(count) + " bytes; expected at most the " +
       std::to_string(end_ - position_) + " that the " +
       (end_ < bytes_.size() ? "100 MB of a header have left" : "file has left"));
}

template <class Bytes>
void GgufReader<Bytes>::skip(std::uint64_t count, std::string_view what) {
  check_left(count, what);
  position_ += count;
}

template <class Bytes>
void GgufReader<Bytes>::copy(char* to, std::size_t count) {
  constexpr std::uint64_t piece = 1 << 16;
  if (count > piece) {
    bytes_.read(position_, to, count);
  } else if (count > 0) {
    if (position_ < piece_begin_ || position_ + count > piece_begin_ + piece_.size()) {
      piece_.resize(std::min(piece, end_ - position_));
      bytes_.read(position_, piece_.data(), piece_.size());
      piece_begin_ = position_;
    }
    std::memcpy(to, piece_.data() + (position_ - piece_begin_), count);
  }
  position_ += count;
}

template <class Bytes>
template <class Number>
Number GgufReader<Bytes>::number(std::string_view what) {
  check_left(sizeof(Number), what);
  char read[sizeof(Number)];
  copy(read, sizeof read);
  Number value;
  std::memcpy(&value, read, sizeof read);
  return value;
}

template <class Bytes>
std::string GgufReader<Bytes>::string(std::string_view what) {
  const auto length = number<std::uint64_t>(what);
  check_left(length, what);
  std::string text(length, '\0');
  copy(text.data(), text.size());
  return text;
}

/// The types of metadata.
enum class GgufKind : std::uint32_t {
  uint8,
  int8,
  uint16,
  int16,
  uint32,
  int32,
  float32,
  boolean,
  string,
  array,
  uint64,
  int64,
  float64
};
inline constexpr std::uint64_t gguf_kind_count = 13;
/// The least that a value takes: of a string its length, of an array type and length.
inline constexpr std::uint8_t gguf_kind_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};

template <class Reader>
GgufKind read_gguf_kind(Reader& reader, std::string_view what) {
  const auto number = reader.template number<std::uint32_t>(what);
  if (number >= gguf_kind_count) {
    reader.fail(std::string(what) + " is " + std::to_string(number) + "; expected 0 to 12");
  }
  return static_cast<GgufKind>(number);
}

template <class Bytes>
GgufArray GgufReader<Bytes>::array() {
  GgufArray result;
  // Arrays in arrays follow one another, so that their number is all that there is to remember.
  std::uint64_t to_come = 1;
  for (bool outermost = true; to_come > 0; outermost = false) {
    --to_come;
    const GgufKind kind = read_gguf_kind(*this, "the type of its elements");
    const auto size = number<std::uint64_t>("its length");
    if (outermost) result.size = size;
    const std::uint64_t least = gguf_kind_bytes[static_cast<std::size_t>(kind)];
    if (size > room_for(least)) {
      fail("its length is " + std::to_string(size) + "; expected at most the " +
           std::to_string(room_for(least)) + " elements that the rest of the header has room for");
    }
    if (kind == GgufKind::array) {
      to_come += size;
    } else if (kind == GgufKind::string) {
      for (std::uint64_t i = 0; i < size; ++i) {
        skip(number<std::uint64_t>("a string of it"), "a string of it");
      }
    } else {
      skip(size * least, "the list of its elements");
    }
  }
  return result;
}

template <class Reader>
GgufValue read_gguf_value(Reader& reader) {
  constexpr std::string_view what = "its value";
  const auto whole = [&](auto number) -> GgufValue {
    using Number = decltype(number);
    if constexpr (std::is_signed_v<Number>) {
      return std::int64_t{reader.template number<Number>(what)};
    } else {
      return std::uint64_t{reader.template number<Number>(what)};
    }
  };
  // clang-format off
  switch (read_gguf_kind(reader, "its type")) {
    case GgufKind::uint8: return whole(std::uint8_t{});
    case GgufKind::int8: return whole(std::int8_t{});
    case GgufKind::uint16: return whole(std::uint16_t{});
    case GgufKind::int16: return whole(std::int16_t{});
    case GgufKind::uint32: return whole(std::uint32_t{});
    case GgufKind::int32: return whole(std::int32_t{});
    case GgufKind::uint64: return whole(std::uint64_t{});
    case GgufKind::int64: return whole(std::int64_t{});
    case GgufKind::float32: return static_cast<double>(reader.template number<float>(what));
    case GgufKind::float64: return reader.template number<double>(what);
    case GgufKind::string: return reader.string(what);
    case GgufKind::array: return reader.array();
    case GgufKind::boolean: break;
  }
  // clang-format on
  const auto value = reader.template number<std::uint8_t>(what);
  if (value > 1) reader.fail("is " + std::to_string(value) + "; expected a boolean, 0 or 1");
  return value == 1;
}

}  // namespace detail
}  // namespace tokennorm

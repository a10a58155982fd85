// SPDX-License-Identifier: MIT
/// How errors speak of files: what a file has is quoted on one line, without control characters and
/// not without end.
#pragma once

#include "tokennorm/core/checks.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>

namespace tokennorm::detail {

[[noreturn, gnu::cold, gnu::noinline]] inline void fail_in_file(Who who, const std::string& what) {
  fail_with<std::runtime_error>(who, {what.c_str()});
}

/// Text from a file as an error shows it.
[[gnu::cold, gnu::noinline]] inline std::string printable(std::string_view text) {
  constexpr std::size_t longest = 200;
  std::string result;
  for (const char c : text.substr(0, longest)) {
    const auto code = static_cast<unsigned char>(c);
    if (code < 0x20 || code == 0x7f) {
      constexpr std::string_view digits = "0123456789abcdef";
      result += {'\\', 'x', digits[code / 16], digits[code % 16]};
    } else {
      result += c;
    }
  }
  return result + (text.size() > longest ? "…" : "");
}

[[gnu::cold, gnu::noinline]] inline std::string in_quotes(std::string_view text) {
  return '"' + printable(text) + '"';
}

/// What a file is that begins so, where that is known and another thing than was expected.
[[gnu::cold, gnu::noinline]] inline std::string_view known_kind(std::string_view begin) {
  struct Kind {
    std::string_view begin, name;
  };
  constexpr std::string_view pickle = "a pickle, as torch.save wrote them; save it as safetensors";
  constexpr std::string_view page = "an HTML page, and not the file that was to be downloaded";
  constexpr Kind kinds[] = {
      {"version https://git-lfs", "a Git LFS pointer, not the file; run git lfs pull"},
      {"PK\x03\x04", "a zip archive, as torch.save writes them; save it as safetensors"},
      {"\x80\x02", pickle},
      {"\x80\x03", pickle},
      {"\x80\x04", pickle},
      {"\x80\x05", pickle},
      {"GGUF", "a GGUF file"},
      {"\x89HDF", "an HDF5 file"},
      {"\x93NUMPY", "a NumPy array"},
      {"\x1f\x8b\x08", "a gzip archive; unpack it"},
      {"<?xml", "an XML page, and not the file that was to be downloaded"},
      {"Entry not found", "a server's answer that it has no such file"},
      {"<!", page},
      {"<html", page},
      {"<HTML", page}};
  begin.remove_prefix(std::min(begin.find_first_not_of(" \t\r\n"), begin.size()));
  for (const Kind& kind : kinds) {
    if (begin.starts_with(kind.begin)) return kind.name;
  }
  return {};
}

/// The number, with as many digits as tell it from the other one.
[[gnu::cold, gnu::noinline]] inline std::string number_text(double value, double other) {
  std::array<char, 32> digits, others;
  for (const int precision : {6, 9, 17}) {
    std::snprintf(digits.data(), digits.size(), "%.*g", precision, value);
    std::snprintf(others.data(), others.size(), "%.*g", precision, other);
    if (std::string_view(digits.data()) != others.data()) break;
  }
  return digits.data();
}

/// "[2, 3]"
template <class Shape>
[[gnu::cold]] std::string shape_text(const Shape& shape) {
  constexpr std::size_t longest = 16;
  std::string text = "[";
  std::size_t count = 0;
  for (const auto size : shape) {
    if (count++ == longest) return text + ", …]";
    text += (count > 1 ? ", " : "") + std::to_string(size);
  }
  return text + "]";
}

}  // namespace tokennorm::detail

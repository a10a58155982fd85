// SPDX-License-Identifier: MIT
// One case of the differential fuzzer: choices read from bytes, what was chosen so far, and the end
// of the program where a promise is broken.
#pragma once

#include "../support/random_tokens.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <iostream>
#include <span>
#include <sstream>
#include <string>
#include <utility>

namespace tokennorm::test {

/// Bytes that have run out are zeros, so that every input is a case.
class FuzzedCase {
 public:
  /// `name` says how to run this very case again.
  FuzzedCase(std::span<const std::uint8_t> bytes, std::string name)
      : bytes_(bytes), name_(std::move(name)) {}

  const std::string& name() const { return name_; }

  std::uint64_t word(int size = 8) {
    std::uint64_t value = 0;
    for (int i = 0; i < size; ++i) {
      value <<= 8;
      if (bytes_.empty()) continue;
      value |= bytes_.front();
      bytes_ = bytes_.subspan(1);
    }
    return value;
  }
  /// In [0, count). Without more bytes it is 0: the plainest choice comes first.
  Index below(Index count) {
    const int size = count <= 256 ? 1 : 4;
    return static_cast<Index>(word(size) % static_cast<std::uint64_t>(count));
  }
  bool one_in(Index count) { return below(count) == count - 1; }
  Seed seed() { return {word()}; }

  /// A choice that is told in the report of a failure.
  template <class T>
  T one_of(const char* what, std::initializer_list<T> choices) {
    const T chosen = choices.begin()[below(static_cast<Index>(choices.size()))];
    note(what, chosen);
    return chosen;
  }
  template <class T>
  void note(const char* what, const T& value) {
    chosen_ << "  " << what << ": " << value << '\n';
  }

  /// Ends the program unless a promise is kept; describe() is what was found in its place.
  template <class Describe>
  void require(bool is_kept, const char* promise, const Describe& describe) const {
    if (!is_kept) fail(promise, describe());
  }
  void require(bool is_kept, const char* promise) const {
    if (!is_kept) fail(promise, "");
  }

 private:
  [[noreturn]] void fail(const char* promise, const std::string& found) const {
    std::cerr << "broken promise: " << promise << '\n'
              << (found.empty() ? "" : "  " + found + "\n") << "of the case " << name_ << ":\n"
              << chosen_.str() << std::flush;
    std::abort();
  }

  std::span<const std::uint8_t> bytes_;
  std::string name_;
  std::ostringstream chosen_;
};

}  // namespace tokennorm::test

// SPDX-License-Identifier: MIT
// The operands of one fuzzed call: where each lies, whether the call has to refuse that, and that
// it changes nothing but what it is to write.
#pragma once

#include "memory.hpp"
#include "values.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace tokennorm::test {

/// Either each has a memory of its own, or all of them share a small one, in which they may meet.
class Operands {
 public:
  explicit Operands(FuzzedCase& fuzzed) : fuzzed_(fuzzed), is_shared_(fuzzed.one_in(4)) {
    fuzzed.note("memory", is_shared_ ? "shared" : "of each operand");
    if (is_shared_) std::memset(memory(0), gap, shared_size);
  }

  /// A shape for all of them.
  Shape shape() {
    const Index most = is_shared_ ? 60 : fuzzed_.one_in(20) ? 60000 : 3000;
    Index channels = 1 + fuzzed_.below(is_shared_ ? 12 : 40);
    if (!is_shared_ && fuzzed_.one_in(2)) {
      const auto& edges = edge_channels();
      channels = edges[static_cast<std::size_t>(fuzzed_.below(std::ssize(edges)))];
      channels = std::min(most, channels + fuzzed_.below(3) - 1) + (channels == 1);
    }
    const Index tokens = fuzzed_.below(std::max<Index>(2, most / channels) + 1);
    const Shape shape{fuzzed_.one_in(2) ? tokens : std::min<Index>(tokens, 17), channels};
    fuzzed_.note("shape", shape);
    return shape;
  }

  template <class Scalar>
  Place<Scalar> input(const char* what, Shape shape) {
    return place<Scalar>(what, shape, true);
  }

  /// Maybe in the place of one of `others`, or, where memory is shared, near it.
  template <class Scalar>
  Place<Scalar> output(const char* what, Shape shape, std::initializer_list<Place<Scalar>> others) {
    const Index which = fuzzed_.below(2 * static_cast<Index>(others.size()) + 2);
    if (which >= static_cast<Index>(others.size())) return place<Scalar>(what, shape, false);
    Place<Scalar> found = others.begin()[which];
    // (Not where some of the elements are one: that is refused, and there is memory for it.)
    if (!is_shared_ && (found.token_stride == 0 || found.channel_stride == 0))
      return place<Scalar>(what, shape, false);
    if (is_shared_ && fuzzed_.one_in(3)) {
      const Place<Scalar> moved{found.data + fuzzed_.below(7) - 3, shape,
                                found.token_stride + fuzzed_.below(3) - 1, found.channel_stride};
      if (fits(moved)) found = moved;
    }
    note(what, found);
    return found;
  }

  /// Makes a call that writes these places: it throws exactly where it has to, and changes no
  /// other byte, and none at all where it throws. Whether it was made.
  template <class Call, class... Written>
  bool make(const char* what, bool is_allowed, const Call& call, const Written&... written) {
    std::array<std::vector<std::byte>, memories> before;
    for (std::size_t i = 0; i < used_; ++i)
      before[i].assign(memory(i) + range_[i].first, memory(i) + range_[i].second);
    std::optional<std::string> error;
    try {
      call();
    } catch (const std::invalid_argument& refusal) {
      error = refusal.what();
    }
    fuzzed_.note("call", what);
    if (error) {
      fuzzed_.require(!is_allowed, "a call with operands that are allowed is made",
                      [&] { return *error; });
    } else {
      fuzzed_.require(is_allowed, "a call with operands that overlap is refused");
      const auto expect_written = [&](const auto& place) {
        for (std::size_t i = 0; i < used_; ++i) {
          const std::byte* const first = memory(i) + range_[i].first;
          const std::byte* const last = memory(i) + range_[i].second;
          for (const std::byte* const byte : bytes_of(place))
            if (byte >= first && byte < last)
              before[i][static_cast<std::size_t>(byte - first)] = *byte;
        }
      };
      (expect_written(written), ...);
    }
    for (std::size_t i = 0; i < used_; ++i)
      fuzzed_.require(
          std::equal(before[i].begin(), before[i].end(), memory(i) + range_[i].first),
          error ? "a call that is refused writes nothing" : "a call writes its outputs only");
    return !error;
  }

  /// Whether a call may write this place beside what it reads: in the same places, or apart.
  template <class Scalar, class... Reads>
  bool may_write(const Place<Scalar>& place, const Reads&... reads) const {
    return !is_shared_ || (!overlaps_itself(place) &&
                           ((place.is_same_as(reads) || !share_a_byte(place, reads)) && ...));
  }
  template <class A, class B>
  bool are_apart(const Place<A>& a, const Place<B>& b) const {
    return is_shared_ ? !share_a_byte(a, b) : !a.is_same_as(b) || a.shape.tokens == 0;
  }

 private:
  static constexpr std::size_t memories = 8, shared_size = 1536;
  static constexpr int gap = 0xff;  // NaN, as a number

  static std::byte* memory(std::size_t i) {
    static const std::array<GuardedMemory, memories> all;
    return all[i].begin();
  }

  template <class Scalar>
  void note(const char* what, const Place<Scalar>& place) {
    std::ostringstream text;
    text << scalar_name<Scalar>() << " at byte "
         << reinterpret_cast<std::uintptr_t>(place.data) % 4096 << " of a page, strides "
         << place.token_stride << " (tokens) and " << place.channel_stride << " (channels)";
    fuzzed_.note(what, text.str());
  }

  /// The elements before and behind the first.
  struct Extent {
    Index before, behind;
  };
  template <class Scalar>
  static Extent extent(const Place<Scalar>& place) {
    const Index tokens = std::max<Index>(0, place.shape.tokens - 1) * place.token_stride;
    const Index channels = (place.shape.channels - 1) * place.channel_stride;
    return {std::max<Index>(0, -tokens) + std::max<Index>(0, -channels),
            std::max<Index>(0, tokens) + std::max<Index>(0, channels) + 1};
  }
  template <class Scalar>
  static bool fits(const Place<Scalar>& place) {
    const auto* const data = reinterpret_cast<const std::byte*>(place.data);
    const Extent elements = extent(place);
    constexpr auto size = static_cast<Index>(sizeof(Scalar));
    return data - elements.before * size >= memory(0) &&
           data + elements.behind * size <= memory(0) + shared_size;
  }

  template <class Scalar>
  Place<Scalar> place(const char* what, Shape shape, bool is_read) {
    Place<Scalar> place{nullptr, shape, 0, 0};
    do choose_strides(place, is_read);
    while ((extent(place).before + extent(place).behind) * static_cast<Index>(sizeof(Scalar)) >
           static_cast<Index>(is_shared_ ? shared_size : GuardedMemory::size));
    const Extent elements = extent(place);
    const std::size_t i = is_shared_ ? 0 : used_;
    const auto size = is_shared_ ? shared_size : GuardedMemory::size;
    const auto room = static_cast<Index>(size / sizeof(Scalar)) - elements.before - elements.behind;
    // At the guard page before or behind it, or anywhere.
    const Index from_begin = fuzzed_.below(std::min<Index>(room, 255) + 1);
    const Index first =
        is_shared_
            ? fuzzed_.below(room + 1)
            : std::array{room, Index{0}, from_begin}[static_cast<std::size_t>(fuzzed_.below(3))];
    place.data = reinterpret_cast<Scalar*>(memory(i)) + first + elements.before;
    if (is_shared_) {
      used_ = 1;
      range_[0] = {0, shared_size};
    } else {
      const std::size_t begin = static_cast<std::size_t>(first) * sizeof(Scalar);
      const std::size_t end =
          begin + static_cast<std::size_t>(elements.before + elements.behind) * sizeof(Scalar);
      range_[used_] = {begin < 64 ? 0 : begin - 64, std::min(size, end + 64)};
      std::memset(memory(i) + range_[used_].first, gap, range_[used_].second - range_[used_].first);
      ++used_;
    }
    note(what, place);
    return place;
  }

  template <class Scalar>
  void choose_strides(Place<Scalar>& place, bool is_read) {
    const auto [tokens, channels] = place.shape;
    const Index inner = fuzzed_.below(is_shared_ ? 3 : 6) == 0 ? 2 : 1;
    const Index gap_behind = fuzzed_.below(3) == 2 ? fuzzed_.below(20) : 0;
    if (fuzzed_.below(3) < 2) {
      place = {nullptr, place.shape, channels * inner + gap_behind, inner};
    } else {
      place = {nullptr, place.shape, inner, std::max<Index>(1, tokens) * inner + gap_behind};
    }
    // Backwards, every one the same, or, where they may meet, anyhow.
    switch (fuzzed_.below(16)) {
      case 9:
        place.token_stride = -place.token_stride;
        break;
      case 10:
        place.channel_stride = -place.channel_stride;
        break;
      case 11:
        place.token_stride = is_read || is_shared_ ? 0 : place.token_stride;
        break;
      case 12:
        place.channel_stride = is_read || is_shared_ ? 0 : place.channel_stride;
        break;
      case 13:
      case 14:
      case 15:
        if (!is_shared_) break;
        place.token_stride = fuzzed_.below(30) - 8;
        place.channel_stride = fuzzed_.below(10) - 3;
        break;
      default:
        break;
    }
  }

  FuzzedCase& fuzzed_;
  bool is_shared_;
  std::size_t used_ = 0;
  std::array<std::pair<std::size_t, std::size_t>, memories> range_ = {};
};

}  // namespace tokennorm::test

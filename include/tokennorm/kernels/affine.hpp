// SPDX-License-Identifier: MIT
/// The scale and shift of a norm, in lanes.
#pragma once

#include "tokennorm/kernels/operands.hpp"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

TOKENNORM_BEGIN_KERNELS

/// Zeros or ones. (By their bits: half and bfloat16 have no constexpr conversion.)
template <class T, std::size_t N>
constexpr std::array<T, N> repeated(int value) {
  if constexpr (sizeof(T) == 2) {
    constexpr std::uint16_t one = std::is_same_v<T, Eigen::half> ? 0x3c00 : 0x3f80;
    std::array<std::uint16_t, N> bits{};
    bits.fill(value == 0 ? 0 : one);
    return std::bit_cast<std::array<T, N>>(bits);
  } else {
    std::array<T, N> values{};
    values.fill(static_cast<T>(value));
    return values;
  }
}

/// The scale and shift of a norm at some channels. One that is switched off is read from a constant
/// with step 0, so that one loop serves all. To be copied into a loop: what stands elsewhere in
/// memory would be read again after every store.
template <class Level, class A, class Param>
class Affine {
 public:
  static constexpr int width = Level::template lanes<A>;
  using V = Lanes<A, width>;

  template <class Norm>
  TOKENNORM_INLINE explicit Affine(const Norm& norm)
      : offset_(norm.scale == nullptr ? A(0) : static_cast<A>(norm.scale_offset)),
        scale_(norm.scale == nullptr ? ones.data() : norm.scale),
        shift_(norm.shift == nullptr ? zeros.data() : norm.shift),
        scale_mask_(norm.scale == nullptr ? 0 : -1),
        shift_mask_(norm.shift == nullptr ? 0 : -1) {}

  TOKENNORM_INLINE V scale(Index c) const {
    return load<A, width>(scale_ + (c & scale_mask_)) + offset_;
  }
  TOKENNORM_INLINE V shift(Index c) const { return load<A, width>(shift_ + (c & shift_mask_)); }
  TOKENNORM_INLINE V scale_first(Index c, Index n) const {
    return load_first<A, width>(scale_ + (c & scale_mask_), n) + offset_;
  }
  TOKENNORM_INLINE V shift_first(Index c, Index n) const {
    return load_first<A, width>(shift_ + (c & shift_mask_), n);
  }
  using Whole = std::integral_constant<int, width>;  // a vector, not the first n lanes of one
  TOKENNORM_INLINE V scale_of(Index c, Whole) const { return scale(c); }
  TOKENNORM_INLINE V scale_of(Index c, Index n) const { return scale_first(c, n); }
  TOKENNORM_INLINE V shift_of(Index c, Whole) const { return shift(c); }
  TOKENNORM_INLINE V shift_of(Index c, Index n) const { return shift_first(c, n); }

  /// One vector of channels after the other.
  class Iterator {
   public:
    TOKENNORM_INLINE Iterator() {}
    TOKENNORM_INLINE Iterator(const Affine& affine, Index first)
        : offset_(affine.offset_),
          scale_(affine.scale_ + (first & affine.scale_mask_)),
          shift_(affine.shift_ + (first & affine.shift_mask_)),
          scale_step_(width & affine.scale_mask_),
          shift_step_(width & affine.shift_mask_) {}

    TOKENNORM_INLINE V scale() const { return load<A, width>(scale_) + offset_; }
    TOKENNORM_INLINE V shift() const { return load<A, width>(shift_); }
    TOKENNORM_INLINE V scale_first(Index n) const {
      return load_first<A, width>(scale_, n) + offset_;
    }
    TOKENNORM_INLINE V shift_first(Index n) const { return load_first<A, width>(shift_, n); }
    TOKENNORM_INLINE V scale_of(Whole) const { return scale(); }
    TOKENNORM_INLINE V scale_of(Index n) const { return scale_first(n); }
    TOKENNORM_INLINE V shift_of(Whole) const { return shift(); }
    TOKENNORM_INLINE V shift_of(Index n) const { return shift_first(n); }
    TOKENNORM_INLINE bool has_shift() const { return shift_step_ != 0; }
    TOKENNORM_INLINE void advance() {
      scale_ += scale_step_;
      shift_ += shift_step_;
    }

   private:
    V offset_{A(0)};
    const Param* scale_ = nullptr;
    const Param* shift_ = nullptr;
    Index scale_step_ = 0, shift_step_ = 0;
  };
  TOKENNORM_INLINE Iterator begin(Index first = 0) const { return Iterator(*this, first); }

  // One channel, alone and for all lanes.
  TOKENNORM_INLINE A scale_at(Index c) const {
    return static_cast<A>(scale_[c & scale_mask_]) + offset_[0];
  }
  TOKENNORM_INLINE A shift_at(Index c) const { return static_cast<A>(shift_[c & shift_mask_]); }
  TOKENNORM_INLINE V scale_of(Index c) const { return V(scale_at(c)); }
  TOKENNORM_INLINE V shift_of(Index c) const { return V(shift_at(c)); }

 private:
  alignas(64) static constexpr auto ones = repeated<Param, std::size_t{width}>(1);
  alignas(64) static constexpr auto zeros = repeated<Param, std::size_t{width}>(0);

  V offset_;
  const Param* scale_;
  const Param* shift_;
  Index scale_mask_, shift_mask_;
};

/// That of a norm, which may be absent.
template <class Level, class A, class Norm>
using AffineOf = Affine<Level, A, typename Norm::Param>;

TOKENNORM_END_KERNELS

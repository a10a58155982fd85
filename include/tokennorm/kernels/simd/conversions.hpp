// SPDX-License-Identifier: MIT
/// half and bfloat16 as bits: to and from lanes of the arithmetic type, rounded once, to nearest
/// even, with NaN kept.
#pragma once

#include "tokennorm/kernels/simd/lanes.hpp"

#include <Eigen/Core>

#include <cstdint>
#include <type_traits>

TOKENNORM_BEGIN_KERNELS

template <int W>
using Words = Lanes<std::int32_t, W>;
/// W values of half or bfloat16 as they are in memory.
template <int W>
using Bits16 = Lanes<short, W>;

template <int W>
TOKENNORM_INLINE Words<W> words_of(const Bits16<W>& bits) {
  return convert<std::int32_t>(bit_cast_lanes<Lanes<std::uint16_t, W>>(bits));
}

/// The lower half of each word; the upper one is zero.
template <int W>
TOKENNORM_INLINE Bits16<W> lower_bits(const Words<W>& words) {
#if defined(__x86_64__) && !defined(__clang__)
  if constexpr (W == 8 || W == 16) {
    Bits16<W> bits;
    narrow(bits.native, words.native);
    return bits;
  }
#endif
  return convert<short>(words);
}

/// mask ? a : b, for masks made of whole lanes.
template <int W>
TOKENNORM_INLINE Words<W> select(const Words<W>& mask, const Words<W>& a, const Words<W>& b) {
  return Words<W>((mask.native & a.native) | (~mask.native & b.native));
}

template <int W>
TOKENNORM_INLINE Lanes<float, W> widen_bfloat16(const Bits16<W>& bits) {
#if defined(__x86_64__)
  if constexpr (W == 8 || W == 16) {
    Lanes<float, W> value;
    widen_from_bfloat16(value.native, bits.native);
    return value;
  }
#endif
  return bit_cast_lanes<Lanes<float, W>>(Lanes<std::uint32_t, W>(
      bit_cast_lanes<Lanes<std::uint32_t, W>>(words_of(bits)).native << 16));
}

/// The bits of bfloat16, in the lower half of each word.
template <int W>
TOKENNORM_INLINE Words<W> round_to_bfloat16(const Lanes<float, W>& value) {
  const auto bits = bit_cast_lanes<Lanes<std::uint32_t, W>>(value).native;
  const auto rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const auto quiet_nan = (bits >> 16) | 0x40u;
  // AVX2 compares numbers with a sign only.
  const Words<W> is_nan((bit_cast_lanes<Words<W>>(value).native & 0x7fffffff) > 0x7f800000);
  return select(is_nan, bit_cast_lanes<Words<W>>(Lanes<std::uint32_t, W>(quiet_nan)),
                bit_cast_lanes<Words<W>>(Lanes<std::uint32_t, W>(rounded)));
}

template <int W>
TOKENNORM_INLINE Bits16<W> narrow_bfloat16(const Lanes<float, W>& value) {
#if defined(__x86_64__)
  if constexpr (W == 16) {
    if (detail::has_bfloat16()) [[likely]] {
      Bits16<W> narrowed;
      narrow_to_bfloat16(narrowed.native, value.native);
      return narrowed;
    }
  }
#endif
  return lower_bits(round_to_bfloat16(value));
}

/// Whether the level has instructions that convert W halves.
template <int W>
inline constexpr bool converts_halves =
#if defined(__x86_64__)
    W == 8 || W == 16;
#else
    false;
#endif

template <int W>
TOKENNORM_INLINE Lanes<float, W> widen_half(const Bits16<W>& half) {
  if constexpr (converts_halves<W>) {
    Lanes<float, W> value;
    widen(value.native, half.native);
    return value;
  }
  const Words<W> bits = words_of(half);
  const auto magnitude = bits.native & 0x7fff;
  const Words<W> sign = bit_cast_lanes<Words<W>>(Lanes<std::uint32_t, W>(
      (bit_cast_lanes<Lanes<std::uint32_t, W>>(bits).native & 0x8000u) << 16));
  const Words<W> normal((magnitude << 13) + (112 << 23));
  const Words<W> special((magnitude << 13) | 0x7f800000);
  const Lanes<float, W> tiny = convert<float>(Words<W>(magnitude)) * Lanes<float, W>(0x1p-24f);
  Words<W> result = select(Words<W>(magnitude < 0x0400), bit_cast_lanes<Words<W>>(tiny), normal);
  result = select(Words<W>(magnitude >= 0x7c00), special, result);
  return bit_cast_lanes<Lanes<float, W>>(result | sign);
}

template <int W>
TOKENNORM_INLINE Bits16<W> narrow_half(const Lanes<float, W>& value) {
  if constexpr (converts_halves<W>) {
    Bits16<W> half;
    narrow(half.native, value.native);
    return half;
  }
  using Unsigned = Lanes<std::uint32_t, W>;
  const auto words = [](const auto& native) __attribute__((always_inline)) {
    return bit_cast_lanes<Words<W>>(Unsigned(native));
  };
  const auto bits = bit_cast_lanes<Unsigned>(value).native;
  const auto magnitude = bits & 0x7fffffffu;
  const Words<W> sign = words((bits >> 16) & 0x8000u);
  // Normal results: rebias the exponent, then round the 13 dropped bits to nearest even.
  const Words<W> normal =
      words((magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13);
  // Subnormal results: adding ½ leaves a multiple of 2⁻²⁴ in the low bits, rounded by the addition.
  const Lanes<float, W> one_half(0.5f);
  const Lanes<float, W> shifted =
      opaque(bit_cast_lanes<Lanes<float, W>>(Unsigned(magnitude)) + one_half);
  const Words<W> tiny =
      words(bit_cast_lanes<Unsigned>(shifted).native - bit_cast_lanes<Unsigned>(one_half).native);
  const Words<W> infinite(0x7c00);
  const Words<W> nan = words(((magnitude >> 13) & 0x3ffu) | 0x7e00u);
  Words<W> result = select(Words<W>(magnitude < 0x38800000u), tiny, normal);
  result = select(Words<W>(magnitude >= 0x477ff000u), infinite, result);
  result = select(Words<W>(magnitude > 0x7f800000u), nan, result);
  return lower_bits(result | sign);
}

/// double to float by rounding to odd: a later rounding to half or bfloat16 is then the only one.
template <int W>
TOKENNORM_INLINE Lanes<float, W> round_to_odd(const Lanes<double, W>& v) {
  const Lanes<float, W> nearest = convert<float>(v);
  const auto error = v.native - convert<double>(nearest).native;
  const auto inexact = error != 0;  // false for NaN − NaN and infinities only if equal
  const auto away = (error < 0) != (v.native < 0);
  const auto bits = bit_cast_lanes<Words<W>>(nearest);
  const Words<W> is_inexact(__builtin_convertvector(inexact, typename Words<W>::Native));
  const Words<W> is_away(__builtin_convertvector(away, typename Words<W>::Native));
  const Words<W> is_finite((bits.native & 0x7f800000) != 0x7f800000);
  // Truncate towards zero (one unit back where rounding went away), then set the last bit.
  const Words<W> odd((bits.native + (is_inexact.native & is_away.native)) |
                     (is_inexact.native & 1));
  return bit_cast_lanes<Lanes<float, W>>(select(is_finite, odd, bits));
}

/// W values of T, which is half or bfloat16, in the arithmetic type, and back.
template <class A, class T, int W>
TOKENNORM_INLINE Lanes<A, W> from_bits(const Bits16<W>& bits) {
  if constexpr (std::is_same_v<T, Eigen::bfloat16>) {
    return convert<A>(widen_bfloat16(bits));
  } else {
    return convert<A>(widen_half(bits));
  }
}
template <class A, int W>
TOKENNORM_INLINE Lanes<float, W> to_single(const Lanes<A, W>& v) {
  if constexpr (std::is_same_v<A, double>) {
    return round_to_odd(v);
  } else {
    return v;
  }
}
template <class T, class A, int W>
TOKENNORM_INLINE Bits16<W> to_bits(const Lanes<A, W>& v) {
  if constexpr (std::is_same_v<T, Eigen::bfloat16>) {
    return narrow_bfloat16(to_single(v));
  } else {
    return narrow_half(to_single(v));
  }
}

TOKENNORM_END_KERNELS

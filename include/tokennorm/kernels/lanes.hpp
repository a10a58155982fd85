// SPDX-License-Identifier: MIT
/// Lanes<A, W>: W values of A in one vector register, over the compilers' vector extension; loads
/// and stores from every memory type, whole or of the first n lanes.
///
/// A is the arithmetic type, float or double. Memory may be float, double, half or bfloat16; stores
/// round once, to nearest even, and keep NaN. A float result is rounded to half or bfloat16
/// directly; no value passes through a third type on the way.
#pragma once

#include "tokennorm/core/macros.hpp"
#include "tokennorm/core/scalar.hpp"
#include "tokennorm/kernels/builtins.hpp"
#include "tokennorm/kernels/isa.hpp"

#include <Eigen/Core>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

/// C arrays of a number of lanes, or of bytes for that many elements.
template <class T, int N>
using Array = T[static_cast<std::size_t>(N)];
template <std::size_t N>
using Bytes = unsigned char[N];

/// The copy constructor is user-provided so that a call passes lanes by address, and no -Wpsabi
/// warning about vector arguments reaches the user; every such call is inlined away.
template <class T, int W>
struct Lanes {
  typedef T Native __attribute__((vector_size(W * sizeof(T))));
  static constexpr int width = W;

  Native native;

  TOKENNORM_INLINE Lanes() {}
  TOKENNORM_INLINE Lanes(const Lanes& other) : native(other.native) {}
  TOKENNORM_INLINE explicit Lanes(const Native& value) : native(value) {}
  TOKENNORM_INLINE explicit Lanes(T value) {
    // By shuffling: from `Native{} + value` GCC makes W insertions instead of one broadcast.
    Native first{};
    first[0] = value;
    repeat_first(first, std::make_integer_sequence<int, W>{});
  }
  TOKENNORM_INLINE Lanes& operator=(const Lanes& other) {
    native = other.native;
    return *this;
  }

  TOKENNORM_INLINE friend Lanes operator+(const Lanes& a, const Lanes& b) {
    return Lanes(a.native + b.native);
  }
  TOKENNORM_INLINE friend Lanes operator-(const Lanes& a, const Lanes& b) {
    return Lanes(a.native - b.native);
  }
  TOKENNORM_INLINE friend Lanes operator*(const Lanes& a, const Lanes& b) {
    return Lanes(a.native * b.native);
  }
  TOKENNORM_INLINE friend Lanes operator&(const Lanes& a, const Lanes& b) {
    return Lanes(a.native & b.native);
  }
  TOKENNORM_INLINE friend Lanes operator|(const Lanes& a, const Lanes& b) {
    return Lanes(a.native | b.native);
  }
  TOKENNORM_INLINE Lanes& operator+=(const Lanes& b) {
    native += b.native;
    return *this;
  }
  TOKENNORM_INLINE T operator[](int lane) const { return native[lane]; }

 private:
  template <int... Lane>
  TOKENNORM_INLINE void repeat_first(const Native& from, std::integer_sequence<int, Lane...>) {
    native = __builtin_shufflevector(from, from, (Lane * 0)...);
  }
};

template <class To, class From>
TOKENNORM_INLINE To bit_cast_lanes(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to.native, &from.native, sizeof(to.native));
  return to;
}

/// Each lane converted to another type of element.
template <class To, class From, int W>
TOKENNORM_INLINE Lanes<To, W> convert(const Lanes<From, W>& from) {
  if constexpr (std::is_same_v<To, From>) {
    return from;
#if defined(__x86_64__) && !defined(__clang__)
  } else if constexpr (std::is_same_v<From, float> && std::is_same_v<To, double> && W >= 4 &&
                       W <= 8) {
    Lanes<To, W> to;
    widen(to.native, from.native);
    return to;
#endif
  } else {
    return Lanes<To, W>(__builtin_convertvector(from.native, typename Lanes<To, W>::Native));
  }
}

/// a·b + c, in one rounding where the level has FMA.
template <class T, int W>
TOKENNORM_INLINE Lanes<T, W> multiply_add(const Lanes<T, W>& a, const Lanes<T, W>& b,
                                          const Lanes<T, W>& c) {
#if defined(__x86_64__)
#if defined(__FMA__)
  constexpr int smallest = 16;
#else
  constexpr int smallest = 32;
#endif
  if constexpr (W * sizeof(T) >= smallest) {
    Lanes<T, W> result = c;
    fuse(a.native, b.native, result.native);
    return result;
  }
#endif
  return Lanes<T, W>(a.native * b.native + c.native);
}

/// The value, as something the optimizer does not see through: no contraction into FMA and, under
/// -ffast-math, no reassociation reaches across it.
template <class T, int W>
TOKENNORM_INLINE Lanes<T, W> opaque(const Lanes<T, W>& value) {
  auto native = value.native;  // not a member, which GCC would store on the stack as well
#if defined(__x86_64__) && !defined(__clang__)
  hide(native);
#elif defined(__x86_64__) && TOKENNORM_HAS_BUILTIN(__arithmetic_fence)
  // Clang contracts within one expression only, and this is its fence where -ffast-math lets it do
  // more. (With -ffp-contract=fast alone it is none; then every width is contracted alike.)
  native = __arithmetic_fence(native);
#elif defined(__aarch64__)
  asm("" : "+w"(native));
#else
  asm("" : "+m"(native));
#endif
  Lanes<T, W> result;
  result.native = native;
  return result;
}

template <class T>
TOKENNORM_INLINE T opaque(T value) {
#if defined(__x86_64__)
  if constexpr (sizeof(T) <= 8) {
    asm("" : "+x"(value));
    return value;
  }
#endif
  asm("" : "+m"(value));
  return value;
}

/// The same, in a register of its own: read from memory alone and not as part of a wider load. What
/// has just been written in narrow pieces is not there yet for a wide one, which then waits.
template <class T>
TOKENNORM_INLINE T in_register(T value) {
  if constexpr (std::is_floating_point_v<T>) {
    return opaque(value);
  } else {
    if constexpr (std::is_pointer_v<T> || std::is_integral_v<T>) asm("" : "+r"(value));
    return value;
  }
}

/// A deviation x − center: under -ffast-math the sum of deviations would be turned into a sum of x
/// less a multiple of the center, which is the cancellation that the kernels exist to avoid.
template <class V>
TOKENNORM_INLINE V guarded(const V& value) {
#if defined(__FAST_MATH__)
  return opaque(value);
#else
  return value;
#endif
}

template <class T, int W, int... Lane>
TOKENNORM_INLINE Lanes<T, int{sizeof...(Lane)}> pick(const Lanes<T, W>& v,
                                                     std::integer_sequence<int, Lane...>,
                                                     auto offset) {
  return Lanes<T, int{sizeof...(Lane)}>(
      __builtin_shufflevector(v.native, v.native, (Lane + decltype(offset)::value)...));
}

template <class T, int W>
TOKENNORM_INLINE Lanes<T, W / 2> lower_half(const Lanes<T, W>& v) {
  return pick(v, std::make_integer_sequence<int, W / 2>{}, std::integral_constant<int, 0>{});
}

template <class T, int W>
TOKENNORM_INLINE Lanes<T, W / 2> upper_half(const Lanes<T, W>& v) {
  return pick(v, std::make_integer_sequence<int, W / 2>{}, std::integral_constant<int, W / 2>{});
}

template <class T, int W, int... Lane>
TOKENNORM_INLINE Lanes<T, 2 * W> join(const Lanes<T, W>& low, const Lanes<T, W>& high,
                                      std::integer_sequence<int, Lane...>) {
  return Lanes<T, 2 * W>(__builtin_shufflevector(low.native, high.native, Lane...));
}

template <class T, int W>
TOKENNORM_INLINE Lanes<T, 2 * W> join(const Lanes<T, W>& low, const Lanes<T, W>& high) {
  return join(low, high, std::make_integer_sequence<int, 2 * W>{});
}

/// Some lanes of a and b, numbered through.
template <int... Lane, class T, int W>
TOKENNORM_INLINE Lanes<T, int{sizeof...(Lane)}> shuffle(const Lanes<T, W>& a,
                                                        const Lanes<T, W>& b) {
  return Lanes<T, int{sizeof...(Lane)}>(__builtin_shufflevector(a.native, b.native, Lane...));
}

/// The sum of all lanes: by halving down to four, then of neighbours. That is the order of
/// sums_of_four too: a row has the same sum alone and among others.
template <class V>
TOKENNORM_INLINE auto horizontal_sum(const V& v) {
  if constexpr (V::width == 2) {
    return v[0] + v[1];
  } else if constexpr (V::width == 4) {
    const auto pairs = v + shuffle<1, 0, 3, 2>(v, v);
    return pairs[0] + pairs[2];
  } else {
    return horizontal_sum(lower_half(v) + upper_half(v));
  }
}

/// The sum of the four quarters of each vector, all in one: [a a a a b b b b c c c c d d d d].
TOKENNORM_INLINE Lanes<float, 16> sums_of_quarters(const Lanes<float, 16> (&v)[4]) {
  using L = Lanes<float, 16>;
  const auto halve = [](const L& a, const L& b) __attribute__((always_inline)) {
    return shuffle<0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23>(a, b) +
           shuffle<8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31>(a, b);
  };
  const L ab = halve(v[0], v[1]), cd = halve(v[2], v[3]);
  return shuffle<0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27>(ab, cd) +
         shuffle<4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31>(ab, cd);
}

/// The sums of the quads of two vectors.
template <class V>
TOKENNORM_INLINE auto sums_of_quads(const V& ab, const V& cd) {
  const auto pairs =
      shuffle<0, 4, 8, 12, 2, 6, 10, 14>(ab, cd) + shuffle<1, 5, 9, 13, 3, 7, 11, 15>(ab, cd);
  return lower_half(pairs) + upper_half(pairs);
}

/// The sums of the lanes of four vectors, of double or in pairs, written to four numbers. Together
/// they take a third of the instructions that four sums take.
template <class V, class T>
TOKENNORM_INLINE void sums_of_four(const V (&v)[4], T* to) {
  if constexpr (V::width == 8) {
    const auto halve = [](const V& a, const V& b) __attribute__((always_inline)) {
      return shuffle<0, 1, 2, 3, 8, 9, 10, 11>(a, b) + shuffle<4, 5, 6, 7, 12, 13, 14, 15>(a, b);
    };
    store(to, sums_of_quads(halve(v[0], v[1]), halve(v[2], v[3])));
  } else if constexpr (V::width == 4) {
    const V ab = shuffle<0, 4, 2, 6>(v[0], v[1]) + shuffle<1, 5, 3, 7>(v[0], v[1]);
    const V cd = shuffle<0, 4, 2, 6>(v[2], v[3]) + shuffle<1, 5, 3, 7>(v[2], v[3]);
    store(to, shuffle<0, 1, 4, 5>(ab, cd) + shuffle<2, 3, 6, 7>(ab, cd));
  } else {
    TOKENNORM_UNROLL
    for (int i = 0; i < 4; i += 2) {
      store(to + i, shuffle<0, 2>(v[i], v[i + 1]) + shuffle<1, 3>(v[i], v[i + 1]));
    }
  }
}

/// Of float; the last two additions are made in double.
template <int W>
TOKENNORM_INLINE void sums_of_four(const Lanes<float, W> (&v)[4], double* to) {
  if constexpr (W == 16) {
    const auto quarters = sums_of_quarters(v);
    store(to, sums_of_quads(convert<double>(lower_half(quarters)),
                            convert<double>(upper_half(quarters))));
  } else {
    Lanes<double, W / 2> halves[4];
    TOKENNORM_UNROLL
    for (int i = 0; i < 4; ++i) {
      halves[i] = convert<double>(lower_half(v[i])) + convert<double>(upper_half(v[i]));
    }
    sums_of_four(halves, to);
  }
}

/// The same in float, for what need not be exact; in the order of horizontal_sum.
template <int W>
TOKENNORM_INLINE Lanes<float, 4> rough_sums_of_four(const Lanes<float, W> (&v)[4]) {
  if constexpr (W == 16) {
    const auto quarters = sums_of_quarters(v);
    const auto pairs = quarters + shuffle<1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14>(
                                      quarters, quarters);
    const auto sums =
        pairs + shuffle<2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13>(pairs, pairs);
    return shuffle<0, 4, 8, 12>(sums, sums);
  } else if constexpr (W == 4) {
    const auto ab = shuffle<0, 2, 4, 6>(v[0], v[1]) + shuffle<1, 3, 5, 7>(v[0], v[1]);
    const auto cd = shuffle<0, 2, 4, 6>(v[2], v[3]) + shuffle<1, 3, 5, 7>(v[2], v[3]);
    return shuffle<0, 2, 4, 6>(ab, cd) + shuffle<1, 3, 5, 7>(ab, cd);
  } else {
    Lanes<float, W / 2> halves[4];
    TOKENNORM_UNROLL
    for (int i = 0; i < 4; ++i) halves[i] = lower_half(v[i]) + upper_half(v[i]);
    return rough_sums_of_four(halves);
  }
}

template <class A>
using BitsOf = std::conditional_t<sizeof(A) == 4, std::int32_t, std::int64_t>;

template <class B, int... Lane>
TOKENNORM_INLINE Lanes<B, int{sizeof...(Lane)}> counting(std::integer_sequence<int, Lane...>) {
  return Lanes<B, int{sizeof...(Lane)}>(
      typename Lanes<B, int{sizeof...(Lane)}>::Native{B{Lane}...});
}

/// The first n lanes of v, and zero in the others.
template <class A, int W>
TOKENNORM_INLINE Lanes<A, W> first_lanes(const Lanes<A, W>& v, Index n) {
  using Bits = Lanes<BitsOf<A>, W>;
  const Bits index = counting<BitsOf<A>>(std::make_integer_sequence<int, W>{});
  const Bits mask(index.native < Bits(static_cast<BitsOf<A>>(n)).native);
  return bit_cast_lanes<Lanes<A, W>>(bit_cast_lanes<Bits>(v) & mask);
}

// ---- conversions of half and bfloat16, on their bits
// ---------------------------------------------

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

// ---- memory -------------------------------------------------------------------------------------

template <class T, int W>
TOKENNORM_INLINE Lanes<T, W> load_raw(const void* p) {
  Lanes<T, W> result;
  std::memcpy(&result.native, p, sizeof(result.native));
  return result;
}

template <class T, int W>
TOKENNORM_INLINE void store_raw(void* p, const Lanes<T, W>& v) {
  std::memcpy(p, &v.native, sizeof(v.native));
}

/// W values from memory, in the arithmetic type.
template <class A, int W, class T>
TOKENNORM_INLINE Lanes<A, W> load(const T* p) {
  if constexpr (std::is_same_v<T, A>) {
    return load_raw<A, W>(p);
  } else if constexpr (std::is_same_v<T, double>) {
    return join(convert<A>(load_raw<T, W / 2>(p)), convert<A>(load_raw<T, W / 2>(p + W / 2)));
  } else if constexpr (std::is_same_v<T, float>) {
    return convert<A>(load_raw<float, W>(p));
  } else {
    return from_bits<A, T>(load_raw<short, W>(p));
  }
}

/// Stores W values, rounded to the memory type.
template <class A, int W, class T>
TOKENNORM_INLINE void store(T* p, const Lanes<A, W>& v) {
  if constexpr (std::is_same_v<T, A>) {
    store_raw(p, v);
  } else if constexpr (std::is_same_v<T, double>) {
    store_raw(p, convert<double>(lower_half(v)));
    store_raw(p + W / 2, convert<double>(upper_half(v)));
  } else if constexpr (std::is_same_v<T, float>) {
    store_raw(p, convert<float>(v));
  } else {
    store_raw(p, to_bits<T>(v));
  }
}

/// The same past the caches, where the memory type is the arithmetic type; p is aligned to the
/// vector.
template <class A, int W, class T>
TOKENNORM_INLINE void store_streaming(T* p, const Lanes<A, W>& v) {
#if defined(__x86_64__)
  if constexpr (std::is_same_v<T, A>) {
#if TOKENNORM_HAS_BUILTIN(__builtin_nontemporal_store)
    __builtin_nontemporal_store(v.native, reinterpret_cast<typename Lanes<A, W>::Native*>(p));
#else
    using Singles = Lanes<float, int{W * sizeof(A) / sizeof(float)}>;
    stream(p, bit_cast_lanes<Singles>(v).native);
#endif
    return;
  }
#endif
  store(p, v);
}

/// How many vectors had better be stored at once. Where the machine converts to bfloat16, two take
/// the time of one; and with a test for each vector, Clang keeps what the loop needs in memory. GCC
/// has too few registers for that at AVX2.
template <class T, class A, int W>
inline constexpr int stored_together = 1;
template <>
inline constexpr int stored_together<Eigen::bfloat16, float, 16> = 4;
#if defined(__clang__)
template <>
inline constexpr int stored_together<Eigen::bfloat16, float, 8> = 4;
#endif

/// Stores N vectors, rounded to the memory type.
template <class A, int W, class T, std::size_t N>
TOKENNORM_INLINE void store(T* p, const Lanes<A, W> (&v)[N]) {
#if defined(__x86_64__)
  if constexpr (N == 4 && std::is_same_v<T, Eigen::bfloat16> && std::is_same_v<A, float> &&
                W == 16) {
    if (detail::has_bfloat16()) [[likely]] {
      TOKENNORM_UNROLL
      for (int k = 0; k < 4; k += 2) {
        Bits16<2 * W> two;
        narrow_to_bfloat16(two.native, v[k].native, v[k + 1].native);
        store_raw(p + k * W, two);
      }
    } else {
      TOKENNORM_UNROLL
      for (int k = 0; k < 4; ++k) {
        store_raw(p + k * W, lower_bits(round_to_bfloat16(v[k])));
      }
    }
    return;
  }
#endif
  TOKENNORM_UNROLL
  for (std::size_t k = 0; k < N; ++k) store(p + k * W, v[k]);
}

/// Copies the first n < W elements in pieces of fixed size; n is not known at compile time, and a
/// call of memcpy costs more than the row of a small token.
template <int W, class T>
TOKENNORM_INLINE void copy_first(T* to, const T* from, Index n) {
  if constexpr (W > 1) {
    constexpr int piece = W / 2;
    if ((n & piece) != 0) {
      std::memcpy(static_cast<void*>(to), from, piece * sizeof(T));
      to += piece;
      from += piece;
    }
    copy_first<piece>(to, from, n);
  }
}

/// The first n < W values from memory, zero in the other lanes; touches nothing behind them.
template <class A, int W, class T>
TOKENNORM_INLINE Lanes<A, W> load_first(const T* p, Index n) {
  if constexpr (std::is_same_v<T, A> && has_masked_access<A, W* int{sizeof(A)}>) {
    Lanes<A, W> result;
    masked_load(result.native, p, static_cast<int>(n));
    return result;
  } else if constexpr (sizeof(T) == 2 && has_masked_access<short, W * 2>) {
    Bits16<W> bits;
    masked_load(bits.native, p, static_cast<int>(n));
    return from_bits<A, T>(bits);
  }
  alignas(64) Bytes<W * sizeof(T)> bytes = {};
  T* buffer = static_cast<T*>(static_cast<void*>(bytes));
  copy_first<W>(buffer, p, n);
  return load<A, W>(static_cast<const T*>(buffer));
}

/// Stores the first n < W values.
template <class A, int W, class T>
TOKENNORM_INLINE void store_first(T* p, const Lanes<A, W>& v, Index n) {
  if constexpr (std::is_same_v<T, A> && has_masked_access<A, W* int{sizeof(A)}>) {
    masked_store(p, v.native, static_cast<int>(n));
    return;
  } else if constexpr (sizeof(T) == 2 && has_masked_access<short, W * 2>) {
    masked_store(p, to_bits<T>(v).native, static_cast<int>(n));
    return;
  }
  alignas(64) Bytes<W * sizeof(T)> bytes;
  T* buffer = static_cast<T*>(static_cast<void*>(bytes));
  store(buffer, v);
  copy_first<W>(p, static_cast<const T*>(buffer), n);
}

/// The value as it will be read back after a store to memory of type T.
template <class T, class A, int W>
TOKENNORM_INLINE Lanes<A, W> rounded_to(const Lanes<A, W>& v) {
  if constexpr (std::is_same_v<T, A> || std::is_same_v<T, double>) {
    return opaque(
        v);  // not to be contracted with what follows: stored or not, the bits are the same
  } else if constexpr (std::is_same_v<T, Eigen::bfloat16> && W != 16) {
    const Words<W> words(round_to_bfloat16(to_single(v)).native << 16);  // not packed in between
    return convert<A>(bit_cast_lanes<Lanes<float, W>>(words));
  } else if constexpr (sizeof(T) == 2) {
    return from_bits<A, T>(to_bits<T>(v));
  } else {
    alignas(64) Bytes<W * sizeof(T)> bytes;
    T* buffer = static_cast<T*>(static_cast<void*>(bytes));
    store(buffer, v);
    return load<A, W>(static_cast<const T*>(buffer));
  }
}

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH

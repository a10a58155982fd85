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
#include "tokennorm/kernels/simd/builtins.hpp"
#include "tokennorm/kernels/simd/isa.hpp"

#include <Eigen/Core>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

TOKENNORM_BEGIN_KERNELS

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
    const Lanes product(a.native * b.native);
#if defined(__aarch64__) || (!defined(__x86_64__) && defined(__FP_FAST_FMA))
    // Compilers contract it with a sum in one copy of a loop and not in the other.
    return opaque(product);
#else
    return product;
#endif
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

/// a·b + c, in one rounding where the level has FMA, at AVX2, AVX-512 and on AArch64; else in two.
template <class T, int W>
TOKENNORM_INLINE Lanes<T, W> multiply_add(const Lanes<T, W>& a, const Lanes<T, W>& b,
                                          const Lanes<T, W>& c) {
#if defined(__x86_64__) || defined(__aarch64__)
#if defined(__FMA__) || defined(__aarch64__)
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
  return a * b + c;
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

/// The sums of the lanes of four vectors, of double or of DoubleDoubles, written to four numbers.
/// Together they take a third of the instructions that four sums take.
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

/// The bits of a number, and not to be seen that they are: Clang 19 makes of some comparisons of
/// bits such of numbers, of which -ffast-math says that none is NaN.
template <class A>
TOKENNORM_INLINE BitsOf<A> hidden_bits(A a) {
  return in_register(std::bit_cast<BitsOf<A>>(a));
}

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

TOKENNORM_END_KERNELS

// SPDX-License-Identifier: MIT
/// A number as the unevaluated sum of two doubles: what sums of doubles are finished in. It has
/// twice the digits of a double and its range, and works in lanes.
///
/// Error    of a sum or product: a few units of 2⁻¹⁰⁴ of the larger operand or of the result, where
///          nothing overflows and the products of the upper halves are normal
/// Source   Dekker 1971, "A Floating-Point Technique for Extending the Available Precision"; the
///          exact sum: Knuth, "The Art of Computer Programming", vol. 2, 4.2.2, theorem B
#pragma once

#include "tokennorm/kernels/simd/memory.hpp"

#include <utility>

TOKENNORM_BEGIN_KERNELS

/// One of them, as it is in memory.
struct DoubleDouble {
  double high, low;
};

/// W of them. They are not normalized: `low` may be some units of `high`.
template <int W>
struct DoubleDoubles {
  using V = Lanes<double, W>;
  static constexpr int width = W;

  V high, low;

  TOKENNORM_INLINE DoubleDouble operator[](int lane) const { return {high[lane], low[lane]}; }
  /// The nearest doubles, or nearly.
  TOKENNORM_INLINE V rounded() const { return high + low; }
};

/// What `sum`, which is a + b, lost.
template <class V>
TOKENNORM_INLINE V rounding_error(const V& a, const V& b, const V& sum) {
  const V kept = opaque(sum - a);
  return opaque(a - opaque(sum - kept)) + opaque(b - kept);
}

template <int W>
TOKENNORM_INLINE DoubleDoubles<W> two_sum(const Lanes<double, W>& a, const Lanes<double, W>& b) {
  const auto sum = opaque(a + b);
  return {sum, rounding_error(a, b, sum)};
}

template <int W>
TOKENNORM_INLINE DoubleDoubles<W> operator+(const DoubleDoubles<W>& a, const DoubleDoubles<W>& b) {
  const DoubleDoubles<W> sum = two_sum(a.high, b.high);
  return {sum.high, opaque(a.low + b.low) + sum.low};
}
TOKENNORM_INLINE DoubleDouble operator+(const DoubleDouble& a, const DoubleDouble& b) {
  const double sum = opaque(a.high + b.high);
  return {sum, opaque(a.low + b.low) + rounding_error(a.high, b.high, sum)};
}
template <int W>
TOKENNORM_INLINE DoubleDoubles<W> operator-(const DoubleDoubles<W>& a) {
  using V = Lanes<double, W>;
  return {V(-a.high.native), V(-a.low.native)};
}

/// What `product`, which is a·b, lost.
template <class Level, int W>
TOKENNORM_INLINE Lanes<double, W> product_error(const Lanes<double, W>& a,
                                                const Lanes<double, W>& b,
                                                const Lanes<double, W>& product) {
  using V = Lanes<double, W>;
#if defined(__x86_64__)
  if constexpr (Level::is_for_speed) {
    V error(-product.native);
    fuse(a.native, b.native, error.native);
    return error;
  } else {
    // Without a fused instruction: the products of the halves are exact.
    const auto upper = [](const V& v) __attribute__((always_inline)) {
      const V shifted = opaque(v * V(0x1p27 + 1));
      return opaque(shifted - opaque(shifted - v));
    };
    const V a_high = upper(a), b_high = upper(b), a_low = a - a_high, b_low = b - b_high;
    const V rest = opaque(opaque(a_high * b_high) - product);
    const V crossed = opaque(opaque(rest + opaque(a_high * b_low)) + opaque(a_low * b_high));
    return crossed + opaque(a_low * b_low);
  }
#else
  V error;
  for (int i = 0; i < W; ++i) error.native[i] = __builtin_fma(a[i], b[i], -product[i]);
  return error;
#endif
}

template <class Level, int W>
TOKENNORM_INLINE DoubleDoubles<W> two_product(const Lanes<double, W>& a,
                                              const Lanes<double, W>& b) {
  const auto product = opaque(a * b);
  return {product, product_error<Level>(a, b, product)};
}

template <class Level, int W>
TOKENNORM_INLINE DoubleDoubles<W> product(const DoubleDoubles<W>& a, const DoubleDoubles<W>& b) {
  const DoubleDoubles<W> upper = two_product<Level>(a.high, b.high);
  return {upper.high, upper.low + opaque(opaque(a.high * b.low) + opaque(a.low * b.high))};
}

/// 1/a of a double.
template <class Level, int W>
TOKENNORM_INLINE DoubleDoubles<W> reciprocal(double a) {
  using V = Lanes<double, W>;
  const V quotient(1 / a);
  const DoubleDoubles<W> back = two_product<Level>(V(a), quotient);
  return {quotient, opaque(opaque(V(1.0) - back.high) - back.low) * quotient};
}

/// 1/√a, rounded: an approximation and a step of Newton's from it, with the residual in two
/// doubles.
template <class Level, int W>
TOKENNORM_INLINE Lanes<double, W> reciprocal_root(const DoubleDoubles<W>& a) {
  using V = Lanes<double, W>;
  const V high = opaque(a.rounded()), low = opaque(a.high - high) + a.low, one(1.0);
  V root = high;
  square_root(root.native);
  // A quotient that does not wait for the root.
  const V approximate = opaque(V(root.native * (one.native / high.native)));
  const DoubleDoubles<W> square = two_product<Level>(approximate, approximate);
  const DoubleDoubles<W> unity = two_product<Level>(high, square.high);
  const V rest = opaque(opaque(high * square.low) + opaque(low * square.high));
  const V residual = opaque(opaque(opaque(one - unity.high) - unity.low) - rest);
  return approximate + opaque(opaque(approximate * V(0.5)) * residual);
}

// ---- lanes of them, as of numbers ---------------------------------------------------------------

template <int W>
TOKENNORM_INLINE DoubleDoubles<W / 2> lower_half(const DoubleDoubles<W>& v) {
  return {lower_half(v.high), lower_half(v.low)};
}
template <int W>
TOKENNORM_INLINE DoubleDoubles<W / 2> upper_half(const DoubleDoubles<W>& v) {
  return {upper_half(v.high), upper_half(v.low)};
}
template <int... Lane, int W>
TOKENNORM_INLINE DoubleDoubles<int{sizeof...(Lane)}> shuffle(const DoubleDoubles<W>& a,
                                                             const DoubleDoubles<W>& b) {
  return {shuffle<Lane...>(a.high, b.high), shuffle<Lane...>(a.low, b.low)};
}

template <int W, int... Lane>
TOKENNORM_INLINE DoubleDoubles<W> load(const DoubleDouble* from,
                                       std::integer_sequence<int, Lane...>) {
  const auto first = load_raw<double, W>(from), second = load_raw<double, W>(from + W / 2);
  return {shuffle<2 * Lane...>(first, second), shuffle<2 * Lane + 1 ...>(first, second)};
}
template <int W>
TOKENNORM_INLINE DoubleDoubles<W> load(const DoubleDouble* from) {
  return load<W>(from, std::make_integer_sequence<int, W>{});
}

template <int W, int... Lane>
TOKENNORM_INLINE void store(DoubleDouble* to, const DoubleDoubles<W>& v,
                            std::integer_sequence<int, Lane...>) {
  store_raw(to, shuffle<Lane / 2 + Lane % 2 * W...>(v.high, v.low));
  store_raw(to + W / 2, shuffle<W / 2 + Lane / 2 + Lane % 2 * W...>(v.high, v.low));
}
template <int W>
TOKENNORM_INLINE void store(DoubleDouble* to, const DoubleDoubles<W>& v) {
  store(to, v, std::make_integer_sequence<int, W>{});
}

TOKENNORM_END_KERNELS

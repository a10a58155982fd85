// SPDX-License-Identifier: MIT
/// The statistics of a few tokens at once: mean, variance, rstd.
///
///     deviations from a pivot p near the mean:   s₁ = Σ(x − p),  s₂ = Σ(x − p)²
///     δ = s₁/C,   σ² = s₂/C − δ²,   μ = p + δ,   rstd = 1/√(σ² + ε)          (RMSNorm: p = δ = 0)
///
/// Error    σ² + ε is as good as s₂ where it is at least three quarters of s₂/C. Where it is less,
///          the sweep is repeated once about p + δ; where that does not help, or the sums overflow
///          or underflow, the row is redone in the wider type. x̂ is built from (x − μ̂)·rstd −
///          (μ − μ̂)·rstd with μ̂ the mean rounded to the arithmetic type, so that the rounding of
///          the mean costs nothing.
/// Source   shifted-data variance: Chan, Golub, LeVeque 1983, "Algorithms for Computing the Sample
///          Variance", eq. 2.3 (with the correction term)
#pragma once

#include "tokennorm/kernels/stages/sums.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

TOKENNORM_BEGIN_KERNELS

/// The statistics of N tokens:  x̂ = (x − center)·rstd + correction.  For the tokens whose bit is
/// set in `fallbacks` the arithmetic type does not do, and x̂ = ((x − center) − rest)·wide_rstd.
template <class A, int N>
struct Statistics {
  Array<A, N> center, correction, rstd;
  Array<double, N> precise_rstd, mean;  // what the caller is told
  Array<Precise<A>, N> rest, wide_rstd;
  unsigned fallbacks = 0;

  TOKENNORM_INLINE bool needs_fallback(int token) const { return ((fallbacks >> token) & 1u) != 0; }
  /// Token `to` becomes what token `from` is in `other`.
  template <int M>
  TOKENNORM_INLINE void copy(int to, const Statistics<A, M>& other, int from) {
    center[to] = other.center[from];
    correction[to] = other.correction[from];
    rstd[to] = other.rstd[from];
    precise_rstd[to] = other.precise_rstd[from];
    mean[to] = other.mean[from];
    fallbacks &= ~(1u << to);
    if (!other.needs_fallback(from)) return;
    rest[to] = other.rest[from];
    wide_rstd[to] = other.wide_rstd[from];
    fallbacks |= 1u << to;
  }
};

template <class A>
struct Limits;
// Between these bounds of σ² + ε the squares neither overflow nor lose to underflow, not even where
// subnormal numbers are flushed to zero.
template <>
struct Limits<float> {
  static constexpr double smallest = 0x1p-80, largest = 0x1p100;
};
template <>
struct Limits<double> {
  static constexpr double smallest = 0x1p-900, largest = 0x1p900;
};

/// N tokens in lanes of double, so many at a time. A single one stands in both lanes of the
/// narrowest register: a number is spread over a wider one in three cycles, over this one in one.
template <class Level, int N>
struct TokenLanes {
  static constexpr int width = N == 1 ? 2 : std::min(4, Level::template lanes<double>);
  using V = Lanes<double, width>;
  using Bits = Lanes<std::int64_t, width>;

  template <class T>
  TOKENNORM_INLINE static V get(const T* from) {
    if constexpr (N == 1) {
      return V(static_cast<double>(*from));
    } else {
      return load<double, width>(from);
    }
  }
  TOKENNORM_INLINE static DoubleDoubles<width> get(const DoubleDouble* from) {
    if constexpr (N == 1) {
      return {V(from->high), V(from->low)};
    } else {
      return load<width>(from);
    }
  }
  template <class T>
  TOKENNORM_INLINE static void put(T* to, const V& v) {
    if constexpr (N > 1) {
      store(to, v);
    } else if constexpr (std::is_same_v<T, float>) {
      *to = convert<float>(v)[0];
    } else {
      *to = v[0];
    }
  }
  // In terms of bits: also where the compiler was told that there is no NaN, which lies above.
  TOKENNORM_INLINE static Bits at_least(const V& v, double low) {
    return Bits(bit_cast_lanes<Bits>(opaque(v)).native >=
                Bits(std::bit_cast<std::int64_t>(low)).native);
  }
  TOKENNORM_INLINE static Bits at_most(const V& v, double high) {
    return Bits(bit_cast_lanes<Bits>(opaque(v)).native <=
                Bits(std::bit_cast<std::int64_t>(high)).native);
  }
  TOKENNORM_INLINE static Bits magnitude_at_most(const V& v, double high) {
    const Bits magnitude(std::int64_t{0x7fffffffffffffff});
    return at_most(bit_cast_lanes<V>(bit_cast_lanes<Bits>(opaque(v)) & magnitude), high);
  }
  /// The larger of v and low, and low where v is no number.
  TOKENNORM_INLINE static V no_less_than(const V& v, double low) {
    const V least(low);
    const Bits larger(v.native > least.native);
    return bit_cast_lanes<V>(Bits((larger.native & bit_cast_lanes<Bits>(v).native) |
                                  (~larger.native & bit_cast_lanes<Bits>(least).native)));
  }
  /// A bit for each token where `good` is not set.
  TOKENNORM_INLINE static unsigned failed(const Bits& good) {
    unsigned good_bits = 0;
    sign_bits(good_bits, bit_cast_lanes<V>(good).native);
    return ~good_bits & ((1u << std::min(width, N)) - 1);
  }
};

/// From the sums about the pivots to the statistics; bit i of the result is set where the sums of
/// token i do not carry them.
template <class Level, bool Centred, int N>
TOKENNORM_INLINE unsigned finish(const float* pivots, const double* sums, const double* squares,
                                 Index n, double epsilon, Statistics<float, N>& moments) {
  using T = TokenLanes<Level, N>;
  using V = typename T::V;
  const V inverse_count(1 / static_cast<double>(n)), added(epsilon), one(1.0);
  unsigned bad = 0;
  TOKENNORM_UNROLL
  for (int i = 0; i < N; i += T::width) {
    // Not to be contracted in one kernel and not in another.
    const V mean_square = opaque(T::get(squares + i) * inverse_count);
    V delta(0.0), variance = mean_square;
    if constexpr (Centred) {
      delta = opaque(T::get(sums + i) * inverse_count);
      // Not multiply_add, which rounds once with four lanes and twice with two.
      variance = mean_square - opaque(delta * delta);
    }
    const V radicand = variance + added;
    // Where it is less, the row is redone; a root or quotient of it might trap.
    const V divisor = T::no_less_than(radicand, Limits<float>::smallest);
    V root = divisor;
    square_root(root.native);
    // A quotient that does not wait for the root.
    const V rstd(root.native * (one.native / divisor.native));
    T::put(moments.precise_rstd + i, rstd);
    T::put(moments.rstd + i, rstd);
    if constexpr (Centred) {
      const V pivot = T::get(pivots + i);
      const V mean = pivot + delta;
      T::put(moments.mean + i, mean);
      T::put(moments.center + i, mean);
      const V center = T::get(static_cast<const float*>(moments.center + i));
      T::put(moments.correction + i, ((center - pivot) - delta) * rstd);
    }
    // The mean square is not below the variance, so that two comparisons do for both.
    auto good = T::at_least(radicand, Limits<float>::smallest) &
                T::at_most(mean_square + added, Limits<float>::largest);
    if constexpr (Centred) {
      good = good & typename T::Bits((V(4.0) * radicand).native >= (V(3.0) * mean_square).native);
    }
    bad |= T::failed(good) << i;
  }
  return bad;
}

template <class Level, bool Centred, int N>
TOKENNORM_INLINE unsigned finish(const double* pivots, const DoubleDouble* sums,
                                 const DoubleDouble* squares, Index n, double epsilon,
                                 Statistics<double, N>& moments) {
  using T = TokenLanes<Level, N>;
  using V = typename T::V;
  const auto inverse_count = reciprocal<Level, T::width>(static_cast<double>(n));
  const DoubleDoubles<T::width> added{V(epsilon), V(0.0)};
  unsigned bad = 0;
  TOKENNORM_UNROLL
  for (int i = 0; i < N; i += T::width) {
    const auto mean_square = product<Level>(T::get(squares + i), inverse_count);
    auto radicand = mean_square + added;
    DoubleDoubles<T::width> delta{V(0.0), V(0.0)};
    if constexpr (Centred) {
      delta = product<Level>(T::get(sums + i), inverse_count);
      radicand = radicand + -product<Level>(delta, delta);
    }
    // As for float.
    const V rstd = reciprocal_root<Level>(DoubleDoubles<T::width>{
        T::no_less_than(radicand.high, Limits<double>::smallest), radicand.low});
    T::put(moments.precise_rstd + i, rstd);
    T::put(moments.rstd + i, rstd);
    if constexpr (Centred) {
      const auto center = two_sum(T::get(pivots + i), delta.high);
      const V rest = center.low + delta.low;
      T::put(moments.mean + i, center.high + rest);
      T::put(moments.center + i, center.high);
      T::put(moments.correction + i, V(-rest.native) * rstd);
    }
    auto good = T::at_least(radicand.high, Limits<double>::smallest) &
                T::at_most(radicand.high, Limits<double>::largest);
    if constexpr (Centred) {
      good = good & typename T::Bits((V(4.0) * radicand.high).native >=
                                     (V(3.0) * mean_square.high).native);
    }
    bad |= T::failed(good) << i;
  }
  return bad;
}

// ---- the rare rows ------------------------------------------------------------------------------

/// x − μ of a token that needs the fallback, in the wider type. The mean is kept in two parts: in
/// one, even a wide type would lose the deviations of a row whose values differ by a unit in the
/// last place.
template <class A, int N>
TOKENNORM_INLINE Precise<A> deviation(A x, const Statistics<A, N>& moments, int token) {
  using P = Precise<A>;
  return guarded(guarded(static_cast<P>(x) - static_cast<P>(moments.center[token])) -
                 moments.rest[token]);
}

/// The bits of |a|, whose order is that of the numbers, with infinity and then NaN above: also
/// where the compiler was told that there are none.
template <class A>
constexpr BitsOf<A> magnitude_bits(A a) {
  auto bits = std::bit_cast<BitsOf<A>>(a);
  if (!std::is_constant_evaluated()) bits = hidden_bits(a);
  return bits & std::numeric_limits<BitsOf<A>>::max();
}

/// Also where the compiler was told that there is no NaN.
TOKENNORM_INLINE bool is_zero(double a) { return magnitude_bits(a) == 0; }
TOKENNORM_INLINE bool is_zero(long double a) {
  int exponent = 0;
  return is_zero(static_cast<double>(std::frexp(a, &exponent)));
}
/// 1/√a, and 0 of 0.
template <class P>
TOKENNORM_INLINE P reciprocal_root_or_zero(const P& a) {
  using std::sqrt;
  return is_zero(a) ? P(0) : P(1) / sqrt(a);
}

/// The mean in the arithmetic type. Where that of the largest numbers was rounded upwards, it is
/// beyond them.
template <class A, class P>
TOKENNORM_INLINE A narrowed(const P& mean) {
  constexpr auto largest = magnitude_bits(std::numeric_limits<A>::max());
  const A result = static_cast<A>(mean);
  const A part = static_cast<A>(mean * static_cast<P>(0x1p-10));  // infinite only if it is
  const bool has_overflowed =
      magnitude_bits(opaque(result)) > largest && magnitude_bits(opaque(part)) <= largest;
  return has_overflowed ? std::copysign(std::numeric_limits<A>::max(), result) : result;
}

/// The mean of a row, in two parts, and its variance, in a type in which no finite row overflows or
/// underflows. (RMSNorm: the mean is 0, the variance the mean square.)
template <class A, class P>
struct WideMoments {
  A center = 0;
  P rest = 0, variance = 0;

  TOKENNORM_INLINE P deviation(A x) const {
    return guarded(guarded(static_cast<P>(x) - static_cast<P>(center)) - rest);
  }

  /// In blocks, so that the rounding of the sums does not grow with n.
  template <bool Centred, class Source>
  TOKENNORM_INLINE void take(const Source& source, Index n) {
    // The mean about zero, the mean about that: what rounding left of it, and the variance.
    for (int pass = Centred ? 0 : 2; pass < 3; ++pass) {
      P sum = 0, block = 0;
      for (Index c = 0; c < n; ++c) {
        const P d = deviation(source.template at<A>(c));
        block += pass == 2 ? d * d : d;
        if (c % 64 == 63) {
          sum += block;
          block = 0;
        }
      }
      const P result = (sum + block) / static_cast<P>(n);
      if (pass == 0) center = narrowed<A>(result);
      if (pass == 1) rest = result;
      if (pass == 2) variance = result;
    }
  }
};

/// The statistics of a row in the wider type.
template <bool Centred, class A, class Source>
struct FallbackStatisticsTask {
  Source source;
  Index n;
  double epsilon;
  Statistics<A, 1>& moments;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    using P = Precise<A>;
    WideMoments<A, P> wide;
    wide.template take<Centred>(source, n);
    moments.center[0] = wide.center;
    moments.correction[0] = 0;
    moments.rest[0] = wide.rest;
    moments.mean[0] = static_cast<double>(static_cast<P>(wide.center) + wide.rest);
    const P radicand = wide.variance + static_cast<P>(epsilon);
    moments.wide_rstd[0] = reciprocal_root_or_zero(radicand);
    moments.precise_rstd[0] = static_cast<double>(moments.wide_rstd[0]);
    moments.rstd[0] = static_cast<A>(moments.wide_rstd[0]);
    moments.fallbacks = 1;
  }
};

/// What follows where the first sums of a row were not good enough: another sweep about its mean,
/// then the wider type. At the baseline, which is compiled once and not for every level.
template <bool Centred, class A, class Source>
struct ReviseRowTask {
  Source source;
  A center;
  Index n;
  double epsilon;
  Statistics<A, 1>& moments;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    if constexpr (Centred) {
      PreciseSum<A> sum, squares;
      sums_together<Level, Centred, A>(Group<Source, 1>{{source}}, &center, n, &sum, &squares);
      if (finish<Level, Centred>(&center, &sum, &squares, n, epsilon, moments) == 0) return;
    }
    Level::call(FallbackStatisticsTask<Centred, A, Source>{source, n, epsilon, moments});
  }
};

template <class A, int N>
struct SumsOfRows;

/// The sums of a group of rows, one row after the other, in a function of its own.
template <bool Centred, class A, int N, class Source>
struct GroupSumsTask {
  Group<Source, N> rows;
  Index n;
  SumsOfRows<A, N>& to;  // about its pivots

  template <class Level>
  TOKENNORM_INLINE void run() const {
    for (int r = 0; r < N; ++r) {
      Idle idle;
      const RowSums<Level, Centred, A> row(rows.row[r], Absent{}, Prefetch{}, to.pivots[r], n,
                                           idle);
      if constexpr (Centred) to.sums[r] = row.sum().sum();
      to.squares[r] = row.sum_of_squares().sum();
    }
  }
};

/// Where the caller wants them, the statistics of tokens from `token` on.
template <class A, int N, class Norm>
TOKENNORM_INLINE void store_statistics(const Norm& norm, const Statistics<A, N>& moments,
                                       Index token, int count = N) {
  using S = std::remove_cvref_t<decltype(*norm.rstd)>;
  if (norm.rstd == nullptr) return;
  for (int i = 0; i < count; ++i) {
    norm.rstd[token + i] = static_cast<S>(moments.precise_rstd[i]);
    if constexpr (Norm::centred) norm.mean[token + i] = static_cast<S>(moments.mean[i]);
  }
}

/// Sums of some rows about their pivots, and the statistics that follow.
template <class A, int N>
struct SumsOfRows {
  alignas(32) Array<A, N> pivots = {};
  alignas(32) Array<PreciseSum<A>, N> sums = {}, squares = {};

  /// The statistics; rows are read again where their sums do not carry them.
  template <class Level, bool Centred, class T>
  TOKENNORM_INLINE void finish(const Group<Row<const T>, N>& rows, Index n, double epsilon,
                               Statistics<A, N>& moments) const {
    moments.fallbacks = 0;
    const unsigned bad =
        kernels::finish<Level, Centred>(pivots, sums, squares, n, epsilon, moments);
    if (bad != 0) [[unlikely]] {
      for (int r = 0; r < N; ++r) {
        if (((bad >> r) & 1u) == 0) continue;
        Statistics<A, 1> revised{};
        Baseline::call(ReviseRowTask<Centred, A, Row<const T>>{rows.row[r], moments.center[r], n,
                                                               epsilon, revised});
        moments.copy(r, revised, 0);
      }
    }
  }
};

TOKENNORM_END_KERNELS

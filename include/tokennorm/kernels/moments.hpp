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

#include "tokennorm/kernels/arguments.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

/// The statistics of N tokens:  x̂ = (x − center)·rstd + correction.  For the tokens whose bit is
/// set in `slow` the arithmetic type does not do, and x̂ = ((x − center) − rest)·precise_rstd.
template <class A, int N>
struct Moments {
  Array<A, N> center, correction, rstd;
  Array<Precise<A>, N> precise_rstd, mean;  // what the caller is told
  Array<Precise<A>, N> rest;
  unsigned slow = 0;

  TOKENNORM_INLINE bool is_slow(int token) const { return ((slow >> token) & 1u) != 0; }
  /// Token `to` becomes what token `from` is in `other`.
  template <int M>
  TOKENNORM_INLINE void copy(int to, const Moments<A, M>& other, int from) {
    center[to] = other.center[from];
    correction[to] = other.correction[from];
    rstd[to] = other.rstd[from];
    precise_rstd[to] = other.precise_rstd[from];
    mean[to] = other.mean[from];
    slow &= ~(1u << to);
    if (!other.is_slow(from)) return;
    rest[to] = other.rest[from];
    slow |= 1u << to;
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
  static constexpr long double smallest = 0x1p-900L, largest = 0x1p1000L;
};

/// False for NaN too, also where the compiler was told that there is none.
TOKENNORM_INLINE bool in_range(double value, double low, double high) {
  // The order of non-negative doubles is that of their bits; NaN and negative ones lie above.
  const auto bits = std::bit_cast<std::uint64_t>(opaque(value));
  return bits >= std::bit_cast<std::uint64_t>(low) && bits <= std::bit_cast<std::uint64_t>(high);
}
TOKENNORM_INLINE bool in_range(long double value, long double low, long double high) {
  return in_range(static_cast<double>(value), static_cast<double>(low), static_cast<double>(high));
}

template <class P>
TOKENNORM_INLINE P reciprocal_root(P value) {
  return value == 0 ? P(0) : P(1) / std::sqrt(value);
}

/// N tokens in lanes of double, so many at a time; a single one stands in all lanes.
template <class Level, int N>
struct TokenLanes {
  static constexpr int width = std::min(4, Level::template lanes<double>);
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
                                 Index n, double epsilon, Moments<float, N>& moments) {
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
      variance = multiply_add(delta, V(0.0) - delta, mean_square);
    }
    const V radicand = variance + added;
    V root = radicand;
    square_root(root.native);
    const V rstd(one.native / root.native);
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
TOKENNORM_INLINE unsigned finish(const double* pivots, const long double* sums,
                                 const long double* squares, Index n, double epsilon,
                                 Moments<double, N>& moments) {
  using P = long double;
  const P inverse_count = 1 / static_cast<P>(n);
  unsigned bad = 0;
  for (int i = 0; i < N; ++i) {
    const P mean_square = squares[i] * inverse_count;
    const P delta = Centred ? sums[i] * inverse_count : P(0);
    const P radicand = mean_square - delta * delta + static_cast<P>(epsilon);
    const P rstd = P(1) / std::sqrt(radicand);
    moments.precise_rstd[i] = rstd;
    moments.rstd[i] = static_cast<double>(rstd);
    if constexpr (Centred) {
      const P pivot = static_cast<P>(pivots[i]);
      moments.mean[i] = pivot + delta;
      moments.center[i] = opaque(static_cast<double>(moments.mean[i]));
      moments.correction[i] =
          static_cast<double>((guarded(static_cast<P>(moments.center[i]) - pivot) - delta) * rstd);
    }
    const bool good = in_range(mean_square + static_cast<P>(epsilon), Limits<double>::smallest,
                               Limits<double>::largest) &&
                      in_range(radicand, Limits<double>::smallest, Limits<double>::largest) &&
                      (!Centred || 4 * radicand >= 3 * mean_square);
    bad |= (good ? 0u : 1u) << i;
  }
  return bad;
}

// ---- sums ---------------------------------------------------------------------------------------

/// Sums of lanes over many channels: a handful of vectors is added up in the arithmetic type, then
/// folded into a wider or compensated total, so that the error does not grow with their number.
template <class A, int W>
class Total;

template <int W>
class Total<float, W> {
 public:
  TOKENNORM_INLINE void add(const Lanes<float, W>& v) {
    low_ += convert<double>(lower_half(v));
    high_ += convert<double>(upper_half(v));
  }
  /// The sum of each lane.
  TOKENNORM_INLINE void write(double* to) const {
    store(to, low_);
    store(to + W / 2, high_);
  }

 private:
  Lanes<double, W / 2> low_{0.0}, high_{0.0};
};

template <int W>
class Total<double, W> {
 public:
  TOKENNORM_INLINE void add(const Lanes<double, W>& v) {
    // high_ + low_ is the exact total but for the rounding of low_ itself.
    const auto next = opaque(high_ + v);
    low_ += rounding_error(high_, v, next);
    high_ = next;
  }
  TOKENNORM_INLINE long double sum() const { return sum_of(high_, low_); }
  TOKENNORM_INLINE void write(long double* to) const {
    alignas(64) Array<double, W> high, low;
    store(high, high_);
    store(low, low_);
    for (int i = 0; i < W; ++i)
      to[i] = static_cast<long double>(high[i]) + static_cast<long double>(low[i]);
  }

 private:
  /// What the sum a + b lost, exactly: Knuth's two-sum.
  template <int N>
  TOKENNORM_INLINE static Lanes<double, N> rounding_error(const Lanes<double, N>& a,
                                                          const Lanes<double, N>& b,
                                                          const Lanes<double, N>& sum) {
    const auto kept = opaque(sum - a);
    return opaque(a - opaque(sum - kept)) + opaque(b - kept);
  }
  template <int N>
  TOKENNORM_INLINE static long double sum_of(const Lanes<double, N>& high,
                                             const Lanes<double, N>& low) {
    if constexpr (N == 2) {
      return static_cast<long double>(high[0]) + static_cast<long double>(high[1]) +
             (static_cast<long double>(low[0]) + static_cast<long double>(low[1]));
    } else {
      const auto a = lower_half(high), b = upper_half(high), sum = opaque(a + b);
      return sum_of(sum, lower_half(low) + upper_half(low) + rounding_error(a, b, sum));
    }
  }

  Lanes<double, W> high_{0.0}, low_{0.0};
};

/// The same where only the sum over all lanes counts: two lanes are added before they are widened.
template <class A, int W>
class RowTotal : public Total<A, W> {};

template <int W>
class RowTotal<float, W> {
 public:
  TOKENNORM_INLINE void add(const Lanes<float, W>& v) {
    lanes_ += convert<double>(lower_half(v) + upper_half(v));
  }
  TOKENNORM_INLINE double sum() const { return horizontal_sum(lanes_); }
  TOKENNORM_INLINE const Lanes<double, W / 2>& lanes() const { return lanes_; }

 private:
  Lanes<double, W / 2> lanes_{0.0};
};

/// The totals of some rows.
template <class A, int W, std::size_t N>
TOKENNORM_INLINE void write_sums(const RowTotal<A, W> (&totals)[N], Precise<A>* to) {
  if constexpr (std::is_same_v<A, float> && int{N} == rows_together) {
    const Lanes<double, W / 2> lanes[] = {totals[0].lanes(), totals[1].lanes(), totals[2].lanes(),
                                          totals[3].lanes()};
    sums_of_four(lanes, to);
  } else {
    TOKENNORM_UNROLL
    for (std::size_t r = 0; r < N; ++r) to[r] = totals[r].sum();
  }
}

/// The lanes of four vectors, summed up in the wider type.
template <class A, int W>
TOKENNORM_INLINE void precise_sums(const Lanes<A, W> (&v)[rows_together], Precise<A>* to) {
  if constexpr (std::is_same_v<A, float>) {
    sums_of_four(v, to);
  } else {
    for (int r = 0; r < rows_together; ++r) {
      Total<A, W> total;
      total.add(v[r]);
      to[r] = total.sum();
    }
  }
}

/// A pivot is the mean of so many values: with half as many, one row of ordinary data in fifty
/// would need a second sweep, with these one in a thousand.
inline constexpr Index pivot_values = 32;

/// The means of the first values of some rows: pivots near the means of the rows.
template <class Level, class A, class Source, int N>
TOKENNORM_INLINE void first_means(const Group<Source, N>& source, Index n, A* pivots) {
  constexpr int width = Level::template lanes<A>;
  const Index count = std::min(n, pivot_values);
  Array<Lanes<A, width>, N> sums;
  TOKENNORM_UNROLL
  for (int r = 0; r < N; ++r) sums[r] = Lanes<A, width>(A(0));
  Index c = 0;
  for (; c + width <= count; c += width) {
    TOKENNORM_UNROLL
    for (int r = 0; r < N; ++r) sums[r] += source.row[r].template get<A, width>(c);
  }
  if (c < count) {
    TOKENNORM_UNROLL
    for (int r = 0; r < N; ++r) {
      sums[r] += source.row[r].template get_first<A, width>(c, count - c);
    }
  }
  const A inverse_count = 1 / static_cast<A>(count);
  if constexpr (N == 1) {
    pivots[0] = opaque(horizontal_sum(sums[0]) * inverse_count);
  } else if constexpr (std::is_same_v<A, float>) {
    store(pivots, rough_sums_of_four(sums) * Lanes<A, N>(inverse_count));
  } else {
    TOKENNORM_UNROLL
    for (int r = 0; r < N; ++r) pivots[r] = opaque(horizontal_sum(sums[r]) * inverse_count);
  }
}

inline constexpr int accumulators = 4;
inline constexpr Index vectors_per_fold = 4;  // for each accumulator

/// Rows of so many vectors are few channels: they are swept together, four rows at once, each into
/// one accumulator at a time.
inline constexpr Index few_vectors = 8;
template <class Level, class A>
inline constexpr Index few_channels = few_vectors* Level::template lanes<A>;

/// Sums of one row about the pivot; stores the row into the sink on the way, if there is one, and
/// fetches where its results will go.
template <class Level, bool Centred, class A>
class RowSums {
 public:
  static constexpr int width = Level::template lanes<A>;
  using V = Lanes<A, width>;

  template <class Source, class Sink>
  TOKENNORM_INLINE RowSums(const Source source, const Sink sink, const Ahead ahead, A pivot,
                           Index n)
      : pivot_(pivot) {
    constexpr Index step = accumulators * width;
    Index c = 0;
    while (c + step <= n) {
      const Index stop = std::min(n - step, c + (vectors_per_fold - 1) * step);
      ahead.template fetch<1>(c, stop + step);
      V sums[accumulators], squares[accumulators];
      TOKENNORM_UNROLL
      for (int k = 0; k < accumulators; ++k) sums[k] = squares[k] = V(A(0));
      for (; c <= stop; c += step) {
        TOKENNORM_UNROLL
        for (int k = 0; k < accumulators; ++k) {
          one_vector(source, sink, c + k * width, sums[k], squares[k]);
        }
      }
      fold(sums, squares);
    }
    if (c < n) {
      V sums[accumulators], squares[accumulators];
      TOKENNORM_UNROLL
      for (int k = 0; k < accumulators; ++k) sums[k] = squares[k] = V(A(0));
      if (c + 2 * width <= n) {
        TOKENNORM_UNROLL
        for (int k = 0; k < 2; ++k, c += width) one_vector(source, sink, c, sums[k], squares[k]);
      }
      if (c + width <= n) {
        one_vector(source, sink, c, sums[2], squares[2]);
        c += width;
      }
      if (c < n) {
        const V x = source.template get_first<A, width>(c, n - c);
        if constexpr (is_present<Sink>) sink.put_first(c, x, n - c);
        if constexpr (Centred) {
          accumulate(first_lanes(guarded(x - pivot_), n - c), sums[3], squares[3]);
        } else {
          accumulate(x, sums[3], squares[3]);  // the other lanes are zero
        }
      }
      fold(sums, squares);
    }
  }

  TOKENNORM_INLINE const RowTotal<A, width>& sum() const { return sum_; }
  TOKENNORM_INLINE const RowTotal<A, width>& sum_of_squares() const { return squares_; }

  TOKENNORM_INLINE static void accumulate(const V& d, V& sum, V& squares) {
    if constexpr (Centred) sum += d;
    squares = multiply_add(d, d, squares);
  }

 private:
  template <class Source, class Sink>
  TOKENNORM_INLINE void one_vector(const Source& source, const Sink& sink, Index c, V& sum,
                                   V& squares) const {
    V x;  // assigned, not initialized: GCC would store each one on the stack as well
    x.native = source.template get<A, width>(c).native;
    if constexpr (is_present<Sink>) sink.put(c, x);
    if constexpr (Centred) {
      accumulate(guarded(x - pivot_), sum, squares);
    } else {
      accumulate(x, sum, squares);
    }
  }
  TOKENNORM_INLINE void fold(const V (&sums)[accumulators], const V (&squares)[accumulators]) {
    if constexpr (Centred) sum_.add((sums[0] + sums[1]) + (sums[2] + sums[3]));
    squares_.add((squares[0] + squares[1]) + (squares[2] + squares[3]));
  }

  V pivot_;
  RowTotal<A, width> sum_, squares_;
};

/// Sums of four rows of few channels.
template <class Level, bool Centred, class A, class Source, class Sink>
TOKENNORM_INLINE void sums_together(const Group<Source, rows_together> source,
                                    const Group<Sink, rows_together> sink, const A* pivots, Index n,
                                    Precise<A>* sums, Precise<A>* squares) {
  constexpr int width = Level::template lanes<A>;
  using V = Lanes<A, width>;
  V pivot[rows_together], sum[rows_together], square[rows_together];
  V first_sum[rows_together], first_square[rows_together];
  TOKENNORM_UNROLL
  for (int r = 0; r < rows_together; ++r) {
    if constexpr (Centred) pivot[r] = V(pivots[r]);
    sum[r] = square[r] = first_sum[r] = first_square[r] = V(A(0));
  }
  Index c = 0;
  for (; c + width <= n; c += width) {
    if (c == few_vectors / 2 * width) {  // two halves have half the rounding error
      TOKENNORM_UNROLL
      for (int r = 0; r < rows_together; ++r) {
        first_sum[r] = sum[r];
        first_square[r] = square[r];
        sum[r] = square[r] = V(A(0));
      }
    }
    V x[rows_together];
    TOKENNORM_UNROLL
    for (int r = 0; r < rows_together; ++r) x[r] = source.row[r].template get<A, width>(c);
    if constexpr (is_present<Sink>) {
      TOKENNORM_UNROLL
      for (int r = 0; r < rows_together; ++r) sink.row[r].put(c, x[r]);
    }
    TOKENNORM_UNROLL
    for (int r = 0; r < rows_together; ++r) {
      if constexpr (Centred) x[r] = guarded(x[r] - pivot[r]);
      RowSums<Level, Centred, A>::accumulate(x[r], sum[r], square[r]);
    }
  }
  if (c < n) {
    V x[rows_together];
    TOKENNORM_UNROLL
    for (int r = 0; r < rows_together; ++r) {
      x[r] = source.row[r].template get_first<A, width>(c, n - c);
    }
    if constexpr (is_present<Sink>) {
      TOKENNORM_UNROLL
      for (int r = 0; r < rows_together; ++r) sink.row[r].put_first(c, x[r], n - c);
    }
    TOKENNORM_UNROLL
    for (int r = 0; r < rows_together; ++r) {
      if constexpr (Centred) x[r] = first_lanes(guarded(x[r] - pivot[r]), n - c);
      RowSums<Level, Centred, A>::accumulate(x[r], sum[r], square[r]);
    }
  }
  TOKENNORM_UNROLL
  for (int r = 0; r < rows_together; ++r) {
    if constexpr (Centred) sum[r] += first_sum[r];
    square[r] += first_square[r];
  }
  if constexpr (Centred) precise_sums(sum, sums);
  precise_sums(square, squares);
}

// ---- the rare rows ------------------------------------------------------------------------------

/// Runs a task off the fast path. At the baseline, which is compiled once and not for every level,
/// where the source reads the same values at all of them.
template <class Level, class Source, class Task>
TOKENNORM_INLINE void call_rarely(const Task& task) {
  if constexpr (Source::same_at_every_level) {
    Baseline::call(task);
  } else {
    Level::call(task);
  }
}

/// x − μ of a slow token, in the wider type. The mean is kept in two parts: in one, even a wide
/// type would lose the deviations of a row whose values differ by a unit in the last place.
template <class A, int N>
TOKENNORM_INLINE Precise<A> deviation(A x, const Moments<A, N>& moments, int token) {
  using P = Precise<A>;
  return guarded(guarded(static_cast<P>(x) - static_cast<P>(moments.center[token])) -
                 moments.rest[token]);
}

/// Mean, then variance, in the wider type, in which no finite row overflows or underflows; in
/// blocks, so that the rounding of the sums does not grow with C.
template <bool Centred, class A, class Source>
struct PreciseMomentsTask {
  Source source;
  Index n;
  double epsilon;
  Moments<A, 1>& moments;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    using P = Precise<A>;
    static_assert(std::numeric_limits<P>::max_exponent > std::numeric_limits<A>::max_exponent,
                  "tokennorm: norms of double need a long double with a wider range than double.");
    constexpr int width = Level::template lanes<A>;
    moments.center[0] = 0;
    moments.correction[0] = 0;
    moments.rest[0] = 0;
    P variance = 0;
    // The mean about zero, the mean about that: what rounding left of it, and the variance.
    for (int pass = Centred ? 0 : 2; pass < 3; ++pass) {
      P sum = 0, block = 0;
      for (Index c = 0; c < n; ++c) {
        const P d = deviation(source.template at<A, width>(c), moments, 0);
        block += pass == 2 ? d * d : d;
        if (c % 64 == 63) {
          sum += block;
          block = 0;
        }
      }
      const P result = (sum + block) / static_cast<P>(n);
      if (pass == 0) moments.center[0] = static_cast<A>(result);
      if (pass == 1) moments.rest[0] = result;
      if (pass == 2) variance = result;
    }
    moments.mean[0] = static_cast<P>(moments.center[0]) + moments.rest[0];
    moments.precise_rstd[0] = reciprocal_root(variance + static_cast<P>(epsilon));
    moments.rstd[0] = static_cast<A>(moments.precise_rstd[0]);
    moments.slow = 1;
  }
};

/// What follows where the first sums of a row were not good enough, in a function of its own so
/// that the fast path stays small: another sweep about its mean, then the wider type.
template <bool Centred, class A, class Source>
struct ReviseRowTask {
  Source source;
  A center;
  Index n;
  double epsilon;
  Moments<A, 1>& moments;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    if constexpr (Centred) {
      const RowSums<Level, Centred, A> sums(source, Absent{}, Ahead{}, center, n);
      const Precise<A> sum = sums.sum().sum(), squares = sums.sum_of_squares().sum();
      if (finish<Level, Centred>(&center, &sum, &squares, n, epsilon, moments) == 0) return;
    }
    call_rarely<Level, Source>(PreciseMomentsTask<Centred, A, Source>{source, n, epsilon, moments});
  }
};

/// The sums of the first n channels of some rows, which are copied from `source` to `sink` in the
/// same sweep where there is a sink. A group of several rows has few channels.
template <class A, int N>
struct SumsOfRows {
  alignas(32) Array<A, N> pivots = {};
  alignas(32) Array<Precise<A>, N> sums = {}, squares = {};

  template <class Level, bool Centred, class Source, class Sink>
  TOKENNORM_INLINE void take(const Group<Source, N>& source, const Group<Sink, N>& sink,
                             const Ahead& ahead, Index n) {
    if constexpr (Centred) first_means<Level>(source, n, pivots);
    if constexpr (N == 1) {
      const RowSums<Level, Centred, A> row(source.row[0], sink.row[0], ahead, pivots[0], n);
      if constexpr (Centred) sums[0] = row.sum().sum();
      squares[0] = row.sum_of_squares().sum();
    } else {
      sums_together<Level, Centred, A>(source, sink, pivots, n, sums, squares);
    }
  }

  /// The statistics; `again` is the source of any further sweep (the sink may be the very memory of
  /// an operand).
  template <class Level, bool Centred, class Again>
  TOKENNORM_INLINE void finish(const Group<Again, N>& again, Index n, double epsilon,
                               Moments<A, N>& moments) const {
    moments.slow = 0;
    const unsigned bad =
        kernels::finish<Level, Centred>(pivots, sums, squares, n, epsilon, moments);
    if (bad != 0) [[unlikely]] {
      for (int r = 0; r < N; ++r) {
        if (((bad >> r) & 1u) == 0) continue;
        Moments<A, 1> revised{};
        Level::call(
            ReviseRowTask<Centred, A, Again>{again.row[r], moments.center[r], n, epsilon, revised});
        moments.copy(r, revised, 0);
      }
    }
  }
};

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH

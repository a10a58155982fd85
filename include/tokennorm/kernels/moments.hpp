// SPDX-License-Identifier: MIT
/// The statistics of a few tokens at once: mean, variance, rstd.
///
///     deviations from a pivot p near the mean:   s₁ = Σ(x − p),  s₂ = Σ(x − p)²
///     δ = s₁/C,   σ² = s₂/C − δ²,   μ = p + δ,   rstd = 1/√(σ² + ε)          (RMSNorm: p = δ = 0)
///
/// Error    σ² is as good as s₂ where three quarters of s₂/C are left after subtracting δ². Where
///          fewer are, the sweep is repeated once about p + δ; where that does not help, or the
///          sums overflow or underflow, the row is redone in the wider type. x̂ is built from (x −
///          μ̂)·rstd − (μ − μ̂)·rstd with μ̂ the mean rounded to the arithmetic type, so that the
///          rounding of the mean costs nothing.
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
  /// Token `to` becomes what token `from` is in `other`; for tokens that are not slow.
  template <int M>
  TOKENNORM_INLINE void copy(int to, const Moments<A, M>& other, int from) {
    center[to] = other.center[from];
    correction[to] = other.correction[from];
    rstd[to] = other.rstd[from];
    precise_rstd[to] = other.precise_rstd[from];
    mean[to] = other.mean[from];
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

/// From the sums about the pivots to the statistics; bit i of the result is set where the sums of
/// token i do not carry them.
template <class Level, bool Centred, int N>
TOKENNORM_INLINE unsigned finish(const float* pivots, const double* sums, const double* squares,
                                 Index n, double epsilon, Moments<float, N>& moments) {
  constexpr int W = std::min(4, Level::template lanes<double>);
  using V = Lanes<double, W>;
  using Bits = Lanes<std::int64_t, W>;
  const V inverse_count(1 / static_cast<double>(n)), added(epsilon), one(1.0);
  unsigned bad = 0;
  TOKENNORM_UNROLL
  for (int i = 0; i < N; i += W) {
    const V mean_square = load<double, W>(squares + i) * inverse_count;
    V delta(0.0), variance = mean_square;
    if constexpr (Centred) {
      delta = load<double, W>(sums + i) * inverse_count;
      variance = multiply_add(delta, V(0.0) - delta, mean_square);
    }
    const V radicand = variance + added;
    V root = radicand;
    square_root(root.native);
    const V rstd(one.native / root.native);
    store(moments.precise_rstd + i, rstd);
    store(moments.rstd + i, rstd);
    if constexpr (Centred) {
      const V pivot = load<double, W>(pivots + i);
      const V mean = pivot + delta;
      store(moments.mean + i, mean);
      store(moments.center + i, mean);
      const V center = load<double, W>(static_cast<const float*>(moments.center + i));
      store(moments.correction + i, ((center - pivot) - delta) * rstd);
    }
    // In range, in terms of bits: also where the compiler was told that there is no NaN. The mean
    // square is not below the variance, so that two comparisons do for both.
    const Bits low(std::bit_cast<std::int64_t>(Limits<float>::smallest));
    const Bits high(std::bit_cast<std::int64_t>(Limits<float>::largest));
    Bits good(bit_cast_lanes<Bits>(opaque(radicand)).native >= low.native);
    good = good & Bits(bit_cast_lanes<Bits>(opaque(mean_square + added)).native <= high.native);
    if constexpr (Centred) {
      good = good & Bits((V(4.0) * radicand).native >= (V(3.0) * mean_square).native);
    }
    unsigned good_bits = 0;
    sign_bits(good_bits, bit_cast_lanes<V>(good).native);
    bad |= (~good_bits & ((1u << W) - 1)) << i;
  }
  return bad;
}

template <class Level, bool Centred, int N>
TOKENNORM_INLINE unsigned finish(const double* pivots, const long double* sums,
                                 const long double* squares, Index n, double epsilon,
                                 Moments<double, N>& moments) {
  using P = long double;
  const P count = static_cast<P>(n);
  unsigned bad = 0;
  for (int i = 0; i < N; ++i) {
    const P mean_square = squares[i] / count;
    const P delta = Centred ? sums[i] / count : P(0);
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

/// Sums of lanes over a long row: a handful of vectors is added up in the arithmetic type, then
/// folded into a wider or compensated total, so that the error does not grow with the row.
template <class A, int W>
class Total;

template <int W>
class Total<float, W> {
 public:
  TOKENNORM_INLINE void add(const Lanes<float, W>& v) {
    low_ += convert<double>(lower_half(v));
    high_ += convert<double>(upper_half(v));
  }
  TOKENNORM_INLINE double sum() const { return horizontal_sum(low_ + high_); }
  TOKENNORM_INLINE Lanes<double, W / 2> lanes() const { return low_ + high_; }
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
    // Knuth's two-sum: high_ + low_ is the exact total but for the rounding of low_ itself.
    const auto next = opaque(high_ + v);
    const auto kept = opaque(next - high_);
    low_ += opaque(high_ - opaque(next - kept)) + opaque(v - kept);
    high_ = next;
  }
  TOKENNORM_INLINE long double sum() const {
    Array<long double, W> lanes;
    write(lanes);
    long double sum = 0;
    for (const long double lane : lanes) sum += lane;
    return sum;
  }
  TOKENNORM_INLINE void write(long double* to) const {
    alignas(64) Array<double, W> high, low;
    store(high, high_);
    store(low, low_);
    for (int i = 0; i < W; ++i)
      to[i] = static_cast<long double>(high[i]) + static_cast<long double>(low[i]);
  }

 private:
  Lanes<double, W> high_{0.0}, low_{0.0};
};

/// The totals of up to four rows.
template <class A, int W>
class RowTotals {
 public:
  TOKENNORM_INLINE void set(int row, const Total<A, W>& total) {
    if constexpr (std::is_same_v<A, float>) {
      totals_[row] = total.lanes();
    } else {
      totals_[row] = total.sum();
    }
  }
  TOKENNORM_INLINE void write(Precise<A>* to) const {
    if constexpr (std::is_same_v<A, float>) {
      sums_of_four(totals_, to);
    } else {
      std::copy_n(totals_, rows_together, to);
    }
  }

 private:
  std::conditional_t<std::is_same_v<A, float>, Lanes<double, W / 2>, long double>
      totals_[rows_together];
};

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

/// The means of the first values of four rows: pivots near the means of the rows.
template <class Level, class A, class Source>
TOKENNORM_INLINE void first_means(const Group<Source>& source, Index n, A* pivots) {
  constexpr int width = Level::template lanes<A>;
  const Index count = std::min(n, pivot_values);
  Lanes<A, width> sums[rows_together];
  TOKENNORM_UNROLL
  for (int r = 0; r < rows_together; ++r) sums[r] = Lanes<A, width>(A(0));
  Index c = 0;
  for (; c + width <= count; c += width) {
    TOKENNORM_UNROLL
    for (int r = 0; r < rows_together; ++r) sums[r] += source.row[r].template get<A, width>(c);
  }
  if (c < count) {
    TOKENNORM_UNROLL
    for (int r = 0; r < rows_together; ++r) {
      sums[r] += source.row[r].template get_first<A, width>(c, count - c);
    }
  }
  alignas(32) Precise<A> totals[rows_together];
  precise_sums(sums, totals);
  const Precise<A> inverse_count = 1 / static_cast<Precise<A>>(count);
  if constexpr (std::is_same_v<A, float>) {
    constexpr int W = std::min(rows_together, Level::template lanes<double>);
    TOKENNORM_UNROLL
    for (int r = 0; r < rows_together; r += W) {
      store(pivots + r, opaque(load<double, W>(totals + r) * Lanes<double, W>(inverse_count)));
    }
  } else {
    for (int r = 0; r < rows_together; ++r) {
      pivots[r] = opaque(static_cast<A>(totals[r] * inverse_count));
    }
  }
}

inline constexpr int accumulators = 4;
inline constexpr Index vectors_per_fold = 4;  // for each accumulator

/// Rows of so many vectors are few channels: they are swept together, four rows at once, each into
/// one accumulator.
inline constexpr Index few_vectors = 8;

/// Sums of one row about the pivot; stores the row into the sink on the way, if there is one, and
/// fetches what comes after it.
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

  TOKENNORM_INLINE const Total<A, width>& sum() const { return sum_; }
  TOKENNORM_INLINE const Total<A, width>& sum_of_squares() const { return squares_; }

  TOKENNORM_INLINE static void accumulate(const V& d, V& sum, V& squares) {
    if constexpr (Centred) sum += d;
    squares = multiply_add(d, d, squares);
  }

 private:
  template <class Source, class Sink>
  TOKENNORM_INLINE void one_vector(const Source& source, const Sink& sink, Index c, V& sum,
                                   V& squares) const {
    const V x = source.template get<A, width>(c);
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
  Total<A, width> sum_, squares_;
};

/// Sums of four rows of few channels.
template <class Level, bool Centred, class A, class Source, class Sink>
TOKENNORM_INLINE void sums_together(const Group<Source> source, const Group<Sink> sink,
                                    const A* pivots, Index n, Precise<A>* sums,
                                    Precise<A>* squares) {
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
template <bool Centred, class A, class Source, int N>
struct PreciseMomentsTask {
  Source source;
  Index n;
  double epsilon;
  Moments<A, N>& moments;
  int token;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    using P = Precise<A>;
    static_assert(std::numeric_limits<P>::max_exponent > std::numeric_limits<A>::max_exponent,
                  "tokennorm: norms of double need a long double with a wider range than double.");
    constexpr int width = Level::template lanes<A>;
    moments.center[token] = 0;
    moments.rest[token] = 0;
    P variance = 0;
    // The mean about zero, the mean about that: what rounding left of it, and the variance.
    for (int pass = Centred ? 0 : 2; pass < 3; ++pass) {
      P sum = 0, block = 0;
      for (Index c = 0; c < n; ++c) {
        const P d = deviation(source.template at<A, width>(c), moments, token);
        block += pass == 2 ? d * d : d;
        if (c % 64 == 63) {
          sum += block;
          block = 0;
        }
      }
      const P result = (sum + block) / static_cast<P>(n);
      if (pass == 0) moments.center[token] = static_cast<A>(result);
      if (pass == 1) moments.rest[token] = result;
      if (pass == 2) variance = result;
    }
    moments.mean[token] = static_cast<P>(moments.center[token]) + moments.rest[token];
    moments.precise_rstd[token] = reciprocal_root(variance + static_cast<P>(epsilon));
    moments.rstd[token] = static_cast<A>(moments.precise_rstd[token]);
    moments.slow |= 1u << token;
  }
};

/// What follows where first sums were not good enough, in a function of its own so that the fast
/// path stays small: another sweep of that row about its mean, then the wider type.
template <bool Centred, class A, class Source>
struct ReviseRowsTask {
  Group<Source> source;
  int count;
  unsigned bad;
  Index n;
  double epsilon;
  Moments<A, rows_together>& moments;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    for (int r = 0; r < rows_together; ++r) {
      if (((bad >> r) & 1u) == 0) continue;
      if constexpr (Centred) {
        const RowSums<Level, Centred, A> sums(source.row[r], Absent{}, Ahead{}, moments.center[r],
                                              n);
        const A pivots[rows_together] = {moments.center[r]};
        const Precise<A> sum[rows_together] = {sums.sum().sum()};
        const Precise<A> squares[rows_together] = {sums.sum_of_squares().sum()};
        Moments<A, rows_together> revised;
        if ((finish<Level, Centred>(pivots, sum, squares, n, epsilon, revised) & 1u) == 0) {
          moments.copy(r, revised, 0);
          continue;
        }
      }
      call_rarely<Level, Source>(PreciseMomentsTask<Centred, A, Source, rows_together>{
          source.row[r], n, epsilon, moments, r});
    }
    // The last row stands in the group several times.
    for (int r = count; r < rows_together; ++r) moments.copy(r, moments, count - 1);
  }
};

/// The statistics of the first n channels of up to four rows, which are copied from `source` to
/// `sink` in the same sweep where there is a sink; `again` is the source of any further sweep (the
/// sink may be the very memory of an operand).
template <class Level, bool Centred, class A, class Source, class Sink, class Again>
TOKENNORM_INLINE void row_moments(const Group<Source>& source, const Group<Sink>& sink,
                                  const Group<Again>& again, const Group<Ahead>& ahead, int count,
                                  Index n, double epsilon, Moments<A, rows_together>& moments) {
  constexpr int width = Level::template lanes<A>;
  alignas(32) A pivots[rows_together] = {};
  alignas(32) Precise<A> sums[rows_together] = {}, squares[rows_together] = {};
  if constexpr (Centred) first_means<Level>(source, n, pivots);
  if (n <= few_vectors * width) {
    sums_together<Level, Centred, A>(source, sink, pivots, n, sums, squares);
  } else {
    RowTotals<A, width> totals, totals_of_squares;
    for (int r = 0; r < rows_together; ++r) {
      if (r >= count) {
        totals.set(r, {});
        totals_of_squares.set(r, {});
        continue;
      }
      const RowSums<Level, Centred, A> row(source.row[r], sink.row[r], ahead.row[r], pivots[r], n);
      if constexpr (Centred) totals.set(r, row.sum());
      totals_of_squares.set(r, row.sum_of_squares());
    }
    if constexpr (Centred) totals.write(sums);
    totals_of_squares.write(squares);
    // The last row stands in the group several times, with its statistics.
    for (int r = count; r < rows_together; ++r) {
      sums[r] = sums[count - 1];
      squares[r] = squares[count - 1];
    }
  }
  const unsigned bad =
      finish<Level, Centred>(pivots, sums, squares, n, epsilon, moments) & ((1u << count) - 1);
  if (bad != 0) [[unlikely]] {
    Level::call(ReviseRowsTask<Centred, A, Again>{again, count, bad, n, epsilon, moments});
  }
}

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH

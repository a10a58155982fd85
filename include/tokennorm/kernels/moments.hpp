// SPDX-License-Identifier: MIT
/// The statistics of a row, or of several rows at once in lanes: mean, variance, rstd.
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

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

/// x̂ = (x − center)·rstd − correction.
template <class A>
struct Moments {
  A center = 0;
  A correction = 0;
  A rstd = 0;
  bool fast = true;  // false: x̂ = ((x − center) − rest)·precise_rstd, formed in the wider type
  Precise<A> rest = 0;
  Precise<A> precise_rstd = 0;
  Precise<A> mean = 0;  // μ, for the statistics
};

/// x − μ, in the wider type. The mean is kept in two parts: in one, even a wide type would lose the
/// deviations of a row whose values differ by a unit in the last place.
template <class A>
TOKENNORM_INLINE Precise<A> deviation(A x, const Moments<A>& moments) {
  using P = Precise<A>;
  return guarded(guarded(static_cast<P>(x) - static_cast<P>(moments.center)) - moments.rest);
}

enum class Verdict { good, retry, redo };

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

template <bool Centred, class A>
TOKENNORM_INLINE Verdict finish(A pivot, Precise<A> sum, Precise<A> sum_of_squares, Index n,
                                double epsilon, Moments<A>& moments) {
  using P = Precise<A>;
  const P count = static_cast<P>(n);
  const P mean_square = sum_of_squares / count;
  P variance = mean_square;
  P delta = 0;
  if constexpr (Centred) {
    delta = sum / count;
    variance = std::max(mean_square - delta * delta, P(0));
  }
  const P radicand = variance + static_cast<P>(epsilon);
  const P rstd = P(1) / std::sqrt(radicand);
  moments.mean = static_cast<P>(pivot) + delta;
  moments.precise_rstd = rstd;
  moments.rstd = static_cast<A>(rstd);
  if constexpr (Centred) {
    moments.center = opaque(static_cast<A>(moments.mean));
    moments.correction =
        static_cast<A>(((static_cast<P>(pivot) - static_cast<P>(moments.center)) + delta) * rstd);
  }
  if (!in_range(mean_square + static_cast<P>(epsilon), Limits<A>::smallest, Limits<A>::largest) ||
      !in_range(radicand, Limits<A>::smallest, Limits<A>::largest)) {
    return Verdict::redo;
  }
  return !Centred || 4 * radicand >= 3 * mean_square ? Verdict::good : Verdict::retry;
}

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

inline constexpr int accumulators = 4;
inline constexpr Index vectors_per_fold = 4;  // for each accumulator

/// The mean of the first values, a pivot near the mean of the row. Sixteen of them at every level:
/// with fewer, rows of ordinary data would need a second sweep too often.
template <class Level, class A, class Source>
TOKENNORM_INLINE A first_mean(const Source& source, Index n) {
  constexpr int width = Level::template lanes<A>;
  const Index count = std::min<Index>(n, 16);
  Lanes<A, width> sum(A(0));
  Index c = 0;
  for (; c + width <= count; c += width) sum += source.template get<A, width>(c);
  if (c < count) sum += source.template get_first<A, width>(c, count - c);
  return horizontal_sum(sum) / static_cast<A>(count);
}

/// Sums of one row about the pivot; stores the row into the sink on the way, if there is one.
template <class Level, bool Centred, class A>
class RowSums {
 public:
  static constexpr int width = Level::template lanes<A>;
  using V = Lanes<A, width>;

  template <class Source, class Sink>
  TOKENNORM_INLINE RowSums(const Source& source, const Sink& sink, A pivot, Index n)
      : pivot_(pivot) {
    constexpr Index step = accumulators * width;
    Index c = 0;
    while (c + step <= n) {
      const Index stop = std::min(n - step, c + (vectors_per_fold - 1) * step);
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

  TOKENNORM_INLINE Precise<A> sum() const { return sum_.sum(); }
  TOKENNORM_INLINE Precise<A> sum_of_squares() const { return squares_.sum(); }

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
  TOKENNORM_INLINE static void accumulate(const V& d, V& sum, V& squares) {
    if constexpr (Centred) sum += d;
    squares = multiply_add(d, d, squares);
  }
  TOKENNORM_INLINE void fold(const V (&sums)[accumulators], const V (&squares)[accumulators]) {
    if constexpr (Centred) sum_.add((sums[0] + sums[1]) + (sums[2] + sums[3]));
    squares_.add((squares[0] + squares[1]) + (squares[2] + squares[3]));
  }

  V pivot_;
  Total<A, width> sum_, squares_;
};

/// The rare path: mean, then variance, in the wider type, in which no finite row overflows or
/// underflows; in blocks, so that the rounding of the sums does not grow with C.
template <class Level, bool Centred, class A, class Source>
class PreciseRow {
 public:
  using P = Precise<A>;

  TOKENNORM_INLINE PreciseRow(const Source& source, Index n) : source_(source), n_(n) {}

  TOKENNORM_INLINE Moments<A> moments(double epsilon) const {
    constexpr int width = Level::template lanes<A>;
    Moments<A> moments;
    moments.fast = false;
    P variance = 0;
    // The mean about zero, the mean about that: what rounding left of it, and the variance.
    for (int pass = Centred ? 0 : 2; pass < 3; ++pass) {
      P sum = 0, block = 0;
      for (Index c = 0; c < n_; ++c) {
        const P d = deviation(source_.template at<A, width>(c), moments);
        block += pass == 2 ? d * d : d;
        if (c % 64 == 63) {
          sum += block;
          block = 0;
        }
      }
      const P result = (sum + block) / static_cast<P>(n_);
      if (pass == 0) moments.center = static_cast<A>(result);
      if (pass == 1) moments.rest = result;
      if (pass == 2) variance = result;
    }
    moments.mean = static_cast<P>(moments.center) + moments.rest;
    moments.precise_rstd = reciprocal_root(variance + static_cast<P>(epsilon));
    moments.rstd = static_cast<A>(moments.precise_rstd);
    return moments;
  }

 private:
  const Source& source_;
  Index n_;
};

/// What follows a first sweep that was not good enough, in a function of its own so that the fast
/// path stays small: another sweep about a better pivot, or the wider type.
template <bool Centred, class A, class Source>
struct ReviseTask {
  const Source& source;
  Index n;
  double epsilon;
  Verdict verdict;
  Moments<A>& moments;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    Verdict now = verdict;
    if (now == Verdict::retry) {
      const A pivot = moments.center;
      const RowSums<Level, Centred, A> sums(source, Absent{}, pivot, n);
      now = finish<Centred>(pivot, sums.sum(), sums.sum_of_squares(), n, epsilon, moments);
    }
    if (now != Verdict::good) {
      moments = PreciseRow<Level, Centred, A, Source>(source, n).moments(epsilon);
    }
  }
};

/// The statistics of the first n channels of a row, which is copied from `source` to `sink` in the
/// same sweep where there is a sink; `again` is the source of any further sweep (the sink may be
/// the very memory of an operand).
template <class Level, bool Centred, class A, class Source, class Sink, class Again>
TOKENNORM_INLINE Moments<A> row_moments(const Source& source, const Sink& sink, const Again& again,
                                        Index n, double epsilon) {
  Moments<A> moments;
  A pivot = 0;
  if constexpr (Centred) pivot = opaque(first_mean<Level, A>(source, n));
  const RowSums<Level, Centred, A> sums(source, sink, pivot, n);
  const Verdict verdict =
      finish<Centred>(pivot, sums.sum(), sums.sum_of_squares(), n, epsilon, moments);
  if (verdict != Verdict::good) [[unlikely]] {
    Moments<A> revised = moments;
    Level::call(ReviseTask<Centred, A, Again>{again, n, epsilon, verdict, revised});
    moments = revised;
  }
  return moments;
}

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH

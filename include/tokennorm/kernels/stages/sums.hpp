// SPDX-License-Identifier: MIT
/// Sums over the channels of rows: Σ(x − p) and Σ(x − p)² about a pivot p, and the pivots. A
/// handful of vectors is added up in the arithmetic type, and those sums in a wider or compensated
/// one.
///
/// Error    of a sum of squares over any number of channels: the rounding of a few additions
#pragma once

#include "tokennorm/kernels/operands.hpp"
#include "tokennorm/kernels/simd/double_double.hpp"

#include <algorithm>
#include <cstddef>
#include <type_traits>

TOKENNORM_BEGIN_KERNELS

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
  TOKENNORM_INLINE void write(DoubleDouble* to) const { store(to, lanes()); }
  TOKENNORM_INLINE DoubleDouble sum() const { return horizontal_sum(lanes()); }
  TOKENNORM_INLINE DoubleDoubles<W> lanes() const { return {high_, low_}; }

 private:
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

/// What a sum over a row is finished in, as it is in memory.
template <class A>
using PreciseSum = std::conditional_t<std::is_same_v<A, float>, double, DoubleDouble>;

/// The totals of some rows.
template <class A, int W, std::size_t N>
TOKENNORM_INLINE void write_sums(const RowTotal<A, W> (&totals)[N], PreciseSum<A>* to) {
  if constexpr (int{N} == rows_together) {
    const std::remove_cvref_t<decltype(totals[0].lanes())> lanes[] = {
        totals[0].lanes(), totals[1].lanes(), totals[2].lanes(), totals[3].lanes()};
    sums_of_four(lanes, to);
  } else {
    TOKENNORM_UNROLL
    for (std::size_t r = 0; r < N; ++r) to[r] = totals[r].sum();
  }
}

/// A pivot is the mean of so many values: with half as many, one row of ordinary data in fifty
/// would need a second sweep, with these one in a thousand.
inline constexpr Index pivot_values = 32;

/// The means of the first values of some rows: pivots near the means of the rows.
template <class Level, class A, class Source, int N>
TOKENNORM_INLINE void first_means(const Group<Source, N>& source, Index channels, A* pivots) {
  constexpr int width = Level::template lanes<A>;
  const Index n = std::min(channels, pivot_values);
  const A inverse_count = A(1) / static_cast<A>(n);
  Array<Lanes<A, width>, N> sums;
  TOKENNORM_UNROLL
  for (int r = 0; r < N; ++r) sums[r] = Lanes<A, width>(A(0));
  for_each_vector<width>(
      0, n, [&](Index c, auto lanes) __attribute__((always_inline)) {
        TOKENNORM_UNROLL
        for (int r = 0; r < N; ++r) sums[r] += get<A, width>(source.row[r], c, lanes);
      });
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

/// Nothing to do meanwhile.
struct Idle {
  TOKENNORM_INLINE void next() {}
};

/// Sums of one row about the pivot; stores the row into the sink on the way, if there is one, and
/// prefetches where its results will go. `meanwhile.next()` is called for every four vectors.
template <class Level, bool Centred, class A>
class RowSums {
 public:
  static constexpr int width = Level::template lanes<A>;
  using V = Lanes<A, width>;

  template <class Source, class Sink, class Meanwhile>
  TOKENNORM_INLINE RowSums(const Source source, const Sink sink, const Prefetch results, A pivot,
                           Index n, Meanwhile& meanwhile)
      : pivot_(pivot), minus_pivot_(-pivot), one_(opaque(A(1))) {
    constexpr Index step = accumulators * width;
    RowTotal<A, width> sum, square;  // not the members, which GCC would keep in memory
    const Index whole = n & ~(step - 1);
    Index c = 0;
    for (bool is_last = false; !is_last;) {
      V sums[accumulators], squares[accumulators];
      TOKENNORM_UNROLL
      for (int k = 0; k < accumulators; ++k) sums[k] = squares[k] = V(A(0));
      const Index stop = std::min(whole, c + vectors_per_fold * step);
      results.template fetch<1>(c, stop);
      for (; c < stop; c += step) {
        TOKENNORM_UNROLL
        for (int k = 0; k < accumulators; ++k) {
          one_vector(source, sink, c + k * width, sums[k], squares[k],
                     Level::is_for_speed && k % 2 == 1);
        }
        meanwhile.next();
      }
      is_last = c == whole;
      if (is_last) {
        for (; c + width <= n; c += width) one_vector(source, sink, c, sums[0], squares[0]);
        if (c < n) {
          const V x = source.template get_first<A, width>(c, n - c);
          if constexpr (is_present<Sink>) sink.put_first(c, x, n - c);
          const V d = Centred ? first_lanes(guarded(x - pivot_), n - c) : x;  // else zero is read
          accumulate(d, sums[1], squares[1]);
        }
      }
      if constexpr (Centred) sum.add((sums[0] + sums[1]) + (sums[2] + sums[3]));
      square.add((squares[0] + squares[1]) + (squares[2] + squares[3]));
    }
    sum_ = sum;
    squares_ = square;
  }

  TOKENNORM_INLINE const RowTotal<A, width>& sum() const { return sum_; }
  TOKENNORM_INLINE const RowTotal<A, width>& sum_of_squares() const { return squares_; }

  TOKENNORM_INLINE static void accumulate(const V& d, V& sum, V& squares) {
    if constexpr (Centred) sum += d;
    squares = multiply_add(d, d, squares);
  }

 private:
  /// A deviation that is `fused` is x·1 − p, the same number: AMD's processors have units that add,
  /// and others that multiply and add; where every other one is fused, both are used.
  template <class Source, class Sink>
  TOKENNORM_INLINE void one_vector(const Source& source, const Sink& sink, Index c, V& sum,
                                   V& squares, bool fused = false) const {
    V x;  // assigned, not initialized: GCC would store each one on the stack as well
    x.native = source.template get<A, width>(c).native;
    if constexpr (is_present<Sink>) sink.put(c, x);
    if constexpr (Centred) {
      accumulate(guarded(fused ? multiply_add(x, one_, minus_pivot_) : x - pivot_), sum, squares);
    } else {
      accumulate(x, sum, squares);
    }
  }

  V pivot_, minus_pivot_, one_;
  RowTotal<A, width> sum_, squares_;
};

/// Sums of narrow rows, four or one; at a level that is not for speed, of any rows.
template <class Level, bool Centred, class A, int N, class Source>
TOKENNORM_INLINE void sums_together(const Group<Source, N> source, const A* pivots, Index n,
                                    PreciseSum<A>* sums, PreciseSum<A>* squares) {
  constexpr int width = Level::template lanes<A>;
  using V = Lanes<A, width>;
  Array<V, N> pivot;
  Array<RowTotal<A, width>, N> total, total_square;
  TOKENNORM_UNROLL
  for (int r = 0; r < N; ++r) {
    if constexpr (Centred && N > 1) {
      // Loaded from where they have just been stored, which the compiler is not to see: to spread a
      // number from memory over the lanes takes no shuffle.
      pivot[r] = V(in_register(pivots)[r]);
    } else if constexpr (Centred) {
      pivot[r] = V(pivots[r]);
    }
  }
  constexpr Index block = 8 * width;
  for (Index from = 0; from < n; from += block) {
    Array<V, N> sum, square;
    TOKENNORM_UNROLL
    for (int r = 0; r < N; ++r) sum[r] = square[r] = V(A(0));
    for_each_vector<width>(
        from, std::min(n, from + block), [&](Index c, auto lanes) __attribute__((always_inline)) {
          Array<V, N> x;
          TOKENNORM_UNROLL
          for (int r = 0; r < N; ++r) x[r] = get<A, width>(source.row[r], c, lanes);
          TOKENNORM_UNROLL
          for (int r = 0; r < N; ++r) {
            if constexpr (Centred) x[r] = only_first(guarded(x[r] - pivot[r]), lanes);
            RowSums<Level, Centred, A>::accumulate(x[r], sum[r], square[r]);
          }
        });
    TOKENNORM_UNROLL
    for (int r = 0; r < N; ++r) {
      if constexpr (Centred) total[r].add(sum[r]);
      total_square[r].add(square[r]);
    }
  }
  if constexpr (Centred) write_sums(total, sums);
  write_sums(total_square, squares);
}

TOKENNORM_END_KERNELS

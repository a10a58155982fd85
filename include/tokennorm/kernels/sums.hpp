// SPDX-License-Identifier: MIT
/// Sums over the channels of rows: Σ(x − p) and Σ(x − p)² about a pivot p, and the pivots. A
/// handful of vectors is added up in the arithmetic type, and those sums in a wider or compensated
/// one.
///
/// Error    of a sum of squares over any number of channels: the rounding of a few additions
#pragma once

#include "tokennorm/kernels/arguments.hpp"
#include "tokennorm/kernels/pairs.hpp"

#include <algorithm>
#include <cstddef>
#include <type_traits>

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

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
  TOKENNORM_INLINE void write(Pair* to) const { store(to, lanes()); }
  TOKENNORM_INLINE Pair sum() const { return horizontal_sum(lanes()); }
  TOKENNORM_INLINE Pairs<W> lanes() const { return {high_, low_}; }

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
using PreciseSum = std::conditional_t<std::is_same_v<A, float>, double, Pair>;

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

/// The lanes of a vector, summed up precisely; in the order of sums_of_four.
template <int W>
TOKENNORM_INLINE double precise_sum(const Lanes<float, W>& v) {
  if constexpr (W == 16) {
    const auto halves = lower_half(v) + upper_half(v);
    return horizontal_sum(convert<double>(lower_half(halves) + upper_half(halves)));
  } else {
    return horizontal_sum(convert<double>(lower_half(v)) + convert<double>(upper_half(v)));
  }
}
template <int W>
TOKENNORM_INLINE Pair precise_sum(const Lanes<double, W>& v) {
  return horizontal_sum(Pairs<W>{v, Lanes<double, W>(0.0)});
}

/// The same of a vector of each of some rows.
template <class A, int W, std::size_t N>
TOKENNORM_INLINE void precise_sums(const Lanes<A, W> (&v)[N], PreciseSum<A>* to) {
  if constexpr (int{N} != rows_together) {
    for (std::size_t r = 0; r < N; ++r) to[r] = precise_sum(v[r]);
  } else if constexpr (std::is_same_v<A, float>) {
    sums_of_four(v, to);
  } else {
    const Lanes<A, W> none(A(0));
    const Pairs<W> pairs[] = {{v[0], none}, {v[1], none}, {v[2], none}, {v[3], none}};
    sums_of_four(pairs, to);
  }
}

/// A pivot is the mean of so many values: with half as many, one row of ordinary data in fifty
/// would need a second sweep, with these one in a thousand.
inline constexpr Index pivot_values = 32;

/// The means of the first values of some rows: pivots near the means of the rows.
template <class Level, class A, class Source, int N>
TOKENNORM_INLINE void first_means(const Group<Source, N>& source, Index n, A* pivots) {
  constexpr int width = Level::template lanes<A>;
  Array<Lanes<A, width>, N> sums;
  A inverse_count = A(1) / A(pivot_values);
  if (n >= pivot_values) [[likely]] {
    TOKENNORM_UNROLL
    for (int r = 0; r < N; ++r) sums[r] = source.row[r].template get<A, width>(0);
    TOKENNORM_UNROLL
    for (Index c = width; c < pivot_values; c += width) {
      TOKENNORM_UNROLL
      for (int r = 0; r < N; ++r) sums[r] += source.row[r].template get<A, width>(c);
    }
  } else {
    inverse_count = A(1) / static_cast<A>(n);
    TOKENNORM_UNROLL
    for (int r = 0; r < N; ++r) sums[r] = Lanes<A, width>(A(0));
    Index c = 0;
    for (; c + width <= n; c += width) {
      TOKENNORM_UNROLL
      for (int r = 0; r < N; ++r) sums[r] += source.row[r].template get<A, width>(c);
    }
    if (c < n) {
      TOKENNORM_UNROLL
      for (int r = 0; r < N; ++r) sums[r] += source.row[r].template get_first<A, width>(c, n - c);
    }
  }
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
/// one accumulator at a time. Twice as many of double: there the sums of longer ones are taken in
/// pairs, which takes longer.
template <class A>
inline constexpr Index few_vectors = std::is_same_v<A, float> ? 8 : 16;
template <class Level, class A>
inline constexpr Index few_channels = few_vectors<A>* Level::template lanes<A>;

/// Rows of up to so many channels are swept one by one, but four of them are finished and
/// normalized together where they are near. (Measured, with lanes of 32 and of 64 bytes: the
/// results of longer ones are better written in turn with the sums of the next row.)
template <class A>
inline constexpr Index grouped_channels = Index{1792} / Index{sizeof(A)};

/// Nothing to do meanwhile.
struct Idle {
  TOKENNORM_INLINE void next() {}
};

/// Sums of one row about the pivot; stores the row into the sink on the way, if there is one, and
/// fetches where its results will go. `meanwhile.next()` is called for every four vectors.
template <class Level, bool Centred, class A>
class RowSums {
 public:
  static constexpr int width = Level::template lanes<A>;
  using V = Lanes<A, width>;

  template <class Source, class Sink, class Meanwhile>
  TOKENNORM_INLINE RowSums(const Source source, const Sink sink, const Ahead ahead, A pivot,
                           Index n, Meanwhile& meanwhile)
      : pivot_(pivot), minus_pivot_(-pivot), one_(opaque(A(1))) {
    constexpr Index step = accumulators * width;
    RowTotal<A, width> sum, square;  // not the members, which GCC would keep in memory
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
          one_vector(source, sink, c + k * width, sums[k], squares[k],
                     Level::is_for_speed && k % 2 == 1);
        }
        meanwhile.next();
      }
      fold(sums, squares, sum, square);
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
      fold(sums, squares, sum, square);
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
  TOKENNORM_INLINE static void fold(const V (&sums)[accumulators], const V (&squares)[accumulators],
                                    RowTotal<A, width>& sum, RowTotal<A, width>& square) {
    if constexpr (Centred) sum.add((sums[0] + sums[1]) + (sums[2] + sums[3]));
    square.add((squares[0] + squares[1]) + (squares[2] + squares[3]));
  }

  V pivot_, minus_pivot_, one_;
  RowTotal<A, width> sum_, squares_;
};

/// Sums of rows of few channels, four or one.
template <class Level, bool Centred, class A, int N, class Source, class Sink>
TOKENNORM_INLINE void sums_together(const Group<Source, N> source, const Group<Sink, N> sink,
                                    const A* pivots, Index n, PreciseSum<A>* sums,
                                    PreciseSum<A>* squares) {
  constexpr int width = Level::template lanes<A>;
  constexpr Index block = 4 * width;
  using V = Lanes<A, width>;
  Array<V, N> pivot, sum, square;
  TOKENNORM_UNROLL
  for (int r = 0; r < N; ++r) {
    if constexpr (Centred && N > 1) {
      // Loaded from where they have just been stored, which the compiler is not to see: to spread a
      // number from memory over the lanes takes no shuffle.
      pivot[r] = V(in_register(pivots)[r]);
    } else if constexpr (Centred) {
      pivot[r] = V(pivots[r]);
    }
    sum[r] = square[r] = V(A(0));
  }
  Index c = 0;
  const auto add_vectors = [&](Index end) __attribute__((always_inline)) {
    for (; c + width <= end; c += width) {
      Array<V, N> x;
      TOKENNORM_UNROLL
      for (int r = 0; r < N; ++r) x[r] = source.row[r].template get<A, width>(c);
      if constexpr (is_present<Sink>) {
        TOKENNORM_UNROLL
        for (int r = 0; r < N; ++r) sink.row[r].put(c, x[r]);
      }
      TOKENNORM_UNROLL
      for (int r = 0; r < N; ++r) {
        if constexpr (Centred) x[r] = guarded(x[r] - pivot[r]);
        RowSums<Level, Centred, A>::accumulate(x[r], sum[r], square[r]);
      }
    }
  };
  add_vectors(std::min(n, block));
  while (c + width <= n) {  // in blocks there is less rounding error
    Array<V, N> sum_before, square_before;
    TOKENNORM_UNROLL
    for (int r = 0; r < N; ++r) {
      sum_before[r] = sum[r];
      square_before[r] = square[r];
      sum[r] = square[r] = V(A(0));
    }
    add_vectors(std::min(n, c + block));
    TOKENNORM_UNROLL
    for (int r = 0; r < N; ++r) {
      if constexpr (Centred) sum[r] += sum_before[r];
      square[r] += square_before[r];
    }
  }
  if (c < n) {
    Array<V, N> x;
    TOKENNORM_UNROLL
    for (int r = 0; r < N; ++r) {
      x[r] = source.row[r].template get_first<A, width>(c, n - c);
    }
    if constexpr (is_present<Sink>) {
      TOKENNORM_UNROLL
      for (int r = 0; r < N; ++r) sink.row[r].put_first(c, x[r], n - c);
    }
    TOKENNORM_UNROLL
    for (int r = 0; r < N; ++r) {
      if constexpr (Centred) x[r] = first_lanes(guarded(x[r] - pivot[r]), n - c);
      RowSums<Level, Centred, A>::accumulate(x[r], sum[r], square[r]);
    }
  }
  if constexpr (Centred) precise_sums(sum, sums);
  precise_sums(square, squares);
}

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH

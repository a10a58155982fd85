// SPDX-License-Identifier: MIT
/// Norms of tokens whose channels are not contiguous: column-major matrices, and operands with any
/// strides. Several tokens are processed at a time, one in each lane, so that memory is read along
/// the direction in which it is contiguous. The equations are those of stages/statistics.hpp and
/// stages/results.hpp; a token's result does not depend on the tokens in the other lanes.
#pragma once

#include "tokennorm/kernels/forward/call.hpp"
#include "tokennorm/kernels/stages/results.hpp"

TOKENNORM_BEGIN_KERNELS

/// The statistics of a vector of tokens.
template <class Level, bool Centred, class A>
class StridedStatistics {
 public:
  static constexpr int width = Level::template lanes<A>;
  using V = Lanes<A, width>;

  /// Channels are stored into `sink` on the way where there is one, and read from `again` then.
  template <class Source, class S>
  TOKENNORM_INLINE StridedStatistics(const Source& source, const Column<S>& sink,
                                     const Source& again, int count, Index n, double epsilon)
      : count_(count) {
    V pivot(A(0));
    if constexpr (Centred) {
      const Index sample = std::min(n, pivot_values);
      for (Index c = 0; c < sample; ++c) pivot += source.template get<A, width>(c);
      pivot = opaque(pivot * V(A(1) / static_cast<A>(sample)));
    }
    const unsigned bad = sweep(source, sink, pivot, n, epsilon, moments_);
    if (bad != 0) [[unlikely]] {
      Level::call(ReviseTask<Source, S>{*this, again, bad, n, epsilon});
    }
  }

  const Statistics<A, width>& moments() const { return moments_; }

  TOKENNORM_INLINE V normalized(const V& x) const {
    if constexpr (Centred) {
      return multiply_add(guarded(x - get(moments_.center)), get(moments_.rstd),
                          get(moments_.correction));
    } else {
      return x * get(moments_.rstd);
    }
  }

  /// y for the tokens that need the fallback, in place of what is there.
  template <class Affine>
  TOKENNORM_INLINE void correct(const V& x, const Affine& affine, Index c, V& y) const {
    alignas(64) Array<A, width> xs, ys;
    store(xs, x);
    store(ys, y);
    for (int i = 0; i < count_; ++i) {
      if (moments_.needs_fallback(i)) ys[i] = precise_result(xs[i], moments_, i, affine, c);
    }
    y = get(ys);
  }

 private:
  /// What follows a first sweep that was not good enough for every token: another one about their
  /// means, then the wider type.
  template <class Source, class S>
  struct ReviseTask {
    StridedStatistics& columns;
    const Source& again;
    unsigned bad;
    Index n;
    double epsilon;

    template <class>
    TOKENNORM_INLINE void run() const {
      unsigned still_bad = bad;
      if constexpr (Centred) {
        Statistics<A, width> revised{};
        still_bad &=
            columns.sweep(again, Column<S>{}, get(columns.moments_.center), n, epsilon, revised);
        for (int i = 0; i < columns.count_; ++i) {
          if (((bad & ~still_bad) >> i & 1u) == 0) continue;
          columns.moments_.copy(i, revised, i);
        }
      }
      for (int i = 0; i < columns.count_; ++i) {
        if ((still_bad >> i & 1u) == 0) continue;
        const auto token = again.one(i);
        Statistics<A, 1> revised{};
        const FallbackStatisticsTask<Centred, A, Source> task{token, n, epsilon, revised};
        if constexpr (Source::same_at_every_level) {
          Baseline::call(task);
        } else {
          Level::call(task);
        }
        columns.moments_.copy(i, revised, 0);
      }
    }
  };

  /// Sums about the pivot, and what follows from them; the tokens for which nothing does.
  template <class Source, class S>
  TOKENNORM_INLINE unsigned sweep(const Source& source, const Column<S>& sink, const V& pivot,
                                  Index n, double epsilon, Statistics<A, width>& moments) const {
    Total<A, width> sum, squares;
    for (Index begin = 0; begin < n; begin += vectors_per_fold) {
      const Index end = std::min(n, begin + vectors_per_fold);
      V part(A(0)), part_squares(A(0));
      for (Index c = begin; c < end; ++c) {
        const V x = source.template get<A, width>(c);
        if (sink.data != nullptr) sink.put(c, x);
        const V d = Centred ? guarded(x - pivot) : x;
        if constexpr (Centred) part += d;
        part_squares = multiply_add(d, d, part_squares);
      }
      if constexpr (Centred) sum.add(part);
      squares.add(part_squares);
    }
    alignas(64) Array<A, width> pivots;
    alignas(64) Array<PreciseSum<A>, width> sums, sums_of_squares;
    store(pivots, pivot);
    sum.write(sums);
    squares.write(sums_of_squares);
    return finish<Level, Centred>(pivots, sums, sums_of_squares, n, epsilon, moments) &
           ((1u << count_) - 1);
  }

  TOKENNORM_INLINE static V get(const Array<A, width>& values) {
    return load<A, width>(static_cast<const A*>(values));
  }

  int count_;
  Statistics<A, width> moments_;
};

/// Some tokens of a call at one channel: x or the sum, computed or, once it is stored, read. A
/// token alone is read by so many lanes.
template <class Call, int lanes_of_one>
struct ColumnSource {
  using A0 = typename Call::Arithmetic;
  using S = typename Call::Normalized;
  static constexpr bool same_at_every_level = lanes_of_one == Baseline::lanes<A0>;

  Column<const typename Call::Input> x;
  Column<const typename Call::Stream> residual;  // null: none
  Column<const S> stored;                        // null: not yet
  A0 alpha;

  template <class A, int W>
  TOKENNORM_INLINE Lanes<A, W> get(Index c) const {
    if (stored.data != nullptr) return stored.template get<A, W>(c);
    const auto value = x.template get<A, W>(c);
    if (residual.data == nullptr) return value;
    return scaled_sum<S>(alpha, residual.template get<A, W>(c), value);
  }
  /// One channel of the first token, through the lanes, so that it has the bits that they have.
  template <class A>
  TOKENNORM_INLINE A at(Index c) const {
    return one(0).template get<A, lanes_of_one>(c)[0];
  }
  /// Token i alone.
  TOKENNORM_INLINE ColumnSource one(Index i) const {
    return {x.one(i), residual.one(i), stored.one(i), alpha};
  }
};

/// Tokens [begin, end) of a call.
template <class Call>
struct StridedTask {
  const Call& call;
  Index begin, end;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    using A = typename Call::Arithmetic;
    using S = typename Call::Normalized;
    constexpr int width = Level::template lanes<A>;
    using V = Lanes<A, width>;
    const Affine<Level, A, typename Call::Norm::Param> affine(call.norm);
    for (Index t = begin; t < end; t += width) {
      const int count = static_cast<int>(std::min<Index>(width, end - t));
      Column<const typename Call::Stream> residual;
      if (call.residual.data != nullptr) residual = column_of(call.residual, t, count);
      const auto y = column_of(call.y, t, count);
      Column<S> sum;
      // A subnormal bfloat16 is kept at one level and becomes zero at another. (What is the same at
      // every level is of one type, so that its fallback is compiled once.)
      constexpr int lanes_of_one = sizeof(S) == 2 ? width : Baseline::lanes<A>;
      ColumnSource<Call, lanes_of_one> source{column_of(call.x, t, count), {}, {}, call.alpha};
      if (call.makes_sums()) {
        source.residual = residual;
        if (call.sum.data != nullptr) sum = column_of(call.sum, t, count);
      }
      auto again = source;
      again.stored = {sum.data, sum.token_stride, sum.channel_stride, sum.count};
      const StridedStatistics<Level, Call::centred, A> columns(source, sum, again, count,
                                                               call.counted(), call.norm.epsilon);
      if (sum.data != nullptr) {
        for (Index c = call.counted(); c < call.channels; ++c)
          sum.put(c, source.template get<A, width>(c));
      }
      store_statistics(call.norm, columns.moments(), t, count);
      const bool any_fallback = columns.moments().fallbacks != 0;
      for (Index c = 0; c < call.channels; ++c) {
        const V x = again.template get<A, width>(c);
        V result = multiply_add(columns.normalized(x), affine.scale_of(c), affine.shift_of(c));
        if (any_fallback) [[unlikely]]
          columns.correct(x, affine, c, result);
        if (call.adds_result) [[unlikely]] {
          result = scaled_sum<std::remove_reference_t<decltype(*y.data)>>(
              call.alpha, residual.template get<A, width>(c), rounded_to<S>(result));
        }
        y.put(c, result);
      }
    }
  }
};

/// Tokens [begin, end) of a call, whatever their strides.
template <class Call>
void normalize_strided(const Call& call, Index begin, Index end) noexcept {
  dispatch(StridedTask<Call>{call, begin, end});
}

TOKENNORM_END_KERNELS

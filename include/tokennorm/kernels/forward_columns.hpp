// SPDX-License-Identifier: MIT
/// Norms of tokens whose channels are not contiguous: column-major matrices, and operands with any
/// strides. Several tokens are processed at a time, one in each lane, so that memory is read along
/// the direction in which it is contiguous. The equations are those of moments.hpp and
/// normalize.hpp; a token's result does not depend on the tokens in the other lanes.
#pragma once

#include "tokennorm/kernels/residual_step.hpp"

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

/// The statistics of a vector of tokens.
template <class Level, bool Centred, class A>
class ColumnMoments {
 public:
  static constexpr int width = Level::template lanes<A>;
  using V = Lanes<A, width>;

  /// Channels are stored from `source` into `sink` on the way where there is one, and read from
  /// `again` from then on.
  template <class Source, class Sink, class Again>
  TOKENNORM_INLINE ColumnMoments(const Source& source, const Sink& sink, const Again& again,
                                 int count, Index n, double epsilon)
      : count_(count) {
    V pivot(A(0));
    if constexpr (Centred) {
      const Index sample = std::min(n, pivot_values);
      for (Index c = 0; c < sample; ++c) pivot += source.template get<A, width>(c);
      pivot = opaque(pivot * V(A(1) / static_cast<A>(sample)));
    }
    const unsigned bad = sweep(source, sink, pivot, n, epsilon, moments_);
    if (bad != 0) [[unlikely]] {
      Level::call(ReviseTask<Again>{*this, again, bad, n, epsilon});
    }
  }

  const Moments<A, width>& moments() const { return moments_; }

  TOKENNORM_INLINE V normalized(const V& x) const {
    if constexpr (Centred) {
      return multiply_add(guarded(x - get(moments_.center)), get(moments_.rstd),
                          get(moments_.correction));
    } else {
      return x * get(moments_.rstd);
    }
  }

  /// y for the slow tokens, in place of what is there.
  template <class Affine>
  TOKENNORM_INLINE void correct(const V& x, const Affine& affine, Index c, V& y) const {
    alignas(64) Array<A, width> xs, ys;
    store(xs, x);
    store(ys, y);
    for (int i = 0; i < count_; ++i) {
      if (moments_.is_slow(i)) ys[i] = precise_result(xs[i], moments_, i, affine, c);
    }
    y = get(ys);
  }

 private:
  /// What follows a first sweep that was not good enough for every token: another one about their
  /// means, then the wider type.
  template <class Again>
  struct ReviseTask {
    ColumnMoments& columns;
    const Again& again;
    unsigned bad;
    Index n;
    double epsilon;

    template <class>
    TOKENNORM_INLINE void run() const {
      unsigned still_bad = bad;
      if constexpr (Centred) {
        Moments<A, width> revised{};
        still_bad &=
            columns.sweep(again, Absent{}, get(columns.moments_.center), n, epsilon, revised);
        for (int i = 0; i < columns.count_; ++i) {
          if (((bad & ~still_bad) >> i & 1u) == 0) continue;
          columns.moments_.copy(i, revised, i);
        }
      }
      for (int i = 0; i < columns.count_; ++i) {
        if ((still_bad >> i & 1u) == 0) continue;
        const auto token = again.one(i);
        Moments<A, 1> revised{};
        call_rarely<Level, Again>(
            PreciseMomentsTask<Centred, A, std::remove_const_t<decltype(token)>>{token, n, epsilon,
                                                                                 revised});
        columns.moments_.copy(i, revised, 0);
      }
    }
  };

  /// Sums about the pivot, and what follows from them; the tokens for which nothing does.
  template <class Source, class Sink>
  TOKENNORM_INLINE unsigned sweep(const Source& source, const Sink& sink, const V& pivot, Index n,
                                  double epsilon, Moments<A, width>& moments) const {
    Total<A, width> sum, squares;
    for (Index begin = 0; begin < n; begin += vectors_per_fold) {
      const Index end = std::min(n, begin + vectors_per_fold);
      V part(A(0)), part_squares(A(0));
      for (Index c = begin; c < end; ++c) {
        const V x = source.template get<A, width>(c);
        if constexpr (is_present<Sink>) sink.put(c, x);
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
  Moments<A, width> moments_;
};

/// Tokens [begin, end) of a step with one norm, `pre`, and neither `post` nor `out`.
template <class Step, class A>
struct ColumnsTask {
  const Step& arguments;
  Index begin, end;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    constexpr int width = Level::template lanes<A>;
    const Step step = arguments;
    const AffineOf<Level, A, Norm> affine(step.pre);
    for (Index t = begin; t < end; t += width) {
      const Index count = std::min<Index>(width, end - t);
      const auto stream = column_of(step.stream, t, count);
      if constexpr (!is_present<decltype(step.update)>) {
        norm<Level>(step, affine, stream, Absent{}, stream, t, count);
      } else {
        const auto update = column_of(step.update, t, count);
        const Sum<step::StoredAs<decltype(step.sum)>, A, std::remove_const_t<decltype(stream)>,
                  std::remove_const_t<decltype(update)>>
            source{stream, update, step.alpha};
        if constexpr (step::is_stored<decltype(step.sum)>) {
          const auto sum = column_of(detail::as_const(step.sum), t, count);
          norm<Level>(step, affine, source, column_of(step.sum, t, count), sum, t, count);
        } else {
          norm<Level>(step, affine, source, Absent{}, source, t, count);
        }
      }
    }
  }

 private:
  using Norm = decltype(Step::pre);

  template <class Level, class Affine, class Source, class Sink, class Again>
  TOKENNORM_INLINE static void norm(const Step& step, const Affine& affine, const Source& source,
                                    const Sink& sink, const Again& again, Index token,
                                    Index count) {
    constexpr int width = Level::template lanes<A>;
    using V = Lanes<A, width>;
    const Index channels = step.channels.get();
    const Index n = step::statistics_count(step.pre, channels);
    const ColumnMoments<Level, Norm::centred, A> columns(
        source, sink, again, static_cast<int>(count), n, step.pre.epsilon);
    if constexpr (is_present<Sink>) {
      for (Index c = n; c < channels; ++c) sink.put(c, source.template get<A, width>(c));
    }
    step::store_statistics(step.pre, columns.moments(), token, static_cast<int>(count));
    const bool any_slow = columns.moments().slow != 0;
    const auto normed = column_of(step.normed, token, count);
    for (Index c = 0; c < channels; ++c) {
      const V x = again.template get<A, width>(c);
      V y = multiply_add(columns.normalized(x), affine.scale_of(c), affine.shift_of(c));
      if (any_slow) [[unlikely]]
        columns.correct(x, affine, c, y);
      normed.put(c, y);
    }
  }
};

template <class A, int Channels, class... Operands>
void run_columns(const ResidualStep<A, Channels, Operands...>& step, Index begin,
                 Index end) noexcept {
  dispatch(ColumnsTask<ResidualStep<A, Channels, Operands...>, A>{step, begin, end});
}

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH

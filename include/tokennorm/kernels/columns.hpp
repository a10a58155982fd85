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
                                 Index count, Index n, double epsilon)
      : count_(count) {
    V pivot(A(0));
    if constexpr (Centred) {
      const Index sample = std::min<Index>(n, 16);
      for (Index c = 0; c < sample; ++c) pivot += source.template get<A, width>(c);
      pivot = opaque(pivot * V(A(1) / static_cast<A>(sample)));
    }
    std::fill_n(verdicts_, width, Verdict::retry);
    if (sweep(source, sink, pivot, n, epsilon)) [[unlikely]] {
      Level::call(ReviseColumns<Again>{*this, again, pivot, n, epsilon});
    }
    for (int i = 0; i < width; ++i) {
      centers_[i] = moments_[i].center;
      rstds_[i] = moments_[i].rstd;
      corrections_[i] = -moments_[i].correction;
      if (i < count && !moments_[i].fast) all_fast_ = false;
    }
  }

  const Moments<A>& operator[](Index token) const { return moments_[token]; }

  TOKENNORM_INLINE V normalized(const V& x) const {
    if constexpr (Centred) {
      return multiply_add(guarded(x - get(centers_)), get(rstds_), get(corrections_));
    } else {
      return x * get(rstds_);
    }
  }
  TOKENNORM_INLINE bool all_fast() const { return all_fast_; }

  /// y for the tokens that need the wider type, in place of what is there.
  TOKENNORM_INLINE void correct(const V& x, const V& scale, const V& shift, V& y) const {
    using P = Precise<A>;
    alignas(64) Array<A, width> xs, ys;
    store(xs, x);
    store(ys, y);
    for (int i = 0; i < width && i < count_; ++i) {
      const Moments<A>& m = moments_[i];
      if (m.fast) continue;
      const P normalized = deviation(xs[i], m) * m.precise_rstd;
      ys[i] = static_cast<A>(normalized * static_cast<P>(scale[0]) + static_cast<P>(shift[0]));
    }
    y = load<A, width>(static_cast<const A*>(ys));
  }

 private:
  /// What follows a first sweep that was not good enough for every token.
  template <class Again>
  struct ReviseColumns {
    ColumnMoments& columns;
    const Again& again;
    const V& pivot;
    Index n;
    double epsilon;

    template <class>
    TOKENNORM_INLINE void run() const {
      alignas(64) Array<A, width> better;
      store(better, pivot);
      for (int i = 0; i < width; ++i) {
        if (columns.verdicts_[i] == Verdict::retry) better[i] = columns.moments_[i].center;
      }
      columns.sweep(again, Absent{}, get(better), n, epsilon);
      for (Index i = 0; i < columns.count_; ++i) {
        if (columns.verdicts_[i] == Verdict::good) continue;
        const auto token = again.one(i);
        columns.moments_[i] =
            PreciseRow<Level, Centred, A, std::remove_const_t<decltype(token)>>(token, n).moments(
                epsilon);
      }
    }
  };

  /// Sums about the pivot for the tokens that are not good yet; true if one still is not.
  template <class Source, class Sink>
  TOKENNORM_INLINE bool sweep(const Source& source, const Sink& sink, const V& pivot, Index n,
                              double epsilon) {
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
    alignas(64) Array<Precise<A>, width> sums, sums_of_squares;
    store(pivots, pivot);
    sum.write(sums);
    squares.write(sums_of_squares);
    bool all_good = true;
    for (Index i = 0; i < count_; ++i) {
      if (verdicts_[i] != Verdict::retry) continue;
      verdicts_[i] =
          finish<Centred>(pivots[i], sums[i], sums_of_squares[i], n, epsilon, moments_[i]);
      all_good = all_good && verdicts_[i] == Verdict::good;
    }
    return !all_good;
  }

  TOKENNORM_INLINE static V get(const Array<A, width>& values) {
    return load<A, width>(static_cast<const A*>(values));
  }

  Index count_;
  bool all_fast_ = true;
  Array<Moments<A>, width> moments_;
  Array<Verdict, width> verdicts_;
  alignas(64) Array<A, width> centers_, rstds_, corrections_;
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
    const Affine<Level, A, typename Norm::Param> affine(step.pre);
    for (Index t = begin; t < end; t += width) {
      const Index count = std::min<Index>(width, end - t);
      const auto stream = column_of(step.stream, t, count);
      if constexpr (!is_present<decltype(step.update)>) {
        const Stored<std::remove_const_t<decltype(stream)>> source{stream};
        norm<Level>(step, affine, source, Absent{}, source, t, count);
      } else {
        const auto update = column_of(step.update, t, count);
        const Sum<step::StoredAs<decltype(step.sum)>, A, std::remove_const_t<decltype(stream)>,
                  std::remove_const_t<decltype(update)>>
            source{stream, update, step.alpha};
        if constexpr (step::is_stored<decltype(step.sum)>) {
          const auto sum = column_of(detail::as_const(step.sum), t, count);
          norm<Level>(step, affine, source, column_of(step.sum, t, count),
                      Stored<std::remove_const_t<decltype(sum)>>{sum}, t, count);
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
    const ColumnMoments<Level, Norm::centred, A> moments(source, sink, again, count, n,
                                                         step.pre.epsilon);
    if constexpr (is_present<Sink>) {
      for (Index c = n; c < channels; ++c) sink.put(c, source.template get<A, width>(c));
    }
    for (Index i = 0; i < count; ++i) step::store_statistics(step.pre, moments[i], token + i);
    const auto normed = column_of(step.normed, token, count);
    for (Index c = 0; c < channels; ++c) {
      const V x = again.template get<A, width>(c);
      const V scale = affine.scale_of(c), shift = affine.shift_of(c);
      V y = multiply_add(moments.normalized(x), scale, shift);
      if (!moments.all_fast()) [[unlikely]]
        moments.correct(x, scale, shift, y);
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

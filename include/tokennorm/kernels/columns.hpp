// SPDX-License-Identifier: MIT
/// Norms of tokens whose channels are not contiguous: column-major matrices, and operands with any
/// strides. Several tokens are processed at a time, one in each lane, so that memory is read along
/// the direction in which it is contiguous. The equations are those of moments.hpp and normalize.hpp;
/// a token's result does not depend on the tokens in the other lanes.
#pragma once

#include "tokennorm/kernels/residual_step.hpp"

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

/// One token of a column source, seen as a row: for the rare paths.
template <class Columns>
struct Across {
  Columns columns;  // of a single token

  template <class A, int W>
  TOKENNORM_INLINE Lanes<A, W> get(Index c) const {
    return get_first<A, W>(c, W);
  }
  template <class A, int W>
  TOKENNORM_INLINE Lanes<A, W> get_first(Index c, Index n) const {
    alignas(64) Array<A, W> values = {};
    for (Index i = 0; i < n; ++i) values[i] = columns.template get<A, W>(c + i)[0];
    return load<A, W>(static_cast<const A*>(values));
  }
};

/// Vectors of tokens that go through a column kernel side by side: at 64 bytes to a vector, every
/// cache line that a channel touches is used up while it is there.
inline constexpr int column_vectors = 4;

/// The statistics of `Vectors` vectors of tokens.
template <class Level, bool Centred, class A, int Vectors>
class ColumnMoments {
 public:
  static constexpr int width = Level::template lanes<A>;
  static constexpr int tokens = Vectors * width;
  using V = Lanes<A, width>;

  /// `source(g)` is the source of vector g. Channels are stored into `sink(g)` on the way where
  /// there is one, and read from `again(g)` from then on.
  template <class Source, class Sink, class Again>
  TOKENNORM_INLINE ColumnMoments(const Source& source, const Sink& sink, const Again& again,
                                 Index count, Index n, double epsilon)
      : count_(count) {
    Array<V, Vectors> pivots;
    const Index sample = std::min<Index>(n, 16);
    TOKENNORM_UNROLL
    for (int g = 0; g < Vectors; ++g) {
      V sum(A(0));
      if constexpr (Centred) {
        for (Index c = 0; c < sample; ++c) sum += source(g).template get<A, width>(c);
        sum = opaque(sum * V(A(1) / static_cast<A>(sample)));
      }
      pivots[g] = sum;
    }
    bool retry = sweep(source, sink, pivots, n, epsilon, [](int) { return true; });
    if (retry) [[unlikely]] {
      TOKENNORM_UNROLL
      for (int g = 0; g < Vectors; ++g) {
        alignas(64) Array<A, width> better;
        store(better, pivots[g]);
        for (int i = 0; i < width; ++i) {
          if (verdicts_[g * width + i] == Verdict::retry) better[i] = moments_[g * width + i].center;
        }
        pivots[g] = load<A, width>(static_cast<const A*>(better));
      }
      Array<Verdict, tokens> before;
      std::copy_n(verdicts_, tokens, before);
      sweep(again, [](int) { return Absent{}; }, pivots, n, epsilon,
            [&](int i) { return before[i] == Verdict::retry; });
    }
    for (int i = 0; i < tokens && i < count; ++i) {
      if (verdicts_[i] == Verdict::good) continue;
      redo(again(i / width).one(i % width), n, epsilon, moments_[i]);
    }
    for (int i = 0; i < tokens; ++i) {
      centers_[i] = moments_[i].center;
      rstds_[i] = moments_[i].rstd;
      corrections_[i] = -moments_[i].correction;
      if (i < count && !moments_[i].fast) all_fast_ = false;
    }
  }

  const Moments<A>& operator[](int token) const { return moments_[token]; }

  /// x̂ of vector g.
  TOKENNORM_INLINE V normalized(int g, const V& x) const {
    V y;
    if constexpr (Centred) {
      y = multiply_add(guarded(x - load<A, width>(centers_ + g * width)),
                       load<A, width>(rstds_ + g * width),
                       load<A, width>(corrections_ + g * width));
    } else {
      y = x * load<A, width>(rstds_ + g * width);
    }
    return y;
  }
  TOKENNORM_INLINE V rstd(int g) const { return load<A, width>(rstds_ + g * width); }
  TOKENNORM_INLINE bool all_fast() const { return all_fast_; }

  /// y for the tokens of vector g that need the wider type, in place of what is there.
  TOKENNORM_INLINE void correct(int g, const V& x, const V& scale, const V& shift, V& y) const {
    using P = Precise<A>;
    alignas(64) Array<A, width> xs, ys;
    store(xs, x);
    store(ys, y);
    for (int i = 0; i < width && g * width + i < count_; ++i) {
      const Moments<A>& m = moments_[g * width + i];
      if (m.fast) continue;
      const P normalized = guarded(static_cast<P>(xs[i]) - m.mean) * m.precise_rstd;
      ys[i] = static_cast<A>(normalized * static_cast<P>(scale[0]) + static_cast<P>(shift[0]));
    }
    y = load<A, width>(static_cast<const A*>(ys));
  }

 private:
  template <class Source, class Sink, class Wanted>
  TOKENNORM_INLINE bool sweep(const Source& source, const Sink& sink, const Array<V, Vectors>& pivots,
                              Index n, double epsilon, const Wanted& wanted) {
    constexpr bool stores = is_present<decltype(sink(0))>;
    Array<Total<A, width>, Vectors> sum, squares;
    for (Index begin = 0; begin < n; begin += 2 * vectors_per_fold) {
      const Index end = std::min(n, begin + 2 * vectors_per_fold);
      Array<V, Vectors> part, part_squares;
      TOKENNORM_UNROLL
      for (int g = 0; g < Vectors; ++g) part[g] = part_squares[g] = V(A(0));
      for (Index c = begin; c < end; ++c) {
        TOKENNORM_UNROLL
        for (int g = 0; g < Vectors; ++g) {
          const V x = source(g).template get<A, width>(c);
          if constexpr (stores) sink(g).put(c, x);
          if constexpr (Centred) {
            const V d = guarded(x - pivots[g]);
            part[g] += d;
            part_squares[g] = multiply_add(d, d, part_squares[g]);
          } else {
            part_squares[g] = multiply_add(x, x, part_squares[g]);
          }
        }
      }
      TOKENNORM_UNROLL
      for (int g = 0; g < Vectors; ++g) {
        if constexpr (Centred) sum[g].add(part[g]);
        squares[g].add(part_squares[g]);
      }
    }
    Array<A, tokens> pivot;
    Array<Precise<A>, tokens> total, total_squares;
    TOKENNORM_UNROLL
    for (int g = 0; g < Vectors; ++g) {
      store(pivot + g * width, pivots[g]);
      sum[g].write(total + g * width);
      squares[g].write(total_squares + g * width);
    }
    bool retry = false;
    for (int i = 0; i < tokens && i < count_; ++i) {
      if (!wanted(i)) continue;
      verdicts_[i] =
          finish<Centred>(pivot[i], total[i], total_squares[i], n, epsilon, moments_[i]);
      retry = retry || verdicts_[i] == Verdict::retry;
    }
    return retry;
  }

  template <class One>
  TOKENNORM_INLINE static void redo(const One& one, Index n, double epsilon, Moments<A>& moments) {
    using Token = Across<One>;
    const Token token{one};
    moments = PreciseRow<Level, Centred, A, Token>(token, n).moments(epsilon);
  }

  Index count_;
  bool all_fast_ = true;
  Array<Moments<A>, tokens> moments_;
  Array<Verdict, tokens> verdicts_;
  alignas(64) Array<A, tokens> centers_, rstds_, corrections_;
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
    Index t = begin;
    if (contiguous_tokens(step.stream) && contiguous_tokens(step.update) &&
        contiguous_tokens(step.sum) && contiguous_tokens(step.normed)) {
      constexpr int group = column_vectors * width;
      for (; t + group <= end; t += group) Level::call(Group<column_vectors, true>{step, t, group});
    }
    for (; t < end; t += width) {
      Level::call(Group<1, false>{step, t, std::min<Index>(width, end - t)});
    }
  }

 private:
  template <int Vectors, bool Whole>
  struct Group {
    const Step& step;
    Index token, count;

    template <class Level>
    TOKENNORM_INLINE void run() const {
      constexpr int width = Level::template lanes<A>;
      const auto part = [this](const auto& view) {
        return [=, this](int g) __attribute__((always_inline)) {
          return column_of<Whole>(view, token + g * width, std::min<Index>(width, count));
        };
      };
      const auto stream = part(step.stream);
      if constexpr (!is_present<decltype(step.update)>) {
        const auto source = [&](int g) __attribute__((always_inline)) {
          return Stored<decltype(stream(g))>{stream(g)};
        };
        norm<Level>(source, [](int) { return Absent{}; }, source);
      } else {
        const auto update = part(step.update);
        const auto source = [&](int g) __attribute__((always_inline)) {
          using S = step::Element<decltype(step.sum)>;
          return Sum<S, A, decltype(stream(g)), decltype(update(g))>{stream(g), update(g),
                                                                     step.alpha};
        };
        if (step.sum.data == nullptr) {
          norm<Level>(source, [](int) { return Absent{}; }, source);
        } else {
          const auto summed = part(detail::as_const(step.sum));
          norm<Level>(source, part(step.sum), [&](int g) __attribute__((always_inline)) {
            return Stored<decltype(summed(g))>{summed(g)};
          });
        }
      }
    }

   private:
    template <class Level, class Source, class Sink, class Again>
    TOKENNORM_INLINE void norm(const Source& source, const Sink& sink, const Again& again) const {
      using Norm = decltype(step.pre);
      constexpr bool centred = std::remove_cvref_t<Norm>::centred;
      constexpr int width = Level::template lanes<A>;
      using V = Lanes<A, width>;
      const Index channels = step.channels.get();
      const Index n = centred || step.pre.statistics_channels == 0 ? channels
                                                                   : step.pre.statistics_channels;
      const ColumnMoments<Level, centred, A, Vectors> moments(source, sink, again, count, n,
                                                              step.pre.epsilon);
      if constexpr (is_present<decltype(sink(0))>) {
        for (Index c = n; c < channels; ++c) {
          for (int g = 0; g < Vectors; ++g) sink(g).put(c, source(g).template get<A, width>(c));
        }
      }
      for (int i = 0; i < count; ++i) step::store_statistics(step.pre, moments[i], token + i);
      const Affine<Level, A, typename std::remove_cvref_t<Norm>::Param> affine(step.pre);
      for (Index c = 0; c < channels; ++c) {
        const V scale = affine.scale_of(c), shift = affine.shift_of(c);
        TOKENNORM_UNROLL
        for (int g = 0; g < Vectors; ++g) {
          const V x = again(g).template get<A, width>(c);
          V y = multiply_add(moments.normalized(g, x), scale, shift);
          if (!moments.all_fast()) [[unlikely]] moments.correct(g, x, scale, shift, y);
          column_of<Whole>(step.normed, token + g * width, std::min<Index>(width, count))
              .put(c, y);
        }
      }
    }
  };
};

template <class A, int Channels, class... Operands>
void run_columns(const ResidualStep<A, Channels, Operands...>& step, Index begin,
                 Index end) noexcept {
  dispatch(ColumnsTask<ResidualStep<A, Channels, Operands...>, A>{step, begin, end});
}

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH

// SPDX-License-Identifier: MIT
/// The second sweep: y = x̂·(o + γ) + β with x̂ = (x − center)·rstd + correction, of four rows of few
/// channels at once so that γ and β are loaded once; or as a source of values that are added to
/// something else.
#pragma once

#include "tokennorm/kernels/moments.hpp"

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

/// x̂ of one row, in lanes.
template <class Level, bool Centred, class A>
class RowNormalizer {
 public:
  using V = Lanes<A, Level::template lanes<A>>;

  template <int N>
  TOKENNORM_INLINE void set(const Moments<A, N>& moments, int row) {
    rstd_ = V(moments.rstd[row]);
    if constexpr (Centred) {
      center_ = V(moments.center[row]);
      correction_ = V(moments.correction[row]);
    }
  }

  TOKENNORM_INLINE V operator()(const V& x) const {
    if constexpr (Centred) {
      return multiply_add(guarded(x - center_), rstd_, correction_);
    } else {
      return x * rstd_;
    }
  }

 private:
  V center_, rstd_, correction_;
};

/// x̂·(o + γ) + β of one value of a slow token.
template <class A, int N, class Affine>
TOKENNORM_INLINE A precise_result(A x, const Moments<A, N>& moments, int token,
                                  const Affine& affine, Index c) {
  using P = Precise<A>;
  const P normalized = deviation(x, moments, token) * moments.precise_rstd[token];
  return static_cast<A>(normalized * static_cast<P>(affine.scale_at(c)) +
                        static_cast<P>(affine.shift_at(c)));
}

/// A source: the normalized, scaled and shifted values of another source, rounded to the type they
/// would have been stored in. Slow: formed in the wider type.
template <class Level, bool Centred, class A, class Source, class Param, bool Slow, class RoundAs,
          int N>
class Normalized {
 public:
  static constexpr bool same_at_every_level = false;

  TOKENNORM_INLINE Normalized(const Source& source, const Moments<A, N>& moments, int row,
                              const Affine<Level, A, Param>& affine)
      : source_(source), affine_(affine), moments_(moments), row_(row) {
    normalizer_.set(moments, row);
  }

  template <class, int W>
  TOKENNORM_INLINE Lanes<A, W> get(Index c) const {
    if constexpr (Slow) {
      return precise<W>(c, W);
    } else {
      return rounded_to<RoundAs>(multiply_add(normalizer_(source_.template get<A, W>(c)),
                                              affine_.scale(c), affine_.shift(c)));
    }
  }
  template <class, int W>
  TOKENNORM_INLINE Lanes<A, W> get_first(Index c, Index n) const {
    if constexpr (Slow) {
      return precise<W>(c, n);
    } else {
      const Lanes<A, W> x = source_.template get_first<A, W>(c, n);
      const Lanes<A, W> y =
          multiply_add(normalizer_(x), affine_.scale_first(c, n), affine_.shift_first(c, n));
      return first_lanes(rounded_to<RoundAs>(y), n);
    }
  }

 private:
  template <int W>
  TOKENNORM_INLINE Lanes<A, W> precise(Index c, Index n) const {
    alignas(64) Array<A, W> values = {};
    for (Index i = 0; i < n; ++i) {
      values[i] = precise_result(source_.template at<A, W>(c + i), moments_, row_, affine_, c + i);
    }
    return rounded_to<RoundAs>(load<A, W>(static_cast<const A*>(values)));
  }

  const Source source_;
  const Affine<Level, A, Param> affine_;
  RowNormalizer<Level, Centred, A> normalizer_;
  const Moments<A, N>& moments_;
  int row_;
};

/// Stores channels [begin, end) of a source into a row.
template <class Level, class A, class Source, class Sink>
TOKENNORM_INLINE void transfer(const Source source, const Sink sink, Index begin, Index end) {
  constexpr int width = Level::template lanes<A>;
  Index c = begin;
  for (; c + width <= end; c += width) sink.put(c, source.template get<A, width>(c));
  if (c < end) sink.put_first(c, source.template get_first<A, width>(c, end - c), end - c);
}

/// Copies a row past the caches.
template <class Level, class A, class T>
TOKENNORM_INLINE void stream_row(const Row<const T> from, const Row<T> to, Index channels) {
  constexpr int width = Level::template lanes<A>;
  Index c = std::min(to.unaligned(width), channels);
  if (c != 0) to.put_first(0, from.template get_first<A, width>(0, c), c);
  for (; c + width <= channels; c += width) to.put_streaming(c, from.template get<A, width>(c));
  if (c < channels) {
    to.put_first(c, from.template get_first<A, width>(c, channels - c), channels - c);
  }
}

/// The operands of a row to come.
struct Upcoming {
  Ahead stream, update;

  TOKENNORM_INLINE void fetch(Index begin, Index end) const {
    stream.template fetch<0>(begin, end);
    update.template fetch<0>(begin, end);
  }
};

/// Normalizes N rows. All loads of a vector come before its stores: where there are fewer rows, the
/// last one stands in the group several times. A single row is written from where it is aligned on:
/// a store that crosses cache lines costs two.
template <class Level, class A, class Norm, int N, class Source, class Affine, class Sink>
TOKENNORM_INLINE void normalize_rows(const Group<Source, N> source, const Moments<A, N>& moments,
                                     const Affine affine, const Group<Sink, N> sink, Index channels,
                                     bool streaming, const Upcoming& upcoming) {
  constexpr int width = Level::template lanes<A>;
  constexpr int vectors = N == 1 ? 4 : 1;  // at a time
  using V = Lanes<A, width>;
  Array<RowNormalizer<Level, Norm::centred, A>, N> normalizer;
  TOKENNORM_UNROLL
  for (int r = 0; r < N; ++r) {
    normalizer[r].set(moments, r);
  }
  Index c = 0;
  if constexpr (N == 1) {
    const Index n = std::min(sink.row[0].unaligned(width), channels);
    if (n != 0) {
      const V x = source.row[0].template get_first<A, width>(0, n);
      sink.row[0].put_first(
          0, multiply_add(normalizer[0](x), affine.scale_first(0, n), affine.shift_first(0, n)), n);
      c = n;
    }
    upcoming.fetch(0, channels);
  }
  auto at = affine.begin(c);
  for (; c + vectors * width <= channels; c += vectors * width) {
    TOKENNORM_UNROLL
    for (int k = 0; k < vectors; ++k) {
      const V scale = at.scale(), shift = at.shift();
      Array<V, N> x;
      TOKENNORM_UNROLL
      for (int r = 0; r < N; ++r) x[r] = source.row[r].template get<A, width>(c + k * width);
      TOKENNORM_UNROLL
      for (int r = 0; r < N; ++r) {
        const V y = multiply_add(normalizer[r](x[r]), scale, shift);
        if (N == 1 && streaming) {
          sink.row[r].put_streaming(c + k * width, y);
        } else {
          sink.row[r].put(c + k * width, y);
        }
      }
      at.advance();
    }
  }
  if constexpr (vectors > 1) {
    for (; c + width <= channels; c += width) {
      const V x = source.row[0].template get<A, width>(c);
      sink.row[0].put(c, multiply_add(normalizer[0](x), at.scale(), at.shift()));
      at.advance();
    }
  }
  if (c < channels) {
    const Index n = channels - c;
    const V scale = at.scale_first(n), shift = at.shift_first(n);
    Array<V, N> x;
    TOKENNORM_UNROLL
    for (int r = 0; r < N; ++r) x[r] = source.row[r].template get_first<A, width>(c, n);
    TOKENNORM_UNROLL
    for (int r = 0; r < N; ++r) {
      sink.row[r].put_first(c, multiply_add(normalizer[r](x[r]), scale, shift), n);
    }
  }
}

/// A slow row.
template <class A, class Norm, class Source, class Sink>
struct PreciseNormalizeTask {
  Source source;
  Moments<A, 1> moments;
  Norm norm;
  Sink sink;
  Index channels;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    constexpr int width = Level::template lanes<A>;
    using Scaling = Affine<Level, A, typename Norm::Param>;
    const typename Scaling::Constants constants;
    const Scaling affine(norm, constants);
    for (Index c = 0; c < channels; ++c) {
      sink.set(c, precise_result(source.template at<A, width>(c), moments, 0, affine, c));
    }
  }
};

/// A row that is not slow, out of a group with slow ones.
template <class A, class Norm, class Source, class Sink>
struct NormalizeRowTask {
  Source source;
  Moments<A, 1> moments;
  Norm norm;
  Sink sink;
  Index channels;

  template <class Level>
  TOKENNORM_INLINE void run() const {
    using Scaling = Affine<Level, A, typename Norm::Param>;
    const typename Scaling::Constants constants;
    using Result = Normalized<Level, Norm::centred, A, Source, typename Norm::Param, false, A, 1>;
    const Result result(source, moments, 0, Scaling(norm, constants));
    transfer<Level, A>(result, sink, 0, channels);
  }
};

/// A group of `count` rows of which some are slow, one by one.
template <class Level, class A, class Norm, int N, class Source, class Sink>
TOKENNORM_INLINE void normalize_one_by_one(const Norm& norm, const Group<Source, N>& source,
                                           const Moments<A, N>& moments, const Group<Sink, N>& sink,
                                           int count, Index channels) {
  for (int r = 0; r < count; ++r) {
    Moments<A, 1> moments_of_row{};
    moments_of_row.copy(0, moments, r);
    if (N == 1 || moments.is_slow(r)) {
      call_rarely<Level, Source>(PreciseNormalizeTask<A, Norm, Source, Sink>{
          source.row[r], moments_of_row, norm, sink.row[r], channels});
    } else if constexpr (N > 1) {
      Level::call(NormalizeRowTask<A, Norm, Source, Sink>{source.row[r], moments_of_row, norm,
                                                          sink.row[r], channels});
    }
  }
}

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
